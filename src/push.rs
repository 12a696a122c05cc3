//! Push: records in, their CIDs out.

use futures_core::Stream;

use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, TryFailed};
use crate::item::{Items, PushItem, result_is_item};
use crate::operation::{Acknowledged, LostAnswer, Operation, Place};
use crate::options::Options;
use crate::record::{MAX_RECORD_LEN, Record};
use crate::record_ref;
use crate::single::{once, only};

/// What [`push_to`](PushExt::push_to) yields for each record.
pub type PushResult<T = ()> = Result<Pushed<T>, Failed<Record, T>>;

/// What [`try_push_to`](PushExt::try_push_to) yields for each record, and for each error of its input.
pub type TryPushResult<E, T = ()> = Result<Pushed<T>, TryFailed<E, Record, T>>;

/// A record that the server has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed<T = ()> {
    /// The record's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// Its CID, as the server answered it.
    pub cid: Cid,
    /// Whether the success was found out by a lookup, and not told by the answer to the push: the
    /// server had the record already, from an earlier push or from one whose answer was lost. Or you have
    /// [said](crate::PushItem::skip_if) that it is stored.
    ///
    /// A server over a registry answers to a record that it has as to a new one, which does not
    /// show here.
    pub already_stored: bool,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`].
    pub duplicate_of: Option<u64>,
}

impl Pushed {
    /// A result for tests of your own pipeline: a record that was not there before, without a tag. Or what is there
    /// already, to be [signed](crate::SignExt::sign_with).
    ///
    /// The other fields can be set afterwards.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Error, ErrorKind, Failed, Pushed};
    /// use futures::{Stream, StreamExt, stream};
    ///
    /// /// What is to be tested: the files whose records are new in the directory.
    /// async fn new_files(results: impl Stream<Item = PushResult<&'static str>>) -> Vec<&'static str> {
    ///     let new = results.filter_map(async |result| result.ok().filter(|pushed| !pushed.already_stored));
    ///     new.map(|pushed| pushed.tag).collect().await
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let cid = r#"{"name": "a"}"#.parse::<Record>()?.cid()?;
    /// let new = Pushed::new(0, cid).with_tag("a.json");
    /// let mut old = Pushed::new(1, cid).with_tag("b.json");
    /// old.already_stored = true;
    /// let error = Error::new(ErrorKind::Rejected, "no schema version");
    /// let bad = Failed::new(2, Record::default(), error).with_tag("c.json");
    ///
    /// let results = stream::iter([Ok(new), Ok(old), Err(bad)]);
    /// assert_eq!(new_files(results).await, ["a.json"]);
    /// # Ok::<_, Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn new(index: u64, cid: Cid) -> Self {
        Self {
            index,
            tag: (),
            cid,
            already_stored: false,
            duplicate_of: None,
        }
    }
}

impl<T> Pushed<T> {
    /// The same without its tag, and that.
    #[must_use]
    pub fn take_tag(self) -> (Pushed, T) {
        let pushed = Pushed {
            index: self.index,
            tag: (),
            cid: self.cid,
            already_stored: self.already_stored,
            duplicate_of: self.duplicate_of,
        };
        (pushed, self.tag)
    }

    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Pushed<U> {
        Pushed {
            index: self.index,
            tag,
            cid: self.cid,
            already_stored: self.already_stored,
            duplicate_of: self.duplicate_of,
        }
    }
}

result_is_item!(Pushed, Cid, cid);

/// Pushes a stream of records.
pub trait PushExt: Stream + Sized {
    /// Pushes each record of this stream to the store behind `client`, over one call at
    /// a time, or as many as [`Options::calls`] says.
    ///
    /// Items are [`Record`]s, or `(Record, T)` with a tag of any type that comes back with the
    /// result. Yields one [`PushResult`] for each item.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let good = r#"{"name": "a", "version": "1", "schema_version": "1.0.0"}"#.parse()?;
    /// let bad = r#"{"name": "b"}"#.parse()?;
    ///
    /// let records = stream::iter([(good, "a.json"), (bad, "b.json")]);
    /// let results: Vec<_> = records.push_to(&client).collect().await;
    ///
    /// let pushed = results[0].as_ref().unwrap();
    /// assert_eq!((pushed.index, pushed.tag), (0, "a.json"));
    /// let failed = results[1].as_ref().unwrap_err();
    /// assert_eq!((failed.index, failed.tag), (1, "b.json"));
    /// assert_eq!(failed.input.name(), Some("b"));
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// Order, cancel safety and panics are told at [`Adapter`].
    ///
    /// # Errors
    ///
    /// A record is [`Invalid`](ErrorKind::Invalid), and never sent, if it has no data, is longer than
    /// [`MAX_RECORD_LEN`], or is malformed. It is [`Rejected`](ErrorKind::Rejected) or
    /// [`ServerFailed`](ErrorKind::ServerFailed) in the server's own words. It is a
    /// [`Mismatch`](ErrorKind::Mismatch) if the CID that the server answers is not the record's own.
    /// Malformed records and wrong CIDs are found while [`Options::verify`] is on, as it is by default.
    ///
    /// # Recovery
    ///
    /// When a call breaks, stalls, or ends with answers missing, the records that it carried are looked up
    /// by their CIDs, in one call. Those that are there are successes, marked as
    /// [`already_stored`](Pushed::already_stored). The others are sent again after a wait.
    ///
    /// A record at which the server fails with `Internal` is looked up too, since the server may have it.
    /// It is tried again behind the others, which tell whether the record is at fault or there is an
    /// outage. If the server has it ("already exists"), those behind are looked up before they are sent,
    /// until one is missing.
    ///
    /// In the end a record that has no answer is [`NotSent`](ErrorKind::NotSent) if it never left. It is
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if a broken call had carried it and no lookup found it:
    /// the server may still have been at it. [`Adapter`] tells the rest.
    fn push_to<T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = PushResult<T>> + use<Self, T>>
    where
        Self::Item: PushItem<T>,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(Items, self, Push::new(&options), client, &options)
    }

    /// [`push_to`](Self::push_to) with [`Options`].
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::stream;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1.0.0"}}"#)).unwrap();
    /// let records = stream::iter((0..10).map(record));
    ///
    /// let options = Options::new().calls(2).unordered(true);
    /// let results = records.push_to_with(&client, &options);
    /// assert_eq!(results.finish().await.stats.succeeded, 10);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn push_to_with<T>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = PushResult<T>> + use<Self, T>>
    where
        Self::Item: PushItem<T>,
    {
        drive(Items, self, Push::new(options), client, options)
    }

    /// [`push_to`](Self::push_to) over an input that can fail: a stream of `Result<item, E>`.
    ///
    /// An error of the input comes out in its place in the order, with its index, as
    /// [`TryFailed::Input`]. The input is polled on behind it, and ends where it ends: an error looks to the server
    /// like nothing at all. The output of another adapter is such an input.
    ///
    /// A later run resumes at the first error of the input ([`Stats::answered_below`](crate::Stats::answered_below)),
    /// unless [`Options::resume_past_input_errors`] is on.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (from, to) = (agntcy_dir_stream::server::Store::new(), agntcy_dir_stream::server::Store::new());
    /// # let cid = from.insert(r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?)?;
    /// # let (from, to) = (from.client(), to.client());
    /// // A mirror. What cannot be pulled comes out at the end, with what cannot be pushed.
    /// let cids = stream::iter([cid, Record::from_json(r#"{"name": "missing"}"#)?.cid()?]);
    /// let results: Vec<_> = cids.pull_from(&from).try_push_to(&to).collect().await;
    ///
    /// assert!(results[0].is_ok());
    /// let failed = results[1].as_ref().unwrap_err().to_string();
    /// assert!(failed.starts_with("input for push of item 1: pull of item 1: not found"), "{failed}");
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn try_push_to<I, T, E>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = TryPushResult<E, T>> + use<Self, I, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: PushItem<T>,
    {
        let options = Options::new();
        drive(Items, self, Push::new(&options), client, &options)
    }

    /// [`try_push_to`](Self::try_push_to) with [`Options`].
    fn try_push_to_with<I, T, E>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = TryPushResult<E, T>> + use<Self, I, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: PushItem<T>,
    {
        drive(Items, self, Push::new(options), client, options)
    }
}

impl<S: Stream> PushExt for S {}

impl Client {
    /// Pushes one record, as [`push_to`](PushExt::push_to) does with the default [`Options`].
    ///
    /// It is a call of its own. For more than a few records, use the adapter.
    ///
    /// Where the server fails without saying whose fault it is (`Internal`), the other pushes of this client
    /// tell, as under [`Retry`](crate::Retry). If there were none, that takes two minutes. To wait for
    /// nothing, use `push_to_with` and [`Retry::off`](crate::Retry::off).
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = record.cid()?;
    /// assert_eq!(client.push(record).await?.cid, cid);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `push_to`. The record comes back in the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. The record may or may not be stored.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn push(&self, record: Record) -> PushResult {
        only(once(record).push_to(self)).await
    }
}

struct Push {
    verify: bool,
    /// Whether a record has to have its CID before it is sent.
    needs_cid: bool,
}

impl Push {
    fn new(options: &Options) -> Self {
        Self {
            verify: options.verify,
            needs_cid: options.verify || options.skip_stored,
        }
    }
}

#[derive(Clone)]
struct Stored {
    cid: Cid,
    was_found: bool,
}

impl Operation for Push {
    const NAME: &'static str = "push";
    const METHOD: &'static str = "/agntcy.dir.store.v1.StoreService/Push";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::LookUp;
    // The same record is stored once.
    const MAY_REPEAT: bool = true;
    const MAX_ANSWER_LEN: usize = record_ref::MAX_REF_LEN;

    type Input = Record;
    /// The record's own CID, where it is needed or known.
    type Checked = Option<Cid>;
    type Request = Record;
    type Answer = record_ref::Answer;
    type Output = Stored;
    type Question = record_ref::IsThere;
    type Success<T> = Pushed<T>;

    fn size(&self, record: &Record) -> usize {
        record.encoded_len()
    }

    fn check(&self, record: &Record) -> Result<Option<Cid>, Error> {
        must_be_sendable(record)?;
        if self.needs_cid {
            record.cid().map(Some)
        } else {
            Ok(None)
        }
    }

    fn check_known(&self, record: &Record, cid: Cid) -> Result<Option<Cid>, Error> {
        must_be_sendable(record)?;
        Ok(Some(cid))
    }

    fn to_hash(&self, record: &Record) -> Option<Record> {
        (self.needs_cid && must_be_sendable(record).is_ok()).then(|| record.clone())
    }

    fn request(&self, record: &Record, _: &Option<Cid>) -> Record {
        record.clone()
    }

    fn accept(
        &self,
        _: &Record,
        own: &Option<Cid>,
        answer: record_ref::Answer,
    ) -> Result<Stored, Error> {
        let cid = match own {
            None => record_ref::cid_of(&answer.cid)?,
            Some(own) if !self.verify => *own,
            Some(own) => {
                if let Err(cid) = record_ref::is_of(own, &answer.cid)? {
                    return Err(Error::new(
                        ErrorKind::Mismatch,
                        format!("the record is {own}, the server answered {cid}"),
                    ));
                }
                *own
            }
        };
        Ok(Stored {
            cid,
            was_found: false,
        })
    }

    fn question(&self, record: &Record, own: &Option<Cid>) -> Option<record_ref::Request> {
        let cid = own.or_else(|| record.cid().ok())?;
        Some(record_ref::Request(Some(cid)))
    }

    fn found(
        &self,
        _: &Record,
        _: &Option<Cid>,
        answer: record_ref::Answer,
    ) -> Result<Stored, Error> {
        Ok(Stored {
            cid: record_ref::cid_of(&answer.cid)?,
            was_found: true,
        })
    }

    fn stored(&self, cid: Cid) -> Option<Stored> {
        Some(Stored {
            cid,
            was_found: true,
        })
    }

    fn is_already_stored(stored: &Stored) -> bool {
        stored.was_found
    }

    fn cid(own: &Option<Cid>) -> Option<&Cid> {
        own.as_ref()
    }

    fn success<T>(place: Place<T>, _: Option<Cid>, stored: Stored) -> Pushed<T> {
        Pushed {
            index: place.index,
            tag: place.tag,
            cid: stored.cid,
            already_stored: stored.was_found,
            duplicate_of: place.duplicate_of,
        }
    }
}

/// Whether a server can take it at all.
fn must_be_sendable(record: &Record) -> Result<(), Error> {
    if record.data().is_none() {
        return Err(Error::invalid("the record has no data"));
    }
    let len = record.encoded_len();
    if len > MAX_RECORD_LEN {
        return Err(Error::invalid(format!(
            "the record is {len} bytes long, {MAX_RECORD_LEN} is the limit"
        )));
    }
    Ok(())
}
