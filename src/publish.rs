//! Publish: refs in, which publication each is queued in out; and what has become of a publication.

use std::marker::PhantomData;
use std::time::Duration;

use futures_core::Stream;
use tonic::{Code, Status};

use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, TryFailed};
use crate::forms::other_forms;
use crate::item::{Items, ItemsOf, Tagged, ToCid, result_is_item};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::proto::core::RecordRef;
use crate::proto::routing::{
    CreatePublicationResponse, GetPublicationRequest, GetPublicationResponse, PublicationStatus,
    PublishRequest, RecordRefs, publish_request,
};
use crate::record_ref;
use crate::single::{once, only};
use crate::verdict::Verdict;

/// What [`publish_to`](PublishExt::publish_to) yields for each ref of type `R`.
pub type PublishResult<R, T = ()> = Result<Published<T>, Failed<R, T>>;

/// What [`try_publish_to`](PublishExt::try_publish_to) yields for each ref, and for each error of its input.
pub type TryPublishResult<E, R, T = ()> = Result<Published<T>, TryFailed<E, R, T>>;

/// A record that is queued to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The record.
    pub cid: Cid,
    /// The id of the publication that it is queued in, with others. [`Client::publication`] tells what has become of it.
    pub publication: String,
    /// The item before it that is the same, and whose outcome this is: see [`Options::dedup`].
    pub duplicate_of: Option<u64>,
}

impl Published {
    /// A result for tests of your own pipeline, without a tag.
    #[must_use]
    pub fn new(index: u64, cid: Cid, publication: impl Into<String>) -> Self {
        Self {
            index,
            tag: (),
            cid,
            publication: publication.into(),
            duplicate_of: None,
        }
    }
}

impl<T> Published<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> Published<U> {
        Published {
            index: self.index,
            tag,
            cid: self.cid,
            publication: self.publication,
            duplicate_of: self.duplicate_of,
        }
    }
}

result_is_item!(Published, Cid, cid);

/// Publishes a stream of refs.
pub trait PublishExt: Stream + Sized {
    /// Has the directory behind `client` publish the record of each ref of this stream, which announces it to other
    /// nodes.
    ///
    /// A ref is anything that gives a CID ([`ToCid`]). Items are refs, or `(ref, T)` with a tag of any type that comes
    /// back with the result. Yields one [`PublishResult`] for each item.
    ///
    /// A server only queues what is to be published, and looks at it later, once an hour by default. So a success says
    /// that the ref is queued, and in which publication; a server queues a record that it does not have, too. Refs go
    /// in batches, which are one publication each: a batch is what the input has at hand, at most a window
    /// ([`Options::window`]). Behind a slow stage that is little: to have few publications, collect the refs first. A
    /// publication fails as a whole if one of its records cannot be published, so a smaller window keeps others out of
    /// that. To wait for the end: [`Client::wait_for_publication`].
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let pushed = stream::iter([record]).push_to(&client);
    ///
    /// // What could not be pushed comes out at the end, with what cannot be published.
    /// let results: Vec<_> = pushed.try_publish_to(&client).collect().await;
    /// let published = results[0].as_ref().unwrap();
    /// assert!(!client.publication(&published.publication).await?.status.has_ended());
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
    /// A ref is [`Invalid`](ErrorKind::Invalid), and never sent, if it gives no CID. A batch that the server refuses is
    /// halved until the failing ref stands alone. That one gets the server's status, and the others are queued.
    ///
    /// # Recovery
    ///
    /// A batch whose answer was lost is sent again. Then it may be queued twice, which does no harm. [`Adapter`] tells
    /// the rest.
    fn publish_to<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = PublishResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToCid,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(Items, self, Publish::new(&options), client, &options)
    }

    other_forms!(
        publish_to,
        publish_to_with,
        try_publish_to,
        try_publish_to_with,
        Publish::new,
        PublishResult,
        TryPublishResult,
        ToCid
    );
}

impl<S: Stream> PublishExt for S {}

struct Publish<R> {
    refs: PhantomData<fn(R)>,
}

impl<R> Publish<R> {
    fn new(_: &Options) -> Self {
        Self { refs: PhantomData }
    }
}

impl<R: ToCid> Operation for Publish<R> {
    const NAME: &'static str = "publish";
    const METHOD: &'static str = "/agntcy.dir.routing.v1.PublicationService/CreatePublication";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeBatch;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
    const MAX_ANSWER_LEN: usize = record_ref::MAX_REF_LEN;

    type Input = R;
    type Checked = Cid;
    type Request = PublishRequest;
    type Answer = CreatePublicationResponse;
    type Output = String;
    type Question = NoQuestion;
    type Success<T> = Published<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<Cid, Error> {
        item.to_cid()
    }

    fn request(&self, _: &R, cid: &Cid) -> PublishRequest {
        let cid = cid.to_string();
        let refs = RecordRefs {
            refs: vec![RecordRef { cid }],
        };
        PublishRequest {
            request: Some(publish_request::Request::RecordRefs(refs)),
        }
    }

    fn accept(&self, _: &R, _: &Cid, answer: CreatePublicationResponse) -> Result<String, Error> {
        Ok(answer.publication_id)
    }

    fn cid(cid: &Cid) -> Option<&Cid> {
        Some(cid)
    }

    fn success<T>(place: Place<T>, cid: Cid, publication: String) -> Published<T> {
        Published {
            index: place.index,
            tag: place.tag,
            cid,
            publication,
            duplicate_of: place.duplicate_of,
        }
    }
}

/// What has become of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// Its id: [`Published::publication`].
    pub id: String,
    /// How far it is.
    pub status: PublishStatus,
    /// When it was queued, as the server writes it: RFC 3339 by convention, unchecked.
    pub created_at: String,
    /// When its status has changed last, in the same form.
    pub updated_at: String,
}

