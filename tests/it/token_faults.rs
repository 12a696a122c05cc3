//! Tokens under random schedules: servers that refuse, expire and break, sources that fail, hang and repeat themselves,
//! one node and two, under a paused clock. Beside them are the cases that such schedules have found.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Code, ErrorKind, Retry, Token};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tonic::body::Body;

use crate::support::clock::{SECOND, in_a_week, on_paused_clock};
use crate::support::messages::{
    DELETE, LOOKUP, PULL, PUSH, RecordRef, framed, grpc_response, take_message, trailers,
};
use crate::support::properties::cases;
use crate::support::records::{cid, cids, record};
use crate::support::reply::{Replied, Reply, reply};

/// What a server does with a call whose token it knows.
#[derive(Clone, Debug, PartialEq)]
enum Do {
    Good,
    /// Answers so many, takes one more, which it may carry out, and ends in this way.
    Ends(usize, bool, How),
}

#[derive(Clone, Debug, PartialEq)]
enum How {
    Status(Code),
    /// With nothing but headers, if there was no answer.
    InHeaders(Code),
    Page(u16),
    Break,
}

#[derive(Clone, Debug, PartialEq)]
enum Gives {
    /// A new one each time.
    New,
    /// The same one each time.
    Same,
    Garbage,
    /// It fails for so many asks, of each four.
    Fails(usize),
    /// Never, but for the first so many.
    Hangs(usize),
}

#[derive(Clone, Debug)]
struct OfNode {
    script: Vec<Do>,
    last_stays: bool,
    life: Duration,
    gives: Gives,
    asking_takes: Duration,
    refresh_after: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Case {
    nodes: Vec<OfNode>,
    items: usize,
    adapters: usize,
    calls: usize,
    window: usize,
    retry: u8,
    stall: Option<Duration>,
    age: Option<Duration>,
    rate: Option<u32>,
    breaker: Option<u32>,
    stop_on_error: bool,
    drain_at: Option<usize>,
    input_pause: Duration,
    answer_takes: Duration,
    outage: (Duration, Duration),
    idle: Option<Duration>,
    seed: u64,
}

struct Issuer {
    issued: Mutex<HashMap<String, Instant>>,
    asked: AtomicUsize,
    asking: AtomicUsize,
    most_asking: AtomicUsize,
    of: OfNode,
}

struct Asking(Arc<Issuer>);
impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Issuer {
    fn token(self: &Arc<Self>) -> Token {
        let this = Arc::clone(self);
        let token = Token::from_fn(move || {
            let number = this.asked.fetch_add(1, Ordering::Relaxed);
            let asking = this.asking.fetch_add(1, Ordering::Relaxed) + 1;
            this.most_asking.fetch_max(asking, Ordering::Relaxed);
            let guard = Asking(Arc::clone(&this));
            let this = Arc::clone(&this);
            async move {
                let _guard = guard;
                if !this.of.asking_takes.is_zero() {
                    sleep(this.of.asking_takes).await;
                }
                let text = match this.of.gives {
                    Gives::New => format!("token-{number}"),
                    Gives::Same => "token-same".to_owned(),
                    Gives::Garbage => return Ok("garbage".to_owned()),
                    Gives::Fails(of_four) if number % 4 < of_four => {
                        return Err(std::io::Error::other("the issuer is down"));
                    }
                    Gives::Fails(_) => format!("token-{number}"),
                    Gives::Hangs(after) => {
                        if number >= after {
                            std::future::pending::<()>().await;
                        }
                        format!("token-{number}")
                    }
                };
                let mut issued = this.issued.lock().unwrap();
                issued.entry(text.clone()).or_insert_with(Instant::now);
                Ok(text)
            }
        });
        match self.of.refresh_after {
            Some(age) => token.refresh_after(age),
            None => token,
        }
    }

    fn accepts(&self, token: &str) -> bool {
        let issued = self.issued.lock().unwrap();
        let at = token.strip_prefix("Bearer ").and_then(|t| issued.get(t));
        at.is_some_and(|at| at.elapsed() < self.of.life)
    }
}

#[derive(Default)]
struct Seen {
    stored: HashSet<String>,
    calls: usize,
    at: Option<Instant>,
    calls_at: usize,
    refusals: usize,
    denials: usize,
    log: Vec<String>,
    began: Option<Instant>,
}

#[derive(Clone)]
struct Server {
    node: usize,
    case: Arc<Case>,
    issuer: Arc<Issuer>,
    seen: Arc<Mutex<Seen>>,
    calls: Arc<AtomicUsize>,
}

impl tower::Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = std::io::Error;
    type Future = Replied;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let known = {
            let token = request.headers().get("authorization");
            let token = token.expect("each call shows a token").to_str().unwrap();
            let known = self.issuer.accepts(token);
            let mut seen = self.seen.lock().unwrap();
            let now = Instant::now();
            let began = *seen.began.get_or_insert(now);
            seen.calls += 1;
            if seen.at == Some(now) {
                seen.calls_at += 1;
            } else {
                (seen.at, seen.calls_at) = (Some(now), 1);
            }
            let path = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let line = format!(
                "{:?} call {} node {} {path} {token} known {known}",
                now - began,
                seen.calls,
                self.node
            );
            if seen.log.len() < 6_000 {
                seen.log.push(line);
            }
            assert!(
                seen.calls_at < 1_500,
                "it spins: {:#?}",
                &seen.log.iter().take(75).collect::<Vec<_>>()
            );
            known
        };
        let (reply, replied) = reply();
        let call = Call {
            server: self.clone(),
            path: request.uri().path().to_owned(),
            requests: request.into_body(),
            bytes: BytesMut::new(),
            reply,
            number: self.seen.lock().unwrap().calls,
            taken: 0,
            said: None,
        };
        tokio::spawn(call.run(known));
        replied
    }
}

