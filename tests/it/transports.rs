//! Transports that hang, take requests and never answer, answer late, break, or say what nobody
//! asked for, in any order and under any options: each item has one result, it is true, it comes in
//! bounded time, and no calls are opened in vain without a wait. There is no network here, only a
//! service that does what the case says, under a paused clock.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Code, ErrorKind, Failed, Handle, Retry};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::BodyExt;
use proptest::prelude::*;
use prost::Message;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tonic::body::Body;

use crate::support::call_count::{Bounds, CallCount};
use crate::support::clock::{SECOND, on_paused_clock};
use crate::support::messages::{
    DELETE, LOOKUP, PULL, PUSH, RecordRef, framed, take_message, trailers,
};
use crate::support::no_spin::NoSpin;
use crate::support::properties::cases;
use crate::support::records::{cid, number_with_cid, record};
use crate::support::reply::{Replied, Reply, reply};
use crate::support::results::{Seen, read_all};

const MOST_ITEMS: usize = 60;

/// What the transport and the server do with one call.
#[derive(Clone, Debug, PartialEq)]
enum Behaviour {
    /// Each request is answered after this time. The call ends with OK after the last.
    Good(Duration),
    /// No request is taken, and no answer comes.
    Hung,
    /// All requests are taken, and no answer comes.
    Deaf { carries_out: bool },
    /// Hung for this time, then good.
    Late(Duration),
    /// The call cannot be opened.
    Refused,
    /// This many requests are answered. Then the call ends, at once or when the next request comes.
    Ends {
        answers: usize,
        at_next: bool,
        how: End,
    },
    /// Each request is answered twice.
    Twice,
    /// One answer comes before there is a request. After that the call is good.
    Unasked,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    /// No more requests are taken, and no more answers come.
    Hung,
    Status(Code),
    /// The transport breaks the call off. The request that it was at may have been carried out.
    Reset {
        carries_out: bool,
    },
}

#[derive(Clone, Debug)]
struct Case {
    items: usize,
    /// What happens to the calls, in their order.
    behaviours: Vec<Behaviour>,
    /// Whether all later calls do as the last one. Else the list begins again.
    last_stays: bool,
    /// How long the transport takes to open a call, or to fail at that.
    opens_after: Duration,
    /// How many calls may run at once, as HTTP/2 limits its streams: others wait.
    limit: Option<usize>,
    lanes: usize,
    window: usize,
    in_flight: Option<(usize, usize)>,
    unordered: bool,
    retry: Tries,
    stall_after: Option<Duration>,
    idle_close: Option<Duration>,
    max_call_age: Option<Duration>,
    /// After how many faults the breaker opens, and after how long it gives up.
    breaker: Option<(u32, Option<Duration>)>,
    /// How long the input takes for each fifth item, and the consumer for each third result.
    pauses: (Duration, Duration),
    /// The seed of what is random in the adapter.
    seed: u64,
}

#[derive(Clone, Debug)]
struct Tries {
    is_on: bool,
    tries: u32,
    time: Duration,
    waits: (Duration, Duration),
}

/// How long the end of the calls may take once all results are there.
const END: Duration = Duration::from_secs(5);

/// A timer goes off up to a millisecond late, and a call has a few.
const TICKS: Duration = Duration::from_millis(5);

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let millis = |most: u64| (0..=most).prop_map(Duration::from_millis);
    let code = prop_oneof![
        4 => Just(Code::Unavailable),
        4 => Just(Code::Internal),
        4 => Just(Code::Ok),
        2 => Just(Code::NotFound),
        2 => Just(Code::InvalidArgument),
        2 => Just(Code::ResourceExhausted),
        1 => Just(Code::Unauthenticated),
    ];
    let how = prop_oneof![
        3 => code.prop_map(End::Status),
        1 => any::<bool>().prop_map(|carries_out| End::Reset { carries_out }),
        1 => Just(End::Hung),
    ];
    prop_oneof![
        4 => prop_oneof![Just(Duration::ZERO), millis(3_000)].prop_map(Behaviour::Good),
        1 => Just(Behaviour::Hung),
        1 => any::<bool>().prop_map(|carries_out| Behaviour::Deaf { carries_out }),
        1 => millis(400_000).prop_map(Behaviour::Late),
        1 => Just(Behaviour::Refused),
        6 => (0usize..8, any::<bool>(), how).prop_map(|(answers, at_next, how)| {
            Behaviour::Ends { answers, at_next, how }
        }),
        1 => Just(Behaviour::Twice),
        1 => Just(Behaviour::Unasked),
    ]
}

