//! Pull: refs in, the referrers of each record out.

use std::marker::PhantomData;

use futures_core::Stream;

use super::wire::{PullAnswer, PullRequest, PushRequest};
use super::{Referrer, ReferrersOf, ToReferrers};
use crate::cid::Cid;
use crate::client::Client;
use crate::engine::{Adapter, drive};
use crate::error::{Error, ErrorKind};
use crate::failed::{Failed, TryFailed};
use crate::forms::other_forms;
use crate::item::{Items, Tagged};
use crate::operation::{Acknowledged, LostAnswer, NoQuestion, Operation, Place};
use crate::options::Options;
use crate::record_ref;
use crate::single::{once, only};

/// What [`pull_referrers_from`](PullReferrersExt::pull_referrers_from) yields for each ref of type `R`.
pub type PullReferrersResult<R, T = ()> = Result<PulledReferrers<T>, Failed<R, T>>;

/// What [`try_pull_referrers_from`](PullReferrersExt::try_pull_referrers_from) yields for each ref, and for each error
/// of its input.
pub type TryPullReferrersResult<E, R, T = ()> = Result<PulledReferrers<T>, TryFailed<E, R, T>>;

/// The referrers of a record that the server has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PulledReferrers<T = ()> {
    /// The ref's place in the input, counted from 0.
    pub index: u64,
    /// The tag it came with.
    pub tag: T,
    /// The record.
    pub record: Cid,
    /// Its referrers, in the server's order, which means nothing. There may be none.
    pub referrers: Vec<Referrer>,
}

impl PulledReferrers {
    /// A result for tests of your own pipeline, without a tag.
    #[must_use]
    pub fn new(index: u64, record: Cid, referrers: Vec<Referrer>) -> Self {
        Self {
            index,
            tag: (),
            record,
            referrers,
        }
    }
}

impl<T> PulledReferrers<T> {
    /// The same with another tag.
    #[must_use]
    pub fn with_tag<U>(self, tag: U) -> PulledReferrers<U> {
        PulledReferrers {
            index: self.index,
            tag,
            record: self.record,
            referrers: self.referrers,
        }
    }
}

/// Pulls the referrers of a stream of refs.
pub trait PullReferrersExt: Stream + Sized {
    /// Pulls the referrers of the record of each ref of this stream from the store behind `client`.
    ///
    /// A ref is anything that gives a CID ([`ToCid`](crate::ToCid)), or [`ReferrersOf`] for those of one type, or one.
    /// Items are refs, or `(ref, T)` with a tag of any type that comes back with the result. Yields one
    /// [`PullReferrersResult`] for each item.
    ///
    /// A server marks by nothing where the referrers of one record end and those of the next begin. So each ref takes a
    /// call, and a round trip: raise [`Options::calls`], which is how many are on their way at once.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Referrer, ReferrersOf};
    /// use futures::{StreamExt, stream};
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let record: Record = r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?;
    /// let cid = client.push(record).await?.cid;
    /// let key = Record::from_json(r#"{"key": "-----BEGIN PUBLIC KEY-----…"}"#)?;
    /// client.push_referrer(Referrer::new(cid, Referrer::PUBLIC_KEY, key.clone())).await?;
    ///
    /// let keys = stream::iter([ReferrersOf::new(cid).of_type(Referrer::PUBLIC_KEY)]);
    /// let results: Vec<_> = keys.pull_referrers_from_with(&client, &Options::new().calls(8)).collect().await;
    /// assert_eq!(results[0].as_ref().unwrap().referrers[0].data, key);
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
    /// [`NotFound`](ErrorKind::NotFound) if the store has no such record; a server whose storage fails says the same.
    /// It is [`ServerFailed`](ErrorKind::ServerFailed) if the server breaks off its list, in each try. It is a
    /// [`Mismatch`](ErrorKind::Mismatch) if the server sends a referrer of another record (see [`Options::verify`]), or
    /// more than 16 MiB of referrers.
    ///
    /// # Recovery
    ///
    /// A ref whose call broke is asked for again, and what came of its referrers before is dropped. [`Adapter`] tells
    /// the rest.
    fn pull_referrers_from<R, T>(
        self,
        client: &Client,
    ) -> Adapter<Self, impl Stream<Item = PullReferrersResult<R, T>> + use<Self, R, T>>
    where
        Self::Item: Tagged<Input = R, Tag = T>,
        R: ToReferrers,
    {
        // Not by way of the other method: `drive` says why.
        let options = Options::new();
        drive(Items, self, PullReferrers::new(&options), client, &options)
    }

