//! Pull: refs in, records out.

use std::marker::PhantomData;

use futures_core::Stream;

use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, TryFailed};
use crate::item::{Items, PushItem, Tagged, ToCid, result_is_item};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::record::Record;
use crate::record_ref;
use crate::single::{once, only};

/// What [`pull_from`](PullExt::pull_from) yields for each ref of type `R`.
pub type PullResult<R, T = ()> = Result<Pulled<T>, Failed<R, T>>;

/// What [`try_pull_from`](PullExt::try_pull_from) yields for each ref, and for each error of its input.
pub type TryPullResult<E, R, T = ()> = Result<Pulled<T>, TryFailed<E, R, T>>;

/// A record that the server has sent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pulled<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The CID asked for.
    pub cid: Cid,
    /// The record.
    pub record: Record,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`].
    pub duplicate_of: Option<u64>,
}

impl Pulled {
    /// A result for tests of your own pipeline, without a tag. Whether `record` has this CID is not
    /// checked.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Error, ErrorKind, Failed, Pulled};
    /// use futures::{Stream, TryStreamExt, stream};
    ///
    /// /// What is to be tested: the names of all records, or the first error.
    /// async fn names(results: impl Stream<Item = PullResult<Cid>>) -> Result<Vec<String>, Error> {
    ///     let named = results.map_ok(|pulled| pulled.record.name().unwrap_or("?").to_owned());
    ///     Ok(named.try_collect().await?)
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let record: Record = r#"{"name": "a"}"#.parse()?;
    /// let cid = record.cid()?;
    /// let pulled = Pulled::new(0, cid, record);
    /// let missing = Failed::new(1, cid, Error::new(ErrorKind::NotFound, "no such record"));
    ///
    /// assert_eq!(names(stream::iter([Ok(pulled.clone())])).await?, ["a"]);
    /// let error = names(stream::iter([Ok(pulled), Err(missing)])).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// # Ok::<_, Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn new(index: u64, cid: Cid, record: Record) -> Self {
        Self {
            index,
            tag: (),
            cid,
            record,
            duplicate_of: None,
        }
    }
}

impl<T> Pulled<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Pulled<U> {
        Pulled {
            index: self.index,
            tag,
            cid: self.cid,
            record: self.record,
            duplicate_of: self.duplicate_of,
        }
    }
}

result_is_item!(Pulled, Record, record);

impl<T> PushItem<T> for Pulled<T> {}

/// Pulls a stream of refs.
pub trait PullExt: Stream + Sized {
    /// Pulls the record of each ref of this stream from the store behind `client`, over one call at
    /// a time, or as many as [`Options::calls`] says.
    ///
    /// A ref is anything that gives a CID ([`ToCid`]): a [`Cid`], its text, a type of your own.
    /// Items are refs, or `(ref, T)` with a tag of any type that comes back with the result.
    /// Yields one [`PullResult`] for each item. A record is a slice of the received buffer, not
    /// parsed; the buffer is freed with the last record in it.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::ErrorKind;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = agntcy_dir_stream::server::Store::new();
    /// # let client = store.client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record.clone()).await?.cid;
    ///
    /// let refs = stream::iter([cid.to_string(), "no CID".to_string()]);
    /// let results: Vec<_> = refs.pull_from(&client).collect().await;
    ///
    /// assert_eq!(results[0].as_ref().unwrap().record, record);
    /// let failed = results[1].as_ref().unwrap_err();
    /// assert_eq!((failed.kind(), failed.input.as_str()), (ErrorKind::Invalid, "no CID"));
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
    /// A ref is [`Invalid`](ErrorKind::Invalid), and never sent, if it gives no CID. It is
    /// [`NotFound`](ErrorKind::NotFound) if the store has no such record. It is a
    /// [`Mismatch`](ErrorKind::Mismatch) if what the server sent does not hash to the CID asked for (see
    /// [`Options::verify`]).
    ///
    /// # Recovery
    ///
    /// A ref that has no answer is asked for again. One at which the server fails with `Internal` is tried
    /// again behind the others, which tell whether the record is at fault or there is an outage. In the
    /// end a ref that has no answer is [`NotSent`](ErrorKind::NotSent) or
    /// [`Unavailable`](ErrorKind::Unavailable). [`Adapter`] tells the rest.
    fn pull_from<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = PullResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(Items, self, Pull::new(&options), client, &options)
    }

    /// [`pull_from`](Self::pull_from) with [`Options`].
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record).await?.cid;
    ///
    /// let options = Options::new().verify(false);
    /// let results = stream::iter([cid]).pull_from_with(&client, &options);
    /// let results: Vec<_> = results.collect().await;
    /// assert_eq!(results[0].as_ref().unwrap().record.name(), Some("a"));
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn pull_from_with<R, T>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = PullResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        drive(Items, self, Pull::new(options), client, options)
    }

    /// [`pull_from`](Self::pull_from) over an input that can fail: a stream of `Result<item, E>`.
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
    /// use agntcy_dir_stream::TryFailed;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record.clone()).await?.cid;
    ///
    /// // Such as the rows of a query.
    /// let rows = stream::iter([Ok(cid), Err("the database is away"), Ok(cid)]);
    /// let results: Vec<_> = rows.try_pull_from(&client).collect().await;
    ///
    /// assert!(matches!(&results[1], Err(TryFailed::Input(error)) if error.index == 1));
    /// assert_eq!(results[2].as_ref().unwrap().record, record);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn try_pull_from<I, R, T, E>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = TryPullResult<E, R, T>> + use<Self, I, R, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        let options = Options::new();
        drive(Items, self, Pull::new(&options), client, &options)
    }

    /// [`try_pull_from`](Self::try_pull_from) with [`Options`].
    fn try_pull_from_with<I, R, T, E>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = TryPullResult<E, R, T>> + use<Self, I, R, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        drive(Items, self, Pull::new(options), client, options)
    }
}

impl<S: Stream> PullExt for S {}

impl Client {
    /// Pulls one record, as [`pull_from`](PullExt::pull_from) does with the default [`Options`].
    ///
    /// It is a call of its own. For more than a few records, use the adapter.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record.clone()).await?.cid;
    /// assert_eq!(client.pull(cid).await?.record, record);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `pull_from`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. Nothing is changed on the server.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn pull<R: ToCid>(&self, item: R) -> PullResult<R> {
        only(once(item).pull_from(self)).await
    }
}

struct Pull<R> {
    verify: bool,
    refs: PhantomData<fn(R)>,
}

impl<R> Pull<R> {
    fn new(options: &Options) -> Self {
        Self {
            verify: options.verify,
            refs: PhantomData,
        }
    }
}

impl<R: ToCid> Operation for Pull<R> {
    const NAME: &'static str = "pull";
    const METHOD: &'static str = "/agntcy.dir.store.v1.StoreService/Pull";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
    // Four times what a DIR server sends by default, for servers set otherwise.
    const MAX_ANSWER_LEN: usize = 16 << 20;
    // Of the default window of bytes, what 64 records may take: so many are asked for at once before
    // the first has come.
    const ANSWER_LEN: usize = 256 << 10;

    type Input = R;
    type Checked = Cid;
    type Request = record_ref::Request;
    type Answer = Record;
    type Output = Record;
    type Question = NoQuestion;
    type Success<T> = Pulled<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<Cid, Error> {
        item.to_cid()
    }

    fn request(&self, _: &R, cid: &Cid) -> record_ref::Request {
        record_ref::Request(Some(*cid))
    }

    fn accept(&self, _: &R, cid: &Cid, record: Record) -> Result<Record, Error> {
        if self.verify {
            record.verify(cid).map_err(|error| match error.kind() {
                ErrorKind::Mismatch => error,
                _ => Error::new(ErrorKind::Mismatch, "the server's answer is no record")
                    .with_source(error),
            })?;
        }
        Ok(record)
    }

    fn to_verify(&self, record: &Record) -> Option<Record> {
        self.verify.then(|| record.clone())
    }

    fn accept_known(&self, item: &R, cid: &Cid, record: Record, own: Cid) -> Result<Record, Error> {
        if own == *cid {
            return Ok(record);
        }
        // It says what is wrong.
        self.accept(item, cid, record)
    }

    fn len(record: &Record) -> usize {
        record.encoded_len()
    }

    fn cid(cid: &Cid) -> Option<&Cid> {
        Some(cid)
    }

    fn success<T>(place: Place<T>, cid: Cid, record: Record) -> Pulled<T> {
        Pulled {
            index: place.index,
            tag: place.tag,
            cid,
            record,
            duplicate_of: place.duplicate_of,
        }
    }
}
