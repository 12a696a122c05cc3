//! The circuit breaker that the adapters of one client share.
//!
//! It is written here since the kept crates have another shape: they wrap function calls, let any
//! number through when half open (failsafe) or look at a rate of errors (recloser), wake nobody, and
//! read a clock that tests cannot pause.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::{LOG, meter};

/// How long a probe may take before another may go out beside it: its adapter may be one that
/// nobody polls any more.
const PROBE_TIME: Duration = Duration::from_secs(60);

/// How long the next probe is kept for the adapter that has waited for it the longest: it may be one
/// that nobody polls now.
const TURN: Duration = Duration::from_secs(1);

/// When the adapters of a client stop asking a server that is away.
///
/// The breaker opens after so many faults in a row ([`Verdict::Transient`](crate::Verdict::Transient)), with
/// no answer between them. A failure of the server at an item ([`Verdict::Attempt`](crate::Verdict::Attempt))
/// counts as a fault only where nothing succeeds: when the server fails at what it has done before, or at
/// 64 items in a row, or when there is no other item to try.
///
/// While it is open, no adapter of this client takes anything from its input. One probe at a time is sent:
/// a call that carries a single item. Before each there is a wait, which grows as
/// [`Retry::backoff`](crate::Retry::backoff) says, up to a minute. Adapters take turns with it.
///
/// If the server is there but answers with `Internal`, the items may be at fault. So input is taken as far
/// as the window goes, probes wait at most 250 ms (or the first wait, if that is longer), and each carries
/// an item that was tried least, or one that had succeeded before.
///
/// Any answer closes the breaker, and all go on. One answer does not: that to a lookup that an adapter makes
/// by itself after calls that broke, if it finds nothing. The next call might break, too. Calls that run
/// are left alone.
///
/// Each node of a client has its own ([`Client::with_nodes_of`](crate::Client::with_nodes_of)): while
/// one is open, calls go to the others, and all this is so when all are. Calls that break together
/// count as one fault.
///
/// A refused record is an answer, and never counts as a fault; a fault counts whatever the
/// operation. Clones of a client, and all adapters made with them, share its breaker;
/// [`Client::with_breaker`](crate::Client::with_breaker) gives a client one of its own.
///
/// ```
/// use std::time::Duration;
///
/// use agntcy_dir_stream::{CircuitBreaker, Client, Options, Retry};
///
/// # async fn example(client: Client) {
/// // Wait for the server for as long as it takes: no other limit must come first.
/// let client = client.with_breaker(CircuitBreaker::new().give_up_after(None));
/// let options = Options::new().retry(Retry::new().timeout(Duration::MAX));
/// # let _ = (client, options);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct CircuitBreaker {
    threshold: Option<u32>,
    give_up_after: Option<Duration>,
}

impl CircuitBreaker {
    /// The default of [`threshold`](Self::threshold): 3 faults in a row.
    pub const DEFAULT_THRESHOLD: u32 = 3;
    /// The default of [`give_up_after`](Self::give_up_after): 5 minutes.
    pub const DEFAULT_GIVE_UP_AFTER: Duration = Duration::from_secs(300);

    /// The defaults: open after 3 faults in a row, give up after 5 minutes.
    pub const fn new() -> Self {
        Self {
            threshold: Some(Self::DEFAULT_THRESHOLD),
            give_up_after: Some(Self::DEFAULT_GIVE_UP_AFTER),
        }
    }

    /// A breaker that never opens.
    pub const fn off() -> Self {
        Self {
            threshold: None,
            give_up_after: None,
        }
    }

    /// How many faults in a row open it. Default: 3.
    ///
    /// # Panics
    ///
    /// At zero: [`off`](Self::off) is a breaker that never opens.
    #[track_caller]
    pub const fn threshold(mut self, faults: u32) -> Self {
        assert!(faults > 0, "a breaker opens after one fault at least");
        self.threshold = Some(faults);
        self
    }

