//! Signing as a stage of a pipeline: what has been pushed goes in, a signer makes its referrers, and these are pushed.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_util::stream::FuturesOrdered;
use pin_project::pin_project;

use super::{PushReferrerResult, PushReferrersExt as _, PushedReferrer, Referrer};
use crate::cid::Cid;
use crate::client::Client;
use crate::handle::Handle;
use crate::item::{Item, Prepared, Tagged, sealed};
use crate::options::Options;
use crate::push::Pushed;

/// How many signers work at once.
const SIGNERS: usize = 8;

/// How many records without referrers are taken before the task's other work gets a turn.
const TAKEN_AT_ONCE: usize = 256;

/// What [`sign_with`](SignExt::sign_with) yields for each record: `P` is what it got where the push failed, and `E` the
/// signer's error.
pub type SignResult<T, P, E> = Result<Signed<T>, SignFailed<T, P, E>>;

/// A record that was pushed, with its referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signed<T = ()> {
    /// The record.
    pub pushed: Pushed<T>,
    /// What the signer has made, in its order; [`index`](PushedReferrer::index) counts from 0 for each record.
    pub referrers: Vec<PushedReferrer>,
}

impl<T> Tagged for Signed<T> {
    type Input = Cid;
    type Tag = T;

    fn prepare(self) -> Prepared<Cid, T> {
        self.pushed.prepare()
    }
}

impl<T> Item<Cid, T> for Signed<T> {
    fn prepare_for(self) -> Prepared<Cid, T> {
        self.prepare()
    }
}

impl<T> sealed::Sealed for Signed<T> {}
impl<T> sealed::SealedItem<Cid, T> for Signed<T> {}

/// A record that is not signed, and how far it came. What was pushed is never deleted.
#[non_exhaustive]
pub enum SignFailed<T, P, E> {
    /// It was not pushed.
    NotPushed(P),
    /// It was pushed, and the signer failed.
    NotSigned {
        /// The record.
        pushed: Pushed<T>,
        /// The signer's error.
        error: E,
    },
    /// It was pushed, and not all of its referrers were.
    NotAttached {
        /// The record.
        pushed: Pushed<T>,
        /// What became of each referrer, in the signer's order. A [`Failed`](crate::Failed) gives the referrer back.
        referrers: Vec<PushReferrerResult>,
    },
}

impl<T, P, E> SignFailed<T, P, E> {
    /// The record, if it was pushed: to try again, let `Ok` of it go through [`sign_with`](SignExt::sign_with) once more.
    #[must_use]
    pub fn into_pushed(self) -> Option<Pushed<T>> {
        match self {
            Self::NotPushed(_) => None,
            Self::NotSigned { pushed, .. } | Self::NotAttached { pushed, .. } => Some(pushed),
        }
    }
}

fn first_failure(referrers: &[PushReferrerResult]) -> Option<&crate::Failed<Referrer>> {
    referrers.iter().find_map(|result| result.as_ref().err())
}

impl<T, P: fmt::Display, E: fmt::Display> fmt::Display for SignFailed<T, P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPushed(failed) => failed.fmt(f),
            Self::NotSigned { pushed, error } => {
                write!(
                    f,
                    "signing of item {}, {}: {error}",
                    pushed.index, pushed.cid
                )
            }
            Self::NotAttached { pushed, referrers } => {
                let failed = referrers.iter().filter(|result| result.is_err()).count();
                write!(
                    f,
                    "signing of item {}, {}: {failed} of {} referrers failed",
                    pushed.index,
                    pushed.cid,
                    referrers.len()
                )?;
                first_failure(referrers).map_or(Ok(()), |first| write!(f, ": {}", first.error))
            }
        }
    }
}

/// Leaves the tag out, and the record's input.
impl<T, P: fmt::Debug, E: fmt::Debug> fmt::Debug for SignFailed<T, P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPushed(failed) => f.debug_tuple("NotPushed").field(failed).finish(),
            Self::NotSigned { pushed, error } => f
                .debug_struct("NotSigned")
                .field("index", &pushed.index)
                .field("cid", &pushed.cid)
                .field("error", error)
                .finish(),
            Self::NotAttached { pushed, referrers } => f
                .debug_struct("NotAttached")
                .field("index", &pushed.index)
                .field("cid", &pushed.cid)
                .field("referrers", referrers)
                .finish(),
        }
    }
}

