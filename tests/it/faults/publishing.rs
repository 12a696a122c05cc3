//! Publishing under the same faults.

use super::*;

impl Case {
    /// A ref to a record, also where it is not there.
    fn is_stored(&self, number: usize) -> bool {
        matches!(self.item(number), Item::Good | Item::Stored)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..cases(500) })]

    #[test]
    fn what_is_queued_is_published(case in case()) {
        // A batch that ends OK has no answer, and one that is answered twice is none.
        on_paused_clock(async {
            let (store, client) = case.stage(false);
            let results = Box::pin(case.input(|number| case.text(number)))
                .publish_to_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |published| (published.index, published.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::CreatePublication);
            store.run_publications();
            for (_, number, result) in seen {
                let cid = case.record(number).cid();
                let is_published = cid.is_ok_and(|cid| store.is_published(&cid));
                match result {
                    Ok(_) => assert_eq!(is_published, case.is_stored(number), "{number} was queued"),
                    Err((ErrorKind::OutcomeUnknown, attempts)) => {
                        assert!(attempts > 0 || case.has_same(number));
                        assert!(!case.faults.is_empty());
                    },
                    Err((ErrorKind::NotSent, _)) => assert!(!is_published || case.has_same(number), "{number}"),
                    Err(_) => {}
                }
            }
        });
    }

    #[test]
    fn what_is_unpublished_is_not_published(case in case()) {
        // A batch that is passed over looks like any other.
        let lies = |fault: &Planned| fault.lies() || matches!(fault.what, What::End);
        let case = Case {
            faults: case.faults.into_iter().filter(|fault| !lies(fault)).collect(),
            ..case
        };
        on_paused_clock(async {
            let store = case.store(false);
            let stored = (0..case.items.len()).filter(|number| case.is_stored(*number));
            let stored: Vec<_> = stored.map(|number| cid(&case.record(number))).collect();
            let published = stream::iter(stored).publish_to(&store.client()).finish().await;
            assert_eq!(published.stats.failed, 0);
            store.run_publications();

            let client = case.client_of(&store);
            let results = Box::pin(case.input(|number| case.text(number)))
                .unpublish_from_with(&client, &case.options());
            let handle = results.handle();
            let mut seen = run(&case, results, |unpublished| (unpublished.index, unpublished.tag)).await;
            check(&case, &mut seen, &handle.stats(), &store, Method::Unpublish);
            for (_, number, result) in seen {
                let cid = case.record(number).cid();
                let is_published = cid.is_ok_and(|cid| store.is_published(&cid));
                match result {
                    Ok(_) => assert!(!is_published, "{number} was acknowledged"),
                    Err((ErrorKind::NotFound, _)) => assert_eq!(case.item(number), Item::Bad),
                    Err((ErrorKind::OutcomeUnknown, attempts)) => {
                        assert!(attempts > 0 || case.has_same(number));
                        assert!(!case.faults.is_empty());
                    },
                    Err((ErrorKind::NotSent, _)) => {
                        assert!(is_published == case.is_stored(number) || case.has_same(number), "{number}");
                    }
                    Err(_) => {}
                }
            }
        });
    }
}