    /// How long an adapter waits for an open breaker to close, without a single answer, before it
    /// gives up. Default: 5 minutes; `None`: never. An adapter that has nothing to send does not
    /// wait.
    ///
    /// [`Retry::timeout`](crate::Retry::timeout) is another limit, and the shorter one ends the wait: to
    /// outlast an outage, raise both. Whatever a server says of an item starts the time anew, a refusal too; that an item's own
    /// time is up does not.
    ///
    /// Then all that was taken fails, with the last fault as the cause, and so does all that the input still has, unless
    /// [`Options::keep_trying`](crate::Options::keep_trying) is on. What was never sent is
    /// [`CircuitOpen`](crate::ErrorKind::CircuitOpen). What may have landed is
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown). The time in which the consumer works on a result
    /// does not count.
    pub const fn give_up_after(mut self, time: Option<Duration>) -> Self {
        self.give_up_after = time;
        self
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new()
    }
}

/// A breaker at work.
pub(crate) struct Breaker {
    settings: CircuitBreaker,
    node: Arc<str>,
    /// How many adapters have used it.
    users: AtomicU64,
    /// How many came in a row. Changed under the lock of the state, and beside it so that an answer takes
    /// no lock while all is well.
    faults: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which probe is out, and until when it keeps others from going out.
    probe: Option<(u64, Instant)>,
    probes: u64,
    /// When the next probe may go out.
    probe_at: Option<Instant>,
    /// When the last probe has ended.
    probe_ended: Option<Instant>,
    /// Who wants to probe, in the order in which they first wanted.
    turns: VecDeque<u64>,
    /// Who is to be woken.
    waiting: Vec<(u64, Waker)>,
}

impl State {
    fn probe_opens(&self) -> Option<Instant> {
        let probe_ends = self.probe.map(|(_, ends)| ends);
        self.probe_at.max(probe_ends)
    }

    /// The next probe could go out by now. Until when it is kept for another than `user`.
    fn is_turn_of_another(&mut self, user: u64, now: Instant) -> Option<Instant> {
        let free_since = self.probe_opens().max(self.probe_ended)?;
        let kept_until = free_since + TURN;
        let next = *self.turns.front()?;
        (next != user && now < kept_until).then_some(kept_until)
    }

    fn wait_for_turn(&mut self, user: u64) {
        if !self.turns.contains(&user) {
            self.turns.push_back(user);
        }
    }

    /// The next probe is `user`'s. Those who have not taken their turn before have lost it.
    fn take_turn(&mut self, user: u64) {
        match self.turns.iter().position(|other| *other == user) {
            Some(place) => drop(self.turns.drain(..=place)),
            None => self.turns.clear(),
        }
    }

    fn watch(&mut self, user: u64, cx: &Context<'_>) {
        let waker = cx.waker();
        match self.waiting.iter_mut().find(|(other, _)| *other == user) {
            Some((_, known)) => known.clone_from(waker),
            None => self.waiting.push((user, waker.clone())),
        }
    }
}

/// Whether a call may be opened.
pub(crate) enum Permit {
    Granted,
    /// One call, with one item. The breaker waits for its end, which is the drop of this.
    Probe(Probe),
    /// Not now. The task is woken when the breaker closes or another may probe; here is when it
    /// should look by itself.
    Denied(Option<Instant>),
}

pub(crate) struct Probe {
    breaker: Arc<Breaker>,
    number: u64,
}