struct Call {
    server: Server,
    path: String,
    requests: Body,
    bytes: BytesMut,
    reply: Reply,
    number: usize,
    taken: usize,
    said: Option<Code>,
}

impl Call {
    async fn run(mut self, known: bool) {
        let frames = self.reply.frames.clone();
        let is_reset = tokio::select! {
            biased;
            () = frames.closed() => true,
            () = self.behave(known) => false,
        };
        let mut seen = self.server.seen.lock().unwrap();
        let since = seen.began.unwrap().elapsed();
        let line = format!(
            "{since:?}   call {} ends: reset {is_reset}, taken {}, {:?}",
            self.number, self.taken, self.said
        );
        if seen.log.len() < 6_000 {
            seen.log.push(line);
        }
    }

    async fn next(&mut self) -> Option<Option<String>> {
        loop {
            if let Some((_, message)) = take_message(&mut self.bytes) {
                let cid = if self.path == PUSH {
                    cid(&Record::decode(message).unwrap()).to_string()
                } else {
                    RecordRef::decode(message).unwrap().cid
                };
                self.taken += 1;
                return Some(Some(cid));
            }
            match self.requests.frame().await {
                None => return Some(None),
                Some(Err(_)) => return None,
                Some(Ok(frame)) => self.bytes.extend_from_slice(&frame.into_data().unwrap()),
            }
        }
    }

    fn status(&mut self, code: Code) {
        self.said = Some(code);
        {
            let mut seen = self.server.seen.lock().unwrap();
            seen.refusals += usize::from(code == Code::Unauthenticated);
            seen.denials += usize::from(code == Code::PermissionDenied);
        }
        self.reply
            .send(Ok(Frame::trailers(trailers(code, "as the case says"))));
    }

    fn carry_out(&mut self, cid: &str) -> Option<Bytes> {
        let mut seen = self.server.seen.lock().unwrap();
        let message = match &*self.path {
            PUSH => {
                seen.stored.insert(cid.to_owned());
                RecordRef::new(cid).encode_to_vec()
            }
            DELETE => {
                seen.stored.remove(cid);
                return Some(Bytes::new());
            }
            LOOKUP => seen
                .stored
                .contains(cid)
                .then(|| RecordRef::new(cid).encode_to_vec())?,
            PULL => {
                let number = crate::support::records::number_with_cid(cid);
                record(number).encode_to_vec()
            }
            other => panic!("{other}"),
        };
        Some(framed(&message))
    }

    async fn behave(&mut self, known: bool) {
        let case = Arc::clone(&self.server.case);
        let began = self.server.seen.lock().unwrap().began.unwrap();
        let since = began.elapsed();
        if case.outage.0 <= since && since < case.outage.0 + case.outage.1 {
            self.server
                .seen
                .lock()
                .unwrap()
                .log
                .push("(outage)".to_owned());
            return;
        }
        if !known {
            self.end(&How::InHeaders(Code::Unauthenticated));
            return;
        }
        let number = self.server.calls.fetch_add(1, Ordering::Relaxed);
        let of = &case.nodes[self.server.node];
        let last = of.script.len() - 1;
        let number = match of.last_stays {
            true => number.min(last),
            false => number % (last + 1),
        };
        let what = of.script[number].clone();
        let (most, carries_out, how) = match &what {
            Do::Good => (usize::MAX, true, How::Status(Code::Ok)),
            Do::Ends(most, carries_out, how) => (*most, *carries_out, how.clone()),
        };
        let mut answers = 0;
        loop {
            if answers == 0 && matches!(how, How::InHeaders(_) | How::Page(_)) && most == 0 {
                self.end(&how);
                return;
            }
            let Some(next) = self.next().await else {
                return;
            };
            let Some(cid) = next else {
                if self.path == DELETE && most == usize::MAX {
                    self.reply.send(Ok(Frame::data(framed(&[]))));
                }
                return self.status(if most == usize::MAX {
                    Code::Ok
                } else {
                    match how {
                        How::Status(code) => code,
                        _ => Code::Ok,
                    }
                });
            };
            if !case.answer_takes.is_zero() {
                sleep(case.answer_takes).await;
            }
            if answers == most {
                if carries_out {
                    self.carry_out(&cid);
                }
                self.end(&how);
                return;
            }
            answers += 1;
            match self.carry_out(&cid) {
                Some(answer) if self.path != DELETE => self.reply.send(Ok(Frame::data(answer))),
                Some(_) => {}
                None => return self.status(Code::NotFound),
            }
        }
    }

