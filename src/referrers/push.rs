//! Push: referrers in, what became of each out.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_core::Stream;
use tonic::Status;

use super::Referrer;
use super::wire::{PushAnswer, PushRequest};
use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive, without_the_middle};
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, TryFailed};
use crate::item::{Item, ItemsOf, TryItemsOf};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::record::MAX_RECORD_LEN;
use crate::record_ref;
use crate::single::{once, only};

/// What [`push_referrers_to`](PushReferrersExt::push_referrers_to) yields for each referrer.
pub type PushReferrerResult<T = ()> = Result<PushedReferrer<T>, Failed<Referrer, T>>;

/// What [`try_push_referrers_to`](PushReferrersExt::try_push_referrers_to) yields for each referrer, and for each
/// error of its input.
pub type TryPushReferrerResult<E, T = ()> = Result<PushedReferrer<T>, TryFailed<E, Referrer, T>>;

/// A referrer that the server has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedReferrer<T = ()> {
    /// The referrer's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The record that it refers to.
    pub record: Cid,
    /// Its own CID. A server does not tell it of one that was there already.
    pub cid: Option<Cid>,
    /// Whether the server had it already, from an earlier push or from one whose answer was lost.
    pub already_stored: bool,
}

impl PushedReferrer {
    /// A result for tests of your own pipeline, without a tag. The other fields can be set afterwards.
    #[must_use]
    pub fn new(index: u64, record: Cid, cid: Cid) -> Self {
        Self {
            index,
            tag: (),
            record,
            cid: Some(cid),
            already_stored: false,
        }
    }
}

impl<T> PushedReferrer<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> PushedReferrer<U> {
        PushedReferrer {
            index: self.index,
            tag,
            record: self.record,
            cid: self.cid,
            already_stored: self.already_stored,
        }
    }
}

/// Pushes a stream of referrers.
pub trait PushReferrersExt: Stream + Sized {
    /// Pushes each referrer of this stream to the store behind `client`, over one call at a time, or as many as
    /// [`Options::calls`] says. To sign what has just been pushed: [`sign_with`](crate::SignExt::sign_with).
    ///
    /// Items are [`Referrer`]s, or `(Referrer, T)` with a tag of any type that comes back with the result. Yields one
    /// [`PushReferrerResult`] for each item.
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
    ///
    /// let key = Record::from_json(r#"{"key": "-----BEGIN PUBLIC KEY-----…"}"#)?;
    /// let referrers = stream::iter([Referrer::new(cid, Referrer::PUBLIC_KEY, key)]);
    /// let results: Vec<_> = referrers.push_referrers_to(&client).collect().await;
    /// assert_eq!(results[0].as_ref().unwrap().record, cid);
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
    /// A referrer is [`Invalid`](ErrorKind::Invalid), and never sent, if it has no type, or one that is none of DIR's
    /// (`agntcy.dir.…`), or is longer than [`MAX_RECORD_LEN`] less 256 bytes as a message. It is
    /// [`NotFound`](ErrorKind::NotFound) if the store has no such record. It is [`Rejected`](ErrorKind::Rejected) in
    /// the server's own words, as where the server does not know the type. It is a [`Mismatch`](ErrorKind::Mismatch) if
    /// the server answers with the CID of another referrer; that and malformed data are found while [`Options::verify`]
    /// is on.
    ///
    /// # Recovery
    ///
    /// A referrer that has no answer is sent again: the same referrer is stored once, so that does no harm. So is one
    /// at which the store of the server fails, behind the others, which tell whether there is an outage. In the end it is
    /// [`ServerFailed`](ErrorKind::ServerFailed), [`NotSent`](ErrorKind::NotSent) or
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown). [`Adapter`] tells the rest.
    fn push_referrers_to<T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = PushReferrerResult<T>> + use<Self, T>>
    where
        Self::Item: Item<Referrer, T>,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(
            ItemsOf::new(),
            self,
            PushReferrers::new(&options),
            client,
            &options,
        )
    }

    /// [`push_referrers_to`](Self::push_referrers_to) with [`Options`].
    fn push_referrers_to_with<T>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = PushReferrerResult<T>> + use<Self, T>>
    where
        Self::Item: Item<Referrer, T>,
    {
        drive(
            ItemsOf::new(),
            self,
            PushReferrers::new(options),
            client,
            options,
        )
    }

    /// [`push_referrers_to`](Self::push_referrers_to) over an input that can fail, as
    /// [`try_push_to`](crate::PushExt::try_push_to) is.
    fn try_push_referrers_to<I, T, E>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = TryPushReferrerResult<E, T>> + use<Self, I, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Item<Referrer, T>,
    {
        let options = Options::new();
        drive(
            TryItemsOf::new(),
            self,
            PushReferrers::new(&options),
            client,
            &options,
        )
    }

    /// [`try_push_referrers_to`](Self::try_push_referrers_to) with [`Options`].
    fn try_push_referrers_to_with<I, T, E>(
        self,
        client: &Client,
        options: &Options,
    ) -> Adapter<Self, impl Stream<Item = TryPushReferrerResult<E, T>> + use<Self, I, T, E>>
    where
        Self: Stream<Item = Result<I, E>>,
        I: Item<Referrer, T>,
    {
        drive(
            TryItemsOf::new(),
            self,
            PushReferrers::new(options),
            client,
            options,
        )
    }
}

