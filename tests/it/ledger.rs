//! Operations that are none of this crate: the ledger of the examples, with its own server, under random faults. Each
//! item has one result, it is true, and nothing is booked twice.

use std::time::Duration;

use agntcy_dir_stream::operation::{Acknowledged, Done, LostAnswer, NoQuestion, Operation, Place};
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Code, Error, ErrorKind, Failed, Retry};
use futures::{Stream, StreamExt, stream};
use proptest::prelude::*;
use tokio::time::Instant;

use self::messages::Booking;
use self::operations::{Book, Cancel, Close, History};
use self::server::{Fault, Ledger};
use crate::support::clock::{in_a_week, on_paused_clock};
use crate::support::peer::{next_call, scripted};
use crate::support::polling::next;
use crate::support::properties::cases;
use crate::support::results::{Seen, kinds, read_all};

#[path = "../../examples/ledger/messages.rs"]
mod messages;
#[path = "../../examples/ledger/operations.rs"]
mod operations;
#[path = "../../examples/ledger/server.rs"]
mod server;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    Good,
    /// The server refuses it.
    Bad,
    /// It is found before it is sent.
    Invalid,
}

#[derive(Clone, Debug)]
struct Case {
    items: Vec<Item>,
    faults: Vec<(u64, Fault)>,
    window: usize,
    tries: u32,
    retries: bool,
    unordered: bool,
    calls: usize,
    /// How many nodes serve the ledger.
    nodes: usize,
    breaker: u32,
    time: u64,
}

fn fault() -> impl Strategy<Value = Fault> {
    const CODES: &[Code] = &[
        Code::Unavailable,
        Code::Internal,
        Code::InvalidArgument,
        Code::ResourceExhausted,
    ];
    prop_oneof![
        3 => Just(Fault::Cut),
        3 => Just(Fault::CutAfter),
        1 => Just(Fault::End),
        1 => Just(Fault::Stall),
        1 => (1u64..9).prop_map(|seconds| Fault::Late(Duration::from_secs(seconds))),
        2 => prop::sample::select(CODES).prop_map(Fault::Status),
    ]
}

prop_compose! {
    fn case()(
        items in prop::collection::vec(
            prop_oneof![6 => Just(Item::Good), 1 => Just(Item::Bad), 1 => Just(Item::Invalid)],
            0..24,
        ),
        faults in prop::collection::vec((0u64..40, fault()), 0..8),
        window in prop_oneof![Just(1usize), 2usize..12, Just(1000)],
        tries in 1u32..6,
        retries in prop::bool::weighted(0.9),
        unordered in any::<bool>(),
        calls in prop_oneof![2 => Just(1usize), 1 => 2usize..9],
        nodes in prop_oneof![2 => Just(1usize), 1 => 2usize..4],
        breaker in prop_oneof![Just(0u32), 1u32..5],
        time in prop_oneof![4 => Just(3_600u64), 1 => 1u64..20],
    ) -> Case {
        Case { items, faults, window, tries, retries, unordered, calls, nodes, breaker, time }
    }
}

fn id(number: usize) -> String {
    format!("b{number}")
}

fn account(number: usize) -> String {
    format!("account {number}")
}

fn booking(number: usize, amount: i64) -> Booking {
    Booking {
        id: id(number),
        account: account(number),
        amount,
    }
}

impl Case {
    fn options(&self) -> Options {
        let retry = Retry::new()
            .max_attempts(self.tries)
            .timeout(Duration::from_secs(self.time));
        Options::new()
            .window(self.window)
            .retry(if self.retries { retry } else { Retry::off() })
            .stall_after(Some(Duration::from_secs(5)))
            .unordered(self.unordered)
            .calls(self.calls)
    }

    /// The ledger with its faults, and a client of it. With `booked`, all that is good is booked before.
    fn stage(&self, booked: bool) -> (Ledger, Client) {
        let ledger = Ledger::default();
        for (request, fault) in &self.faults {
            ledger.inject(*request, *fault);
        }
        for (number, item) in self.items.iter().enumerate() {
            if booked && *item == Item::Good {
                ledger.insert(booking(number, 1));
                ledger.insert(booking(number, 2));
            }
        }
        let breaker = match self.breaker {
            0 => CircuitBreaker::off(),
            threshold => CircuitBreaker::new().threshold(threshold),
        };
        let nodes = (0..self.nodes).map(|_| Client::from_service(ledger.clone()));
        let client = nodes.reduce(Client::with_nodes_of).unwrap();
        (ledger, client.with_breaker(breaker))
    }