    fn end(&mut self, how: &How) {
        match how {
            How::Status(code) => self.status(*code),
            How::InHeaders(code) => {
                self.said = Some(*code);
                if let Some(head) = self.reply.head.take() {
                    let mut seen = self.server.seen.lock().unwrap();
                    seen.refusals += usize::from(*code == Code::Unauthenticated);
                    seen.denials += usize::from(*code == Code::PermissionDenied);
                    drop(seen);
                    let head_ = grpc_response().header("grpc-status", *code as i32);
                    let _ = head.send(head_);
                } else {
                    self.status(*code);
                }
            }
            How::Page(status) => {
                if let Some(head) = self.reply.head.take() {
                    let mut seen = self.server.seen.lock().unwrap();
                    seen.refusals += usize::from(*status == 401);
                    seen.denials += usize::from(*status == 403);
                    drop(seen);
                    let builder = http::Response::builder()
                        .status(*status)
                        .header("content-type", "text/html");
                    let _ = head.send(builder);
                    let _ = self
                        .reply
                        .frames
                        .send(Ok(Frame::data(Bytes::from_static(b"<html>"))));
                } else {
                    self.status(Code::Unavailable);
                }
            }
            How::Break => {
                if self.reply.head.take().is_none() {
                    let _ = self.reply.frames.send(Err(std::io::Error::other("broken")));
                }
            }
        }
    }
}

fn millis(most: u64) -> impl Strategy<Value = Duration> {
    (0..=most).prop_map(Duration::from_millis)
}

fn ends(codes: Vec<Code>) -> impl Strategy<Value = How> {
    let codes2 = codes.clone();
    prop_oneof![
        3 => prop::sample::select(codes).prop_map(How::Status),
        2 => prop::sample::select(codes2).prop_map(How::InHeaders),
        1 => prop::sample::select(vec![401_u16, 403, 502, 200, 302]).prop_map(How::Page),
        2 => Just(How::Break),
    ]
}

fn doing() -> impl Strategy<Value = Do> {
    let codes = vec![
        Code::Unauthenticated,
        Code::Unauthenticated,
        Code::Unauthenticated,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::Unavailable,
        Code::Internal,
        Code::InvalidArgument,
        Code::Ok,
    ];
    prop_oneof![
        2 => Just(Do::Good),
        4 => (0_usize..4, any::<bool>(), ends(codes)).prop_map(|(n, c, how)| Do::Ends(n, c, how)),
    ]
}

fn of_node(any_source: bool) -> impl Strategy<Value = OfNode> {
    let gives = match any_source {
        true => prop_oneof![
            6 => Just(Gives::New),
            2 => Just(Gives::Same),
            1 => Just(Gives::Garbage),
            2 => (0_usize..5).prop_map(Gives::Fails),
            1 => (0_usize..3).prop_map(Gives::Hangs),
        ]
        .boxed(),
        false => Just(Gives::New).boxed(),
    };
    (
        prop::collection::vec(doing(), 1..6),
        any::<bool>(),
        prop_oneof![Just(Duration::ZERO), millis(3_000), Just(3600 * SECOND)],
        gives,
        prop_oneof![Just(Duration::ZERO), millis(2_000)],
        prop::option::of(millis(2_000)),
    )
        .prop_map(
            |(script, last_stays, life, gives, asking_takes, refresh_after)| OfNode {
                script,
                last_stays,
                life,
                gives,
                asking_takes,
                refresh_after,
            },
        )
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(of_node(true), 1..3),
        (1_usize..20, 1_usize..3, 1_usize..5, 1_usize..20),
        (
            0_u8..3,
            prop::option::of(millis(5_000)),
            prop::option::of(millis(3_000)),
        ),
        (
            prop::option::weighted(0.2, 1_u32..100),
            prop::option::weighted(0.3, 1_u32..4),
            prop::bool::weighted(0.2),
            prop::option::weighted(0.1, 0_usize..20),
        ),
        (
            prop_oneof![Just(Duration::ZERO), millis(700)],
            prop_oneof![Just(Duration::ZERO), millis(100)],
        ),
        any::<u64>(),
    )
        .prop_map(
            |(
                nodes,
                (items, adapters, calls, window),
                (retry, stall, age),
                limits,
                pauses,
                seed,
            )| {
                let (rate, breaker, stop_on_error, drain_at) = limits;
                Case {
                    nodes,
                    items,
                    adapters,
                    calls,
                    window,
                    retry,
                    stall,
                    age,
                    rate,
                    breaker,
                    stop_on_error,
                    drain_at,
                    input_pause: pauses.0,
                    answer_takes: pauses.1,
                    outage: (Duration::ZERO, Duration::ZERO),
                    idle: Some(Options::DEFAULT_IDLE_CLOSE),
                    seed,
                }
            },
        )
}

type Result_ = (u64, bool, Option<(ErrorKind, String)>);