/// Only good calls, or any.
fn behaviours() -> impl Strategy<Value = Vec<Behaviour>> {
    let good = (0u64..=3_000).prop_map(|millis| Behaviour::Good(Duration::from_millis(millis)));
    prop_oneof![
        4 => prop::collection::vec(behaviour(), 1..6),
        1 => prop::collection::vec(good, 1..3),
    ]
}

fn tries() -> impl Strategy<Value = Tries> {
    let time = prop_oneof![
        4 => Just(Retry::DEFAULT_TIMEOUT),
        2 => Just(30 * SECOND),
        1 => Just(Duration::from_millis(1)),
        1 => Just(Duration::ZERO),
        2 => Just(Duration::MAX),
    ];
    let waits = prop_oneof![
        4 => Just((Retry::DEFAULT_MIN_BACKOFF, Retry::DEFAULT_MAX_BACKOFF)),
        1 => Just((SECOND, 60 * SECOND)),
        1 => Just((Duration::ZERO, Duration::ZERO)),
    ];
    (prop::bool::weighted(0.9), 1u32..6, time, waits).prop_map(|(is_on, tries, time, waits)| {
        Tries {
            is_on,
            tries,
            time,
            waits,
        }
    })
}

fn case() -> impl Strategy<Value = Case> {
    let millis = |millis| Just(Some(Duration::from_millis(millis)));
    let lanes = prop_oneof![4 => Just(1usize), 2 => Just(2), 2 => Just(8), 1 => 1usize..=64];
    let window = prop_oneof![
        2 => Just(1000usize),
        1 => Just(1),
        2 => 1usize..=64,
    ];
    let in_flight = prop_oneof![
        4 => Just(None),
        1 => Just(Some((1, 1))),
        1 => Just(Some((1000, 1000))),
        1 => Just(Some((1000, 1))),
        1 => Just(Some((1, 4))),
    ];
    let stall_after = prop_oneof![
        4 => Just(Some(Options::DEFAULT_STALL_AFTER)),
        1 => millis(1),
        1 => millis(5_000),
        1 => Just(None),
    ];
    let idle_close = prop_oneof![
        4 => Just(Some(Options::DEFAULT_IDLE_CLOSE)),
        1 => millis(0),
        1 => millis(1_000),
        1 => Just(None),
    ];
    let max_call_age = prop_oneof![
        4 => Just(Some(Options::DEFAULT_MAX_CALL_AGE)),
        1 => millis(0),
        1 => millis(1_000),
        1 => Just(None),
    ];
    let give_up = prop_oneof![
        4 => Just(Some(CircuitBreaker::DEFAULT_GIVE_UP_AFTER)),
        1 => millis(0),
        1 => millis(1_000),
        1 => Just(None),
    ];
    let breaker = (prop_oneof![3 => Just(3u32), 1 => Just(1)], give_up);
    let pause =
        || prop_oneof![4 => Just(Duration::ZERO), 1 => Just(SECOND), 1 => Just(100 * SECOND)];
    let opens_after = prop_oneof![
        4 => Just(Duration::ZERO),
        1 => Just(Duration::from_millis(1)),
        1 => Just(Duration::from_millis(50)),
    ];
    (
        (0..MOST_ITEMS, (behaviours(), any::<bool>()), opens_after),
        prop::option::weighted(0.3, 0usize..4),
        (lanes, window, in_flight, any::<bool>()),
        tries(),
        (stall_after, idle_close, max_call_age),
        prop::option::weighted(0.8, breaker),
        (pause(), pause()),
        any::<u64>(),
    )
        .prop_map(
            |(
                (items, (behaviours, last_stays), opens_after),
                limit,
                (lanes, window, in_flight, unordered),
                retry,
                (stall_after, idle_close, max_call_age),
                breaker,
                pauses,
                seed,
            )| {
                Case {
                    items,
                    behaviours,
                    last_stays,
                    opens_after,
                    limit,
                    lanes,
                    window,
                    in_flight,
                    unordered,
                    retry,
                    stall_after,
                    idle_close,
                    max_call_age,
                    breaker,
                    pauses,
                    seed,
                }
                .that_has_an_end()
            },
        )
}