impl<T, P, E> StdError for SignFailed<T, P, E>
where
    P: StdError + 'static,
    E: StdError + 'static,
{
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::NotPushed(failed) => failed.source(),
            Self::NotSigned { error, .. } => Some(error),
            Self::NotAttached { referrers, .. } => {
                first_failure(referrers).map(|first| &first.error as _)
            }
        }
    }
}

/// The stream that [`sign_with`](SignExt::sign_with) returns. It is `Unpin`, and ends once.
#[must_use = "streams do nothing unless polled"]
pub struct Signing<G> {
    results: Pin<Box<G>>,
    handle: Handle,
    ended: bool,
}

impl<G> Signing<G> {
    /// A handle of the push of the referrers: its counts are of referrers. When it is drained or stopped, a record whose
    /// signer is at work, or of which not all referrers were taken, is not heard of. To end a pipeline, drain its first
    /// adapter, and read the last to its end.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl<G: Stream> Stream for Signing<G> {
    type Item = G::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<G::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let next = ready!(this.results.as_mut().poll_next(cx));
        this.ended = next.is_none();
        Poll::Ready(next)
    }
}

impl<G: Stream> FusedStream for Signing<G> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<G> fmt::Debug for Signing<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// Signs what has been pushed.
pub trait SignExt<T, P>: Stream<Item = Result<Pushed<T>, P>> + Sized {
    /// Has `signer` make the referrers of each record that was pushed, such as its signature and the public key, and
    /// pushes them to the store behind `client`. It goes behind [`push_to`](crate::PushExt::push_to), or whatever else
    /// gives [`Pushed`].
    ///
    /// Yields one [`SignResult`] for each result that comes in, in order: each record's fate at each stage. A record
    /// whose push failed passes through. One for which the signer makes nothing is `Signed` without referrers.
    ///
    /// `signer` may make referrers of any type. Up to eight work at once, as long as the window has room for what they
    /// make; they are polled only then. One is called once for each record; what may help at a second try, it has to
    /// try itself, and one that hangs holds back all behind it, so give it a time limit. Its future cannot borrow
    /// `pushed`: it takes what it needs, such as the CID or a part of the tag. Referrers are tried again as
    /// [`push_referrers_to`](crate::PushReferrersExt::push_referrers_to) says, and that stage is what logs and metrics
    /// tell as `push_referrers`.
    ///
    /// ```
    /// use agntcy_dir_stream::prelude::*;
    /// use agntcy_dir_stream::{Error, Referrer};
    /// use futures::{StreamExt, stream};
    ///
    /// /// Such as a call of a signing service.
    /// async fn sign(cid: Cid) -> Result<[Referrer; 1], Error> {
    ///     let data = Record::from_json(format!(r#"{{"signature": "of {cid}"}}"#))?;
    ///     Ok([Referrer::new(cid, Referrer::SIGNATURE, data)])
    /// }
    ///
    /// # #[cfg(feature = "server")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = agntcy_dir_stream::server::Store::new().client();
    /// let records = stream::iter([
    ///     r#"{"name": "a", "schema_version": "1.0.0"}"#.parse()?,
    ///     Record::from_json(r#"{"name": "refused"}"#)?,
    /// ]);
    /// let pushed = records.push_to(&client);
    /// let mut signed = pushed.sign_with(&client, |pushed| sign(pushed.cid));
    ///
    /// let first = signed.next().await.unwrap()?;
    /// assert_eq!((first.pushed.index, first.referrers.len()), (0, 1));
    /// let failed = signed.next().await.unwrap().unwrap_err();
    /// assert!(failed.to_string().starts_with("push of item 1: refused"), "{failed}");
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "server")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # A second run
    ///
    /// A record that was stored before comes here, too, marked as [`already_stored`](Pushed::already_stored). A signer
    /// that makes another signature each time asks first whether there is one ([`Client::pull_referrers`]), and makes
    /// nothing then. With that, the last stage of a pipeline can follow a [`Checkpoint`](crate::Checkpoint). The stages
    /// before it see all records again, which changes nothing, and none is signed twice. No stage between may leave
    /// records out: those that failed go on by [`try_publish_to`](crate::PublishExt::try_publish_to). The push itself must not
    /// follow one: what it has handed out counts as done, and may not be signed yet.
    ///
    /// # Cancel safety
    ///
    /// `next()` can be dropped: no result is lost. Dropping the stream drops its input and the signers at work, and
    /// resets its calls.
    ///
    /// # Panics
    ///
    /// As an [`Adapter`](crate::Adapter) does.
    fn sign_with<F, S, I, E>(
        self,
        client: &Client,
        signer: F,
    ) -> Signing<impl Stream<Item = SignResult<T, P, E>> + use<Self, T, P, F, S, I, E>>
    where
        F: FnMut(&Pushed<T>) -> S,
        S: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = Referrer>,
    {
        signed(self, client, &Options::new(), SIGNERS, signer)
    }

    /// [`sign_with`](Self::sign_with) with [`Options`] for the push of the referrers, and so many `signers` at once,
    /// one at least.
    ///
    /// [`Options::unordered`] and [`Options::stop_on_error`] have no meaning here.
    fn sign_with_options<F, S, I, E>(
        self,
        client: &Client,
        options: &Options,
        signers: usize,
        signer: F,
    ) -> Signing<impl Stream<Item = SignResult<T, P, E>> + use<Self, T, P, F, S, I, E>>
    where
        F: FnMut(&Pushed<T>) -> S,
        S: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = Referrer>,
    {
        signed(self, client, options, signers, signer)
    }
}

