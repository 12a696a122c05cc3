//! Signing as a stage: signers that make nothing, much, what is refused, or never end, and inputs that fail.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::rc::Rc;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use agntcy_dir_stream::{CircuitBreaker, ErrorKind, Pushed, Referrer, SignFailed, Signed, Status};
use futures::{FutureExt, Stream, StreamExt, stream};

use crate::support::clock::{SECOND, in_a_week, soon};
use crate::support::peer::{next_call, scripted};
use crate::support::polling::assert_pending;
use crate::support::records::{cid, record};
use crate::support::stores::store_with;

type Failed = &'static str;
type SignedOr<E> = Result<Signed, SignFailed<(), Failed, E>>;

fn pushed(number: usize) -> Pushed {
    Pushed::new(number as u64, cid(&record(number)))
}

fn referrer(of: Cid, number: usize) -> Referrer {
    let data = serde_json::json!({"number": number}).try_into().unwrap();
    Referrer::new(of, Referrer::SIGNATURE, data)
}

/// A signer that makes so many for each record, by its number.
fn signer(
    many: impl Fn(u64) -> usize,
) -> impl FnMut(&Pushed) -> std::future::Ready<Result<Vec<Referrer>, Infallible>> {
    move |pushed| {
        let (cid, many) = (pushed.cid, many(pushed.index));
        ready(Ok((0..many).map(|number| referrer(cid, number)).collect()))
    }
}

/// What became of each record: its number, and how many referrers it has.
fn fates<E>(results: &[SignedOr<E>]) -> Vec<(u64, usize)> {
    let fate = |result: &SignedOr<E>| match result {
        Ok(signed) => (signed.pushed.index, signed.referrers.len()),
        Err(SignFailed::NotAttached { pushed, referrers }) => (pushed.index, referrers.len()),
        Err(SignFailed::NotSigned { pushed, .. }) => (pushed.index, 0),
        Err(_) => (u64::MAX, 0),
    };
    results.iter().map(fate).collect()
}