    other_forms!(
        pull_referrers_from,
        pull_referrers_from_with,
        try_pull_referrers_from,
        try_pull_referrers_from_with,
        PullReferrers::new,
        PullReferrersResult,
        TryPullReferrersResult,
        ToReferrers
    );
}

impl<S: Stream> PullReferrersExt for S {}

impl Client {
    /// Pulls the referrers of one record, as [`pull_referrers_from`](PullReferrersExt::pull_referrers_from) does with
    /// the default [`Options`].
    ///
    /// # Errors
    ///
    /// Those of `pull_referrers_from`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the call. Nothing is changed on the server.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with its timers enabled.
    pub async fn pull_referrers<R>(&self, item: R) -> PullReferrersResult<R>
    where
        R: ToReferrers + Tagged<Input = R, Tag = ()>,
    {
        only(once(item).pull_referrers_from(self)).await
    }
}

struct PullReferrers<R> {
    verify: bool,
    refs: PhantomData<fn(R)>,
}

impl<R> PullReferrers<R> {
    fn new(options: &Options) -> Self {
        Self {
            verify: options.verify,
            refs: PhantomData,
        }
    }
}

impl<R: ToReferrers> Operation for PullReferrers<R> {
    const NAME: &'static str = "pull_referrers";
    const METHOD: &'static str = "/agntcy.dir.store.v1.StoreService/PullReferrer";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
    const ANSWERS_MAY_FAIL: bool = true;
    // Each may be as long as a record.
    const MAX_ANSWER_LEN: usize = 16 << 20;
    // A signature and a key.
    const ANSWER_LEN: usize = 4 << 10;

    type Input = R;
    type Checked = ReferrersOf;
    type Request = PullRequest;
    type Answer = PullAnswer;
    /// No referrer, for an empty answer.
    type Output = Vec<Referrer>;
    type Question = NoQuestion;
    type Success<T> = PulledReferrers<T>;

    fn size(&self, _: &R) -> usize {
        record_ref::SIZE
    }

    fn check(&self, item: &R) -> Result<ReferrersOf, Error> {
        item.to_referrers()
    }

    fn request(&self, _: &R, asked: &ReferrersOf) -> PullRequest {
        PullRequest::of(asked)
    }

    fn accept(
        &self,
        _: &R,
        asked: &ReferrersOf,
        answer: PullAnswer,
    ) -> Result<Vec<Referrer>, Error> {
        let Some(referrer) = answer.referrer else {
            return Ok(Vec::new());
        };
        if self.verify
            && let Some(named) = &referrer.record_ref
        {
            record_ref::must_be_of(&asked.record, &named.cid)?;
        }
        Ok(vec![referrer.read(asked)?])
    }

    /// A server ends its list by an empty answer where it has no such record, or has failed.
    fn join(&self, answers: Vec<Vec<Referrer>>) -> Result<Vec<Referrer>, Error> {
        match answers.iter().position(Vec::is_empty) {
            None => Ok(answers.into_iter().flatten().collect()),
            Some(0) => Err(Error::new(
                ErrorKind::NotFound,
                "the server has no such record, or cannot read its referrers",
            )),
            Some(_) => Err(Error::new(
                ErrorKind::ServerFailed,
                "the server has broken off its list of referrers",
            )),
        }
    }

    fn may_pass(error: &Error) -> bool {
        error.kind() == ErrorKind::ServerFailed
    }

    fn len(referrers: &Vec<Referrer>) -> usize {
        referrers.iter().map(PushRequest::len).sum()
    }

    fn success<T>(
        place: Place<T>,
        asked: ReferrersOf,
        referrers: Vec<Referrer>,
    ) -> PulledReferrers<T> {
        PulledReferrers {
            index: place.index,
            tag: place.tag,
            record: asked.record,
            referrers,
        }
    }
}