impl<R, T, P> SignExt<T, P> for R where R: Stream<Item = Result<Pushed<T>, P>> {}

fn signed<R, T, P, F, S, I, E>(
    input: R,
    client: &Client,
    options: &Options,
    signers: usize,
    signer: F,
) -> Signing<impl Stream<Item = SignResult<T, P, E>> + use<R, T, P, F, S, I, E>>
where
    R: Stream<Item = Result<Pushed<T>, P>>,
    F: FnMut(&Pushed<T>) -> S,
    S: Future<Output = Result<I, E>>,
    I: IntoIterator<Item = Referrer>,
{
    let groups = Groups::default();
    let referrers = Signers {
        input,
        input_ended: false,
        signer,
        at_once: signers.max(1),
        at_work: FuturesOrdered::new(),
        referrers: VecDeque::new(),
        groups: groups.clone(),
        max_groups: options.window,
    };
    // The results of a record's referrers are put together by their order.
    let options = options.clone().unordered(false).stop_on_error(false);
    let results = referrers.push_referrers_to_with(client, &options);
    let handle = results.handle();
    let results = async_stream::stream! {
        let mut results = results;
        let mut ended = false;
        let mut next = |cx: &mut Context<'_>| {
            loop {
                if let Some(done) = groups.pop() {
                    return Poll::Ready(Some(done));
                }
                if ended {
                    return Poll::Ready(None);
                }
                match Pin::new(&mut results).poll_next(cx) {
                    Poll::Ready(Some(result)) => groups.add(result),
                    Poll::Ready(None) => ended = true,
                    // A record without referrers may have come.
                    Poll::Pending if groups.has_done() => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        while let Some(group) = poll_fn(&mut next).await {
            yield group.conclude();
        }
    };
    Signing {
        results: Box::pin(results),
        handle,
        ended: false,
    }
}

/// A record and its referrers, on their way.
struct Group<T, P, E> {
    /// What became of the record before.
    fate: Result<Pushed<T>, SignFailed<T, P, E>>,
    referrers: Vec<PushReferrerResult>,
    /// How many there are.
    expected: usize,
}

impl<T, P, E> Group<T, P, E> {
    fn is_done(&self) -> bool {
        self.referrers.len() == self.expected
    }

    // What failed comes back whole, as an item of a stream.
    #[allow(clippy::result_large_err)]
    fn conclude(self) -> SignResult<T, P, E> {
        let pushed = self.fate?;
        if first_failure(&self.referrers).is_some() {
            let referrers = self.referrers;
            return Err(SignFailed::NotAttached { pushed, referrers });
        }
        let referrers = self.referrers.into_iter().flatten().collect();
        Ok(Signed { pushed, referrers })
    }
}

/// The records of which not all referrers have their result, in order. The adapter's input adds them, and its output
/// takes them.
struct Groups<T, P, E>(Arc<Mutex<VecDeque<Group<T, P, E>>>>);

impl<T, P, E> Default for Groups<T, P, E> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T, P, E> Clone for Groups<T, P, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, P, E> Groups<T, P, E> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Group<T, P, E>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, group: Group<T, P, E>) {
        self.lock().push_back(group);
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn has_done(&self) -> bool {
        self.lock().front().is_some_and(Group::is_done)
    }

    /// The first record, if it has all.
    fn pop(&self) -> Option<Group<T, P, E>> {
        let mut groups = self.lock();
        groups.front().filter(|group| group.is_done())?;
        groups.pop_front()
    }

    /// The next referrer has its result: it is of the first record that waits for one. Those before it that need none may
    /// not be taken out yet.
    fn add(&self, mut result: PushReferrerResult) {
        let mut groups = self.lock();
        let first = groups.iter_mut().find(|group| !group.is_done());
        let first = first.expect("a referrer is of a record that waits for it");
        let index = first.referrers.len() as u64;
        match &mut result {
            Ok(pushed) => pushed.index = index,
            Err(failed) => failed.index = index,
        }
        first.referrers.push(result);
    }
}

/// What the signers make, one by one.
#[pin_project]
struct Signers<R, T, P, F, S: Future, E> {
    #[pin]
    input: R,
    input_ended: bool,
    signer: F,
    at_once: usize,
    at_work: FuturesOrdered<Work<T, P, S>>,
    /// Of the record that was signed last.
    referrers: VecDeque<Referrer>,
    groups: Groups<T, P, E>,
    /// How many records may wait there.
    max_groups: usize,
}

impl<R, T, P, F, S, I, E> Stream for Signers<R, T, P, F, S, E>
where
    R: Stream<Item = Result<Pushed<T>, P>>,
    F: FnMut(&Pushed<T>) -> S,
    S: Future<Output = Result<I, E>>,
    I: IntoIterator<Item = Referrer>,
{
    type Item = Referrer;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Referrer>> {
        let mut this = self.project();
        for _ in 0..TAKEN_AT_ONCE {
            if let Some(referrer) = this.referrers.pop_front() {
                return Poll::Ready(Some(referrer));
            }
            if this.groups.len() >= *this.max_groups {
                // Many records without referrers may wait behind one. Who takes results out polls this again.
                return Poll::Pending;
            }
            while !*this.input_ended && this.at_work.len() < *this.at_once {
                match this.input.as_mut().poll_next(cx) {
                    Poll::Ready(Some(result)) => {
                        let signing = result.as_ref().ok().map(&mut *this.signer);
                        this.at_work.push_back(Work {
                            result: Some(result),
                            signing,
                        });
                    }
                    Poll::Ready(None) => *this.input_ended = true,
                    Poll::Pending => break,
                }
            }
            let Some((result, signed)) = ready!(Pin::new(&mut *this.at_work).poll_next(cx)) else {
                return match *this.input_ended {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                };
            };
            let fate = match (result, signed) {
                (Err(failed), _) => Err(SignFailed::NotPushed(failed)),
                (Ok(pushed), Some(Err(error))) => Err(SignFailed::NotSigned { pushed, error }),
                (Ok(pushed), Some(Ok(referrers))) => {
                    this.referrers.extend(referrers);
                    Ok(pushed)
                }
                (Ok(_), None) => unreachable!("what was pushed is signed"),
            };
            this.groups.push(Group {
                fate,
                referrers: Vec::new(),
                expected: this.referrers.len(),
            });
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A signer at work, or a record that needs none.
#[pin_project]
struct Work<T, P, S> {
    result: Option<Result<Pushed<T>, P>>,
    #[pin]
    signing: Option<S>,
}

impl<T, P, S: Future> Future for Work<T, P, S> {
    type Output = (Result<Pushed<T>, P>, Option<S::Output>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let signed = match this.signing.as_pin_mut() {
            Some(signing) => Some(ready!(signing.poll(cx))),
            None => None,
        };
        let result = this.result.take();
        Poll::Ready((result.expect("it is polled to its end once"), signed))
    }
}