impl Case {
    /// The options may wait for ever, and without any pause: then a server that never serves is never
    /// done with.
    fn that_has_an_end(mut self) -> Self {
        let gives_up = self.retry.is_on && matches!(self.breaker, Some((_, Some(_))));
        if !gives_up || self.stall_after.is_none() {
            self.retry.time = self.retry.time.min(Retry::DEFAULT_TIMEOUT);
        }
        self
    }

    fn options(&self) -> Options {
        let retry = match self.retry.is_on {
            true => Retry::new(),
            false => Retry::off(),
        };
        let retry = retry
            .max_attempts(self.retry.tries)
            .timeout(self.retry.time)
            .backoff(self.retry.waits.0, self.retry.waits.1);
        let options = match self.in_flight {
            None => Options::new(),
            Some((least, most)) => Options::new().in_flight(least, most),
        };
        options
            .window(self.window)
            .calls(self.lanes)
            .unordered(self.unordered)
            .retry(retry)
            .stall_after(self.stall_after)
            .idle_close(self.idle_close)
            .max_call_age(self.max_call_age)
    }

    fn client(&self, server: &Server) -> Client {
        let breaker = match self.breaker {
            None => CircuitBreaker::off(),
            Some((faults, give_up)) => CircuitBreaker::new()
                .threshold(faults)
                .give_up_after(give_up),
        };
        Client::from_service(server.clone()).with_breaker(breaker)
    }

    fn input<I>(&self, item: impl Fn(usize) -> I) -> impl Stream<Item = (I, usize)> + Unpin {
        let pause = self.pauses.0;
        Box::pin(stream::iter(0..self.items).then(move |number| {
            let item = (item(number), number);
            async move {
                if number % 5 == 3 && !pause.is_zero() {
                    sleep(pause).await;
                }
                item
            }
        }))
    }

    fn behaviour(&self, call: usize) -> Behaviour {
        let behaviours = &self.behaviours;
        let place = match self.last_stays {
            true => call.min(behaviours.len() - 1),
            false => call % behaviours.len(),
        };
        behaviours[place].clone()
    }

    /// Whether only a few calls go wrong, and there are attempts and time for more.
    fn has_to_heal(&self) -> bool {
        let (last, before) = self.behaviours.split_last().unwrap();
        let is_of_moment = |behaviour: &Behaviour| match behaviour {
            Behaviour::Twice | Behaviour::Unasked => false,
            Behaviour::Ends {
                how: End::Status(code),
                ..
            } => !matches!(
                code,
                Code::NotFound | Code::InvalidArgument | Code::Unauthenticated
            ),
            _ => true,
        };
        self.last_stays
            && *last == Behaviour::Good(Duration::ZERO)
            && before.iter().all(is_of_moment)
            && self.limit != Some(0)
            && self.retry.is_on
            && self.retry.tries as usize > before.len()
            && self.retry.time >= Retry::DEFAULT_TIMEOUT
            && self.stall_after.is_some_and(|time| time >= 5 * SECOND)
            && self.breaker.is_none_or(|(_, give_up)| give_up.is_none())
    }

    /// The longest that the results can take: each item has its time. While the breaker is open one is
    /// taken after the other, else a window.
    fn longest(&self) -> Duration {
        let rounds = match self.breaker {
            Some(_) if self.retry.is_on => self.items,
            _ => self.items.div_ceil(self.window),
        };
        let (input, consumer) = self.pauses;
        let pauses = (input + consumer) * self.items as u32;
        let time = self.retry.time.saturating_mul(rounds as u32);
        time.saturating_add(pauses)
    }