    fn input<I>(&self, item: impl Fn(usize, Item) -> I) -> impl Stream<Item = (I, usize)> + Unpin {
        let items: Vec<_> = self.items.iter().copied().enumerate().collect();
        let items = items
            .into_iter()
            .map(move |(number, what)| (item(number, what), number));
        stream::iter(items.collect::<Vec<_>>())
    }

    fn refuses(&self) -> bool {
        let refuses =
            |fault: &Fault| matches!(fault, Fault::Status(Code::Internal | Code::InvalidArgument));
        self.faults.iter().any(|(_, fault)| refuses(fault))
    }
}

/// Runs an operation to its end, and checks what holds for each.
async fn run<O, I>(
    case: &Case,
    results: impl Stream<Item = Result<Done<O, usize>, Failed<I, usize>>> + Unpin,
) -> Vec<Seen<Done<O, usize>>> {
    let mut seen = read_all(results, |done| (done.index, done.tag), async |_| {}).await;
    if !case.unordered {
        assert!(seen.is_sorted_by_key(|(index, _, _)| *index), "input order");
    }
    seen.sort_by_key(|(index, _, _)| *index);
    assert_eq!(seen.len(), case.items.len(), "one result for each item");
    for (place, (index, number, result)) in seen.iter().enumerate() {
        assert_eq!((*index, *number), (place as u64, place));
        if let Err((kind, attempts)) = result {
            let item = case.items[place];
            if matches!(kind, ErrorKind::Invalid | ErrorKind::NotSent) {
                assert_eq!(*attempts, 0, "{place}: {kind}");
            }
            if case.faults.is_empty() && case.time > 1_000 && case.retries {
                assert_ne!(item, Item::Good, "{place}: {kind}");
            }
            if matches!(kind, ErrorKind::Rejected | ErrorKind::ServerFailed) {
                assert!(item == Item::Bad || case.refuses(), "{place}: {kind}");
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..cases(1_000) })]

    #[test]
    fn nothing_is_booked_twice_and_each_booking_has_a_true_result(case in case()) {
        on_paused_clock(async {
            let (ledger, client) = case.stage(false);
            let input = case.input(|number, item| match item {
                Item::Good => booking(number, 1),
                Item::Bad => booking(number, 0),
                Item::Invalid => Booking::default(),
            });
            let seen = run(&case, input.through_with(Book, &client, &case.options())).await;
            for (_, number, result) in seen {
                let booked = ledger.bookings();
                let times = booked.iter().filter(|one| one.id == id(number)).count();
                assert!(times <= 1, "{number} is booked {times} times");
                match result {
                    Ok(_) => assert_eq!(times, 1, "{number} was acknowledged"),
                    Err((ErrorKind::Invalid, _)) => assert_eq!(case.items[number], Item::Invalid),
                    Err((ErrorKind::OutcomeUnknown, attempts)) => {
                        assert!(attempts > 0 && !case.faults.is_empty());
                    }
                    Err((kind, _)) => assert_eq!(times, 0, "{number}: {kind}"),
                }
            }
        });
    }

    #[test]
    fn what_is_cancelled_is_not_booked(case in case()) {
        on_paused_clock(async {
            let (ledger, client) = case.stage(true);
            let input = case.input(|number, item| match item {
                Item::Good | Item::Bad => id(number),
                Item::Invalid => String::new(),
            });
            let seen = run(&case, input.through_with(Cancel, &client, &case.options())).await;
            for (_, number, result) in seen {
                let is_booked = ledger.bookings().iter().any(|one| one.id == id(number));
                match result {
                    Ok(_) => assert!(!is_booked, "{number} was acknowledged"),
                    Err((ErrorKind::NotSent | ErrorKind::Invalid, _)) => {
                        assert_eq!(is_booked, case.items[number] == Item::Good);
                    }
                    Err(_) => assert!(!case.faults.is_empty()),
                }
            }
        });
    }

    #[test]
    fn an_account_that_is_missing_fails_alone_in_its_batch(case in case()) {
        on_paused_clock(async {
            let (ledger, client) = case.stage(true);
            let input = case.input(|number, _| account(number));
            let seen = run(&case, input.through_with(Close, &client, &case.options())).await;
            for (_, number, result) in seen {
                let is_closed = ledger.is_closed(&account(number));
                match result {
                    Ok(_) => assert!(is_closed, "{number} was acknowledged"),
                    Err((ErrorKind::NotFound, _)) => assert_ne!(case.items[number], Item::Good),
                    Err((ErrorKind::NotSent, _)) => assert!(!is_closed),
                    Err(_) => assert!(!case.faults.is_empty()),
                }
            }
        });
    }

    #[test]
    fn a_history_is_whole_or_an_error(case in case()) {
        on_paused_clock(async {
            let (_, client) = case.stage(true);
            let input = case.input(|number, _| account(number));
            let seen = run(&case, input.through_with(History, &client, &case.options())).await;
            for (_, number, result) in seen {
                match result {
                    Ok(done) => assert_eq!(done.output, [booking(number, 1), booking(number, 2)]),
                    Err((ErrorKind::NotFound, _)) => assert_ne!(case.items[number], Item::Good),
                    Err((kind, _)) => {
                        assert_ne!(kind, ErrorKind::OutcomeUnknown, "a read changes nothing");
                        assert!(!case.faults.is_empty());
                    }
                }
            }
        });
    }
}