/// Runs a case: the results of each adapter.
async fn run(
    case: &Case,
    method: &'static str,
) -> (Vec<Vec<Result_>>, Arc<Mutex<Seen>>, Vec<Arc<Issuer>>, u64) {
    fastrand::seed(case.seed);
    let seen = Arc::new(Mutex::new(Seen::default()));
    if method != PUSH {
        let all: Vec<_> = cids(case.items * case.adapters).collect().await;
        seen.lock().unwrap().stored = all.iter().map(ToString::to_string).collect();
    }
    let shared = Arc::new(case.clone());
    let issuers: Vec<_> = case
        .nodes
        .iter()
        .map(|of| {
            Arc::new(Issuer {
                issued: Mutex::default(),
                asked: AtomicUsize::new(0),
                asking: AtomicUsize::new(0),
                most_asking: AtomicUsize::new(0),
                of: of.clone(),
            })
        })
        .collect();
    let mut client: Option<Client> = None;
    for (node, issuer) in issuers.iter().enumerate() {
        let server = Server {
            node,
            case: Arc::clone(&shared),
            issuer: Arc::clone(issuer),
            seen: Arc::clone(&seen),
            calls: Arc::default(),
        };
        let one = Client::from_service(server)
            .with_token(issuer.token())
            .unwrap();
        client = Some(match client {
            None => one,
            Some(client) => client.with_nodes_of(one),
        });
    }
    let mut client = client.unwrap();
    if let Some(rate) = case.rate {
        client = client.with_call_rate(rate);
    }
    if let Some(failures) = case.breaker {
        client = client.with_breaker(CircuitBreaker::new().threshold(failures));
    }
    let retry = match case.retry {
        0 => Retry::new(),
        1 => Retry::new().max_attempts(1),
        _ => Retry::off(),
    };
    let mut options = Options::new()
        .calls(case.calls)
        .window(case.window)
        .retry(retry)
        .stall_after(case.stall.filter(|t| !t.is_zero()))
        .idle_close(case.idle)
        .max_call_age(case.age.filter(|t| !t.is_zero()));
    if case.stop_on_error {
        options = options.stop_on_error(true);
    }
    let faults = Arc::new(AtomicUsize::new(0));
    let adapters = (0..case.adapters).map(|adapter| {
        let client = client.clone();
        let options = options.clone();
        let case = case.clone();
        let faults = Arc::clone(&faults);
        async move {
            let pause = case.input_pause;
            let numbers = stream::iter(adapter * case.items..(adapter + 1) * case.items).then(
                move |number| async move {
                    if !pause.is_zero() && number % 3 == 0 {
                        sleep(pause).await;
                    }
                    number
                },
            );
            let mut results: Vec<Result_> = Vec::new();
            macro_rules! read {
                ($adapter:expr) => {{
                    let mut adapter = Box::pin($adapter);
                    loop {
                        if case.drain_at == Some(results.len()) {
                            adapter.as_mut().get_mut().drain(SECOND);
                        }
                        let Some(result) = in_a_week(adapter.next()).await else {
                            break;
                        };
                        results.push(match result {
                            Ok(ok) => (ok.index, true, None),
                            Err(failed) => (
                                failed.index,
                                false,
                                Some((failed.kind(), failed.error.to_string())),
                            ),
                        });
                    }
                    faults.fetch_add(adapter.stats().faults as usize, Ordering::Relaxed);
                }};
            }
            let refs = |number| cid(&record(number));
            match method {
                PUSH => read!(Box::pin(numbers.map(record)).push_to_with(&client, &options)),
                PULL => read!(Box::pin(numbers.map(refs)).pull_from_with(&client, &options)),
                LOOKUP => read!(Box::pin(numbers.map(refs)).lookup_in_with(&client, &options)),
                _ => read!(Box::pin(numbers.map(refs)).delete_from_with(&client, &options)),
            }
            results
        }
    });
    let results = in_a_week(futures::future::join_all(adapters)).await;
    let faults = faults.load(Ordering::Relaxed) as u64;
    (results, seen, issuers, faults)
}

fn check(case: &Case, method: &'static str) {
    on_paused_clock(async {
        let (all, seen, issuers, _) = run(case, method).await;
        let seen = seen.lock().unwrap();
        for (adapter, results) in all.iter().enumerate() {
            let is_whole = !case.stop_on_error && case.drain_at.is_none();
            if is_whole {
                assert_eq!(results.len(), case.items, "{:?}", seen.log);
            }
            for (place, (index, ok, error)) in results.iter().enumerate() {
                assert_eq!(*index, place as u64);
                let text = cid(&record(adapter * case.items + place)).to_string();
                if *ok && method == PUSH {
                    assert!(seen.stored.contains(&text));
                }
                if *ok && method == DELETE {
                    assert!(!seen.stored.contains(&text));
                }
                if let Some((kind, words)) = error {
                    if *kind == ErrorKind::Denied {
                        assert!(seen.refusals + seen.denials > 0, "{words}");
                    }
                    if matches!(kind, ErrorKind::NotSent | ErrorKind::Denied)
                        && method == PUSH
                        && *kind == ErrorKind::NotSent
                    {
                        assert!(!seen.stored.contains(&text), "NotSent, but stored: {words}");
                    }
                }
            }
        }
        for issuer in &issuers {
            let most = issuer.most_asking.load(Ordering::Relaxed);
            assert!(most <= 1, "{most} questions at once");
            let asked = issuer.asked.load(Ordering::Relaxed);
            assert!(
                asked <= seen.calls + 400 || issuer.of.gives != Gives::New,
                "{asked} questions, {} calls",
                seen.calls
            );
        }
    });
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn anything_goes_push(case in case()) { check(&case, PUSH); }

    #[test]
    fn anything_goes_delete(case in case()) { check(&case, DELETE); }

    #[test]
    fn anything_goes_pull(case in case()) { check(&case, PULL); }

    #[test]
    fn anything_goes_lookup(case in case()) { check(&case, LOOKUP); }
}