    /// Whether nothing goes wrong, and there is time for everything, one after the other.
    fn has_to_succeed(&self, method: &str) -> bool {
        let slowest = self.behaviours.iter().map(|behaviour| match behaviour {
            Behaviour::Good(delay) => Some(*delay),
            _ => None,
        });
        let Some(slowest) = slowest.collect::<Option<Vec<_>>>() else {
            return false;
        };
        let slowest = slowest.into_iter().max().unwrap_or_default();
        // The answer to a delete is that to all of its requests. And a call that was given an item and
        // waits for its turn may wait for all the others: without retries its item fails when it stalls.
        let waits_for_turn = self.limit.is_some_and(|limit| limit <= self.lanes);
        let silence = match method {
            DELETE => slowest * MOST_ITEMS as u32,
            _ if waits_for_turn && !self.retry.is_on => slowest * MOST_ITEMS as u32,
            _ => slowest,
        };
        let is_patient = self
            .stall_after
            .is_none_or(|time| time > silence + self.opens_after + SECOND);
        is_patient && self.limit != Some(0) && self.retry.time >= Retry::DEFAULT_TIMEOUT
    }

    /// Whether answers may be taken for those of other requests.
    fn is_out_of_step(&self) -> bool {
        let is_odd = |behaviour| matches!(behaviour, Behaviour::Twice | Behaviour::Unasked);
        self.behaviours.iter().cloned().any(is_odd)
    }

    fn ends_with(&self, codes: &[Code]) -> bool {
        self.behaviours.iter().any(|behaviour| {
            matches!(behaviour, Behaviour::Ends { how: End::Status(code), .. } if codes.contains(code))
        })
    }
}

/// The records of the cases, and one more that is in no case.
struct Known {
    record: Record,
    cid: Cid,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let records = (0..=MOST_ITEMS).map(record);
    let known = records.map(|record| Known {
        cid: cid(&record),
        record,
    });
    known.collect()
});

/// The transport and the server behind it.
#[derive(Clone)]
struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    case: Case,
    /// The method of the items, and not of those that are only looked up.
    method: &'static str,
    running: Semaphore,
    state: Mutex<State>,
}

struct State {
    /// The numbers of the records that are there.
    stored: HashSet<usize>,
    /// The numbers of those that the transport has taken for the method.
    taken: HashSet<usize>,
    /// The numbers of those whose delete was acknowledged.
    acknowledged: HashSet<usize>,
    calls: CallCount,
    /// Calls that the client has let go of before their end.
    resets: u32,
}

impl State {
    /// A call is opened. The calls of all lanes are tried together, with one that looks up.
    fn opened(&mut self, case: &Case) {
        self.calls.opened(&Bounds {
            together: case.lanes as u32 + 1,
            first_wait: case.retry.waits.0,
            opens_after: case.opens_after,
            items: case.items,
            tries: case.retry.tries,
        });
    }
}

impl Server {
    fn new(case: &Case, method: &'static str) -> Self {
        let is_there = method != PUSH;
        Self {
            inner: Arc::new(Inner {
                case: case.clone(),
                method,
                running: Semaphore::new(case.limit.unwrap_or(Semaphore::MAX_PERMITS)),
                state: Mutex::new(State {
                    stored: (0..case.items).filter(|_| is_there).collect(),
                    taken: HashSet::new(),
                    acknowledged: HashSet::new(),
                    calls: CallCount::new(),
                    resets: 0,
                }),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap()
    }
}

impl tower::Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = std::io::Error;
    type Future = Replied;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let behaviour = {
            let case = &self.inner.case;
            let mut state = self.state();
            let number = state.calls.get() as usize;
            state.opened(case);
            case.behaviour(number)
        };
        let (reply, replied) = reply();
        let call = Call {
            server: self.clone(),
            method: match request.uri().path() {
                path if path == self.inner.method => self.inner.method,
                _ => LOOKUP,
            },
            is_of_items: request.uri().path() == self.inner.method,
            requests: request.into_body(),
            bytes: BytesMut::new(),
            taken: VecDeque::new(),
            carried_out: Vec::new(),
            reply,
        };
        // As a transport does, it works on while the client looks away, until that lets go of it.
        tokio::spawn(call.run(behaviour));
        replied
    }
}

/// The client has reset the call.
struct IsReset;

/// One call, as the transport and the server see it.
struct Call {
    server: Server,
    method: &'static str,
    /// Whether the call carries the items. Else it looks up what became of them.
    is_of_items: bool,
    requests: Body,
    bytes: BytesMut,
    /// What was taken and is not yet worked on.
    taken: VecDeque<usize>,
    carried_out: Vec<usize>,
    reply: Reply,
}

impl Call {
    async fn run(mut self, behaviour: Behaviour) {
        let frames = self.reply.frames.clone();
        let is_reset = tokio::select! {
            biased;
            () = frames.closed() => true,
            // A client that has reset the call wants nothing any more.
            end = self.behave(behaviour) => end.is_err(),
        };
        self.server.state().resets += u32::from(is_reset);
    }