/// How far a [`Publication`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishStatus {
    /// It is queued.
    Pending,
    /// The server is at it.
    InProgress,
    /// All of its records are published.
    Completed,
    /// One of its records, at least, could not be published. The server does not say which.
    Failed,
    /// It is one of a later version of the protocol.
    Unknown,
}

impl PublishStatus {
    /// Whether the server has done with it.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

impl Client {
    /// Has one record published, as [`publish_to`](PublishExt::publish_to) does with the default [`Options`].
    ///
    /// It is a publication of its own. For more than a few records, use the adapter.
    ///
    /// # Errors
    ///
    /// Those of `publish_to`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. The record may or may not be queued.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn publish<R: ToCid>(&self, item: R) -> PublishResult<R> {
        only(once(item).publish_to(self)).await
    }

    /// What has become of a publication.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for an empty id, [`NotFound`](ErrorKind::NotFound) for one that the server does
    /// not have, and those of any adapter.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn publication(&self, id: impl Into<String>) -> Result<Publication, Failed<String>> {
        let items = ItemsOf::<String, ()>::new();
        only(drive(
            items,
            once(id.into()),
            GetPublication,
            self,
            &Options::new(),
        ))
        .await
    }

    /// Waits until the server has done with a publication, and asks for that each `every`.
    ///
    /// Put a `tokio::time::timeout` around it: a server looks at its queue once an hour by default, and a server of
    /// version 1.2.0 leaves one of some sixty publications `InProgress` for ever, though it has done with it.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::PublishStatus;
    /// use futures::{Stream, StreamExt};
    ///
    /// /// The records that are not published, as far as is known.
    /// async fn unpublished(client: &Client, cids: impl Stream<Item = Cid>) -> Vec<Cid> {
    ///     // All that are queued before the first is waited for.
    ///     let queued: Vec<_> = cids.publish_to(client).collect().await;
    ///     let mut failed = Vec::new();
    ///     let mut ended = std::collections::HashMap::new();
    ///     for result in queued {
    ///         match result {
    ///             Err(refused) => failed.push(refused.input),
    ///             Ok(published) => {
    ///                 if !ended.contains_key(&published.publication) {
    ///                     let id = &published.publication;
    ///                     let end = client.wait_for_publication(id, Duration::from_secs(60));
    ///                     let end = tokio::time::timeout(Duration::from_secs(2 * 3600), end).await;
    ///                     ended.insert(id.clone(), end.ok().and_then(Result::ok));
    ///                 }
    ///                 // Not known: its time was up, or the server did not say.
    ///                 let end = ended[&published.publication].as_ref();
    ///                 if end.is_none_or(|end| end.status != PublishStatus::Completed) {
    ///                     failed.push(published.cid);
    ///                 }
    ///             }
    ///         }
    ///     }
    ///     failed
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`publication`](Self::publication). That a publication has failed is none: see [`Publication::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting, and nothing else.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn wait_for_publication(
        &self,
        id: impl Into<String>,
        every: Duration,
    ) -> Result<Publication, Failed<String>> {
        let mut id = id.into();
        loop {
            let publication = self.publication(id).await?;
            if publication.status.has_ended() {
                return Ok(publication);
            }
            id = publication.id;
            tokio::time::sleep(every).await;
        }
    }
}

/// A DIR server 1.2.0 says so of a publication that it does not have.
fn is_unknown(status: &Status) -> bool {
    status.code() == Code::Unknown && status.message().ends_with("record not found")
}

struct GetPublication;

impl Operation for GetPublication {
    const NAME: &'static str = "get_publication";
    const METHOD: &'static str = "/agntcy.dir.routing.v1.PublicationService/GetPublication";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;

    type Input = String;
    type Checked = String;
    type Request = GetPublicationRequest;
    type Answer = GetPublicationResponse;
    type Output = GetPublicationResponse;
    type Question = NoQuestion;
    type Success<T> = Publication;

    fn check(&self, id: &String) -> Result<String, Error> {
        match id.is_empty() {
            true => Err(Error::invalid("a publication has an id, and this is empty")),
            false => Ok(id.clone()),
        }
    }

    fn request(&self, id: &String, _: &String) -> GetPublicationRequest {
        let publication_id = id.clone();
        GetPublicationRequest { publication_id }
    }

    fn accept(
        &self,
        id: &String,
        _: &String,
        answer: GetPublicationResponse,
    ) -> Result<GetPublicationResponse, Error> {
        if answer.publication_id == *id {
            return Ok(answer);
        }
        Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "asked for {id}, the server answered for {}",
                answer.publication_id
            ),
        ))
    }

    fn verdict(status: &Status) -> Verdict {
        match is_unknown(status) {
            true => Verdict::Record,
            false => Verdict::of(status),
        }
    }

    fn refused(error: Error) -> Result<GetPublicationResponse, Error> {
        match error.status() {
            Some(status) if is_unknown(status) => {
                Err(Error::new(ErrorKind::NotFound, "").with_status(status.clone()))
            }
            _ => Err(error),
        }
    }

    fn success<T>(_: Place<T>, id: String, answer: GetPublicationResponse) -> Publication {
        let status = match answer.status() {
            PublicationStatus::Pending => PublishStatus::Pending,
            PublicationStatus::InProgress => PublishStatus::InProgress,
            PublicationStatus::Completed => PublishStatus::Completed,
            PublicationStatus::Failed => PublishStatus::Failed,
            PublicationStatus::Unspecified => PublishStatus::Unknown,
        };
        Publication {
            id,
            status,
            created_at: answer.created_time,
            updated_at: answer.last_update_time,
        }
    }
}