/// A good source, and servers that refuse only what has expired; calls may break, for a while.
fn good_case(with_breaks: bool) -> impl Strategy<Value = Case> {
    let breaks = (0_usize..4, any::<bool>())
        .prop_map(move |(n, c)| Do::Ends(n, c, How::Break))
        .boxed();
    let script = match with_breaks {
        true => prop::collection::vec(breaks, 0..3).boxed(),
        false => Just(Vec::new()).boxed(),
    };
    let outage = match with_breaks {
        true => (millis(5_000), millis(8_000)).boxed(),
        false => Just((Duration::ZERO, Duration::ZERO)).boxed(),
    };
    let node = (
        script,
        300_u64..3_000,
        prop_oneof![Just(Duration::ZERO), millis(500)],
    )
        .prop_map(|(mut script, life, asking_takes)| {
            script.push(Do::Good);
            OfNode {
                script,
                last_stays: true,
                life: Duration::from_millis(life),
                gives: Gives::New,
                asking_takes,
                refresh_after: None,
            }
        });
    (prop::collection::vec(node, 1..3), outage, case()).prop_map(|(nodes, outage, case)| Case {
        nodes,
        outage,
        retry: 0,
        stall: None,
        rate: None,
        breaker: None,
        stop_on_error: false,
        drain_at: None,
        answer_takes: case.answer_takes / 2,
        ..case
    })
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn nothing_is_lost_with_a_good_source(case in good_case(false), method in 0..4_usize) {
        let method = [PUSH, PULL, LOOKUP, DELETE][method];
        on_paused_clock(async {
            let (all, seen, _, faults) = run(&case, method).await;
            let seen = seen.lock().unwrap();
            for result in all.iter().flatten() {
                assert!(result.1, "{result:?} {:#?}", seen.log);
            }
            let _ = faults;
        });
    }

    #[test]
    fn nothing_is_denied_with_a_good_source_in_an_outage(case in good_case(true), method in 0..4_usize) {
        let method = [PUSH, PULL, LOOKUP, DELETE][method];
        on_paused_clock(async {
            let (all, seen, _, _) = run(&case, method).await;
            let seen = seen.lock().unwrap();
            for result in all.iter().flatten() {
                let is_denied = matches!(result.2, Some((ErrorKind::Denied, _)));
                assert!(!is_denied, "{result:?} {:#?}", seen.log);
            }
        });
    }
}

fn plain_case() -> Case {
    Case {
        nodes: vec![OfNode {
            script: vec![Do::Good],
            last_stays: true,
            life: Duration::from_millis(300),
            gives: Gives::New,
            asking_takes: Duration::ZERO,
            refresh_after: None,
        }],
        items: 9,
        adapters: 1,
        calls: 3,
        window: 4,
        retry: 0,
        stall: None,
        age: None,
        rate: None,
        breaker: None,
        stop_on_error: false,
        drain_at: None,
        input_pause: Duration::from_millis(300),
        answer_takes: Duration::ZERO,
        outage: (Duration::ZERO, Duration::ZERO),
        idle: Some(Options::DEFAULT_IDLE_CLOSE),
        seed: 0,
    }
}

fn spin() -> Case {
    Case {
        nodes: vec![
            OfNode {
                script: vec![
                    Do::Ends(0, false, How::Break),
                    Do::Ends(1, false, How::Status(Code::Unauthenticated)),
                    Do::Good,
                ],
                last_stays: false,
                life: Duration::from_millis(297),
                ..plain_case().nodes[0].clone()
            },
            OfNode {
                last_stays: false,
                life: Duration::ZERO,
                ..plain_case().nodes[0].clone()
            },
        ],
        items: 18,
        adapters: 2,
        calls: 4,
        window: 6,
        retry: 1,
        input_pause: Duration::from_millis(150),
        answer_takes: Duration::from_millis(35),
        seed: 3758456083711857440,
        ..plain_case()
    }
}

#[test]
fn nothing_spins_while_a_probe_is_kept_and_tokens_are_refused() {
    let case = spin();
    check(&case, LOOKUP);
}

/// No token is ever refused.
fn case_without_refusals() -> impl Strategy<Value = Case> {
    case().prop_map(|mut case| {
        for of in &mut case.nodes {
            of.life = 100_000_000 * SECOND;
            of.gives = Gives::Same;
            for what in &mut of.script {
                if let Do::Ends(answers, carries_out, how) = what {
                    let is_of_caller = matches!(
                        how,
                        How::Status(Code::Unauthenticated | Code::PermissionDenied)
                            | How::InHeaders(Code::Unauthenticated | Code::PermissionDenied)
                            | How::Page(401 | 403)
                    );
                    if is_of_caller {
                        *what = Do::Ends(*answers, *carries_out, How::Break);
                    }
                }
            }
        }
        case
    })
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn spin_without_refusals(case in case_without_refusals(), method in 0..4_usize) {
        check(&case, [PUSH, PULL, LOOKUP, DELETE][method]);
    }
}