    async fn behave(&mut self, behaviour: Behaviour) -> Result<(), IsReset> {
        let server = self.server.clone();
        let opens_after = server.inner.case.opens_after;
        if !opens_after.is_zero() {
            sleep(opens_after).await;
        }
        match behaviour {
            Behaviour::Hung => std::future::pending().await,
            Behaviour::Late(by) => sleep(by).await,
            // The sender of the head is dropped.
            Behaviour::Refused => return Ok(()),
            _ => {}
        }
        let _slot = server.inner.running.acquire().await;
        match behaviour {
            Behaviour::Good(delay) => self.serve(usize::MAX, delay).await.map(|_| ()),
            Behaviour::Deaf { carries_out } => {
                while let Some(number) = self.next().await? {
                    if carries_out {
                        self.carry_out(number);
                    }
                }
                std::future::pending().await
            }
            Behaviour::Ends {
                answers,
                at_next,
                how,
            } => {
                if !self.serve(answers, Duration::ZERO).await? {
                    return Ok(());
                }
                let next = match at_next {
                    true => self.next().await?,
                    false => None,
                };
                match how {
                    End::Hung => std::future::pending().await,
                    End::Status(code) => self.end(code),
                    End::Reset { carries_out } => {
                        if carries_out && let Some(next) = next {
                            self.carry_out(next);
                        }
                        self.reply.send(Err(std::io::Error::other("reset")));
                    }
                }
                Ok(())
            }
            Behaviour::Twice => {
                while let Some(number) = self.next().await? {
                    if self.answer(number) {
                        self.answer(number);
                    } else {
                        return Ok(());
                    }
                }
                self.acknowledge();
                self.acknowledge();
                self.end(Code::Ok);
                Ok(())
            }
            Behaviour::Unasked => {
                let nobody = &KNOWN[MOST_ITEMS];
                self.send_message(&match self.method {
                    PULL => nobody.record.encode_to_vec(),
                    DELETE => Vec::new(),
                    _ => RecordRef::new(nobody.cid).encode_to_vec(),
                });
                self.serve(usize::MAX, Duration::ZERO).await.map(|_| ())
            }
            Behaviour::Late(_) | Behaviour::Hung | Behaviour::Refused => {
                self.serve(usize::MAX, Duration::ZERO).await.map(|_| ())
            }
        }
    }

