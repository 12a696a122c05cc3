//! Exists: refs in, whether their records are there out.

use std::marker::PhantomData;

use futures_core::Stream;

use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, TryFailed};
use crate::forms::other_forms;
use crate::item::{Items, Tagged, ToCid, result_is_item};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::record_ref;
use crate::single::{once, only};

/// What [`exists_in`](ExistsExt::exists_in) yields for each ref, which is of type `R`.
pub type ExistsResult<R, T = ()> = Result<Existence<T>, Failed<R, T>>;

/// What [`try_exists_in`](ExistsExt::try_exists_in) yields for each ref, and for each error of its input.
pub type TryExistsResult<E, R, T = ()> = Result<Existence<T>, TryFailed<E, R, T>>;

/// Whether the server has a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Existence<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The CID asked for.
    pub cid: Cid,
    /// Whether the server has it.
    pub exists: bool,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`].
    pub duplicate_of: Option<u64>,
}

impl Existence {
    /// A result for tests of your own pipeline, without a tag. The other fields can be set afterwards.
    #[must_use]
    pub fn new(index: u64, cid: Cid, exists: bool) -> Self {
        Self {
            index,
            tag: (),
            cid,
            exists,
            duplicate_of: None,
        }
    }
}

impl<T> Existence<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Existence<U> {
        Existence {
            index: self.index,
            tag,
            cid: self.cid,
            exists: self.exists,
            duplicate_of: self.duplicate_of,
        }
    }
}

result_is_item!(Existence, Cid, cid);

/// Asks for a stream of refs whether their records are there.
pub trait ExistsExt: Stream + Sized {
    /// Asks the store behind `client` for each ref of this stream whether it has the record. It is a lookup to which a
    /// missing record is an answer, and no error.
    ///
    /// Items are refs ([`ToCid`]), or `(ref, T)` with a tag of any type that comes back with the result. Yields one
    /// [`ExistsResult`] for each item.
    ///
    /// A DIR server ends a lookup call at the first record that is missing, so each of these takes a call and a round
    /// trip; with [`Options::calls`], several at once. To push what is missing, do not ask before:
    /// [`Options::skip_stored`] asks where that saves time.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, TryStreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let stored = client.push(record).await?.cid;
    /// let missing = Record::from_json(r#"{"name": "b"}"#)?.cid()?;
    ///
    /// let results = stream::iter([stored, missing]).exists_in(&client);
    /// let exist: Vec<bool> = results.map_ok(|result| result.exists).try_collect().await?;
    /// assert_eq!(exist, [true, false]);
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
    /// A ref is [`Invalid`](ErrorKind::Invalid), and never sent, if it gives no CID. It is a
    /// [`Mismatch`](ErrorKind::Mismatch) if the server answers for another CID (see [`Options::verify`]). Where there is
    /// no answer in the end, it is as for a [lookup](crate::LookupExt::lookup_in).
    fn exists_in<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = ExistsResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(Items, self, Exists::new(&options), client, &options)
    }

    other_forms!(
        exists_in,
        exists_in_with,
        try_exists_in,
        try_exists_in_with,
        Exists::new,
        ExistsResult,
        TryExistsResult,
        ToCid
    );
}

impl<S: Stream> ExistsExt for S {}

impl Client {
    /// Whether the server has one record, as [`exists_in`](ExistsExt::exists_in) says with the default [`Options`].
    ///
    /// It is a call of its own. For more than a few records, use the adapter.
    ///
    /// # Errors
    ///
    /// Those of `exists_in`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn exists<R: ToCid>(&self, item: R) -> Result<bool, Failed<R>> {
        let existence = only(once(item).exists_in(self)).await?;
        Ok(existence.exists)
    }
}

struct Exists<R> {
    verify: bool,
    refs: PhantomData<fn(R)>,
}

impl<R> Exists<R> {
    fn new(options: &Options) -> Self {
        Self {
            verify: options.verify,
            refs: PhantomData,
        }
    }
}

impl<R: ToCid> Operation for Exists<R> {
    const NAME: &'static str = "exists";
    const METHOD: &'static str = record_ref::LOOKUP;
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
    const MAX_ANSWER_LEN: usize = record_ref::MAX_META_LEN;

    type Input = R;
    type Checked = Cid;
    type Request = record_ref::Request;
    /// Of the metadata, the CID alone.
    type Answer = record_ref::Answer;
    type Output = bool;
    type Question = NoQuestion;
    type Success<T> = Existence<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<Cid, Error> {
        item.to_cid()
    }

    fn request(&self, _: &R, cid: &Cid) -> record_ref::Request {
        record_ref::Request(Some(*cid))
    }

    fn accept(&self, _: &R, cid: &Cid, answer: record_ref::Answer) -> Result<bool, Error> {
        if self.verify {
            record_ref::must_be_of(cid, &answer.cid)?;
        }
        Ok(true)
    }

    fn refused(error: Error) -> Result<bool, Error> {
        match error.kind() {
            ErrorKind::NotFound => Ok(false),
            _ => Err(error),
        }
    }

    fn cid(cid: &Cid) -> Option<&Cid> {
        Some(cid)
    }

    fn success<T>(place: Place<T>, cid: Cid, exists: bool) -> Existence<T> {
        Existence {
            index: place.index,
            tag: place.tag,
            cid,
            exists,
            duplicate_of: place.duplicate_of,
        }
    }
}