/// All deletes, over a network, with tokens that are never accepted.
#[tokio::test]
async fn deletes_that_are_refused_twice_are_denied() {
    use agntcy_dir_stream::server::Store;
    let store = Store::builder().authorize(|_| false).build();
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    for (name, client) in [
        (
            "memory",
            store
                .client()
                .with_token(Token::from_fn(|| async {
                    Ok::<_, std::io::Error>("x".to_owned())
                }))
                .unwrap(),
        ),
        (
            "tcp",
            Client::builder(serving.url())
                .token_without_tls(Token::from_fn(|| async {
                    Ok::<_, std::io::Error>("x".to_owned())
                }))
                .connect_lazy()
                .unwrap(),
        ),
        (
            "tcp, no token",
            Client::builder(serving.url()).connect_lazy().unwrap(),
        ),
    ] {
        for count in [1, 10, 1000] {
            let summary =
                crate::support::clock::soon(cids(count).delete_from(&client).finish()).await;
            let of = |kind| summary.stats.failed_as(kind);
            let kinds = (of(ErrorKind::Denied), of(ErrorKind::OutcomeUnknown));
            assert_eq!(kinds, (count as u64, 0), "{name}");
        }
    }
}

/// A token is refused, and its successor expires while the server is away, before any call was accepted with it.
#[test]
fn a_token_that_expires_in_an_outage_denies_nothing() {
    on_paused_clock(async {
        let case = Case {
            nodes: vec![OfNode {
                life: 10 * SECOND,
                asking_takes: SECOND,
                ..plain_case().nodes[0].clone()
            }],
            items: 40,
            calls: 1,
            age: Some(SECOND),
            input_pause: SECOND,
            // From the time at which the first token has expired.
            outage: (Duration::from_millis(10_001), 15 * SECOND),
            ..plain_case()
        };
        // It hits a call that shows the second token if the outage begins behind the refusal.
        let mut denied = Vec::new();
        for begins in (9_000..11_500).step_by(100) {
            let case = Case {
                outage: (Duration::from_millis(begins), 15 * SECOND),
                ..case.clone()
            };
            let (all, seen, _, _) = run(&case, PUSH).await;
            if all.iter().flatten().any(|result| !result.1) {
                denied.push((begins, all, seen.lock().unwrap().log.clone()));
            }
        }
        if let Some((begins, all, log)) = denied.first() {
            let errors: Vec<_> = all.iter().flatten().filter(|r| !r.1).take(3).collect();
            panic!(
                "{} of 25 schedules, such as {begins}: {errors:?} {log:#?}",
                denied.len()
            );
        }
    });
}

/// Under `Retry::off`, a call whose token is refused after some answers.
#[test]
fn without_retries_a_call_that_is_refused_in_its_midst_goes_on_with_the_next_token() {
    on_paused_clock(async {
        let case = Case {
            nodes: vec![OfNode {
                script: vec![
                    Do::Ends(3, false, How::Status(Code::Unauthenticated)),
                    Do::Good,
                ],
                life: 100_000 * SECOND,
                ..plain_case().nodes[0].clone()
            }],
            retry: 2,
            calls: 1,
            input_pause: Duration::ZERO,
            ..plain_case()
        };
        for method in [PUSH, DELETE, PULL] {
            let (all, seen, ..) = run(&case, method).await;
            let ok = all.iter().flatten().filter(|result| result.1).count();
            assert_eq!(ok, case.items, "{method}: {:?}", seen.lock().unwrap().log);
        }
    });
}

/// Outside of any runtime.
#[test]
fn a_token_file_outside_of_a_runtime_is_an_error() {
    let folder = crate::support::folder::Folder::new("token-outside");
    let file = folder.write("token", "token");
    let store = agntcy_dir_stream::server::Store::new();
    let lazy = || Client::builder("https://127.0.0.1:1");
    let clients = [
        store.client(),
        store.client().with_token(Token::new("a")).unwrap(),
        store.client().with_token(Token::file(&file)).unwrap(),
        lazy().connect_lazy().unwrap(),
        lazy().token(Token::new("a")).connect_lazy().unwrap(),
        lazy().token(Token::file(&file)).connect_lazy().unwrap(),
    ];
    for client in clients {
        let options = Options::new().retry(Retry::off());
        let results = crate::support::records::records(1).push_to_with(&client, &options);
        let results = futures::executor::block_on(results.collect::<Vec<_>>());
        let words = results[0].as_ref().unwrap_err().to_string();
        assert!(
            words.contains("outside of any tokio runtime"),
            "{client:?}: {words}"
        );
    }
}

fn five_minutes() -> Case {
    let minutes = Duration::from_secs(300);
    Case {
        nodes: vec![OfNode {
            life: minutes,
            ..plain_case().nodes[0].clone()
        }],
        input_pause: minutes,
        ..plain_case()
    }
}