    /// Answers this many requests, as a good server does. Returns whether the call goes on.
    async fn serve(&mut self, answers: usize, delay: Duration) -> Result<bool, IsReset> {
        for _ in 0..answers {
            let Some(number) = self.next().await? else {
                self.acknowledge();
                self.end(Code::Ok);
                return Ok(false);
            };
            if !delay.is_zero() {
                sleep(delay).await;
            }
            if !self.answer(number) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next request. `None`: there are no more.
    async fn next(&mut self) -> Result<Option<usize>, IsReset> {
        loop {
            if let Some(number) = self.taken.pop_front() {
                return Ok(Some(number));
            }
            let Some(frame) = self.requests.frame().await else {
                return Ok(None);
            };
            let data = frame.map_err(|_| IsReset)?.into_data();
            self.bytes.extend_from_slice(&data.unwrap());
            while let Some((_, message)) = take_message(&mut self.bytes) {
                self.take(message);
            }
        }
    }

    /// The transport takes a request.
    fn take(&mut self, message: Bytes) {
        let cid = match self.method {
            PUSH => cid(&Record::decode(message).unwrap()).to_string(),
            _ => RecordRef::decode(message).unwrap().cid,
        };
        let number = number_with_cid(&cid);
        self.taken.push_back(number);
        let mut state = self.server.state();
        state.calls.progress();
        if self.is_of_items {
            state.taken.insert(number);
        }
    }

    fn carry_out(&mut self, number: usize) {
        let mut state = self.server.state();
        match self.method {
            PUSH => {
                state.stored.insert(number);
            }
            DELETE => {
                state.stored.remove(&number);
                self.carried_out.push(number);
            }
            _ => {}
        }
    }

    /// Carries a request out and answers it. A record that is not there ends the call: `false`.
    fn answer(&mut self, number: usize) -> bool {
        self.carry_out(number);
        let is_there = self.server.state().stored.contains(&number);
        let Known { record, cid } = &KNOWN[number];
        match self.method {
            DELETE => {}
            PULL | LOOKUP if !is_there => {
                self.end(Code::NotFound);
                return false;
            }
            PULL => self.send_message(&record.encode_to_vec()),
            _ => self.send_message(&RecordRef::new(cid).encode_to_vec()),
        }
        true
    }

    /// All requests have come: a delete has its answer now.
    fn acknowledge(&mut self) {
        if self.method == DELETE {
            let carried_out = std::mem::take(&mut self.carried_out);
            self.server.state().acknowledged.extend(carried_out);
            self.send_message(&[]);
        }
    }

    fn send_message(&mut self, message: &[u8]) {
        self.server.state().calls.progress();
        self.reply.send(Ok(Frame::data(framed(message))));
    }

    fn end(&mut self, code: Code) {
        self.reply
            .send(Ok(Frame::trailers(trailers(code, "fault"))));
    }
}

/// Runs a case to its end, and checks what holds for each operation.
async fn run<S, I>(
    server: &Server,
    results: impl Stream<Item = Result<S, Failed<I, usize>>> + Unpin,
    handle: &Handle,
    tag: impl Fn(&S) -> (u64, usize),
) -> Vec<Seen<S>> {
    let case = &server.inner.case;
    let began = Instant::now();
    let mut last = began;
    let results = NoSpin::new(results, 10_000);
    let mut count = 0;
    let seen = read_all(results, tag, async |_| {
        server.state().calls.progress();
        count += 1;
        if count % 3 == 0 && !case.pauses.1.is_zero() {
            sleep(case.pauses.1).await;
        }
        last = Instant::now();
    });
    let mut seen = seen.await;
    let calls = server.state().calls.get();
    let end = last.elapsed();
    assert!(end <= END + TICKS, "the end took {end:?}");
    let ticks = TICKS * (1 + seen.len() as u32 + calls);
    let most = case.longest().saturating_add(END + ticks);
    let took = began.elapsed();
    assert!(took <= most, "it took {took:?}, {most:?} is the limit");
    if case.has_to_succeed(server.inner.method) {
        let stats = handle.stats();
        assert_eq!((stats.faults, stats.resent), (0, 0), "nothing is wrong");
        if case.limit.is_none() {
            assert_eq!(server.state().resets, 0, "a good call is reset");
        }
    }
    if !case.unordered {
        assert!(seen.is_sorted_by_key(|(index, _, _)| *index), "input order");
    }
    seen.sort_by_key(|(index, _, _)| *index);
    assert_eq!(seen.len(), case.items, "one result for each item");
    for (place, (index, number, result)) in seen.iter().enumerate() {
        assert_eq!((*index, *number), (place as u64, place));
        check(server, place, result.as_ref().err().copied());
    }
    seen
}

/// What holds for each result, whatever the operation.
fn check(server: &Server, number: usize, error: Option<(ErrorKind, u32)>) {
    let Inner { case, method, .. } = &*server.inner;
    let state = server.state();
    let was_taken = state.taken.contains(&number);
    let was_there = *method != PUSH;
    let Some((kind, attempts)) = error else {
        assert!(was_taken, "{number} was never sent, and succeeded");
        return;
    };
    let what = format!("{number}: {kind:?} in {attempts} calls");
    assert!(!case.has_to_succeed(method), "nothing is wrong, but {what}");
    assert!(!case.has_to_heal(), "all is well by now, but {what}");
    // An answer that nobody asked for may come before the request that it is taken for has left.
    if !case.is_out_of_step() {
        assert_eq!(attempts > 0, was_taken, "{what}, of an item that left");
    }
    match kind {
        ErrorKind::NotSent => assert!(!was_taken, "{what}, but it was taken"),
        ErrorKind::Unavailable | ErrorKind::CircuitOpen => {}
        ErrorKind::OutcomeUnknown => assert!([PUSH, DELETE].contains(method), "{what} of a read"),
        ErrorKind::Mismatch => assert!(case.is_out_of_step(), "{what}"),
        ErrorKind::NotFound => assert!(case.ends_with(&[Code::NotFound]), "{what}"),
        ErrorKind::Rejected => assert!(case.ends_with(&[Code::InvalidArgument]), "{what}"),
        ErrorKind::ServerFailed => assert!(case.ends_with(&[Code::Internal]), "{what}"),
        ErrorKind::Denied => assert!(case.ends_with(&[Code::Unauthenticated]), "{what}"),
        _ => panic!("{what}"),
    }
    if matches!(
        kind,
        ErrorKind::NotSent | ErrorKind::Unavailable | ErrorKind::CircuitOpen
    ) {
        let is_there = state.stored.contains(&number);
        assert_eq!(is_there, was_there, "{what}, but it was carried out");
    }
    if case.limit == Some(0) {
        assert!(!was_taken, "{what}: no call was ever opened");
    }
    if case.retry.time.is_zero() {
        assert_eq!(kind, ErrorKind::NotSent, "{what}: there was no time");
    }
}

fn push(case: &Case) {
    on_paused_clock(async {
        fastrand::seed(case.seed);
        let server = Server::new(case, PUSH);
        let results = case
            .input(|number| KNOWN[number].record.clone())
            .push_to_with(&case.client(&server), &case.options());
        let handle = results.handle();
        let seen = run(&server, results, &handle, |pushed| {
            (pushed.index, pushed.tag)
        })
        .await;
        for (_, number, result) in seen {
            if let Ok(pushed) = result {
                assert_eq!(pushed.cid, KNOWN[number].cid);
                let state = server.state();
                assert!(state.stored.contains(&number), "{number} is not stored");
            }
        }
    });
}

fn pull(case: &Case) {
    on_paused_clock(async {
        fastrand::seed(case.seed);
        let server = Server::new(case, PULL);
        let results = case
            .input(|number| KNOWN[number].cid)
            .pull_from_with(&case.client(&server), &case.options());
        let handle = results.handle();
        let seen = run(&server, results, &handle, |pulled| {
            (pulled.index, pulled.tag)
        })
        .await;
        for (_, number, result) in seen {
            if let Ok(pulled) = result {
                assert_eq!(pulled.record, KNOWN[number].record);
            }
        }
    });
}

fn look_up(case: &Case) {
    on_paused_clock(async {
        fastrand::seed(case.seed);
        let server = Server::new(case, LOOKUP);
        let results = case
            .input(|number| KNOWN[number].cid)
            .lookup_in_with(&case.client(&server), &case.options());
        let handle = results.handle();
        let seen = run(&server, results, &handle, |found| (found.index, found.tag)).await;
        for (_, number, result) in seen {
            if let Ok(found) = result {
                assert_eq!(found.cid, KNOWN[number].cid);
            }
        }
    });
}

fn delete(case: &Case) {
    on_paused_clock(async {
        fastrand::seed(case.seed);
        let server = Server::new(case, DELETE);
        let results = case
            .input(|number| KNOWN[number].cid)
            .delete_from_with(&case.client(&server), &case.options());
        let handle = results.handle();
        let seen = run(&server, results, &handle, |deleted| {
            (deleted.index, deleted.tag)
        })
        .await;
        for (_, number, result) in seen {
            if let Ok(deleted) = result {
                assert_eq!(deleted.cid, KNOWN[number].cid);
                let state = server.state();
                assert!(!state.stored.contains(&number), "{number} is there");
                assert!(
                    state.acknowledged.contains(&number),
                    "{number} was not acknowledged"
                );
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..cases(500) })]

    #[test]
    fn a_push_is_true_over_any_transport(case in case()) {
        push(&case);
    }

    #[test]
    fn a_pull_is_true_over_any_transport(case in case()) {
        pull(&case);
    }

    #[test]
    fn a_lookup_is_true_over_any_transport(case in case()) {
        look_up(&case);
    }

    #[test]
    fn a_delete_is_true_over_any_transport(case in case()) {
        delete(&case);
    }
}

/// One call with the default options.
fn calm(items: usize, behaviours: Vec<Behaviour>) -> Case {
    Case {
        items,
        behaviours,
        last_stays: true,
        opens_after: Duration::ZERO,
        limit: None,
        lanes: 1,
        window: Options::DEFAULT_WINDOW,
        in_flight: None,
        unordered: false,
        retry: Tries {
            is_on: true,
            tries: Retry::DEFAULT_MAX_ATTEMPTS,
            time: Retry::DEFAULT_TIMEOUT,
            waits: (Retry::DEFAULT_MIN_BACKOFF, Retry::DEFAULT_MAX_BACKOFF),
        },
        stall_after: Some(Options::DEFAULT_STALL_AFTER),
        idle_close: Some(Options::DEFAULT_IDLE_CLOSE),
        max_call_age: Some(Options::DEFAULT_MAX_CALL_AGE),
        breaker: Some((3, Some(CircuitBreaker::DEFAULT_GIVE_UP_AFTER))),
        pauses: (Duration::ZERO, Duration::ZERO),
        seed: 0,
    }
}

/// The only call that may run takes requests and never answers, so lookups have no answer either.
#[test]
fn a_push_whose_items_have_their_results_has_an_end() {
    let ends = Behaviour::Ends {
        answers: 3,
        at_next: true,
        how: End::Status(Code::Internal),
    };
    let deaf = Behaviour::Deaf { carries_out: false };
    let mut case = calm(13, vec![ends, deaf]);
    case.limit = Some(1);
    case.retry.tries = 1;
    case.retry.time = 30 * SECOND;
    case.breaker = None;
    case.pauses.1 = 100 * SECOND;
    push(&case);
}

/// Nothing succeeds, so each item is tried for two minutes, and not more often than was asked for.
#[test]
fn the_first_wait_holds_for_items_at_which_the_server_fails() {
    let fails = Behaviour::Ends {
        answers: 0,
        at_next: true,
        how: End::Status(Code::Internal),
    };
    let mut case = calm(1, vec![fails]);
    case.retry.tries = 2;
    case.retry.waits = (SECOND, 60 * SECOND);
    case.breaker = None;
    push(&case);
    pull(&case);
    look_up(&case);
    delete(&case);
}

/// The input has ended, so the call that waits for its turn is closed, and has nothing to do.
#[test]
fn a_closed_call_that_waits_for_its_turn_is_no_fault() {
    let mut case = calm(40, vec![Behaviour::Good(2 * SECOND)]);
    case.limit = Some(1);
    case.lanes = 2;
    case.breaker = Some((1, Some(Duration::ZERO)));
    push(&case);
    pull(&case);
    look_up(&case);
}

/// A call is old as soon as it has carried an item, and the server runs one call at a time.
#[test]
fn a_call_that_waits_for_its_place_is_not_old() {
    for is_on in [true, false] {
        let mut case = calm(10, vec![Behaviour::Good(2 * SECOND)]);
        case.limit = Some(1);
        case.lanes = 8;
        case.retry.is_on = is_on;
        case.stall_after = Some(5 * SECOND);
        case.max_call_age = Some(Duration::ZERO);
        push(&case);
        pull(&case);
        look_up(&case);
    }
}

/// The first has not yet answered, so nothing is known of how many the server lets run.
#[test]
fn calls_that_end_before_they_carry_anything_are_opened_with_waits() {
    let codes = [
        Code::Ok,
        Code::Unavailable,
        Code::Internal,
        Code::InvalidArgument,
        Code::Unauthenticated,
    ];
    let ends = codes.map(|code| Behaviour::Ends {
        answers: 0,
        at_next: false,
        how: End::Status(code),
    });
    for end in ends
        .into_iter()
        .chain([Behaviour::Refused, Behaviour::Unasked])
    {
        for is_on in [true, false] {
            let mut case = calm(10, vec![Behaviour::Good(3 * SECOND), end.clone()]);
            case.lanes = 8;
            case.retry.is_on = is_on;
            push(&case);
            pull(&case);
            look_up(&case);
            delete(&case);
        }
    }
}
