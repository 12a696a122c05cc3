//! Unpublish: refs in, acknowledgements out.

use std::marker::PhantomData;

use futures_core::Stream;

use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::Error;
use crate::failed::{Failed, TryFailed};
use crate::forms::other_forms;
use crate::item::{Items, Tagged, ToCid};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::proto::core::RecordRef;
use crate::proto::routing::{RecordRefs, UnpublishRequest, unpublish_request};
use crate::record_ref;
use crate::single::{once, only};

/// What [`unpublish_from`](UnpublishExt::unpublish_from) yields for each ref of type `R`.
pub type UnpublishResult<R, T = ()> = Result<Unpublished<T>, Failed<R, T>>;

/// What [`try_unpublish_from`](UnpublishExt::try_unpublish_from) yields for each ref, and for each error of its input.
pub type TryUnpublishResult<E, R, T = ()> = Result<Unpublished<T>, TryFailed<E, R, T>>;

/// A record that is no longer published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpublished<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The record, whether or not it was published before.
    pub cid: Cid,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`].
    pub duplicate_of: Option<u64>,
}

impl Unpublished {
    /// A result for tests of your own pipeline, without a tag.
    #[must_use]
    pub fn new(index: u64, cid: Cid) -> Self {
        Self {
            index,
            tag: (),
            cid,
            duplicate_of: None,
        }
    }
}

impl<T> Unpublished<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Unpublished<U> {
        Unpublished {
            index: self.index,
            tag,
            cid: self.cid,
            duplicate_of: self.duplicate_of,
        }
    }
}

/// Unpublishes a stream of refs.
pub trait UnpublishExt: Stream + Sized {
    /// Has the directory behind `client` take back the announcement of the record of each ref of this stream. The records
    /// stay in the store. It is carried out at once, and what was not published is a success.
    ///
    /// A ref is anything that gives a CID ([`ToCid`]). Items are refs, or `(ref, T)` with a tag of any type that comes
    /// back with the result. Yields one [`UnpublishResult`] for each item. Refs go in batches: a batch is what the
    /// input has at hand, at most a window, and its results come when the server has acknowledged all of it.
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
    /// let missing = Record::from_json(r#"{"name": "b"}"#)?.cid()?;
    ///
    /// let results: Vec<_> = stream::iter([cid, missing]).unpublish_from(&client).collect().await;
    /// assert!(results[0].is_ok() && results[1].is_err());
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
    /// A ref is [`Invalid`](crate::ErrorKind::Invalid), and never sent, if it gives no CID. A batch that the server
    /// refuses, as where it does not have one of the records ([`NotFound`](crate::ErrorKind::NotFound)), is halved
    /// until the failing ref stands alone. That one gets the server's status, and the others are unpublished.
    ///
    /// # Recovery
    ///
    /// A batch whose answer was lost is sent again, which does no harm. [`Adapter`] tells the rest.
    fn unpublish_from<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = UnpublishResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(Items, self, Unpublish::new(&options), client, &options)
    }

    other_forms!(
        unpublish_from,
        unpublish_from_with,
        try_unpublish_from,
        try_unpublish_from_with,
        Unpublish::new,
        UnpublishResult,
        TryUnpublishResult,
        ToCid
    );
}

impl<S: Stream> UnpublishExt for S {}

impl Client {
    /// Takes back the announcement of one record, as [`unpublish_from`](UnpublishExt::unpublish_from) does with the
    /// default [`Options`].
    ///
    /// It is a call of its own. For more than a few records, use the adapter.
    ///
    /// # Errors
    ///
    /// Those of `unpublish_from`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. The record may or may not be published still.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn unpublish<R: ToCid>(&self, item: R) -> UnpublishResult<R> {
        only(once(item).unpublish_from(self)).await
    }
}

struct Unpublish<R> {
    refs: PhantomData<fn(R)>,
}

impl<R> Unpublish<R> {
    fn new(_: &Options) -> Self {
        Self { refs: PhantomData }
    }
}

impl<R: ToCid> Operation for Unpublish<R> {
    const NAME: &'static str = "unpublish";
    const METHOD: &'static str = "/agntcy.dir.routing.v1.RoutingService/Unpublish";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeBatch;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
    const MAX_ANSWER_LEN: usize = record_ref::MAX_REF_LEN;

    type Input = R;
    type Checked = Cid;
    type Request = UnpublishRequest;
    type Answer = ();
    type Output = ();
    type Question = NoQuestion;
    type Success<T> = Unpublished<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<Cid, Error> {
        item.to_cid()
    }

    fn request(&self, _: &R, cid: &Cid) -> UnpublishRequest {
        let cid = cid.to_string();
        let refs = RecordRefs {
            refs: vec![RecordRef { cid }],
        };
        UnpublishRequest {
            request: Some(unpublish_request::Request::RecordRefs(refs)),
        }
    }

    fn accept(&self, _: &R, _: &Cid, (): ()) -> Result<(), Error> {
        Ok(())
    }

    fn cid(cid: &Cid) -> Option<&Cid> {
        Some(cid)
    }

    fn success<T>(place: Place<T>, cid: Cid, (): ()) -> Unpublished<T> {
        Unpublished {
            index: place.index,
            tag: place.tag,
            cid,
            duplicate_of: place.duplicate_of,
        }
    }
}
