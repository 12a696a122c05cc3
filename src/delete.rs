//! Delete: refs in, acknowledgements out.

use std::marker::PhantomData;

use futures_core::Stream;

use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::Error;
use crate::failed::{Failed, TryFailed};
use crate::item::{Items, Tagged, ToCid};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::record_ref;
use crate::single::{once, only};

/// What [`delete_from`](DeleteExt::delete_from) yields for each ref of type `R`.
pub type DeleteResult<R, T = ()> = Result<Deleted<T>, Failed<R, T>>;

/// What [`try_delete_from`](DeleteExt::try_delete_from) yields for each ref, and for each error of its input.
pub type TryDeleteResult<E, R, T = ()> = Result<Deleted<T>, TryFailed<E, R, T>>;

/// A record that the server no longer has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The CID that is gone, whether or not it was there before.
    pub cid: Cid,
}

impl Deleted {
    /// A result for tests of your own pipeline, without a tag.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Deleted, Error, ErrorKind, Failed};
    /// use futures::{Stream, StreamExt, stream};
    ///
    /// /// What is to be tested: the rows that can go, since their record is gone.
    /// async fn gone(results: impl Stream<Item = DeleteResult<Cid, u32>>) -> Vec<u32> {
    ///     let gone = results.filter_map(|result| std::future::ready(result.ok()));
    ///     gone.map(|deleted| deleted.tag).collect().await
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let cid = r#"{"name": "a"}"#.parse::<Record>()?.cid()?;
    /// let deleted = Deleted::new(0, cid).with_tag(7);
    /// let error = Error::new(ErrorKind::OutcomeUnknown, "the call broke");
    /// let failed = Failed::new(1, cid, error).with_tag(8);
    ///
    /// assert_eq!(gone(stream::iter([Ok(deleted), Err(failed)])).await, [7]);
    /// # Ok::<_, Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn new(index: u64, cid: Cid) -> Self {
        Self {
            index,
            tag: (),
            cid,
        }
    }
}

impl<T> Deleted<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Deleted<U> {
        Deleted {
            index: self.index,
            tag,
            cid: self.cid,
        }
    }
}

/// Deletes a stream of refs.
pub trait DeleteExt: Stream + Sized {
    /// Deletes the record of each ref of this stream from the store behind `client`.
    ///
    /// A ref is anything that gives a CID ([`ToCid`]): a [`Cid`], its text, a type of your own.
    /// Items are refs, or `(ref, T)` with a tag of any type that comes back with the result.
    /// Yields one [`DeleteResult`] for each item. Deleting what is not there is a success.
    ///
    /// A server acknowledges a delete only at the end of its call. So refs go in segments, one
    /// call each: a segment is what the input has at hand, at most a window. Its results come
    /// when the server has acknowledged all of it.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = agntcy_dir_stream::server::Store::new();
    /// # let client = store.client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record).await?.cid;
    ///
    /// let results: Vec<_> = stream::iter([cid]).delete_from(&client).collect().await;
    ///
    /// assert_eq!(results[0].as_ref().unwrap().cid, cid);
    /// assert!(!store.contains(&cid));
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
    /// A ref is [`Invalid`](crate::ErrorKind::Invalid), and never sent, if it gives no CID. A segment that
    /// the server refuses is halved until the failing ref stands alone. That one gets the server's status,
    /// and the others are deleted.
    ///
    /// # Recovery
    ///
    /// A delete can be sent again without harm. So a segment whose call breaks, stalls, or ends without its
    /// acknowledgement is sent again after a wait. A ref is deleted only when a call that carried it has
    /// been acknowledged.
    ///
    /// In the end a ref that has no acknowledgement is [`NotSent`](crate::ErrorKind::NotSent) if it never
    /// left, and [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) if it did. A ref at which the server
    /// fails without saying whose fault it is (`Internal`) gets its error when others tell that it is not an
    /// outage. The last such refs of a stream, with nothing left to tell, get theirs after two minutes
    /// ([`Retry`](crate::Retry)). [`Adapter`] tells the rest.
    fn delete_from<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = DeleteResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        // Not by way of the other method: `drive` says why.
        drive(Items, self, Delete::new(), client, &Options::new())
    }

    /// [`delete_from`](Self::delete_from) with [`Options`].
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::stream;
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record).await?.cid;
    ///
    /// let options = Options::new().window(64);
    /// let results = stream::iter([cid]).delete_from_with(&client, &options);
    /// assert_eq!(results.finish().await.stats.succeeded, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    fn delete_from_with<R, T>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = DeleteResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        drive(Items, self, Delete::new(), client, options)
    }

    /// [`delete_from`](Self::delete_from) over an input that can fail: a stream of `Result<item, E>`.
    ///
    /// An error of the input comes out in its place in the order, with its index, as
    /// [`TryFailed::Input`]. The input is polled on behind it, and ends where it ends: an error looks to the server
    /// like nothing at all. The output of another adapter is such an input.
    ///
    /// A later run resumes at the first error of the input ([`Stats::answered_below`](crate::Stats::answered_below)),
    /// unless [`Options::resume_past_input_errors`] is on.
    fn try_delete_from<I, R, T, E>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = TryDeleteResult<E, R, T>> + use<Self, I, R, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        drive(Items, self, Delete::new(), client, &Options::new())
    }

    /// [`try_delete_from`](Self::try_delete_from) with [`Options`].
    fn try_delete_from_with<I, R, T, E>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = TryDeleteResult<E, R, T>> + use<Self, I, R, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        drive(Items, self, Delete::new(), client, options)
    }
}

impl<S: Stream> DeleteExt for S {}

impl Client {
    /// Deletes one record, as [`delete_from`](DeleteExt::delete_from) does with the default [`Options`].
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
    /// client.delete(cid).await?;
    /// assert!(client.lookup(cid).await.is_err());
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `delete_from`. Deleting what is not there is a success.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. The record may or may not be deleted.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn delete<R: ToCid>(&self, item: R) -> DeleteResult<R> {
        only(once(item).delete_from(self)).await
    }
}

struct Delete<R> {
    refs: PhantomData<fn(R)>,
}

impl<R> Delete<R> {
    fn new() -> Self {
        Self { refs: PhantomData }
    }
}

impl<R: ToCid> Operation for Delete<R> {
    const NAME: &'static str = "delete";
    const METHOD: &'static str = "/agntcy.dir.store.v1.StoreService/Delete";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeCall;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
    const MAX_ANSWER_LEN: usize = record_ref::MAX_REF_LEN;
    const DELETES: bool = true;

    type Input = R;
    type Checked = Cid;
    type Request = record_ref::Request;
    type Answer = ();
    type Output = ();
    type Question = NoQuestion;
    type Success<T> = Deleted<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<Cid, Error> {
        item.to_cid()
    }

    fn request(&self, _: &R, cid: &Cid) -> record_ref::Request {
        record_ref::Request(Some(*cid))
    }

    fn accept(&self, _: &R, _: &Cid, (): ()) -> Result<(), Error> {
        Ok(())
    }

    fn cid(cid: &Cid) -> Option<&Cid> {
        Some(cid)
    }

    fn success<T>(place: Place<T>, cid: Cid, (): ()) -> Deleted<T> {
        Deleted {
            index: place.index,
            tag: place.tag,
            cid,
        }
    }
}