/// The calls that book and the call that asks break, and there is no other try.
#[tokio::test(start_paused = true)]
async fn what_was_not_found_out_is_not_booked_again() {
    let ledger = Ledger::default();
    for request in [3, 4, 6] {
        ledger.inject(request, Fault::Cut);
    }
    let client = Client::from_service(ledger.clone());
    let bookings = stream::iter((0..6).map(|number| booking(number, 1)));
    let options = Options::new().retry(Retry::new().max_attempts(1));
    let results = bookings.through_with(Book, &client, &options);
    let results: Vec<_> = in_a_week(results.collect()).await;
    for (number, result) in results.iter().enumerate() {
        let booked = ledger.bookings();
        let times = booked.iter().filter(|one| one.id == id(number)).count();
        match result {
            Ok(_) => assert_eq!(times, 1, "{number}"),
            Err(failed) => {
                assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown, "{failed}");
                assert!(times <= 1, "{number} is booked {times} times");
            }
        }
    }
}

/// A call of one item is half-closed behind it, also where more items are to come.
#[tokio::test(start_paused = true)]
async fn a_window_of_one_item_does_for_a_call_each() {
    let ledger = Ledger::default();
    ledger.insert(booking(0, 1));
    let client = Client::from_service(ledger);
    let names = stream::iter((0..4).map(|_| account(0)));
    let options = Options::new().window(1).retry(Retry::off());
    let summary = in_a_week(names.through_with(History, &client, &options).finish()).await;
    assert_eq!((summary.stats.succeeded, summary.stats.calls), (4, 4));
}

/// Each item takes a call and a round trip, and so many are on their way at once.
#[tokio::test(start_paused = true)]
async fn items_with_a_call_each_take_as_many_round_trips_as_calls_allow() {
    let ledger = Ledger::default();
    ledger.insert(booking(0, 1));
    let round_trip = Duration::from_millis(10);
    for request in 0..1_000 {
        ledger.inject(request, Fault::Late(round_trip));
    }
    let client = Client::from_service(ledger.clone());
    let start = Instant::now();
    let names = stream::iter((0..1_000).map(|_| account(0)));
    let options = Options::new().calls(10);
    let summary = in_a_week(names.through_with(History, &client, &options).finish()).await;
    assert_eq!(summary.stats.succeeded, 1_000);
    assert_eq!(ledger.calls(), 1_000);
    assert!(start.elapsed() <= 101 * round_trip, "{:?}", start.elapsed());
}

/// All items of a batch are in one message.
#[tokio::test(start_paused = true)]
async fn a_batch_is_one_request() {
    let (client, peer) = scripted();
    let names = stream::iter((0..5).map(account));
    let mut results = names.through(Close, &client);
    let mut call = next_call(&mut results, &peer).await;
    let requests = call.requests::<messages::Accounts>();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].names, (0..5).map(account).collect::<Vec<_>>());
    assert!(call.is_half_closed());
    call.answer(&messages::Closed {});
    call.end(Code::Ok, "");
    for _ in 0..5 {
        next(&mut results).unwrap();
    }
}

/// An operation for which what the server says is true, whatever it is.
struct Credulous;

impl Operation for Credulous {
    const NAME: &'static str = "credulous";
    const METHOD: &'static str = "/example.ledger.v1.Ledger/History";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
    const MAX_ANSWER_LEN: usize = 1_000;

    type Input = String;
    type Checked = ();
    type Request = messages::Account;
    type Answer = Booking;
    type Output = String;
    type Question = NoQuestion;
    type Success<T> = Done<String, T>;

    fn check(&self, _: &String) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, name: &String, (): &()) -> messages::Account {
        messages::Account { name: name.clone() }
    }

    fn accept(&self, _: &String, (): &(), booking: Booking) -> Result<String, Error> {
        Ok(booking.id)
    }

    fn success<T>(place: Place<T>, (): (), id: String) -> Done<String, T> {
        Done::new(place, id)
    }
}