impl<S: Stream> PushReferrersExt for S {}

impl Client {
    /// Pushes one referrer, as [`push_referrers_to`](PushReferrersExt::push_referrers_to) does with the default
    /// [`Options`].
    ///
    /// It is a call of its own. For more than a few, use the adapter.
    ///
    /// # Errors
    ///
    /// Those of `push_referrers_to`. The referrer comes back in the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. The referrer may or may not be stored.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn push_referrer(&self, referrer: Referrer) -> PushReferrerResult {
        only(once(referrer).push_referrers_to(self)).await
    }
}

/// The record that a server has failed at: `failed to push referrer for record CID: …`.
fn named_in(words: &str) -> Option<Cid> {
    let rest = words.strip_prefix("failed to push referrer for record ")?;
    rest.split(':').next()?.parse().ok()
}

/// The longest message in bytes that is sent. A server takes it up to [`MAX_RECORD_LEN`], but gives it back with its
/// CID, so one of that length could never be pulled.
const MAX_LEN: usize = MAX_RECORD_LEN - 256;

struct PushReferrers {
    verify: bool,
    /// Whether the server gives a referrer the CID that is expected of it, as an answer has shown. If it does, an
    /// answer with another CID is another referrer's.
    names_as_expected: AtomicBool,
}

impl PushReferrers {
    fn new(options: &Options) -> Self {
        Self {
            verify: options.verify,
            names_as_expected: AtomicBool::new(false),
        }
    }
}

struct Checked {
    record: Cid,
    own: Option<Cid>,
}

#[derive(Clone)]
struct Stored {
    cid: Option<Cid>,
    was_there: bool,
}

impl Operation for PushReferrers {
    const NAME: &'static str = "push_referrers";
    const METHOD: &'static str = "/agntcy.dir.store.v1.StoreService/PushReferrer";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
    const ANSWERS_MAY_FAIL: bool = true;
    const MAX_ANSWER_LEN: usize = 1 << 20;

    type Input = Referrer;
    type Checked = Checked;
    type Request = PushRequest;
    type Answer = PushAnswer;
    type Output = Stored;
    type Question = NoQuestion;
    type Success<T> = PushedReferrer<T>;

    fn size(&self, referrer: &Referrer) -> usize {
        PushRequest::len(referrer)
    }

    fn check(&self, referrer: &Referrer) -> Result<Checked, Error> {
        match &*referrer.referrer_type {
            "" => return Err(Error::invalid("the referrer has no type")),
            name if !name.starts_with("agntcy.dir.") => {
                let words = format!("`{name}` is no type of referrer: DIR's are agntcy.dir.…");
                return Err(Error::invalid(words));
            }
            _ => {}
        }
        let len = PushRequest::len(referrer);
        if len > MAX_LEN {
            return Err(Error::invalid(format!(
                "the referrer is {len} bytes long, {MAX_LEN} is the limit"
            )));
        }
        Ok(Checked {
            record: referrer.record,
            own: self.verify.then(|| referrer.own_cid()).transpose()?,
        })
    }

    fn request(&self, referrer: &Referrer, _: &Checked) -> PushRequest {
        PushRequest::of(referrer)
    }

    fn accept(&self, _: &Referrer, checked: &Checked, answer: PushAnswer) -> Result<Stored, Error> {
        let words = answer.error_message;
        if answer.success || words.ends_with("already exists") {
            let named = answer.referrer_ref.filter(|named| !named.cid.is_empty());
            let cid = named.map(|named| record_ref::cid_of(&named.cid));
            let cid = cid.transpose()?;
            if let (Some(cid), Some(own)) = (cid, checked.own) {
                if cid == own {
                    self.names_as_expected.store(true, Ordering::Relaxed);
                } else if self.names_as_expected.load(Ordering::Relaxed) {
                    return Err(Error::new(
                        ErrorKind::Mismatch,
                        format!("the referrer is {own}, the server answered {cid}"),
                    ));
                }
            }
            return Ok(Stored {
                cid,
                was_there: !answer.success,
            });
        }
        let is_missing = words.contains("code = NotFound");
        let words = without_the_middle(&words);
        if named_in(&words).is_some_and(|named| named != checked.record) {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("the answer is of another record: {words}"),
            ));
        }
        let (kind, status) = if is_missing {
            (ErrorKind::NotFound, Status::not_found(words))
        } else {
            (ErrorKind::ServerFailed, Status::internal(words))
        };
        Err(Error::new(kind, "").with_status(status))
    }

    fn may_pass(error: &Error) -> bool {
        error.kind() == ErrorKind::ServerFailed
    }

    fn is_already_stored(stored: &Stored) -> bool {
        stored.was_there
    }

    fn success<T>(place: Place<T>, checked: Checked, stored: Stored) -> PushedReferrer<T> {
        PushedReferrer {
            index: place.index,
            tag: place.tag,
            record: checked.record,
            cid: stored.cid,
            already_stored: stored.was_there,
        }
    }
}
