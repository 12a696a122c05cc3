//! Transports that hang, are deaf, slow, or make no sense, with options at their extremes: every
//! item has one result, in time, and it is true.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Code, ErrorKind, Failed, Retry};
use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use prost::Message;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;

use crate::support::{
    Seen, Text, cases, cid, framed, in_a_week, on_paused_clock, read_all, record,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// Answers each request after this many milliseconds.
    Good(u64),
    /// Is never opened: its requests are not asked for.
    Hung,
    /// Takes all requests and answers none.
    Deaf,
    /// Is opened after so many seconds, and is good.
    Late(u64),
    /// Answers so many requests, then takes no more and says nothing.
    Stops(usize),
    /// Answers so many requests, then ends with this code, `Ok` too.
    Ends(usize, Code),
    /// Answers so many requests, then breaks.
    Breaks(usize),
    /// Cannot be opened.
    Refused,
    /// Answers each request twice.
    Twice,
    /// Answers what nobody asked.
    Unasked,
}

impl Act {
    fn is_good(self) -> bool {
        matches!(self, Self::Good(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Push,
    Pull,
    Lookup,
    Delete,
}

#[derive(Clone, Debug)]
struct Case {
    operation: Operation,
    items: usize,
    /// What the calls do, one after the other and over again.
    acts: Vec<Act>,
    /// How many calls may run at once; others wait.
    limit: usize,
    lanes: usize,
    window: usize,
    time: Duration,
    tries: u32,
    retries: bool,
    waits: Option<(Duration, Duration)>,
    stall: Option<Duration>,
    idle: Option<Duration>,
    age: Option<Duration>,
    in_flight: Option<(usize, usize)>,
    breaker: Breaker,
    unordered: bool,
    /// How long the input waits before every tenth item, and the consumer behind each result.
    pauses: (Duration, Duration),
}

#[derive(Clone, Copy, Debug)]
enum Breaker {
    Off,
    Opens(u32),
    NeverGivesUp,
}

fn act() -> impl Strategy<Value = Act> {
    let code = prop_oneof![
        Just(Code::Ok),
        Just(Code::Unavailable),
        Just(Code::Internal),
        Just(Code::NotFound),
        Just(Code::InvalidArgument),
        Just(Code::ResourceExhausted),
    ];
    prop_oneof![
        6 => (0u64..3_000).prop_map(Act::Good),
        1 => Just(Act::Hung),
        1 => Just(Act::Deaf),
        1 => (0u64..400).prop_map(Act::Late),
        1 => (0usize..5).prop_map(Act::Stops),
        3 => (0usize..5, code).prop_map(|(after, code)| Act::Ends(after, code)),
        1 => (0usize..5).prop_map(Act::Breaks),
        1 => Just(Act::Refused),
        1 => Just(Act::Twice),
        1 => Just(Act::Unasked),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let operation = prop_oneof![
        Just(Operation::Push),
        Just(Operation::Pull),
        Just(Operation::Lookup),
        Just(Operation::Delete),
    ];
    let some = |time: Duration| Just(Some(time));
    let lives = || {
        prop_oneof![
            2 => Just(Some(Options::DEFAULT_IDLE_CLOSE)),
            1 => some(Duration::ZERO),
            1 => some(SECOND),
            1 => Just(None),
        ]
    };
    let time = prop_oneof![
        1 => Just(Duration::ZERO),
        1 => Just(Duration::from_millis(1)),
        2 => Just(30 * SECOND),
        3 => Just(600 * SECOND),
    ];
    let waits = prop_oneof![
        2 => Just(None),
        1 => Just(Some((Duration::ZERO, Duration::ZERO))),
        1 => Just(Some((SECOND, 60 * SECOND))),
    ];
    let stall = prop_oneof![
        2 => some(Options::DEFAULT_STALL_AFTER),
        1 => some(Duration::from_millis(1)),
        1 => some(5 * SECOND),
        1 => Just(None),
    ];
    let breaker = prop_oneof![
        Just(Breaker::Off),
        Just(Breaker::Opens(1)),
        Just(Breaker::Opens(3)),
        Just(Breaker::NeverGivesUp),
    ];
    let pause = || {
        prop_oneof![
            3 => Just(Duration::ZERO),
            1 => Just(SECOND),
            1 => Just(100 * SECOND),
        ]
    };
    (
        (operation, 0usize..60, prop::collection::vec(act(), 1..6)),
        (
            prop_oneof![1 => 0usize..3, 3 => Just(1_000)],
            prop_oneof![3 => Just(1usize), 2 => Just(2), 1 => Just(8), 1 => 1usize..=64],
            prop_oneof![Just(1usize), 2usize..20, Just(1_000)],
        ),
        (time, 1u32..6, prop::bool::weighted(0.9), waits),
        (stall, lives(), lives()),
        (
            prop::option::weighted(0.3, (1usize..1_000, 1usize..1_000)),
            breaker,
            any::<bool>(),
            (pause(), pause()),
        ),
    )
        .prop_map(
            |(
                (operation, items, acts),
                (limit, lanes, window),
                (time, tries, retries, waits),
                (stall, idle, age),
                (in_flight, breaker, unordered, pauses),
            )| Case {
                operation,
                items,
                acts,
                limit,
                lanes,
                window,
                time,
                tries,
                retries,
                waits,
                stall,
                idle,
                age,
                in_flight,
                breaker,
                unordered,
                pauses,
            },
        )
}

/// What the server has, and what it was asked.
struct World {
    acts: Vec<Act>,
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: usize,
    records: BTreeMap<Cid, Record>,
    /// Whose request was read.
    read: BTreeSet<Cid>,
}

#[derive(Clone)]
struct Server(Arc<World>);

type Opened = oneshot::Sender<Result<http::Response<Body>, std::io::Error>>;

impl tower::Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = std::io::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let world = Arc::clone(&self.0);
        let number = {
            let mut state = world.state.lock().unwrap();
            state.calls += 1;
            state.calls - 1
        };
        let act = world.acts[number % world.acts.len()];
        let (opened, response) = oneshot::channel();
        tokio::spawn(serve(world, act, request, opened));
        Box::pin(async move {
            let gone = |_| Err(std::io::Error::other("the call broke"));
            response.await.unwrap_or_else(gone)
        })
    }
}

/// A call that runs, as the server sees it. Dropped, it breaks.
struct Call {
    world: Arc<World>,
    operation: Operation,
    body: Body,
    received: BytesMut,
    opened: Option<Opened>,
    frames: mpsc::UnboundedSender<Frame<Bytes>>,
    response: Option<mpsc::UnboundedReceiver<Frame<Bytes>>>,
}

async fn serve(world: Arc<World>, act: Act, request: http::Request<Body>, mut opened: Opened) {
    // Whatever happens, the client may leave.
    tokio::select! {
        () = opened.closed() => return,
        permit = world.permits.acquire() => {
            permit.unwrap().forget();
        }
    }
    let operation = match request.uri().path().rsplit('/').next() {
        Some("Push") => Operation::Push,
        Some("Pull") => Operation::Pull,
        Some("Lookup") => Operation::Lookup,
        _ => Operation::Delete,
    };
    let (frames, response) = mpsc::unbounded_channel();
    let call = Call {
        world: Arc::clone(&world),
        operation,
        body: request.into_body(),
        received: BytesMut::new(),
        opened: Some(opened),
        frames: frames.clone(),
        response: Some(response),
    };
    call.run(act).await;
    world.permits.add_permits(1);
}

impl Call {
    async fn run(mut self, act: Act) {
        match act {
            Act::Refused => return,
            Act::Hung => return self.left().await,
            Act::Late(seconds) => {
                let left = self.opened.as_mut().unwrap().closed();
                if tokio::time::timeout(Duration::from_secs(seconds), left)
                    .await
                    .is_ok()
                {
                    return;
                }
            }
            Act::Unasked => self.answer(&Text::default()),
            _ => {}
        }
        let mut answered = 0;
        loop {
            match act {
                Act::Stops(after) if answered == after => return self.left().await,
                Act::Breaks(after) if answered == after => return,
                Act::Ends(after, code) if answered == after => {
                    if self.operation == Operation::Delete && code == Code::Ok {
                        // It says that it is done, though it is not.
                        self.answer(&());
                    }
                    return self.end(code);
                }
                _ => {}
            }
            let Some(request) = self.request().await else {
                return;
            };
            let Some(request) = request else { break };
            let Some(cid) = self.read(&request) else {
                return self.end(Code::InvalidArgument);
            };
            if let Act::Good(millis) = act {
                let left = tokio::time::timeout(Duration::from_millis(millis), self.is_left());
                if left.await.is_ok() {
                    return;
                }
            }
            answered += 1;
            if act == Act::Deaf || self.operation == Operation::Delete {
                if self.operation == Operation::Delete {
                    self.world.state.lock().unwrap().records.remove(&cid);
                }
                continue;
            }
            if !self.reply(cid, &request) {
                return self.end(Code::NotFound);
            }
            if act == Act::Twice {
                self.reply(cid, &request);
            }
        }
        if act == Act::Deaf {
            return self.left().await;
        }
        if self.operation == Operation::Delete {
            self.answer(&());
            if act == Act::Twice {
                self.answer(&());
            }
        }
        self.end(Code::Ok);
    }

    /// Waits until the client has left.
    async fn left(mut self) {
        self.is_left().await;
    }

    async fn is_left(&mut self) {
        match &mut self.opened {
            Some(opened) => opened.closed().await,
            None => self.frames.closed().await,
        }
    }

    /// The next request, or that there is no other. `None`: the client is gone.
    async fn request(&mut self) -> Option<Option<Bytes>> {
        loop {
            if self.received.len() >= 5 {
                let len = (&self.received[1..5]).get_u32() as usize;
                if self.received.len() >= 5 + len {
                    return Some(Some(self.received.split_to(5 + len).freeze().slice(5..)));
                }
            }
            match self.body.frame().await {
                None => return Some(None),
                // The client has reset the call.
                Some(Err(_)) => return None,
                Some(Ok(frame)) => self.received.extend_from_slice(&frame.into_data().unwrap()),
            }
        }
    }

    /// Which record a request is for.
    fn read(&self, request: &Bytes) -> Option<Cid> {
        let cid = match self.operation {
            Operation::Push => Record::decode(request.clone()).unwrap().cid().unwrap(),
            _ => Text::decode(request.clone()).unwrap().cid.parse().ok()?,
        };
        let mut state = self.world.state.lock().unwrap();
        if self.operation != Operation::Lookup {
            state.read.insert(cid);
        }
        Some(cid)
    }

    /// Whether there is an answer.
    fn reply(&mut self, cid: Cid, request: &Bytes) -> bool {
        let text = Text {
            cid: cid.to_string(),
        };
        let stored = {
            let mut state = self.world.state.lock().unwrap();
            if self.operation == Operation::Push {
                let record = Record::decode(request.clone()).unwrap();
                state.records.insert(cid, record);
            }
            state.records.get(&cid).cloned()
        };
        match (self.operation, stored) {
            (_, None) => return false,
            (Operation::Pull, Some(record)) => self.answer(&record),
            _ => self.answer(&text),
        }
        true
    }

    fn answer(&mut self, message: &impl Message) {
        self.send(Frame::data(framed(&message.encode_to_vec())));
    }

    fn end(mut self, code: Code) {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", (code as i32).into());
        self.send(Frame::trailers(trailers));
    }

    fn send(&mut self, frame: Frame<Bytes>) {
        if let Some(response) = self.response.take() {
            let frames = UnboundedReceiverStream::new(response).map(Ok::<_, std::io::Error>);
            let head = http::Response::builder().header("content-type", "application/grpc");
            let response = head.body(Body::new(StreamBody::new(frames))).unwrap();
            // The client may be gone, which is found out by the next request.
            let _ = self.opened.take().unwrap().send(Ok(response));
        }
        let _ = self.frames.send(frame);
    }
}

/// Where a test of a run goes wrong, it says what the case was.
struct Run<S> {
    seen: Vec<Seen<S>>,
    world: Arc<World>,
    took: Duration,
}

impl Case {
    fn options(&self) -> Options {
        let some = |number| NonZeroUsize::new(number).unwrap();
        let mut retry = match self.retries {
            true => Retry::new(),
            false => Retry::off(),
        };
        retry = retry
            .time(self.time)
            .tries(NonZeroU32::new(self.tries).unwrap());
        if let Some((first, longest)) = self.waits {
            retry = retry.waits(first, longest);
        }
        let mut options = Options::new()
            .retry(retry)
            .window(some(self.window))
            .calls(some(self.lanes))
            .unordered(self.unordered)
            .stall_after(self.stall)
            .idle_close(self.idle)
            .max_call_age(self.age);
        if let Some((least, most)) = self.in_flight {
            options = options.in_flight(some(least), some(most));
        }
        options
    }

    fn client(&self) -> (Client, Arc<World>) {
        let stored = (0..self.items).map(|number| (cid(&record(number)), record(number)));
        let records = match self.operation {
            Operation::Push => BTreeMap::new(),
            _ => stored.collect(),
        };
        let world = Arc::new(World {
            acts: self.acts.clone(),
            permits: Semaphore::new(self.limit),
            state: Mutex::new(State {
                records,
                ..State::default()
            }),
        });
        let client = Client::from_service(Server(Arc::clone(&world)));
        let client = client.with_breaker(match self.breaker {
            Breaker::Off => CircuitBreaker::off(),
            Breaker::Opens(faults) => {
                CircuitBreaker::new().threshold(NonZeroU32::new(faults).unwrap())
            }
            Breaker::NeverGivesUp => CircuitBreaker::new().give_up_after(None),
        });
        (client, world)
    }

    fn input<I>(&self, item: impl Fn(usize) -> I) -> Pin<Box<impl Stream<Item = (I, usize)>>> {
        let pause = self.pauses.0;
        Box::pin(stream::iter(0..self.items).then(move |number| {
            let item = (item(number), number);
            async move {
                if number % 10 == 9 {
                    sleep(pause).await;
                }
                item
            }
        }))
    }

    async fn run<S, I>(
        &self,
        results: impl Stream<Item = Result<S, Failed<I, usize>>> + Unpin,
        tag: impl Fn(&S) -> (u64, usize),
        world: Arc<World>,
    ) -> Run<S> {
        let start = Instant::now();
        let pause = self.pauses.1;
        let seen = read_all(results, tag, async |_| {
            if !pause.is_zero() {
                sleep(pause).await;
            }
        });
        let seen = in_a_week(seen).await;
        Run {
            seen,
            world,
            took: start.elapsed(),
        }
    }

    fn check<S>(&self, run: Run<S>, is_true: impl Fn(&State, &Cid, &S) -> bool) {
        let Run {
            mut seen,
            world,
            took,
        } = run;
        if !self.unordered {
            assert!(seen.is_sorted_by_key(|(index, _, _)| *index), "input order");
        }
        seen.sort_by_key(|(index, _, _)| *index);
        assert_eq!(seen.len(), self.items, "one result for each item");
        let state = world.state.lock().unwrap();
        let all_good = self.acts.iter().all(|act| act.is_good());
        // The server takes 3 s for a request, and a segment of a delete takes all of its own.
        let has_time = self.time >= 600 * SECOND
            && self.stall.is_none_or(|stall| stall >= 60 * SECOND)
            && self.limit > 0;
        for (place, (index, number, result)) in seen.iter().enumerate() {
            assert_eq!((*index, *number), (place as u64, place));
            let cid = cid(&record(place));
            match result {
                Ok(success) => assert!(is_true(&state, &cid, success), "{place} is no success"),
                Err((ErrorKind::NotSent, attempts)) => {
                    assert_eq!(*attempts, 0, "{place}");
                    assert!(!state.read.contains(&cid), "{place} was sent");
                }
                Err((kind, attempts)) => {
                    let what = format!("{place}: {kind:?} in {attempts} calls");
                    assert!(!(all_good && has_time && self.retries), "{what}");
                    let changes = matches!(self.operation, Operation::Push | Operation::Delete);
                    assert!(changes || *kind != ErrorKind::Unknown, "{what}: a read");
                }
            }
        }
        if self.time.is_zero() {
            assert!(state.read.is_empty(), "there was no time to send anything");
        }
        // A call carries an item on, or is followed by a wait: a millisecond at least.
        let by_items = 40 * (self.items + self.lanes + 10);
        let by_time = took.as_millis() as usize;
        assert!(
            state.calls <= by_items + by_time,
            "{} calls for {} items in {took:?}",
            state.calls,
            self.items
        );
    }

    async fn go(&self) {
        let (client, world) = self.client();
        let options = self.options();
        let text = |number| cid(&record(number)).to_string();
        match self.operation {
            Operation::Push => {
                let results = self.input(record).push_to_with(&client, &options);
                let run = self.run(results, |pushed| (pushed.index, pushed.tag), world);
                self.check(run.await, |state, cid, pushed| {
                    pushed.cid == *cid && state.records.contains_key(cid)
                });
            }
            Operation::Pull => {
                let results = self.input(text).pull_from_with(&client, &options);
                let run = self.run(results, |pulled| (pulled.index, pulled.tag), world);
                self.check(run.await, |state, cid, pulled| {
                    state.records.get(cid) == Some(&pulled.record)
                });
            }
            Operation::Lookup => {
                let results = self.input(text).lookup_in_with(&client, &options);
                let run = self.run(results, |found| (found.index, found.tag), world);
                self.check(run.await, |_, cid, found| found.cid == *cid);
            }
            Operation::Delete => {
                let results = self.input(text).delete_from_with(&client, &options);
                let run = self.run(results, |deleted| (deleted.index, deleted.tag), world);
                self.check(run.await, |state, cid, deleted| {
                    deleted.cid == *cid && !state.records.contains_key(cid)
                });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(cases(2_000)) })]

    #[test]
    fn whatever_the_transport_does_each_item_has_its_result(case in case()) {
        on_paused_clock(async { case.go().await });
    }
}