/// A referrer that is refused before it is sent has its result while those before it have not been handed out.
#[tokio::test]
async fn a_referrer_that_is_invalid_is_its_own_records() {
    let (store, _) = store_with(3);
    let client = store.client();
    let input = stream::iter([Err("refused"), Ok(pushed(0)), Ok(pushed(1))]);
    let sign = |pushed: &Pushed| {
        let cid = pushed.cid;
        ready(Ok::<_, Infallible>(match pushed.index {
            0 => Vec::new(),
            _ => vec![Referrer::new(cid, "none of DIR's", Record::default())],
        }))
    };
    let results: Vec<_> = soon(input.sign_with(&client, sign).collect()).await;
    assert_eq!(results.len(), 3);
    assert!(matches!(results[0], Err(SignFailed::NotPushed("refused"))));
    assert!(matches!(&results[1], Ok(signed) if signed.referrers.is_empty()));
    let Err(SignFailed::NotAttached { pushed, referrers }) = &results[2] else {
        panic!("a referrer that is invalid is attached");
    };
    assert_eq!((pushed.index, referrers.len()), (1, 1));
    assert_eq!(
        referrers[0].as_ref().unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

/// From the refusal on, each referrer has its error at once.
#[tokio::test(start_paused = true)]
async fn each_record_has_its_result_where_the_server_refuses_the_caller() {
    let (store, _) = store_with(100);
    store.inject(Fault::status(Status::permission_denied("not you")).times(u64::MAX));
    let client = store.client();
    let input = stream::iter((0..100).map(|number| match number % 3 {
        0 => Err("refused"),
        _ => Ok(pushed(number)),
    }));
    let sign = signer(|number| number as usize % 2);
    let options = Options::new().window(4);
    let signed = input.sign_with_options(&client, &options, 2, sign);
    let results: Vec<_> = in_a_week(signed.collect()).await;
    assert_eq!(results.len(), 100);
    for (number, result) in results.iter().enumerate() {
        match result {
            Err(SignFailed::NotPushed(_)) => assert_eq!(number % 3, 0),
            Ok(signed) => assert!(signed.pushed.index == number as u64 && number % 2 == 0),
            Err(SignFailed::NotAttached { pushed, referrers }) => {
                assert_eq!((pushed.index, referrers.len()), (number as u64, 1));
            }
            Err(_) => panic!("no signer fails"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_record_has_its_result_where_the_circuit_is_given_up() {
    let (store, _) = store_with(100);
    store.inject(Fault::status(Status::unavailable("away")).times(u64::MAX));
    let breaker = CircuitBreaker::new()
        .threshold(1)
        .give_up_after(Some(SECOND));
    let client = store.client().with_breaker(breaker);
    let input = stream::iter((0..100).map(|number| match number % 3 {
        0 => Err("refused"),
        _ => Ok(pushed(number)),
    }));
    let sign = signer(|number| number as usize % 2);
    let options = Options::new().window(10);
    let results: Vec<_> = in_a_week(
        input
            .sign_with_options(&client, &options, 2, sign)
            .collect(),
    )
    .await;
    assert_eq!(results.len(), 100);
    let attached = results
        .iter()
        .flatten()
        .filter(|signed| !signed.referrers.is_empty());
    assert_eq!(attached.count(), 0);
}

#[tokio::test]
async fn records_with_none_few_and_many_referrers_keep_their_order() {
    for (window, signers) in [(1, 1), (1, 8), (7, 3), (1_024, 8)] {
        let (store, _) = store_with(12);
        let client = store.client();
        let many = |number: u64| [0, 1, 0, 0, 40, 3][number as usize % 6];
        let options = Options::new().window(window);
        let input = stream::iter((0..12).map(|number| Ok::<_, Failed>(pushed(number))));
        let signed = input.sign_with_options(&client, &options, signers, signer(many));
        let results: Vec<_> = soon(signed.collect()).await;
        let expected: Vec<_> = (0..12).map(|number| (number, many(number))).collect();
        assert_eq!(fates(&results), expected);
        for signed in results.into_iter().flatten() {
            let indexes = signed.referrers.iter().map(|one| one.index);
            assert!(indexes.eq(0..signed.referrers.len() as u64));
            assert!(
                signed
                    .referrers
                    .iter()
                    .all(|one| one.record == signed.pushed.cid)
            );
        }
    }
}

#[tokio::test]
async fn ten_thousand_referrers_of_a_record_are_its_own() {
    let (store, _) = store_with(3);
    let client = store.client();
    let input = stream::iter((0..3).map(|number| Ok::<_, Failed>(pushed(number))));
    let signed = input.sign_with(
        &client,
        signer(|number| if number == 1 { 10_000 } else { 1 }),
    );
    let results: Vec<_> = soon(signed.collect()).await;
    assert_eq!(fates(&results), [(0, 1), (1, 10_000), (2, 1)]);
}

/// Results are handed out while the input has nothing, and each time the caller goes away and comes back.
#[tokio::test]
async fn nothing_waits_for_an_input_that_is_pending() {
    let (store, _) = store_with(2);
    let client = store.client();
    let (sender, input) = futures::channel::mpsc::unbounded::<Result<Pushed, Failed>>();
    let signed = input.sign_with(&client, signer(|number| number as usize));
    let mut signed = std::pin::pin!(signed);
    for number in 0..2 {
        assert!(signed.next().now_or_never().is_none());
        sender.unbounded_send(Ok(pushed(number))).unwrap();
        let one = soon(signed.next()).await.unwrap().unwrap();
        assert_eq!(
            (one.pushed.index, one.referrers.len()),
            (number as u64, number)
        );
        sender.unbounded_send(Err("refused")).unwrap();
        let failed = soon(signed.next()).await.unwrap();
        assert!(matches!(failed, Err(SignFailed::NotPushed(_))));
    }
    drop(sender);
    assert!(soon(signed.next()).await.is_none());
}

/// A `next()` that is dropped at each turn loses nothing.
#[tokio::test]
async fn a_caller_that_never_waits_for_long_misses_nothing() {
    let (store, _) = store_with(50);
    let client = store.client();
    let input = stream::iter((0..50).map(|number| Ok::<_, Failed>(pushed(number))));
    let options = Options::new().window(3);
    let signed =
        input.sign_with_options(&client, &options, 2, signer(|number| number as usize % 4));
    let mut signed = std::pin::pin!(signed);
    let mut results = Vec::new();
    soon(async {
        loop {
            match signed.next().now_or_never() {
                Some(Some(result)) => results.push(result),
                Some(None) => break,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let expected: Vec<_> = (0..50)
        .map(|number| (number, number as usize % 4))
        .collect();
    assert_eq!(fates(&results), expected);
}

/// An input, how much of it was taken, and how often it was asked.
fn counted(fails: bool) -> (Rc<Cell<usize>>, impl Stream<Item = Result<Pushed, Failed>>) {
    let taken = Rc::new(Cell::new(0));
    let counter = Rc::clone(&taken);
    let input = stream::repeat_with(move || {
        counter.set(counter.get() + 1);
        match fails {
            true => Err("refused"),
            false => Ok(pushed(0)),
        }
    });
    (taken, input)
}

#[tokio::test]
async fn an_input_that_fails_without_end_is_taken_no_further_than_a_window_ahead() {
    let client = Store::new().client();
    let (taken, input) = counted(true);
    let signed = input.sign_with(&client, signer(|_| 0));
    let mut signed = std::pin::pin!(signed);
    for seen in 1..=100_000 {
        assert!(soon(signed.next()).await.unwrap().is_err());
        assert!(
            taken.get() <= seen + Options::DEFAULT_WINDOW + 8,
            "{}",
            taken.get()
        );
    }
}

/// A large window is no reason to keep the task's other work waiting.
#[tokio::test]
async fn an_input_that_fails_without_end_gives_way() {
    let client = Store::new().client();
    let (taken, input) = counted(true);
    let options = Options::new().window(1_000_000);
    let mut signed = Box::pin(input.sign_with_options(&client, &options, 8, signer(|_| 0)));
    let _ = crate::support::polling::poll(&mut signed);
    assert!(taken.get() <= 10_000, "{} in one poll", taken.get());
}

#[tokio::test(start_paused = true)]
async fn behind_a_signer_that_never_ends_no_more_is_taken_than_signers_work_on() {
    let client = Store::new().client();
    let (taken, input) = counted(false);
    let sign = |_: &Pushed| pending::<Result<[Referrer; 0], Infallible>>();
    let mut signed = Box::pin(input.sign_with(&client, sign));
    for _ in 0..1_000 {
        assert_pending(&mut signed);
    }
    assert_eq!(taken.get(), 8);
}

/// Records without referrers stand behind one whose answer does not come.
#[tokio::test(start_paused = true)]
async fn behind_a_referrer_that_has_no_answer_no_more_than_a_window_of_records_waits() {
    let (client, peer) = scripted();
    let taken = Rc::new(Cell::new(0));
    let counter = Rc::clone(&taken);
    let input = stream::repeat_with(move || {
        counter.set(counter.get() + 1);
        Ok::<_, Failed>(pushed(counter.get() - 1))
    });
    let options = Options::new().window(20);
    let sign = signer(|number| usize::from(number == 0));
    let mut signed = Box::pin(input.sign_with_options(&client, &options, 4, sign));
    let _call = next_call(&mut signed, &peer).await;
    for _ in 0..1_000 {
        assert_pending(&mut signed);
    }
    assert!(taken.get() <= 20 + 4, "{}", taken.get());
}

#[tokio::test]
async fn a_signer_that_fails_fails_its_record_alone() {
    let (store, _) = store_with(3);
    let client = store.client();
    let input = stream::iter((0..3).map(|number| Ok::<_, Failed>(pushed(number))));
    let sign = |pushed: &Pushed| {
        ready(match pushed.index {
            1 => Err("no key"),
            _ => Ok([referrer(pushed.cid, 0)]),
        })
    };
    let results: Vec<_> = soon(input.sign_with(&client, sign).collect()).await;
    assert_eq!(fates(&results), [(0, 1), (1, 0), (2, 1)]);
    assert!(matches!(
        &results[1],
        Err(SignFailed::NotSigned {
            error: "no key",
            ..
        })
    ));
}

/// What a signer drops when it is dropped itself.
struct Dropped(Rc<Cell<usize>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_in_the_middle_drops_the_signers_and_resets_the_call() {
    let (client, peer) = scripted();
    let dropped = Rc::new(Cell::new(0));
    let input =
        stream::iter((0..4).map(|number| Ok::<_, Failed>(pushed(number)))).chain(stream::pending());
    let sign = |pushed: &Pushed| {
        let (at_work, cid, index) = (Dropped(Rc::clone(&dropped)), pushed.cid, pushed.index);
        async move {
            let _at_work = at_work;
            if index > 0 {
                pending::<()>().await;
            }
            Ok::<_, Infallible>([referrer(cid, 0)])
        }
    };
    let mut signed = Box::pin(input.sign_with(&client, sign));
    let mut call = next_call(&mut signed, &peer).await;
    assert_eq!(dropped.get(), 1);
    assert!(call.read_chunk() > 0);
    drop(signed);
    assert_eq!(dropped.get(), 4);
    assert!(call.is_reset());
}

#[tokio::test]
async fn a_signer_that_panics_passes_its_panic_on() {
    let client = Store::new().client();
    let input = stream::iter([Ok::<_, Failed>(pushed(0))]);
    let sign = |_: &Pushed| async { panic!("no key") as Result<[Referrer; 0], Infallible> };
    let signed = std::panic::AssertUnwindSafe(input.sign_with(&client, sign).collect::<Vec<_>>());
    let panic = soon(signed.catch_unwind()).await;
    let Err(panic) = panic else {
        panic!("the panic is lost");
    };
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "no key");
}

/// An outage in the middle is over before the results come.
#[tokio::test(start_paused = true)]
async fn an_outage_in_the_middle_leaves_no_record_unsigned() {
    let (store, _) = store_with(50);
    store.inject(Fault::status(Status::unavailable("away")).times(6));
    let client = store.client();
    let input = stream::iter((0..50).map(|number| Ok::<_, Failed>(pushed(number))));
    let signed = input.sign_with(&client, signer(|_| 2));
    let results: Vec<_> = in_a_week(signed.collect()).await;
    assert_eq!(
        fates(&results),
        (0..50).map(|number| (number, 2)).collect::<Vec<_>>()
    );
    assert!(results.iter().all(Result::is_ok));
}

/// It is `Send`, with borrowed options and client, in a task of its own.
#[tokio::test]
async fn signing_runs_in_a_spawned_task() {
    async fn sign_all(client: &Client, records: &[Record]) -> usize {
        let pushed = stream::iter(records.iter().cloned()).push_to(client);
        let mut signed = std::pin::pin!(pushed.sign_with(client, |pushed| {
            let cid = pushed.cid;
            async move { Ok::<_, Infallible>([referrer(cid, 0)]) }
        }));
        let mut count = 0;
        while let Some(result) = signed.next().await {
            count += usize::from(result.is_ok());
        }
        count
    }
    let client = Store::new().client();
    let task = tokio::spawn(async move {
        let records: Vec<_> = (0..5).map(record).collect();
        sign_all(&client, &records).await
    });
    assert_eq!(soon(task).await.unwrap(), 5);
}

/// The state of the stage is a few kilobytes, whatever is in it.
#[tokio::test]
async fn the_stage_is_small() {
    let client = Store::new().client();
    let input = stream::iter([Ok::<_, Failed>(pushed(0))]);
    let size = size_of_val(&input.sign_with(&client, signer(|_| 0)));
    assert!(size <= 4 << 10, "{size}");
}
