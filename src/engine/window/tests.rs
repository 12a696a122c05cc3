//! The window by schedules of events: no network, no clock.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tonic::Status;

use super::*;

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When an item that has had so many tries may be sent again.
fn later(tries: u32) -> Option<Instant> {
    Some(*NOW + tries * Duration::from_secs(1))
}

/// How long the requests of items are: one is longer than the others.
fn request_len(item: &u64) -> usize {
    if *item == 1 { 70 } else { 10 }
}

/// A window, and the call that it sends by.
struct TestWindow {
    window: Window<u64, &'static str>,
    flight: Flight,
    /// When the latest item was sent that was stored, and was not the canary.
    wrote: Tick,
}

impl std::ops::Deref for TestWindow {
    type Target = Window<u64, &'static str>;

    fn deref(&self) -> &Self::Target {
        &self.window
    }
}

impl std::ops::DerefMut for TestWindow {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.window
    }
}

type Rules = super::Rules<u64>;

/// The rules of a push, without retries.
const PUSH: Rules = Rules {
    items: 8,
    bytes: usize::MAX,
    depth: (usize::MAX, usize::MAX),
    acknowledged: Acknowledged::EachItem,
    lost_answer: LostAnswer::LookUp,
    may_repeat: true,
    answers_may_fail: false,
    answer_len: 0,
    retries: false,
    max_attempts: 1,
    unordered: false,
    skip_stored: false,
    dedup: None,
};

fn with(rules: Rules) -> TestWindow {
    let mut window = Window::new(rules);
    let flight = window.launch(false);
    TestWindow {
        window,
        flight,
        wrote: Tick::NEVER,
    }
}

fn window(items: usize) -> TestWindow {
    with(Rules { items, ..PUSH })
}

fn segments(items: usize) -> TestWindow {
    with(Rules {
        items,
        acknowledged: Acknowledged::WholeCall,
        lost_answer: LostAnswer::SendAgain,
        ..PUSH
    })
}

/// With up to three tries.
fn retrying(items: usize) -> TestWindow {
    with(Rules {
        items,
        retries: true,
        max_attempts: 3,
        ..PUSH
    })
}

impl TestWindow {
    fn take_all(&mut self, items: std::ops::Range<u64>) {
        for item in items {
            assert!(self.has_room(), "no room for item {item}");
            self.take(item, 1);
        }
    }

    /// Sends all that may be sent now.
    fn send(&mut self) -> Vec<u64> {
        let Self { window, flight, .. } = self;
        std::iter::from_fn(|| window.send_next(flight).copied()).collect()
    }

    fn answer(&mut self, outcome: Result<&'static str, Error>) -> bool {
        let report = self
            .window
            .answer(&mut self.flight, |_| Judged::Outcome(outcome), |_| 0);
        report.is_some()
    }

    fn answer_ok(&mut self) {
        let is_canary = self.flight.is_at_canary();
        assert!(self.answer(Ok("stored")), "nothing awaits an answer");
        if !is_canary {
            self.wrote = self.flight.proves();
        }
    }

    fn end(&mut self, status: Result<(), Status>, taken: usize) -> Report {
        self.end_after(status, taken, 1)
    }

    /// Ends the call, and has the next one ready.
    fn end_after(&mut self, status: Result<(), Status>, taken: usize, answers: usize) -> Report {
        let ended = self.ended(status, taken, answers == 1);
        let Self { window, flight, .. } = self;
        let done = |_: &u64| Ok("acknowledged");
        let report = window.call_ended(flight, &ended, later, done, request_len);
        self.flight = self.window.launch(false);
        report
    }

    fn ended(&self, status: Result<(), Status>, transmitted: usize, acknowledged: bool) -> Ended {
        Ended {
            verdict: status.as_ref().err().map(Verdict::of),
            end: End {
                status: status.err().map(Arc::new),
                transmitted,
                acknowledged,
                by: EndedBy::Peer,
            },
            is_of_call: false,
            is_asked_again: false,
            evidence: self.evidence(),
        }
    }

    /// The one node there is has had all the successes.
    fn evidence(&self) -> Evidence {
        Evidence {
            now: *NOW,
            tells: false,
            proved: self.suspects.proved(),
            wrote: self.wrote,
            failures: 0,
        }
    }

    /// Index, attempts and outcome of each result that can be handed out.
    fn results(&mut self) -> Vec<(u64, u32, Result<&'static str, ErrorKind>)> {
        std::iter::from_fn(|| self.pop())
            .inspect(|settled| assert_eq!(settled.index, settled.entry))
            .map(|s| (s.index, s.attempts, s.outcome.map_err(|e| e.kind())))
            .collect()
    }
}

#[test]
fn an_item_is_sent_once_it_is_checked() {
    let mut window = retrying(8);
    window.take(0, 1);
    for index in 1..4 {
        assert_eq!(window.take_unchecked(index, 1), index);
    }
    assert_eq!(window.send(), [0]);
    assert!(window.has_unsent() && !window.has_waiting());
    window.check(1, |_| Ok(()));
    window.check(2, |_| Err(Error::invalid("no record")));
    assert_eq!(window.send(), [1]);
    assert_eq!((window.unsent(), window.next_index()), (3, 4));
    // One that was given up meanwhile stays that.
    window.fail_all(ErrorKind::Denied, Arc::new(Status::permission_denied("")));
    window.check(3, |_| panic!("it has its result"));
    assert!(!window.has_unsent());
    let kinds: Vec<_> = window
        .results()
        .into_iter()
        .map(|(_, _, outcome)| outcome)
        .collect();
    let unknown = Err(ErrorKind::OutcomeUnknown);
    assert_eq!(
        kinds,
        [
            unknown,
            unknown,
            Err(ErrorKind::Invalid),
            Err(ErrorKind::Denied)
        ]
    );
}

