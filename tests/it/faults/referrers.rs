//! Referrers under the same faults.

use agntcy_dir_stream::Referrer;

use super::*;
use crate::support::records::from_json;

/// What is pushed for this number, or is there before. Those of the same number are the same.
fn referrer(of: Cid, number: usize) -> Referrer {
    let data = from_json(serde_json::json!({"number": number}));
    Referrer::new(of, Referrer::PUBLIC_KEY, data)
}

impl Case {
    /// The record that an item is about, or nothing.
    fn named(&self, number: usize) -> Cid {
        match self.item(number) {
            Item::Invalid => cid(&record(self.first(number))),
            _ => cid(&self.record(number)),
        }
    }

    fn pushed(&self, number: usize) -> Referrer {
        let mut referrer = referrer(self.named(number), self.first(number));
        if self.item(number) == Item::Invalid {
            referrer.referrer_type.clear();
        }
        referrer
    }

    /// How many of this record are there before.
    fn count(&self, number: usize) -> usize {
        match self.item(number) {
            Item::Good | Item::Stored => self.first(number) % 3,
            _ => 0,
        }
    }

    /// A store with referrers of its records.
    fn store_with_referrers(&self) -> Store {
        let store = self.store(false);
        for number in 0..self.items.len() {
            for one in 0..self.count(number) {
                let one = referrer(self.named(number), one);
                store.insert_referrer(&one).unwrap();
            }
        }
        store
    }

    /// The same without what cannot be told from a true answer: an end without a word, and answers that are
    /// made up.
    fn without_lies(mut self) -> Self {
        self.faults
            .retain(|fault| !fault.lies() && !matches!(fault.what, What::End));
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..cases(500) })]

    #[test]
    fn every_referrer_that_is_pushed_has_a_true_result(case in case()) {
        on_paused_clock(async {
            let (store, client) = case.stage(false);
            let results = Box::pin(case.input(|number| case.pushed(number)))
                .push_referrers_to_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |pushed| (pushed.index, pushed.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::PushReferrer);
            let others: Vec<_> = seen
                .iter()
                .map(|(_, number, _)| {
                    let mut same = seen.iter().filter(|(_, other, _)| case.is_same(*number, *other));
                    same.any(|(_, _, result)| matches!(result, Ok(_) | Err((ErrorKind::OutcomeUnknown, _))))
                })
                .collect();
            for ((_, number, result), other_may_be_there) in seen.into_iter().zip(others) {
                let pushed = case.pushed(number);
                let is_there = store.referrers(&pushed.record).iter().any(|one| one.data == pushed.data);
                match result {
                    // Before the server has shown how it names referrers, an answer too many looks like the next.
                    Ok(_) if case.has(Planned::is_out_of_step) => {}
                    Ok(success) => {
                        assert!(is_there, "{number} was acknowledged");
                        assert_eq!(success.record, pushed.record);
                        if success.already_stored && !other_may_be_there {
                            assert!(!case.faults.is_empty(), "no answer was lost");
                        }
                    }
                    Err(_) if case.has(Planned::is_out_of_step) => {}
                    Err((ErrorKind::NotFound, _)) => assert_eq!(case.item(number), Item::Bad),
                    Err((ErrorKind::Mismatch, _)) => assert!(case.has(Planned::lies)),
                    Err((ErrorKind::OutcomeUnknown, attempts)) => assert!(attempts > 0 && !case.faults.is_empty()),
                    Err((ErrorKind::Rejected | ErrorKind::ServerFailed, _)) => assert!(case.has(Planned::refuses)),
                    Err((kind, _)) => assert!(!is_there || other_may_be_there, "{number}: {kind}"),
                }
            }
        });
    }

    #[test]
    fn every_pull_of_referrers_is_whole_or_an_error(case in case()) {
        let case = case.without_lies();
        on_paused_clock(async {
            let store = case.store_with_referrers();
            let client = case.client_of(&store);
            let results = Box::pin(case.input(|number| case.text(number)))
                .pull_referrers_from_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |pulled| (pulled.index, pulled.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::PullReferrer);
            for (_, number, result) in seen {
                match result {
                    Ok(pulled) => {
                        let data: Vec<_> = pulled.referrers.into_iter().map(|one| one.data).collect();
                        let expected = (0..case.count(number)).map(|one| referrer(pulled.record, one).data);
                        assert_eq!(data, expected.collect::<Vec<_>>(), "{number}");
                    }
                    Err((ErrorKind::NotFound, _)) => assert_eq!(case.item(number), Item::Bad),
                    Err((kind, _)) => assert_ne!(kind, ErrorKind::OutcomeUnknown, "a read changes nothing"),
                }
            }
        });
    }

    #[test]
    fn every_delete_of_referrers_has_a_true_result(case in case()) {
        let case = case.without_lies();
        on_paused_clock(async {
            let store = case.store_with_referrers();
            let client = case.client_of(&store);
            let results = Box::pin(case.input(|number| case.text(number)))
                .delete_referrers_from_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |deleted| (deleted.index, deleted.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::DeleteReferrer);
            for (_, number, result) in seen {
                let left = store.referrers(&case.named(number)).len();
                match result {
                    Ok(deleted) => {
                        assert_eq!(left, 0, "{number} was acknowledged");
                        let told = deleted.referrers.len();
                        let is_told = told == case.count(number) || deleted.attempts > 1 || case.has_same(number);
                        assert!(is_told, "{number}: {told} were told");
                    }
                    Err((ErrorKind::NotFound, _)) => assert_eq!(case.item(number), Item::Bad),
                    Err((ErrorKind::OutcomeUnknown, attempts)) => assert!(attempts > 0 && !case.faults.is_empty()),
                    Err((ErrorKind::Rejected | ErrorKind::ServerFailed, _)) => assert!(case.has(Planned::refuses)),
                    Err((kind, _)) => assert!(left == case.count(number) || case.has_same(number), "{number}: {kind}"),
                }
            }
        });
    }
}
