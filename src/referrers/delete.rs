//! Delete: refs in, what was deleted of each record out.

use std::marker::PhantomData;

use futures_core::Stream;

use super::wire::{DeleteAnswer, DeleteRequest};
use super::{ReferrersOf, ToReferrers};
use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::Error;
use crate::failed::{Failed, TryFailed};
use crate::forms::other_forms;
use crate::item::{Items, Tagged};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::record_ref;
use crate::single::{once, only};

/// What [`delete_referrers_from`](DeleteReferrersExt::delete_referrers_from) yields for each ref of type `R`.
pub type DeleteReferrersResult<R, T = ()> = Result<DeletedReferrers<T>, Failed<R, T>>;

/// What [`try_delete_referrers_from`](DeleteReferrersExt::try_delete_referrers_from) yields for each ref, and for each
/// error of its input.
pub type TryDeleteReferrersResult<E, R, T = ()> = Result<DeletedReferrers<T>, TryFailed<E, R, T>>;

/// The referrers that a record no longer has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedReferrers<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The record.
    pub record: Cid,
    /// The CIDs of the referrers that were there and are gone.
    pub referrers: Vec<Cid>,
    /// How many calls have carried the ref. If it is not 1, an earlier one may have deleted some whose CIDs were lost
    /// with its answer.
    pub attempts: u32,
}

impl DeletedReferrers {
    /// A result for tests of your own pipeline, without a tag.
    #[must_use]
    pub fn new(index: u64, record: Cid, referrers: Vec<Cid>) -> Self {
        Self {
            index,
            tag: (),
            record,
            referrers,
            attempts: 1,
        }
    }
}

impl<T> DeletedReferrers<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> DeletedReferrers<U> {
        DeletedReferrers {
            index: self.index,
            tag,
            record: self.record,
            referrers: self.referrers,
            attempts: self.attempts,
        }
    }
}

/// Deletes the referrers of a stream of refs.
pub trait DeleteReferrersExt: Stream + Sized {
    /// Deletes the referrers of the record of each ref of this stream from the store behind `client`, over one call at a
    /// time, or as many as [`Options::calls`] says. The records stay.
    ///
    /// A ref is anything that gives a CID ([`ToCid`](crate::ToCid)), or [`ReferrersOf`] for those of one type, or one.
    /// Items are refs, or `(ref, T)` with a tag of any type that comes back with the result. Yields one
    /// [`DeleteReferrersResult`] for each item. To delete what is not there is a success.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::Referrer;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record).await?.cid;
    /// let key = Record::from_json(r#"{"key": "-----BEGIN PUBLIC KEY-----…"}"#)?;
    /// client.push_referrer(Referrer::new(cid, Referrer::PUBLIC_KEY, key)).await?;
    ///
    /// let results: Vec<_> = stream::iter([cid]).delete_referrers_from(&client).collect().await;
    /// assert_eq!(results[0].as_ref().unwrap().referrers.len(), 1);
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
    /// A ref is [`Invalid`](crate::ErrorKind::Invalid), and never sent, if it gives no CID. It is
    /// [`NotFound`](crate::ErrorKind::NotFound) if the store has no such record.
    ///
    /// # Recovery
    ///
    /// A ref that has no answer is sent again. In the end it is [`NotSent`](crate::ErrorKind::NotSent) if it never
    /// left, and [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) if it did. [`Adapter`] tells the rest.
    fn delete_referrers_from<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = DeleteReferrersResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToReferrers,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(
            Items,
            self,
            DeleteReferrers::new(&options),
            client,
            &options,
        )
    }

    other_forms!(
        delete_referrers_from,
        delete_referrers_from_with,
        try_delete_referrers_from,
        try_delete_referrers_from_with,
        DeleteReferrers::new,
        DeleteReferrersResult,
        TryDeleteReferrersResult,
        ToReferrers
    );
}

impl<S: Stream> DeleteReferrersExt for S {}

impl Client {
    /// Deletes the referrers of one record, as [`delete_referrers_from`](DeleteReferrersExt::delete_referrers_from)
    /// does with the default [`Options`].
    ///
    /// # Errors
    ///
    /// Those of `delete_referrers_from`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. The referrers may or may not be deleted.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn delete_referrers<R>(&self, item: R) -> DeleteReferrersResult<R>
    where
        R: ToReferrers + Tagged<Input = R, Tag = ()>,
    {
        only(once(item).delete_referrers_from(self)).await
    }
}

struct DeleteReferrers<R> {
    refs: PhantomData<fn(R)>,
}

impl<R> DeleteReferrers<R> {
    fn new(_: &Options) -> Self {
        Self { refs: PhantomData }
    }
}

impl<R: ToReferrers> Operation for DeleteReferrers<R> {
    const NAME: &'static str = "delete_referrers";
    const METHOD: &'static str = "/agntcy.dir.store.v1.StoreService/DeleteReferrer";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
    // 17,000 CIDs. An empty one takes two bytes, and 32 of memory.
    const MAX_ANSWER_LEN: usize = 1 << 20;

    type Input = R;
    type Checked = ReferrersOf;
    type Request = DeleteRequest;
    type Answer = DeleteAnswer;
    type Output = Vec<Cid>;
    type Question = NoQuestion;
    type Success<T> = DeletedReferrers<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<ReferrersOf, Error> {
        item.to_referrers()
    }

    fn request(&self, _: &R, referrers: &ReferrersOf) -> DeleteRequest {
        DeleteRequest::of(referrers)
    }

    fn accept(&self, _: &R, _: &ReferrersOf, answer: DeleteAnswer) -> Result<Vec<Cid>, Error> {
        let deleted = answer.referrer_refs.iter();
        deleted.map(|one| record_ref::cid_of(&one.cid)).collect()
    }

    fn len(deleted: &Vec<Cid>) -> usize {
        size_of_val(&**deleted)
    }

    fn success<T>(
        place: Place<T>,
        referrers: ReferrersOf,
        deleted: Vec<Cid>,
    ) -> DeletedReferrers<T> {
        DeletedReferrers {
            index: place.index,
            tag: place.tag,
            record: referrers.record,
            referrers: deleted,
            attempts: place.attempts,
        }
    }
}