#[test]
fn an_item_without_its_check_is_not_decided_upon_but_given_back() {
    let mut window = with(Rules {
        skip_stored: true,
        retries: true,
        max_attempts: 3,
        ..PUSH
    });
    for index in 0..3 {
        window.take_unchecked(index, 1);
    }
    window.scout();
    assert_eq!((window.scouted, window.first_unchecked), (0, 0));
    window.check(0, |_| Ok(()));
    window.scout();
    assert_eq!(window.scouted, 1);
    let (settled, unsettled) = window.window.dismantle();
    assert!(settled.is_empty());
    assert!(
        unsettled
            .iter()
            .all(|item| !item.is_in_doubt && item.attempts == 0)
    );
    assert_eq!(unsettled.len(), 3);
}

#[test]
fn an_answer_that_is_not_judged_yet_has_come_in_time() {
    let mut window = retrying(8);
    window.take_all(0..2);
    window.send();
    let TestWindow {
        window: inner,
        flight,
        ..
    } = &mut window;
    inner.answer(flight, |_| Judged::Later(70), |_| unreachable!());
    assert_eq!((window.in_flight(), window.bytes), (1, 72));
    assert!(window.pop().is_none());
    window.end(Err(Status::unavailable("")), 2);
    window.fail_unanswered("no time is left", None);
    assert!(window.pop().is_none(), "it waits to be judged");
    window.judge(0, |_| Ok("record"));
    let results = window.results();
    assert_eq!(results[0], (0, 1, Ok("record")));
    assert!(results[1].2.is_err());
    assert_eq!(window.bytes, 0);
}

#[test]
fn answers_belong_to_requests_in_order() {
    let mut window = window(8);
    window.take_all(0..3);
    assert_eq!(window.send(), [0, 1, 2]);
    window.answer_ok();
    window.answer_ok();
    assert_eq!(
        window.results(),
        [(0, 1, Ok("stored")), (1, 1, Ok("stored"))]
    );
    window.answer_ok();
    window.end(Ok(()), 3);
    assert_eq!(window.results(), [(2, 1, Ok("stored"))]);
    assert!(window.is_empty());
}

#[test]
fn a_refused_item_fails_alone_and_the_ones_behind_it_are_sent_again() {
    let mut window = window(8);
    window.take_all(0..4);
    window.send();
    window.answer_ok();
    window.end(Err(Status::invalid_argument("bad")), 4);
    assert_eq!(
        window.results(),
        [(0, 1, Ok("stored")), (1, 1, Err(ErrorKind::Rejected))]
    );
    assert_eq!(window.send(), [2, 3], "nothing answered is sent again");
    window.answer_ok();
    window.answer_ok();
    assert_eq!(
        window.results(),
        [(2, 2, Ok("stored")), (3, 2, Ok("stored"))]
    );
}

#[test]
fn what_a_status_says_of_an_item_is_its_kind() {
    for (status, kind) in [
        (Status::invalid_argument(""), ErrorKind::Rejected),
        (Status::failed_precondition(""), ErrorKind::Rejected),
        (Status::already_exists(""), ErrorKind::ServerFailed),
        (Status::not_found(""), ErrorKind::NotFound),
        (Status::internal(""), ErrorKind::ServerFailed),
        (Status::unknown(""), ErrorKind::ServerFailed),
    ] {
        let mut window = window(2);
        window.take_all(0..2);
        window.send();
        window.end(Err(status.clone()), 2);
        assert_eq!(window.results(), [(0, 1, Err(kind))], "{status:?}");
        assert_eq!(window.send(), [1]);
    }
}

#[test]
fn an_item_refused_before_sending_does_not_disturb_its_neighbours() {
    let mut window = window(8);
    window.take(0, 1);
    window.take_settled(1, 1, Err(Error::invalid("no data")));
    window.take(2, 1);
    assert_eq!(window.send(), [0, 2]);
    assert_eq!(window.results(), [], "results keep their order");
    window.answer_ok();
    assert_eq!(
        window.results(),
        [(0, 1, Ok("stored")), (1, 0, Err(ErrorKind::Invalid))]
    );
    window.answer_ok();
    assert_eq!(window.results(), [(2, 1, Ok("stored"))]);
}

#[test]
fn a_broken_transport_fails_what_is_in_the_window_and_says_what_may_have_landed() {
    let mut window = window(8);
    window.take_all(0..4);
    window.send();
    window.answer_ok();
    // Items 0, 1 and 2 were taken by the transport, item 3 never left.
    window.end(Err(Status::unavailable("gone")), 3);
    assert_eq!(
        window.results(),
        [
            (0, 1, Ok("stored")),
            (1, 1, Err(ErrorKind::OutcomeUnknown)),
            (2, 1, Err(ErrorKind::OutcomeUnknown)),
            (3, 0, Err(ErrorKind::NotSent)),
        ]
    );
    window.take(4, 1);
    assert_eq!(window.send(), [4], "later items get a new call");
}

#[test]
fn a_status_with_a_source_is_the_transports_whatever_its_code() {
    let mut window = window(8);
    window.take_all(0..2);
    window.send();
    let mut status = Status::invalid_argument("h2 protocol error");
    status.set_source(std::sync::Arc::new(std::io::Error::other("broken pipe")));
    window.end(Err(status), 2);
    assert_eq!(
        window.results(),
        [
            (0, 1, Err(ErrorKind::OutcomeUnknown)),
            (1, 1, Err(ErrorKind::OutcomeUnknown))
        ]
    );
}

#[test]
fn a_refused_item_counts_in_bytes_while_it_is_held() {
    let mut window = with(Rules { bytes: 10, ..PUSH });
    window.take_settled(0, 10, Err(Error::invalid("too long")));
    assert!(!window.has_room());
    assert!(window.pop().is_some());
    assert!(window.has_room());
}