/// Two adapters share a client. Each has three records every five minutes; the server is well, and the source gives a
/// good token whenever it is asked.
#[test]
fn two_adapters_with_a_good_source_are_denied_nothing() {
    on_paused_clock(async {
        let case = Case {
            items: 8,
            adapters: 2,
            calls: 2,
            window: 6,
            age: Some(Duration::from_secs(394)),
            idle: None,
            ..five_minutes()
        };
        let (all, seen, issuers, faults) = run(&case, PUSH).await;
        let failed: Vec<_> = all.iter().flatten().filter(|result| !result.1).collect();
        let asked = issuers[0].asked.load(Ordering::Relaxed);
        assert!(
            failed.is_empty(),
            "asked {asked}, faults {faults}, {failed:?} {:#?}",
            seen.lock().unwrap().log
        );
    });
}

#[test]
fn a_refused_call_that_carried_nothing_is_no_fault() {
    on_paused_clock(async {
        let (_, seen, _, faults) = run(
            &Case {
                idle: None,
                ..five_minutes()
            },
            PUSH,
        )
        .await;
        assert_eq!(faults, 0, "{:#?}", seen.lock().unwrap().log);
    });
}

/// The call that runs is to go on while the lookup of a lost push, and another call, wait for a token.
#[test]
fn a_running_call_goes_on_while_a_lookup_waits_for_a_token() {
    for loses in [false, true] {
        on_paused_clock(async {
            let case = Case {
                nodes: vec![OfNode {
                    script: vec![Do::Good, Do::Ends(8, loses, How::Break), Do::Good],
                    life: 1_000_000 * SECOND,
                    gives: Gives::Hangs(1),
                    refresh_after: Some(SECOND),
                    ..plain_case().nodes[0].clone()
                }],
                items: 120,
                calls: 2,
                // The lost one keeps those behind it in the window.
                window: 200,
                input_pause: SECOND,
                answer_takes: SECOND / 2,
                ..plain_case()
            };
            let (all, seen, _, _) = run(&case, PUSH).await;
            let ok = all.iter().flatten().filter(|result| result.1).count();
            let log = seen.lock().unwrap().log.clone();
            let bad: Vec<_> = all
                .iter()
                .flatten()
                .filter(|result| !result.1)
                .take(3)
                .collect();
            assert!(ok > 100, "loses {loses}: {ok} ok of 120; {bad:?} {log:#?}");
        });
    }
}

#[test]
fn nothing_spins_beside_a_node_that_is_down() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let of = plain_case().nodes[0].clone();
    let mut spins = 0;
    for seed in 0..500_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let long = OfNode {
            life: 1_000_000 * SECOND,
            last_stays: random.bool(),
            ..of.clone()
        };
        let is_down = Do::Ends(0, false, How::Break);
        let case = Case {
            nodes: vec![
                OfNode {
                    script: match random.u8(..3) {
                        0 => vec![Do::Good],
                        1 => vec![Do::Good, Do::Good, is_down.clone()],
                        _ => vec![is_down.clone(), Do::Ends(1, false, How::Break), Do::Good],
                    },
                    ..long.clone()
                },
                OfNode {
                    script: match random.u8(..3) {
                        0 => vec![is_down.clone()],
                        1 => vec![Do::Good, is_down.clone(), is_down.clone()],
                        _ => vec![is_down.clone(), is_down.clone(), is_down.clone(), Do::Good],
                    },
                    ..long
                },
            ],
            items: 18,
            adapters: random.usize(2..5),
            calls: random.usize(2..6),
            window: random.usize(3..12),
            retry: random.u8(..2),
            breaker: [None, Some(1), Some(2), Some(4)][random.usize(..4)],
            input_pause: Duration::from_millis(random.u64(20..500)),
            answer_takes: Duration::from_millis(random.u64(..40)),
            seed,
            ..plain_case()
        };
        let method = [PUSH, LOOKUP][random.usize(..2)];
        if let Err(error) = catch_unwind(AssertUnwindSafe(|| check(&case, method))) {
            let words = error.downcast_ref::<String>().cloned().unwrap_or_default();
            spins += 1;
            if spins == 1 {
                eprintln!("{method} {case:?} {words}");
            }
        }
    }
    assert_eq!(spins, 0, "of 500 schedules");
}