impl Breaker {
    /// Of the node that is called so in logs.
    pub(crate) fn new(node: &Arc<str>, settings: CircuitBreaker) -> Arc<Self> {
        Arc::new(Self {
            node: Arc::clone(node),
            settings,
            users: AtomicU64::new(0),
            faults: AtomicU32::new(0),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its node is called in logs.
    pub(crate) fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Tells the recorder of metrics whether it is open. It is not told under the lock: it may do what it likes. So it is
    /// told again if that has changed meanwhile, and whoever tells last is right.
    pub(crate) fn tell(&self) {
        loop {
            let is_open = self.is_open();
            meter::circuit(&self.node, is_open);
            if self.is_open() == is_open {
                return;
            }
        }
    }

    pub(crate) fn give_up_after(&self) -> Option<Duration> {
        self.settings.give_up_after
    }

    pub(crate) fn is_open(&self) -> bool {
        let threshold = self.settings.threshold;
        threshold.is_some_and(|threshold| self.faults.load(Ordering::Acquire) >= threshold)
    }

    /// The server has answered: all is well.
    pub(crate) fn close(&self) {
        if self.faults.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut state = self.state();
        let was_open = self.is_open();
        state.probe_at = None;
        state.probe_ended = None;
        state.turns.clear();
        self.faults.store(0, Ordering::Release);
        wake(state);
        if was_open {
            debug!(target: LOG, node = %self.node, "the circuit is closed");
            self.tell();
        }
    }

    /// A fault of the moment; the next probe may come at `probe_at`.
    pub(crate) fn fault(&self, probe_at: Instant) {
        if self.settings.threshold.is_none() {
            return;
        }
        let mut state = self.state();
        let faults = self.faults.load(Ordering::Acquire).saturating_add(1);
        let was_open = self.is_open();
        self.faults.store(faults, Ordering::Release);
        let is_open = self.is_open();
        if is_open {
            state.probe_at = state.probe_at.max(Some(probe_at));
        }
        drop(state);
        if is_open && !was_open {
            debug!(target: LOG, node = %self.node, "the circuit is open");
            self.tell();
        }
    }

    /// Whether a call would be permitted now, to whoever asks. While others wait for their turn to probe, it might not.
    pub(crate) fn may_permit(&self, now: Instant) -> bool {
        if !self.is_open() {
            return true;
        }
        let state = self.state();
        state.turns.is_empty() && state.probe_opens().is_none_or(|at| at <= now)
    }

    /// The breaker as one adapter uses it.
    pub(crate) fn user(self: &Arc<Self>) -> User {
        User {
            breaker: Arc::clone(self),
            number: self.users.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// An adapter, to the breaker.
#[derive(Debug)]
pub(crate) struct User {
    breaker: Arc<Breaker>,
    number: u64,
}

impl std::ops::Deref for User {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        &self.breaker
    }
}

impl User {
    /// Whether it is open. If so, the task is woken when that changes.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> bool {
        if !self.is_open() {
            return false;
        }
        let mut state = self.state();
        // It may have closed before the lock was had.
        let is_open = self.is_open();
        if is_open {
            state.watch(self.number, cx);
        }
        is_open
    }

    /// Asks for a call, now. Those who ask for a probe take turns.
    pub(crate) fn permit(&self, cx: &Context<'_>, now: Instant) -> Permit {
        if !self.is_open() {
            return Permit::Granted;
        }
        let mut state = self.state();
        if !self.is_open() {
            return Permit::Granted;
        }
        let at = match state.probe_opens().filter(|at| *at > now) {
            None => state.is_turn_of_another(self.number, now),
            later => later,
        };
        if at.is_none() {
            state.take_turn(self.number);
            state.probes += 1;
            let number = state.probes;
            state.probe = Some((number, now + PROBE_TIME));
            return Permit::Probe(Probe {
                breaker: Arc::clone(&self.breaker),
                number,
            });
        }
        state.wait_for_turn(self.number);
        state.watch(self.number, cx);
        Permit::Denied(at)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // While it is closed nobody waits.
        if self.is_open() {
            let mut state = self.state();
            state.turns.retain(|other| *other != self.number);
            state.waiting.retain(|(other, _)| *other != self.number);
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let mut state = self.breaker.state();
        if state.probe.is_some_and(|(number, _)| number == self.number) {
            state.probe = None;
            state.probe_ended = Some(Instant::now());
            wake(state);
        }
    }
}

/// Wakes outside of the lock, so that the woken tasks do not run into it.
fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    for (_, waker) in waiting {
        waker.wake();
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("node", &self.node)
            .field("settings", &self.settings)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn open(faults: u32) -> (User, Instant) {
        let breaker =
            Breaker::new(&Arc::from("node"), CircuitBreaker::new().threshold(faults)).user();
        let now = Instant::now();
        for _ in 0..faults {
            assert!(matches!(breaker.permit(&context(), now), Permit::Granted));
            breaker.fault(now);
        }
        assert!(breaker.is_open());
        (breaker, now)
    }

    #[test]
    fn faults_in_a_row_open_it_and_an_answer_closes_it() {
        let (breaker, now) = open(3);
        breaker.close();
        assert!(!breaker.is_open());
        breaker.fault(now);
        breaker.fault(now);
        breaker.close();
        breaker.fault(now);
        assert!(!breaker.is_open(), "an answer came between");
    }

    #[test]
    fn one_probe_at_a_time_and_not_before_its_time() {
        let (breaker, now) = open(2);
        let later = now + Duration::from_secs(1);
        breaker.fault(later);
        let denied = breaker.permit(&context(), now);
        assert!(matches!(denied, Permit::Denied(Some(at)) if at == later));
        let probe = breaker.permit(&context(), later);
        assert!(matches!(probe, Permit::Probe(_)));
        let denied = breaker.permit(&context(), later);
        assert!(matches!(denied, Permit::Denied(_)), "another probes");
        drop(probe);
        let probe = breaker.permit(&context(), later);
        assert!(matches!(probe, Permit::Probe(_)), "the next may");
        breaker.close();
        assert!(matches!(breaker.permit(&context(), now), Permit::Granted));
    }

    #[test]
    fn who_waits_is_woken_when_it_closes_and_when_another_may_probe() {
        let (prober, now) = open(1);
        let breaker = prober.breaker.user();
        let (waker, wakes) = futures_test::task::new_count_waker();
        let cx = Context::from_waker(&waker);
        let probe = prober.permit(&context(), now);
        for _ in 0..3 {
            let denied = breaker.permit(&cx, now);
            assert!(matches!(denied, Permit::Denied(_)));
        }
        drop(probe);
        assert_eq!(wakes.get(), 1);
        let late = now + 2 * TURN;
        let probe = prober.permit(&context(), late);
        assert!(matches!(probe, Permit::Probe(_)));
        assert!(matches!(breaker.permit(&cx, late), Permit::Denied(_)));
        prober.close();
        assert_eq!(wakes.get(), 2);
        drop(probe);
    }

    #[test]
    fn a_probe_that_nobody_polls_holds_up_nobody_for_long() {
        let (breaker, now) = open(1);
        let forgotten = breaker.permit(&context(), now);
        assert!(matches!(forgotten, Permit::Probe(_)));
        let denied = breaker.permit(&context(), now);
        assert!(matches!(denied, Permit::Denied(Some(at)) if at == now + PROBE_TIME));
        let second = breaker.permit(&context(), now + PROBE_TIME);
        assert!(matches!(second, Permit::Probe(_)));
        // The end of the first is not that of the second.
        drop(forgotten);
        let denied = breaker.permit(&context(), now + PROBE_TIME);
        assert!(matches!(denied, Permit::Denied(Some(_))));
    }

    #[test]
    fn those_who_ask_for_a_probe_take_turns() {
        let (greedy, now) = open(1);
        let patient = greedy.breaker.user();
        let probe = greedy.permit(&context(), now);
        assert!(matches!(patient.permit(&context(), now), Permit::Denied(_)));
        let at = now + Duration::from_secs(2);
        greedy.fault(at);
        drop(probe);
        // It asks first, but has had its turn.
        let Permit::Denied(Some(until)) = greedy.permit(&context(), at) else {
            panic!("it is the turn of another");
        };
        assert_eq!(until, at + TURN);
        let probe = patient.permit(&context(), at);
        assert!(matches!(probe, Permit::Probe(_)));
        greedy.fault(at);
        drop(probe);
        let denied = patient.permit(&context(), at + TURN / 2);
        assert!(
            matches!(denied, Permit::Denied(_)),
            "now it is the first one's"
        );
        assert!(matches!(
            greedy.permit(&context(), at + TURN / 2),
            Permit::Probe(_)
        ));
    }

    #[test]
    fn a_turn_that_is_not_taken_is_lost() {
        let (breaker, now) = open(1);
        let [asleep, gone] = [breaker.breaker.user(), breaker.breaker.user()];
        let probe = breaker.permit(&context(), now);
        for user in [&gone, &asleep] {
            assert!(matches!(user.permit(&context(), now), Permit::Denied(_)));
        }
        let at = now + TURN;
        breaker.fault(at);
        drop((probe, gone));
        assert!(matches!(breaker.permit(&context(), at), Permit::Denied(_)));
        let late = at + TURN;
        assert!(matches!(breaker.permit(&context(), late), Permit::Probe(_)));
    }

    #[test]
    fn off_never_opens() {
        let breaker = Breaker::new(&Arc::from("node"), CircuitBreaker::off()).user();
        let now = Instant::now();
        for _ in 0..100 {
            breaker.fault(now);
        }
        assert!(!breaker.is_open());
        assert!(matches!(breaker.permit(&context(), now), Permit::Granted));
    }

    #[test]
    fn the_defaults_are_what_the_docs_say() {
        let defaults = CircuitBreaker::default();
        assert_eq!(defaults.threshold, Some(3));
        assert_eq!(defaults.give_up_after.map(|time| time.as_secs()), Some(300));
    }
}