#[test]
fn a_call_that_took_nothing_did_not_fail_at_an_item() {
    let mut window = window(8);
    window.take_all(0..2);
    window.send();
    window.end(Err(Status::internal("no token")), 0);
    for _ in 0..2 {
        let settled = window.pop().unwrap();
        assert_eq!(settled.attempts, 0);
        assert_eq!(settled.outcome.unwrap_err().kind(), ErrorKind::NotSent);
    }
}

#[test]
fn after_a_spare_answer_the_next_call_counts_from_nothing() {
    let mut window = window(8);
    window.take(0, 1);
    window.send();
    assert!(window.answer(Ok("cid")));
    assert!(!window.answer(Ok("cid")), "nobody's");
    window.flight = window.window.launch(false);
    assert!(window.pop().is_some());
    window.take(1, 1);
    window.send();
    window.end(Err(Status::unavailable("gone")), 1);
    let settled = window.pop().unwrap();
    assert_eq!(settled.attempts, 1);
    assert_eq!(
        settled.outcome.unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
}

#[test]
fn a_refused_caller_is_told_for_every_item_there_is_and_is_to_come() {
    let mut window = window(8);
    window.take_all(0..2);
    window.send();
    window.take(2, 1);
    window.end(Err(Status::unauthenticated("who?")), 2);
    window.take(3, 1);
    assert_eq!(window.send(), [] as [u64; 0]);
    let kinds: Vec<_> = window.results().into_iter().map(|r| r.2).collect();
    assert_eq!(kinds, [Err(ErrorKind::Denied); 4]);

    let mut window = self::window(8);
    window.take(0, 1);
    window.send();
    window.end(Err(Status::unimplemented("no such method")), 1);
    assert_eq!(window.results(), [(0, 1, Err(ErrorKind::Unsupported))]);
}

#[test]
fn an_end_with_answers_missing_is_not_a_success() {
    let mut window = window(8);
    window.take_all(0..2);
    window.send();
    window.answer_ok();
    window.end(Ok(()), 2);
    assert_eq!(
        window.results(),
        [(0, 1, Ok("stored")), (1, 1, Err(ErrorKind::OutcomeUnknown))]
    );
}

#[test]
fn an_end_with_nothing_in_flight_is_nobodys() {
    for status in [
        Ok(()),
        Err(Status::unavailable("")),
        Err(Status::internal("")),
    ] {
        let mut window = window(8);
        window.take(0, 1);
        window.send();
        window.answer_ok();
        window.end(status, 1);
        window.take(1, 1);
        assert_eq!(window.results(), [(0, 1, Ok("stored"))]);
        assert_eq!(window.send(), [1]);
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_noticed() {
    let mut window = window(8);
    assert!(!window.answer(Ok("spare")));
    window.take(0, 1);
    window.send();
    window.answer_ok();
    assert!(!window.answer(Ok("spare")));
}

#[test]
fn an_answer_that_does_not_match_is_its_items_error() {
    let mut window = window(8);
    window.take_all(0..2);
    window.send();
    assert!(window.answer(Err(Error::new(ErrorKind::Mismatch, "another CID"))));
    window.answer_ok();
    assert_eq!(
        window.results(),
        [(0, 1, Err(ErrorKind::Mismatch)), (1, 1, Ok("stored"))]
    );
}

#[test]
fn the_window_bounds_items_and_bytes() {
    let mut window = with(Rules {
        items: 3,
        bytes: 100,
        ..PUSH
    });
    window.take(0, 60);
    assert!(window.has_room());
    window.take(1, 60);
    assert!(!window.has_room(), "120 bytes of 100");
    window.send();
    window.answer_ok();
    assert!(!window.has_room(), "a result not handed out takes room");
    window.pop().unwrap();
    assert!(window.has_room());
    window.take(2, 1000);
    assert!(!window.has_room());
    window.answer_ok();
    window.pop().unwrap();
    window.send();
    window.answer_ok();
    window.pop().unwrap();
    window.take_all(3..6);
    assert!(!window.has_room(), "3 items of 3");
}

#[test]
fn a_call_acknowledged_as_a_whole_settles_all_it_carried() {
    let mut window = segments(8);
    window.take_all(0..3);
    assert_eq!(window.send(), [0, 1, 2]);
    window.take(3, 1);
    assert_eq!(window.results(), []);
    window.end(Ok(()), 3);
    assert_eq!(window.results().len(), 3);
    assert_eq!(window.send(), [3]);
}

#[test]
fn an_end_without_the_acknowledgement_is_not_a_success() {
    let mut window = segments(8);
    window.take(0, 1);
    window.send();
    window.end_after(Ok(()), 1, 0);
    assert_eq!(window.results(), [(0, 1, Err(ErrorKind::OutcomeUnknown))]);
}

/// Deletes `items` refs of which `bad` fail their call. Returns how many calls it took.
fn delete(items: u64, window: usize, bad: &BTreeSet<u64>) -> usize {
    let mut window = segments(window);
    let (mut next, mut calls, mut seen) = (0, 0, 0);
    while seen < items {
        while next < items && window.has_room() {
            window.take(next, 1);
            next += 1;
        }
        let sent = window.send();
        assert!(!sent.is_empty(), "it makes no progress at item {seen}");
        calls += 1;
        let status = match sent.iter().any(|item| bad.contains(item)) {
            true => Err(Status::invalid_argument("bad")),
            false => Ok(()),
        };
        window.end(status, sent.len());
        for (index, _, outcome) in window.results() {
            assert_eq!(index, seen);
            assert_eq!(outcome.is_err(), bad.contains(&index), "item {index}");
            seen += 1;
        }
    }
    calls
}

#[test]
fn a_failing_delete_is_singled_out_in_a_bounded_number_of_calls() {
    assert_eq!(delete(1000, 100, &BTreeSet::new()), 10);
    for bad in [0, 1, 499, 500, 998, 999] {
        let calls = delete(1000, 1000, &BTreeSet::from([bad]));
        assert!(calls <= 2 + 2 * 10, "ref {bad} took {calls} calls");
    }
    assert_eq!(delete(1, 1, &BTreeSet::from([0])), 1);
}

proptest! {
    // The same cases in each run.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(0), ..ProptestConfig::default() })]

    #[test]
    fn every_failing_delete_is_singled_out(
        items in 1u64..200,
        window in 1usize..64,
        bad in prop::collection::btree_set(0u64..200, 0..8),
    ) {
        let bad: BTreeSet<u64> = bad.into_iter().filter(|item| *item < items).collect();
        let calls = delete(items, window, &bad);
        let segments = (items as usize).div_ceil(window);
        // Each bad ref halves its segment down and may split the ones after it.
        prop_assert!(calls <= segments + bad.len() * (2 * 8 + 2), "{calls} calls");
    }

    /// Whatever happens in whatever order, each item has one result, in order, the window is
    /// never overfilled, and nothing that was answered is sent again.
    #[test]
    fn each_item_has_one_result_in_order(
        items in 1u64..60,
        size in 1usize..16,
        events in prop::collection::vec(0u8..10, 0..200),
    ) {
        let mut window = window(size);
        let mut next = 0;
        let mut in_call: Vec<u64> = Vec::new();
        let mut answered = BTreeSet::new();
        let mut results = Vec::new();
        // The random schedule first, then a good server until all is done.
        for event in events.into_iter().chain(std::iter::repeat(u8::MAX)) {
            match event {
                0 | 1 | u8::MAX if next < items && window.has_room() => {
                    if event == 1 {
                        window.take_settled(next, 1, Err(Error::invalid("bad")));
                    } else {
                        window.take(next, 1);
                    }
                    next += 1;
                }
                2 => {
                    for item in window.send() {
                        prop_assert!(!answered.contains(&item), "item {} was answered", item);
                        in_call.push(item);
                    }
                }
                3 | 4 if !in_call.is_empty() => {
                    window.answer_ok();
                    answered.insert(in_call.remove(0));
                }
                5 | 6 if !in_call.is_empty() => {
                    window.end(Err(Status::invalid_argument("")), usize::MAX);
                    answered.insert(in_call[0]);
                    in_call.clear();
                }
                7 => {
                    window.end(Err(Status::unavailable("")), usize::MAX);
                    in_call.clear();
                }
                8 => {
                    window.end(Ok(()), usize::MAX);
                    in_call.clear();
                }
                9 => results.extend(window.results()),
                u8::MAX => {
                    in_call.extend(window.send());
                    if in_call.is_empty() {
                        results.extend(window.results());
                        if next == items {
                            break;
                        }
                    } else {
                        window.answer_ok();
                        answered.insert(in_call.remove(0));
                    }
                }
                _ => {}
            }
            prop_assert!(next - results.len() as u64 <= size as u64, "the window is overfilled");
        }
        let indexes: Vec<u64> = results.iter().map(|r| r.0).collect();
        prop_assert_eq!(indexes, (0..items).collect::<Vec<_>>());
        prop_assert!(window.is_empty());
    }
}

// ---- with retries ------------------------------------------------------------------------------

impl TestWindow {
    /// Looks up all that is in doubt, in a call of its own.
    fn look_up(&mut self) -> (Vec<u64>, Flight) {
        let mut flight = self.window.launch(false);
        let window = &mut self.window;
        let asked =
            std::iter::from_fn(|| window.look_up_next(&mut flight, |entry| Some(*entry))).collect();
        (asked, flight)
    }

    fn found(&mut self, flight: &mut Flight) {
        assert!(self.window.looked_up(flight, |_| Ok("found")));
    }

    fn look_up_ended(&mut self, flight: &Flight, status: Status) -> Report {
        let ended = self.ended(Err(status), usize::MAX, false);
        self.window.look_up_ended(flight, &ended, later)
    }

    /// Nothing of what was in doubt is there.
    fn nothing_is_there(&mut self) {
        while self.has_doubt() {
            let (_, flight) = self.look_up();
            self.look_up_ended(&flight, Status::not_found(""));
        }
    }

    /// Lets so many seconds pass.
    fn after(&mut self, seconds: u32) -> Vec<u64> {
        self.wake(later(seconds).unwrap());
        if self.flight.is_unused() {
            self.flight = self.window.launch(false);
        }
        self.send()
    }
}

const UNNAMED: Report = Report::Broke;
const NAMED: Report = Report::Fails;

#[test]
fn a_lost_answer_is_looked_up_and_what_is_missing_sent_again() {
    let mut window = retrying(8);
    window.take_all(0..5);
    window.send();
    window.answer_ok();
    // Item 4 never left.
    assert_eq!(window.end(Err(Status::unavailable("gone")), 4), UNNAMED);
    assert_eq!(window.send(), [4], "it is in no doubt");
    let (asked, mut flight) = window.look_up();
    assert_eq!(asked, [1, 2, 3]);
    window.found(&mut flight);
    assert_eq!(
        window.look_up_ended(&flight, Status::not_found("")),
        Report::Alive
    );
    assert!(
        !window.has_doubt(),
        "the server never got to the one behind"
    );
    assert_eq!(window.send(), [2, 3]);
    assert_eq!(
        window.results(),
        [(0, 1, Ok("stored")), (1, 1, Ok("found"))]
    );
}

#[test]
fn behind_a_stored_record_others_are_looked_up_before_they_are_sent() {
    let mut window = retrying(8);
    window.take_all(0..4);
    window.send();
    let report = window.end(Err(Status::internal("already exists")), 3);
    assert!(
        matches!(report, Report::Works(_)),
        "the server does its work"
    );
    assert_eq!(window.send(), [3], "this one had not left");
    window.take(4, 1);
    let (asked, mut flight) = window.look_up();
    assert_eq!(asked, [0, 1, 2, 4]);
    window.found(&mut flight);
    window.found(&mut flight);
    window.look_up_ended(&flight, Status::not_found(""));
    assert_eq!(window.results(), [(0, 1, Ok("found")), (1, 1, Ok("found"))]);
    assert_eq!(window.send(), [2, 4], "the first that is missing ends it");
    window.take(5, 1);
    assert_eq!(window.send(), [5]);
    // A guess is no doubt: the call had got to 3, and 5 had not left.
    window.end(Err(Status::internal("already exists")), 3);
    window.fail_unanswered("enough", None);
    let kinds: Vec<_> = window.results().into_iter().map(|r| r.2).collect();
    let (unknown, unavailable) = (Err(ErrorKind::OutcomeUnknown), Err(ErrorKind::Unavailable));
    assert_eq!(
        kinds,
        [unavailable, unknown, unavailable, Err(ErrorKind::NotSent)]
    );
}

#[test]
fn a_lookup_that_fails_ends_the_guesses_and_leaves_the_doubts() {
    let mut window = retrying(8);
    window.take_all(0..4);
    window.send();
    window.end(Err(Status::internal("already exists")), 4);
    let (asked, flight) = window.look_up();
    assert_eq!(asked, [0, 1, 2, 3]);
    window.look_up_ended(&flight, Status::unavailable("gone"));
    assert_eq!(window.send(), [1, 2, 3], "they need not be there");
    window.take(4, 1);
    assert_eq!(window.send(), [4]);
    assert_eq!(
        window.look_up().0,
        [0],
        "the server has said so of this one"
    );
}

#[test]
fn what_two_calls_lost_is_looked_up_by_itself() {
    let mut window = retrying(8);
    window.take_all(0..2);
    window.send();
    window.end(Err(Status::internal("no")), 2);
    assert_eq!(window.send(), [1]);
    window.end(Err(Status::internal("no")), 1);
    let (asked, flight) = window.look_up();
    assert_eq!(asked, [0, 1]);
    window.look_up_ended(&flight, Status::not_found(""));
    assert!(
        window.has_doubt(),
        "that one is missing says nothing of the other"
    );
    assert_eq!(window.look_up().0, [1]);
}

#[test]
fn the_first_victim_is_charged_and_only_if_it_had_left() {
    let mut window = retrying(8);
    window.take_all(0..2);
    for _ in 0..20 {
        assert_eq!(window.send(), [0, 1]);
        assert_eq!(window.end(Err(Status::unavailable("away")), 0), UNNAMED);
    }
    assert_eq!(
        window.results(),
        [],
        "a server that is not there costs no tries"
    );

    // Two faults each, and it is sent alone; the third is the last.
    window.send();
    window.end(Err(Status::unavailable("")), 2);
    window.nothing_is_there();
    assert_eq!(window.send(), [0, 1], "the first fault need not be its own");
    window.end(Err(Status::unavailable("")), 2);
    window.nothing_is_there();
    assert_eq!(
        window.send(),
        [1],
        "the second time it rests, and the other goes on"
    );
    window.answer_ok();
    window.end(Ok(()), 1);
    assert_eq!(window.after(2), [0]);
    window.end(Err(Status::unavailable("")), 1);
    window.nothing_is_there();
    let unknown = Err(ErrorKind::OutcomeUnknown);
    assert_eq!(window.results(), [(0, 3, unknown), (1, 3, Ok("stored"))]);
}

#[test]
fn an_item_at_which_the_server_failed_comes_behind_the_others() {
    let mut window = retrying(8);
    window.take_all(0..3);
    window.send();
    assert_eq!(
        window.end(Err(Status::internal("no")), 3),
        Report::FailedAtItem
    );
    window.nothing_is_there();
    assert_eq!(window.send(), [1, 2]);
    assert!(window.after(1).is_empty(), "nothing has succeeded since");
    window.answer_ok();
    assert_eq!(window.send(), [0]);
    window.take(3, 1);
    assert_eq!(window.send(), [3], "it has failed once only");
    window.answer_ok();
    window.end(Err(Status::internal("no")), 4);
    window.nothing_is_there();
    assert_eq!(window.after(2), [3], "an item that has not failed is first");
    window.answer_ok();
    assert_eq!(window.send(), [0]);
    window.take(4, 1);
    assert!(window.send().is_empty(), "nothing goes behind it");
    window.end(Err(Status::internal("no")), 2);
    window.nothing_is_there();
    let results: Vec<_> = window.results().into_iter().map(|r| (r.0, r.2)).collect();
    let ok = Ok("stored");
    let internal = Err(ErrorKind::ServerFailed);
    assert_eq!(results, [(0, internal), (1, ok), (2, ok), (3, ok)]);
}

#[test]
fn an_item_that_fails_while_nothing_succeeds_is_not_charged_for_it() {
    let mut window = retrying(8);
    window.take_all(0..2);
    window.send();
    window.answer_ok();
    for _ in 0..20 {
        window.end(Err(Status::internal("no")), 2);
        window.nothing_is_there();
        assert_eq!(window.after(9), [1], "there is nothing else to try");
    }
    window.answer_ok();
    assert_eq!(
        window.results(),
        [(0, 1, Ok("stored")), (1, 21, Ok("stored"))]
    );
}

#[test]
fn an_answer_of_the_canary_proves_the_fault_of_what_fails_behind_it() {
    let mut window = retrying(8);
    window.take_all(0..2);
    window.send();
    window.answer_ok();
    window.end(Err(Status::internal("no")), 2);
    window.nothing_is_there();
    window.wake(later(9).unwrap());
    for last in [false, true] {
        assert!(window.is_stuck());
        window.flight.carry_canary();
        assert_eq!(window.send(), [1], "it is sent behind the canary");
        window.answer_ok();
        window.end(Err(Status::internal("no")), 2);
        window.nothing_is_there();
        window.wake(later(9).unwrap());
        assert_eq!(window.is_stuck(), !last);
    }
    let results = window.results();
    assert_eq!(results[1], (1, 3, Err(ErrorKind::ServerFailed)));
}

#[test]
fn only_what_is_written_proves_the_fault_of_what_cannot_be_written() {
    let full = || {
        let words =
            "failed to push record to store: write /store/ingest/a: no space left on device";
        Err(Status::internal(words))
    };
    let mut window = retrying(8);
    window.take_all(0..2);
    window.send();
    window.answer_ok();
    window.end(full(), 2);
    window.nothing_is_there();
    for _ in 0..9 {
        window.wake(later(20).unwrap());
        window.flight.carry_canary();
        assert_eq!(window.send(), [1], "it is sent behind the canary");
        window.answer_ok();
        window.end(full(), 2);
        window.nothing_is_there();
    }
    assert_eq!(
        window.results(),
        [(0, 1, Ok("stored"))],
        "it may be written yet"
    );
    for index in 2..4 {
        window.take(index, 1);
        assert_eq!(window.send(), [index]);
        window.answer_ok();
        window.end(Ok(()), 1);
        window.wake(later(20).unwrap());
        assert_eq!(window.send(), [1]);
        window.end(full(), 1);
        window.nothing_is_there();
    }
    let results = window.results();
    let last = (1, 12, Err(ErrorKind::ServerFailed));
    assert_eq!(results[0], last, "three of its tries count, as ever");
}

#[test]
fn a_canary_that_fails_is_an_outage_and_nobodys_fault() {
    let mut window = retrying(8);
    window.take(0, 1);
    window.flight.carry_canary();
    assert_eq!(window.send(), [0]);
    assert_eq!(window.end(Err(Status::internal("no")), 2), NAMED);
    assert_eq!(window.send(), [0], "it has not been looked at");
    window.answer_ok();
    assert_eq!(window.results(), [(0, 2, Ok("stored"))]);
}

#[test]
fn answers_count_in_the_windows_bytes_and_the_next_are_expected_to_be_as_long() {
    let mut window = with(Rules {
        items: 100,
        bytes: 1000,
        answer_len: 100,
        lost_answer: LostAnswer::AskAgain,
        retries: true,
        max_attempts: 3,
        ..PUSH
    });
    for item in 0..20 {
        window.take(item, 0);
    }
    assert_eq!(window.send().len(), 10, "ten answers of a hundred bytes");
    let answer = |window: &mut TestWindow| {
        let TestWindow { window, flight, .. } = window;
        window.answer(flight, |_| Judged::Outcome(Ok("record")), |_| 300);
    };
    answer(&mut window);
    assert_eq!(window.results().len(), 1);
    assert_eq!(window.send(), [] as [u64; 0], "nine more are under way");
    assert!(!window.has_room());
    for _ in 1..=9 {
        answer(&mut window);
    }
    assert_eq!(window.results().len(), 9);
    assert_eq!(window.send().len(), 3, "they are three times as long");

    // Results that wait for the first take room, and the first is asked for all the same.
    for _ in 0..2 {
        window.end(Err(Status::unavailable("")), usize::MAX);
        window.send();
    }
    assert_eq!(window.results().len(), 0);
    for item in [11, 12, 13] {
        assert_eq!(window.flight.next(), Some(item), "10 rests");
        answer(&mut window);
    }
    assert!(window.send().is_empty(), "900 bytes wait for 10");
    window.end(Ok(()), usize::MAX);
    assert_eq!(window.after(2), [10]);
    answer(&mut window);
    window.end(Ok(()), usize::MAX);
    assert_eq!(window.results().len(), 4);
    assert_eq!(window.send().len(), 3);
}

#[test]
fn a_probe_takes_what_has_failed_least() {
    let mut window = retrying(8);
    window.take_all(0..3);
    window.send();
    window.end(Err(Status::unavailable("")), 3);
    window.nothing_is_there();
    let mut probe = window.window.launch(true);
    assert_eq!(
        window.window.send_next(&mut probe),
        Some(&2),
        "the last of them"
    );
    assert_eq!(window.window.send_next(&mut probe), None, "one is enough");
}

#[test]
fn a_lookup_that_breaks_is_bounded_and_leaves_the_item_unknown() {
    let mut window = retrying(8);
    window.take(0, 1);
    window.send();
    window.end(Err(Status::unavailable("gone")), 1);
    for _ in 0..3 {
        let (asked, flight) = window.look_up();
        assert_eq!(asked, [0]);
        assert_eq!(
            window.look_up_ended(&flight, Status::unavailable("")),
            UNNAMED
        );
    }
    assert!(!window.has_doubt());
    assert_eq!(window.send(), [0], "sending it again does no harm");
    window.fail_unanswered("enough", None);
    assert_eq!(window.results(), [(0, 2, Err(ErrorKind::OutcomeUnknown))]);
}

#[test]
fn a_server_that_lets_nobody_look_up_is_not_asked_twice() {
    let mut window = retrying(8);
    window.take_all(0..2);
    window.send();
    window.end(Err(Status::unavailable("gone")), 2);
    let (_, flight) = window.look_up();
    window.look_up_ended(&flight, Status::permission_denied("no"));
    assert_eq!(window.send(), [0, 1]);
    window.end(Err(Status::unavailable("gone")), 2);
    assert!(!window.has_doubt());
}

#[test]
fn a_refused_lookup_settles_all_that_is_in_doubt() {
    let mut window = retrying(8);
    window.take_all(0..1);
    window.send();
    window.end(Err(Status::unavailable("gone")), 1);
    let (asked, flight) = window.look_up();
    assert_eq!(asked, [0]);
    // Another is in doubt by now.
    window.take(1, 1);
    assert_eq!(window.send(), [1]);
    window.end(Err(Status::unavailable("gone")), 1);
    assert!(window.has_doubt());
    window.look_up_ended(&flight, Status::permission_denied("no"));
    assert!(!window.has_doubt());
    assert_eq!(window.send(), [0, 1]);
}

#[test]
fn an_answer_of_a_lookup_says_nothing_of_how_long_calls_live() {
    let one = 1;
    let mut window = with(Rules {
        items: 1_000,
        depth: (one, 1_000),
        retries: true,
        max_attempts: 3,
        ..PUSH
    });
    window.take_all(0..200);
    let depth = window.depth();
    for _ in 0..depth {
        let TestWindow { window, flight, .. } = &mut window;
        window.send_next(flight);
    }
    window.end(Err(Status::unavailable("gone")), depth);
    let (asked, mut flight) = window.look_up();
    assert_eq!(asked.len(), depth);
    for _ in 0..depth {
        window.found(&mut flight);
    }
    assert_eq!(window.depth(), depth);
}

#[test]
fn a_refusal_behind_a_lost_try_that_was_never_looked_up_settles_nothing() {
    let mut window = retrying(8);
    window.take(0, 1);
    window.send();
    window.end(Err(Status::unavailable("gone")), 1);
    let (_, flight) = window.look_up();
    window.look_up_ended(&flight, Status::permission_denied("no"));
    assert_eq!(window.send(), [0]);
    window.end(Err(Status::invalid_argument("no")), 1);
    assert_eq!(window.results(), [(0, 2, Err(ErrorKind::OutcomeUnknown))]);
}

#[test]
fn an_item_that_was_given_up_is_not_mistaken_for_the_one_behind_it() {
    let second = Duration::from_secs(1);
    let at = |seconds| Waited::of(seconds * second);
    let mut window = retrying(8);
    window.note_time(at(0));
    window.take_all(0..2);
    window.note_time(at(5));
    window.take_all(2..4);
    window.send();
    assert_eq!(window.expires_at(10 * second), Some(at(10)));
    window.expire(at(10), 10 * second, None);
    let unknown = Err(ErrorKind::OutcomeUnknown);
    assert_eq!(window.results(), [(0, 1, unknown), (1, 1, unknown)]);
    // The late answer is of item 0, and the refusal of item 1.
    window.answer_ok();
    assert_eq!(
        window.end(Err(Status::invalid_argument("no")), 4),
        Report::Alive
    );
    assert_eq!(window.results(), []);
    assert_eq!(window.send(), [2, 3]);
    assert_eq!(window.expires_at(10 * second), Some(at(15)));
}

#[test]
fn polls_that_take_nothing_leave_no_marks() {
    let second = Duration::from_secs(1);
    let at = |seconds| Waited::of(seconds * second);
    let mut window = retrying(8);
    for time in 0..100 {
        window.note_time(at(time));
    }
    window.take(0, 1);
    for time in 100..200 {
        window.note_time(at(time));
    }
    window.take(1, 1);
    assert_eq!(window.taken_at.len(), 2);
    assert_eq!(window.expires_at(second), Some(at(100)));
    window.expire(at(100), second, None);
    assert_eq!(window.results(), [(0, 0, Err(ErrorKind::NotSent))]);
    assert_eq!(window.expires_at(second), Some(at(200)));
}

#[test]
fn what_the_transport_has_not_taken_is_withdrawn() {
    let mut window = retrying(8);
    window.take_all(0..4);
    window.send();
    window.answer_ok();
    let TestWindow {
        window: inner,
        flight,
        ..
    } = &mut window;
    inner.withdraw(flight, 2);
    window.fail_unanswered("enough", None);
    let (unknown, not_sent) = (Err(ErrorKind::OutcomeUnknown), Err(ErrorKind::NotSent));
    let kinds: Vec<_> = window.results().into_iter().map(|r| (r.1, r.2)).collect();
    assert_eq!(
        kinds,
        [
            (1, Ok("stored")),
            (1, unknown),
            (0, not_sent),
            (0, not_sent)
        ]
    );
}

#[test]
fn what_is_given_up_says_what_is_known_of_it() {
    let mut window = retrying(8);
    window.take_all(0..3);
    window.send();
    window.end(Err(Status::internal("no")), 2);
    // 0 failed in the server's own words and is looked up, 1 was behind it, 2 never left.
    window.nothing_is_there();
    assert_eq!(window.send(), [1, 2]);
    window.end(Err(Status::unavailable("gone")), 1);
    window.take(3, 1);
    window.fail_unanswered("enough", None);
    let kinds: Vec<_> = window.results().into_iter().map(|r| (r.1, r.2)).collect();
    assert_eq!(
        kinds,
        [
            (1, Err(ErrorKind::Unavailable)),
            (2, Err(ErrorKind::OutcomeUnknown)),
            (0, Err(ErrorKind::NotSent)),
            (0, Err(ErrorKind::NotSent)),
        ]
    );
    assert!(!window.has_unsent() && !window.has_doubt());
}

#[test]
fn when_all_is_refused_what_may_have_landed_says_so() {
    let mut window = retrying(8);
    window.take_all(0..2);
    window.send();
    window.end(Err(Status::unavailable("gone")), 1);
    assert_eq!(window.send(), [1]);
    window.end(Err(Status::unauthenticated("expired")), 1);
    window.take(2, 1);
    let kinds: Vec<_> = window.results().into_iter().map(|r| r.2).collect();
    let denied = Err(ErrorKind::Denied);
    assert_eq!(kinds, [Err(ErrorKind::OutcomeUnknown), denied, denied]);
}

#[test]
fn out_of_order_results_leave_as_they_come() {
    let mut window = with(Rules {
        items: 2,
        unordered: true,
        retries: true,
        max_attempts: 3,
        ..PUSH
    });
    window.take_all(0..2);
    window.send();
    window.end(Err(Status::internal("no")), 2);
    let mut seen = Vec::new();
    for item in 2.. {
        window.send();
        if window.flight.is_awaited() {
            window.answer_ok();
        }
        seen.extend(window.results().into_iter().map(|result| result.0));
        assert_eq!(window.handed_out_below(), 0);
        if !window.has_room() {
            break;
        }
        window.take(item, 1);
    }
    assert_eq!(seen, (1..16).collect::<Vec<_>>(), "eight windows ahead");
    window.nothing_is_there();
    window.after(1);
    window.answer_ok();
    assert_eq!(window.results().len(), 1);
    assert_eq!(window.handed_out_below(), 16);
    assert!(window.has_room());
}

#[test]
fn an_oversize_message_is_found_by_its_length() {
    let status = || Status::resource_exhausted("received message larger than max (70 vs. 50)");
    for words in [
        "received message larger than max (70 vs. 50)",
        // Compressed.
        "received message larger than max (55 vs. 50)",
        "received message after decompression larger than max 50",
        "message after decompression larger than max (70 vs. 50)",
    ] {
        let mut window = retrying(8);
        window.take_all(0..3);
        window.send();
        assert_eq!(
            window.end(Err(Status::resource_exhausted(words)), 3),
            Report::Alive
        );
        let (asked, mut flight) = window.look_up();
        assert_eq!(asked, [0], "its answer may have been lost");
        window.found(&mut flight);
        assert_eq!(window.send(), [2]);
        let results = window.results();
        assert_eq!(
            results,
            [(0, 1, Ok("found")), (1, 1, Err(ErrorKind::Rejected))]
        );
    }

    // Nobody is so long: then it is nobody's.
    let mut window = retrying(8);
    window.take_all(0..1);
    window.send();
    assert_eq!(window.end(Err(status()), 1), UNNAMED);
    assert_eq!(window.results(), []);
}

/// The CID of a digest that begins with this number, behind which all are the same.
fn cid(number: u32) -> Cid {
    let mut digest = [7; 32];
    // Two in a row begin in the same way, and are not the same.
    digest[..4].copy_from_slice(&(number / 2).to_be_bytes());
    digest[31] = u8::from(number.is_multiple_of(2));
    Cid::from_digest(digest)
}

/// Entries that are the same if their last three digits are: what they are the same as.
fn with_duplicates(retries: bool) -> TestWindow {
    static CIDS: LazyLock<Vec<Cid>> = LazyLock::new(|| (0..1_000_u32).map(cid).collect());
    with(Rules {
        items: 1_000_000,
        retries,
        max_attempts: if retries { 3 } else { 1 },
        dedup: Some(|entry| CIDS.get(usize::try_from(*entry % 1_000).ok()?)),
        ..PUSH
    })
}

/// What is handed out: the entry, whether it is a success, and whose outcome it is.
fn handed_out(window: &mut TestWindow) -> Vec<(u64, bool, Option<u64>)> {
    let settled = std::iter::from_fn(|| window.pop());
    settled
        .map(|item| (item.entry, item.outcome.is_ok(), item.duplicate_of))
        .collect()
}

#[test]
fn those_that_are_the_same_have_one_outcome() {
    let mut window = with_duplicates(true);
    for entry in [1, 2, 1_001, 2_001, 3] {
        window.take(entry, 1);
    }
    assert_eq!(window.send(), [1, 2, 3]);
    assert!(window.answer(Ok("done")));
    assert_eq!(handed_out(&mut window), [(1, true, None)]);
    // The first has gone, and others that have its outcome are there.
    window.take(3_001, 1);
    assert!(window.send().is_empty());
    assert!(window.answer(Err(Error::new(ErrorKind::Rejected, "no"))));
    window.take(1_002, 1);
    assert_eq!(
        handed_out(&mut window),
        [
            (2, false, None),
            (1_001, true, Some(0)),
            (2_001, true, Some(0))
        ]
    );
    assert!(window.answer(Ok("done")));
    assert_eq!(
        handed_out(&mut window),
        [
            (3, true, None),
            (3_001, true, Some(0)),
            (1_002, false, Some(1))
        ]
    );
    // All have gone.
    window.take(4_001, 1);
    assert_eq!(window.send(), [4_001]);
    assert!(window.answer(Ok("done")));
    assert_eq!(handed_out(&mut window), [(4_001, true, None)]);
    assert!(window.is_empty());
}

#[test]
fn when_the_first_is_given_up_the_next_is_tried_and_the_others_wait_for_that() {
    let mut window = with_duplicates(true);
    let times = [0, 10, 20].map(|seconds| Waited::of(Duration::from_secs(seconds)));
    for (entry, time) in [1, 1_001, 2_001].into_iter().zip(times) {
        window.note_time(time);
        window.take(entry, 1);
    }
    assert_eq!(window.send(), [1]);
    let limit = Duration::from_secs(15);
    window.expire(times[1], limit, None);
    assert!(handed_out(&mut window).is_empty());
    window.expire(Waited::of(limit), limit, None);
    assert_eq!(handed_out(&mut window), [(1, false, None)]);
    assert_eq!(window.send(), [1_001]);
    // The answer to the one that was given up is still its own.
    assert!(window.answer(Ok("late")));
    assert!(handed_out(&mut window).is_empty());
    assert!(window.answer(Ok("done")));
    assert_eq!(
        handed_out(&mut window),
        [(1_001, true, None), (2_001, true, Some(1))]
    );
}

#[test]
fn a_window_of_one_record_is_settled_and_given_up_without_deep_calls() {
    const COUNT: u64 = 50_000;
    for is_given_up in [false, true] {
        let mut window = with_duplicates(true);
        for place in 0..COUNT {
            window.take(place * 1_000, 1);
        }
        assert_eq!(window.send(), [0]);
        if is_given_up {
            window.fail_unanswered("drained", None);
        } else {
            assert!(window.answer(Ok("done")));
        }
        let handed_out = handed_out(&mut window);
        assert_eq!(handed_out.len() as u64, COUNT);
        assert!(handed_out.iter().all(|(_, is_ok, _)| *is_ok != is_given_up));
    }
}