/// Tokens of minutes, pauses of minutes, and options as most have them.
fn realistic() -> impl Strategy<Value = Case> {
    let node = (
        30_u64..900,
        prop_oneof![Just(Duration::ZERO), millis(20_000)],
    )
        .prop_map(|(life, takes)| OfNode {
            life: Duration::from_secs(life),
            asking_takes: takes,
            ..plain_case().nodes[0].clone()
        });
    (
        prop::collection::vec(node, 1..3),
        (1_usize..30, 1_usize..4, 1_usize..4),
        (1_000_u64..700_000).prop_map(Duration::from_millis),
        prop_oneof![Just(Duration::ZERO), millis(9_000)],
        any::<u64>(),
    )
        .prop_map(
            |(nodes, (items, adapters, calls), input_pause, answer_takes, seed)| Case {
                nodes,
                items,
                adapters,
                calls,
                window: 1024,
                stall: Some(Options::DEFAULT_STALL_AFTER),
                age: Some(Options::DEFAULT_MAX_CALL_AGE),
                input_pause,
                answer_takes,
                seed,
                ..plain_case()
            },
        )
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn realistic_nothing_is_lost(case in realistic(), method in 0..4_usize) {
        let method = [PUSH, PULL, LOOKUP, DELETE][method];
        on_paused_clock(async {
            let (all, seen, _, _) = run(&case, method).await;
            let seen = seen.lock().unwrap();
            for result in all.iter().flatten() {
                assert!(result.1, "{result:?} {:#?}", seen.log);
            }
        });
    }

    #[test]
    fn realistic_no_fault(case in realistic(), method in 0..4_usize) {
        // A segment of a delete that takes longer than that has stalled.
        prop_assume!(case.answer_takes * (case.items as u32) < Options::DEFAULT_STALL_AFTER);
        let method = [PUSH, PULL, LOOKUP, DELETE][method];
        on_paused_clock(async {
            let (_, seen, _, faults) = run(&case, method).await;
            let seen = seen.lock().unwrap();
            assert_eq!(faults, 0, "{:#?}", seen.log);
        });
    }
}

#[test]
fn nothing_spins_while_a_probe_is_kept_for_another_adapter() {
    let long = OfNode {
        life: 1_000_000 * SECOND,
        last_stays: false,
        ..plain_case().nodes[0].clone()
    };
    let is_down = Do::Ends(0, false, How::Break);
    let case = Case {
        nodes: vec![
            OfNode {
                script: vec![is_down.clone(), Do::Ends(1, false, How::Break), Do::Good],
                ..long.clone()
            },
            OfNode {
                script: vec![is_down],
                ..long
            },
        ],
        items: 18,
        adapters: 4,
        calls: 2,
        window: 7,
        retry: 1,
        breaker: Some(1),
        input_pause: Duration::from_millis(487),
        answer_takes: Duration::from_millis(35),
        seed: 4,
        ..plain_case()
    };
    check(&case, LOOKUP);
}

#[test]
fn page_401_is_renewed() {
    on_paused_clock(async {
        let case = Case {
            nodes: vec![OfNode {
                script: vec![Do::Ends(0, false, How::Page(401)), Do::Good],
                life: 1_000_000 * SECOND,
                ..plain_case().nodes[0].clone()
            }],
            calls: 1,
            ..plain_case()
        };
        for method in [PUSH, PULL, LOOKUP, DELETE] {
            let (all, _, issuers, faults) = run(&case, method).await;
            assert!(all.iter().flatten().all(|result| result.1));
            assert_eq!((issuers[0].asked.load(Ordering::Relaxed), faults), (2, 0));
        }
    });
}

/// A caller who has said that a refusal is of the moment.
#[test]
fn a_refusal_that_is_classified_as_transient_is_renewed() {
    use agntcy_dir_stream::Verdict;
    use agntcy_dir_stream::server::Store;
    on_paused_clock(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let token = {
            let asked = Arc::clone(&asked);
            Token::from_fn(move || {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                async move { Ok::<_, std::io::Error>(format!("token-{number}")) }
            })
        };
        let store = Store::builder()
            .authorize(|token| token != "token-0")
            .build();
        let client = store.client().with_token(token).unwrap();
        let retry = Retry::new().classify(|status| match status.code() {
            Code::Unauthenticated => Verdict::Transient,
            _ => Verdict::of(status),
        });
        let options = Options::new().retry(retry);
        let summary = in_a_week(
            crate::support::records::records(5)
                .push_to_with(&client, &options)
                .finish(),
        )
        .await;
        let asked = asked.load(Ordering::Relaxed);
        assert_eq!(summary.stats.succeeded, 5, "asked {asked}: {summary}");
    });
}

/// Default options but for two calls: two adapters share a client of two nodes, and have a few records every ten minutes.
/// The tokens of one node live for five minutes.
#[test]
fn two_adapters_on_two_nodes_with_default_options_are_denied_nothing() {
    on_paused_clock(async {
        let of = plain_case().nodes[0].clone();
        let mut denied = Vec::new();
        for seed in 0..200 {
            let case = Case {
                nodes: vec![
                    OfNode {
                        life: 100_000 * SECOND,
                        ..of.clone()
                    },
                    OfNode {
                        life: 300 * SECOND,
                        ..of.clone()
                    },
                ],
                items: 10,
                adapters: 2,
                calls: 2,
                window: 1024,
                stall: Some(Options::DEFAULT_STALL_AFTER),
                age: Some(Options::DEFAULT_MAX_CALL_AGE),
                input_pause: Duration::from_millis(600_001),
                seed,
                ..plain_case()
            };
            let (all, seen, _, _) = run(&case, PUSH).await;
            if all.iter().flatten().any(|result| !result.1) {
                denied.push((seed, all, seen.lock().unwrap().log.clone()));
            }
        }
        if let Some((seed, all, log)) = denied.first() {
            let failed: Vec<_> = all.iter().flatten().filter(|result| !result.1).collect();
            panic!(
                "{} of 200 runs, such as seed {seed}: {failed:?} {log:#?}",
                denied.len()
            );
        }
    });
}