#[tokio::test(start_paused = true)]
async fn one_answer_is_expected_where_nothing_else_is_said() {
    let ledger = Ledger::default();
    ledger.insert(booking(0, 1));
    ledger.insert(booking(1, 1));
    ledger.insert(booking(1, 2));
    let client = Client::from_service(ledger);
    let names = stream::iter((0..2).map(account));
    let results: Vec<_> = in_a_week(names.through(Credulous, &client).collect()).await;
    assert_eq!(results[0].as_ref().unwrap().output, "b0");
    assert_eq!(kinds(&results), [None, Some(ErrorKind::Mismatch)]);
    let failed = results[1].as_ref().unwrap_err().to_string();
    assert!(failed.contains("answered 2 times"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn the_answers_of_an_item_are_bounded_together() {
    let ledger = Ledger::default();
    for _ in 0..50 {
        ledger.insert(booking(0, 1));
    }
    ledger.insert(booking(1, 1));
    let client = Client::from_service(ledger);
    let names = stream::iter((0..2).map(account));
    let results: Vec<_> = in_a_week(names.through(Credulous, &client).collect()).await;
    assert_eq!(kinds(&results), [Some(ErrorKind::Mismatch), None]);
    let failed = results[0].as_ref().unwrap_err().to_string();
    assert!(failed.contains("longer than 1000 bytes in all"), "{failed}");
}

/// Bookings whose server says of some, in its answer, that it has failed.
struct Flaky;

impl Operation for Flaky {
    const NAME: &'static str = "flaky";
    const ANSWERS_MAY_FAIL: bool = true;
    const METHOD: &'static str = "/example.ledger.v1.Ledger/Book";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;

    type Input = Booking;
    type Checked = ();
    type Request = Booking;
    type Answer = messages::Receipt;
    type Output = ();
    type Question = NoQuestion;
    type Success<T> = Done<(), T>;

    fn check(&self, _: &Booking) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, booking: &Booking, (): &()) -> Booking {
        booking.clone()
    }

    fn accept(&self, booking: &Booking, (): &(), receipt: messages::Receipt) -> Result<(), Error> {
        match receipt.id == booking.id {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::ServerFailed, receipt.id)),
        }
    }

    fn may_pass(error: &Error) -> bool {
        error.kind() == ErrorKind::ServerFailed
    }

    fn success<T>(place: Place<T>, (): (), (): ()) -> Done<(), T> {
        Done::new(place, ())
    }
}

fn receipt(id: impl Into<String>) -> messages::Receipt {
    messages::Receipt { id: id.into() }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_by_its_answer_is_made_again_in_the_same_call() {
    let (client, peer) = scripted();
    let bookings = stream::iter((0..3).map(|number| booking(number, 1)));
    let mut results = bookings.chain(stream::pending()).through(Flaky, &client);
    let mut call = next_call(&mut results, &peer).await;
    assert_eq!(call.requests::<Booking>().len(), 3);
    call.answer(&receipt("the disk is full"));
    call.answer(&receipt(id(1)));
    call.answer(&receipt(id(2)));
    let mut again = Vec::new();
    for _ in 0..1_000 {
        crate::support::polling::assert_pending(&mut results);
        again = call.requests::<Booking>();
        if !again.is_empty() {
            break;
        }
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    assert_eq!(again, [booking(0, 1)]);
    call.answer(&receipt(id(0)));
    for _ in 0..3 {
        next(&mut results).unwrap();
    }
    assert_eq!(results.stats().calls, 1);
}

/// The server works at the others, so this one is at fault.
#[tokio::test(start_paused = true)]
async fn an_item_that_fails_by_its_answer_each_time_fails_alone_with_the_servers_words() {
    let (client, peer) = scripted();
    let bookings = stream::iter((0..100).map(|number| booking(number, 1)));
    let server = async {
        let mut calls = Vec::new();
        loop {
            calls.extend(std::iter::from_fn(|| peer.try_call()));
            for call in &mut calls {
                for asked in call.requests::<Booking>() {
                    call.answer(&match asked.id == id(7) {
                        true => receipt("not that one"),
                        false => receipt(asked.id),
                    });
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let results = bookings.through(Flaky, &client).collect::<Vec<_>>();
    let results = tokio::select! {
        results = in_a_week(results) => results,
        () = server => unreachable!(),
    };
    let failed: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].index, failed[0].kind()),
        (7, ErrorKind::ServerFailed)
    );
    assert!(
        failed[0].to_string().contains("not that one"),
        "{}",
        failed[0]
    );
}
