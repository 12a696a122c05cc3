//! Lookup: refs in, what the store tells of their records out.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use futures_core::Stream;

use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, TryFailed};
use crate::item::{Items, Tagged, ToCid, result_is_item};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::record_ref;
use crate::single::{once, only};

/// What [`lookup_in`](LookupExt::lookup_in) yields for each ref of type `R`.
pub type LookupResult<R, T = ()> = Result<Found<T>, Failed<R, T>>;

/// What [`try_lookup_in`](LookupExt::try_lookup_in) yields for each ref, and for each error of its input.
pub type TryLookupResult<E, R, T = ()> = Result<Found<T>, TryFailed<E, R, T>>;

/// A record that the server has, told by its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The CID asked for.
    pub cid: Cid,
    /// The store's annotations of the record.
    pub annotations: BTreeMap<String, String>,
    /// The version of the OASF schema that the record follows, such as `1.0.0`.
    pub schema_version: String,
    /// When the record was made, as the server writes it: RFC 3339 by convention, unchecked.
    pub created_at: String,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`].
    pub duplicate_of: Option<u64>,
}

impl Found {
    /// A result for tests of your own pipeline, without a tag and with empty metadata.
    ///
    /// The other fields can be set afterwards.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Error, ErrorKind, Failed, Found};
    /// use futures::{Stream, StreamExt, stream};
    ///
    /// /// What is to be tested: how many records follow an old schema.
    /// async fn old(results: impl Stream<Item = LookupResult<Cid>>) -> usize {
    ///     let old = results.filter(|result| {
    ///         let is_old = result.as_ref().is_ok_and(|found| found.schema_version.starts_with("0."));
    ///         std::future::ready(is_old)
    ///     });
    ///     old.count().await
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let cid = r#"{"name": "a"}"#.parse::<Record>()?.cid()?;
    /// let mut found = Found::new(0, cid);
    /// found.schema_version = "0.8.0".to_owned();
    /// let missing = Failed::new(1, cid, Error::new(ErrorKind::NotFound, "no such record"));
    ///
    /// assert_eq!(old(stream::iter([Ok(found), Err(missing)])).await, 1);
    /// # Ok::<_, Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn new(index: u64, cid: Cid) -> Self {
        Self {
            index,
            tag: (),
            cid,
            annotations: BTreeMap::new(),
            schema_version: String::new(),
            created_at: String::new(),
            duplicate_of: None,
        }
    }
}

impl<T> Found<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Found<U> {
        Found {
            index: self.index,
            tag,
            cid: self.cid,
            annotations: self.annotations,
            schema_version: self.schema_version,
            created_at: self.created_at,
            duplicate_of: self.duplicate_of,
        }
    }
}

result_is_item!(Found, Cid, cid);

/// Looks up a stream of refs.
pub trait LookupExt: Stream + Sized {
    /// Looks up each ref of this stream in the store behind `client`, over one call at
    /// a time, or as many as [`Options::calls`] says.
    ///
    /// A ref is anything that gives a CID ([`ToCid`]): a [`Cid`], its text, a
    /// [`Record`](crate::Record) (is it stored already?), a type of your own. Items are refs, or
    /// `(ref, T)` with a tag of any type that comes back with the result. Yields one
    /// [`LookupResult`] for each item.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::ErrorKind;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let old: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let new: Record = r#"{"name": "b", "schema_version": "1.0.0"}"#.parse()?;
    /// client.push(old.clone()).await?;
    ///
    /// let results: Vec<_> = stream::iter([old, new]).lookup_in(&client).collect().await;
    ///
    /// assert_eq!(results[0].as_ref().unwrap().schema_version, "1.0.0");
    /// assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::NotFound);
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
    /// [`Mismatch`](ErrorKind::Mismatch) if the server answered for another CID than the one asked for (see
    /// [`Options::verify`]).
    ///
    /// # Recovery
    ///
    /// A ref that has no answer is asked for again. One at which the server fails with `Internal` waits by
    /// itself for its next try, while the others go on. In the end a ref that has no answer is
    /// [`NotSent`](ErrorKind::NotSent) or [`Unavailable`](ErrorKind::Unavailable). [`Adapter`] tells the
    /// rest.
    fn lookup_in<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = LookupResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(Items, self, Lookup::new(&options), client, &options)
    }

    /// [`lookup_in`](Self::lookup_in) with [`Options`].
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::stream;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// client.push(record.clone()).await?;
    ///
    /// let options = Options::new().window(64);
    /// let results = stream::iter([record]).lookup_in_with(&client, &options);
    /// assert_eq!(results.finish().await.stats.succeeded, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn lookup_in_with<R, T>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = LookupResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        drive(Items, self, Lookup::new(options), client, options)
    }

    /// [`lookup_in`](Self::lookup_in) over an input that can fail: a stream of `Result<item, E>`.
    ///
    /// An error of the input comes out in its place in the order, with its index, as
    /// [`TryFailed::Input`]. The input is polled on behind it, and ends where it ends: an error looks to the server
    /// like nothing at all. The output of another adapter is such an input.
    ///
    /// A later run resumes at the first error of the input ([`Stats::answered_below`](crate::Stats::answered_below)),
    /// unless [`Options::resume_past_input_errors`] is on.
    fn try_lookup_in<I, R, T, E>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = TryLookupResult<E, R, T>> + use<Self, I, R, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        let options = Options::new();
        drive(Items, self, Lookup::new(&options), client, &options)
    }

    /// [`try_lookup_in`](Self::try_lookup_in) with [`Options`].
    fn try_lookup_in_with<I, R, T, E>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = TryLookupResult<E, R, T>> + use<Self, I, R, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        drive(Items, self, Lookup::new(options), client, options)
    }
}

impl<S: Stream> LookupExt for S {}

impl Client {
    /// Looks up one record, as [`lookup_in`](LookupExt::lookup_in) does with the default [`Options`].
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
    /// let cid = client.push(record).await?.cid;
    /// assert_eq!(client.lookup(cid).await?.schema_version, "1.0.0");
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `lookup_in`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. Nothing is changed on the server.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn lookup<R: ToCid>(&self, item: R) -> LookupResult<R> {
        only(once(item).lookup_in(self)).await
    }
}

struct Lookup<R> {
    verify: bool,
    refs: PhantomData<fn(R)>,
}

impl<R> Lookup<R> {
    fn new(options: &Options) -> Self {
        Self {
            verify: options.verify,
            refs: PhantomData,
        }
    }
}

impl<R: ToCid> Operation for Lookup<R> {
    const NAME: &'static str = "lookup";
    const METHOD: &'static str = record_ref::LOOKUP;
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
    const MAX_ANSWER_LEN: usize = record_ref::MAX_META_LEN;
    // A record of the kind that is in the examples has less.
    const ANSWER_LEN: usize = 1 << 10;

    type Input = R;
    type Checked = Cid;
    type Request = record_ref::Request;
    type Answer = record_ref::RawMeta;
    type Output = record_ref::KeptMeta;
    type Question = NoQuestion;
    type Success<T> = Found<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<Cid, Error> {
        item.to_cid()
    }

    fn request(&self, _: &R, cid: &Cid) -> record_ref::Request {
        record_ref::Request(Some(*cid))
    }

    fn accept(
        &self,
        _: &R,
        cid: &Cid,
        meta: record_ref::RawMeta,
    ) -> Result<record_ref::KeptMeta, Error> {
        let (own, meta) = meta.read().map_err(|error| {
            Error::new(ErrorKind::Mismatch, "the server's answer cannot be read").with_source(error)
        })?;
        if self.verify {
            record_ref::must_be_of(cid, &own)?;
        }
        Ok(meta)
    }

    fn len(meta: &record_ref::KeptMeta) -> usize {
        meta.len()
    }

    fn cid(cid: &Cid) -> Option<&Cid> {
        Some(cid)
    }

    fn success<T>(place: Place<T>, cid: Cid, meta: record_ref::KeptMeta) -> Found<T> {
        let meta = meta.into_meta();
        Found {
            index: place.index,
            tag: place.tag,
            cid,
            annotations: meta.annotations,
            schema_version: meta.schema_version,
            created_at: meta.created_at,
            duplicate_of: place.duplicate_of,
        }
    }
}
