//! The embedded store searches: what release 1.2 does not know, its faults, its log.

use agntcy_dir_stream::server::{Call, End, Fault, Method, Store};
use agntcy_dir_stream::{Cid, Code, Record, Status};
use prost::Message;
use serde_json::json;

use crate::support::clock::soon;
use crate::support::foreign::{ForeignClient, assert_status};
use crate::support::records::{cid, from_json, number_of, number_with_cid, record};
use crate::support::searching::{
    ANNOTATION, AUTHOR, CREATED_AT, Count, DESCRIPTION, DOMAIN_ID, FoundCid, FoundRecord,
    IDENTITY_VERIFIED, LOCATOR, MODULE_NAME, NAME, POPULARITY, Query, RECENCY, SCAN_SAFE,
    SCAN_SEVERITY, SCAN_STATUS, SCHEMA_VERSION, SKILL_ID, SKILL_NAME, Search, TRUSTED, VERIFIED,
    VERSION,
};
use crate::support::stores::{calls_of, ended_calls, store_with};

/// An answer that nobody looks into.
#[derive(Clone, PartialEq, Message)]
struct Vague {}

/// The numbers of what is found, and how the call ended.
async fn search(foreign: &ForeignClient, search: Search) -> (Vec<usize>, Result<(), Status>) {
    let (found, end) = foreign.list(Method::SearchCids, search).await;
    let number = |found: &FoundCid| number_with_cid(&found.cid);
    (found.iter().map(number).collect(), end)
}

async fn found(foreign: &ForeignClient, asked: Search) -> Vec<usize> {
    let (found, end) = search(foreign, asked).await;
    end.unwrap();
    found
}

#[tokio::test]
async fn the_newest_come_first_page_by_page() {
    let (store, cids) = store_with(5);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let all = Search::default;
    assert_eq!(found(&foreign, all()).await, [4, 3, 2, 1, 0]);
    assert_eq!(found(&foreign, all().page(0, 2)).await, [4, 3]);
    assert_eq!(found(&foreign, all().page(2, 2)).await, [2, 1]);
    assert_eq!(found(&foreign, all().page(4, 2)).await, [0]);
    assert_eq!(found(&foreign, all().page(5, 2)).await, [0; 0]);
    assert_eq!(found(&foreign, all().page(3, 0)).await, [1, 0], "no limit");
    // A record that comes again is new, one that is there is not.
    store.remove(&cids[1]);
    store.insert(record(1)).unwrap();
    store.insert(record(2)).unwrap();
    assert_eq!(found(&foreign, all()).await, [1, 4, 3, 2, 0]);
    store.clear();
    assert_eq!(found(&foreign, all()).await, [0; 0]);
}

#[tokio::test]
async fn what_is_used_most_comes_first_if_that_is_asked_for() {
    let (store, cids) = store_with(4);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let use_ = async |method, number: usize| {
        let cid = cids[number].to_string();
        let (_, end) = foreign.refs::<Vague>(method, &[&cid]).await;
        end.unwrap();
    };
    use_(Method::Pull, 1).await;
    use_(Method::Lookup, 1).await;
    use_(Method::Lookup, 0).await;
    // No use of it by a client.
    store.get(&cids[2]).unwrap();
    for sort_mode in [POPULARITY, RECENCY] {
        let asked = Search {
            sort_mode,
            ..Search::default()
        };
        let expected = match sort_mode {
            POPULARITY => [1, 0, 3, 2],
            _ => [3, 2, 1, 0],
        };
        assert_eq!(found(&foreign, asked).await, expected);
    }
}

fn agent(number: usize) -> Record {
    from_json(json!({
        "name": format!("agent-{number}"),
        "version": format!("{number}.0"),
        "schema_version": format!("1.{number}.0"),
        "description": format!("The {number}. of all"),
        "annotations": {"team": format!("Red {number}"), "env": "prod:eu"},
        "authors": [format!("a{number}"), "all"],
        "created_at": format!("2025-0{number}"),
        "skills": [{"name": format!("s/{number}"), "id": 10 + number}, {"name": "s", "id": 1}],
        "domains": [{"name": format!("d/{number}"), "id": 20 + number}],
        "modules": [{"name": format!("m/{number}"), "id": 30 + number}],
        "locators": [{"type": "image", "urls": [format!("u{number}")]}, {"type": "source", "urls": ["all"]}],
    }))
}

#[tokio::test]
async fn release_1_2_knows_less() {
    let yes = Query::new;
    let not = Query::not;
    let rows: Vec<(Vec<Query>, &[usize])> = vec![
        (vec![yes(ANNOTATION, "team:red 1")], &[1]),
        (vec![yes(ANNOTATION, "TEAM:*2")], &[2]),
        (vec![yes(ANNOTATION, "t*:red ?")], &[1, 2, 3]),
        (vec![yes(ANNOTATION, "env:prod:eu")], &[1, 2, 3]),
        (vec![yes(ANNOTATION, "team")], &[1, 2, 3]),
        (vec![yes(ANNOTATION, "team:")], &[1, 2, 3]),
        (vec![yes(ANNOTATION, ":red 1")], &[1, 2, 3]),
        (vec![yes(ANNOTATION, "env:red*")], &[]),
        (vec![not(ANNOTATION, "team:*2")], &[1, 3]),
        (vec![yes(DESCRIPTION, "the 2*")], &[2]),
        (vec![yes(DESCRIPTION, "the 2")], &[]),
        (vec![yes(DESCRIPTION, " ")], &[1, 2, 3]),
        (vec![not(DESCRIPTION, "*2*")], &[1, 3]),
        (vec![not(NAME, "agent-2")], &[1, 3]),
        (vec![not(NAME, "agent-2"), not(NAME, "agent-3")], &[1]),
        (
            vec![yes(NAME, "*-1"), yes(NAME, "*-2"), not(NAME, "*2")],
            &[1],
        ),
        (vec![not(VERSION, ">=2")], &[1]),
        (vec![not(VERSION, ">=2"), not(VERSION, "<3")], &[1, 3]),
        (vec![not(SCHEMA_VERSION, "1.1.*")], &[2, 3]),
        (vec![not(CREATED_AT, "2025-01")], &[2, 3]),
        (vec![not(AUTHOR, "a3")], &[1, 2]),
        (vec![not(AUTHOR, "all")], &[]),
        (vec![not(SKILL_ID, "11")], &[2, 3]),
        // Not even by two skills.
        (vec![not(SKILL_ID, "11"), not(SKILL_NAME, "s/2")], &[3]),
        (vec![not(SKILL_NAME, "s")], &[]),
        (vec![yes(SKILL_NAME, "s"), not(SKILL_NAME, "s/2")], &[1, 3]),
        (vec![not(DOMAIN_ID, "21")], &[2, 3]),
        (vec![not(MODULE_NAME, "m/1")], &[2, 3]),
        (vec![not(MODULE_NAME, "")], &[1, 2, 3]),
        (vec![not(LOCATOR, "image:u1")], &[2, 3]),
        (vec![not(LOCATOR, "image:all")], &[1, 2, 3]),
        (vec![not(LOCATOR, "source")], &[]),
        (vec![not(VERIFIED, "true")], &[1, 2, 3]),
        (vec![not(TRUSTED, "false")], &[]),
        // Nothing here was ever scanned, or claimed.
        (vec![yes(SCAN_SEVERITY, "low")], &[]),
        (vec![yes(SCAN_SEVERITY, "oops")], &[1, 2, 3]),
        (vec![not(SCAN_SEVERITY, "low")], &[1, 2, 3]),
        (vec![yes(SCAN_SAFE, "true")], &[]),
        (vec![yes(SCAN_SAFE, "false")], &[]),
        (vec![yes(SCAN_STATUS, "failed")], &[]),
        (vec![not(SCAN_STATUS, "failed")], &[1, 2, 3]),
        (vec![yes(IDENTITY_VERIFIED, "true")], &[]),
    ];
    for release_1_2 in [false, true] {
        let store = Store::builder().release_1_2(release_1_2).build();
        let cids: Vec<Cid> = (1..4)
            .map(|number| store.insert(agent(number)).unwrap())
            .collect();
        let (foreign, _serving) = ForeignClient::of(&store).await;
        for (queries, expected) in &rows {
            let asked = Search::of(queries.clone());
            let (found, end) = foreign
                .list::<_, FoundCid>(Method::SearchCids, asked.clone())
                .await;
            end.unwrap();
            let place = |found: &FoundCid| cids.iter().position(|cid| cid.to_string() == found.cid);
            let mut found: Vec<_> = found
                .iter()
                .map(|found| 1 + place(found).unwrap())
                .collect();
            found.sort_unstable();
            let counted = foreign.ask::<_, Count>(Method::CountRecords, asked).await;
            if release_1_2 {
                let known = |query: &Query| query.r#type < ANNOTATION && !query.negate;
                let ignored =
                    !queries.iter().any(known) && !queries.iter().any(|query| query.negate);
                assert!(!ignored || found == [1, 2, 3], "{queries:?}: {found:?}");
                assert_eq!(counted.unwrap_err().code(), Code::Unimplemented);
            } else {
                assert_eq!(found, *expected, "{queries:?}");
                assert_eq!(
                    counted.unwrap().total as usize,
                    expected.len(),
                    "{queries:?}"
                );
            }
        }
    }
}

/// Records of no release of OASF, as tests have them.
#[tokio::test]
async fn any_version_of_the_schema_will_do() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let odd = from_json(json!({"name": "odd", "schema_version": "1", "skills": [{"name": "s"}]}));
    store.insert(odd).unwrap();
    let asked = Search::of([Query::new(SKILL_NAME, "s"), Query::new(SCHEMA_VERSION, "1")]);
    let counted: Count = foreign.ask(Method::CountRecords, asked).await.unwrap();
    assert_eq!(counted.total, 1);
}

#[tokio::test]
async fn faults_happen_at_the_answers_of_a_listing() {
    let (store, cids) = store_with(5);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let unavailable = || Fault::status(Status::unavailable("not now"));
    let all = [4, 3, 2, 1, 0];
    for (fault, expected, code) in [
        (unavailable(), &all[..0], Some(Code::Unavailable)),
        (unavailable().at(3), &all[..3], Some(Code::Unavailable)),
        // Behind the last.
        (unavailable().at(5), &all[..], Some(Code::Unavailable)),
        (
            unavailable().of(cids[1]),
            &all[..3],
            Some(Code::Unavailable),
        ),
        (Fault::end(), &all[..0], None),
        (Fault::end().at(2), &all[..2], None),
        (Fault::end().of(cids[2]), &all[..2], None),
        (Fault::spare_answer().at(1), &[4, 3, 3, 2, 1, 0][..], None),
        (
            Fault::delay(std::time::Duration::from_millis(1)).at(1),
            &all[..],
            None,
        ),
        (Fault::go_away().at(1), &all[..], None),
    ] {
        let what = format!("{fault:?}");
        store.inject(fault.on(Method::SearchCids));
        let (found, end) = search(&foreign, Search::default()).await;
        assert_eq!(found, expected, "{what}");
        assert_eq!(end.err().map(|status| status.code()), code, "{what}");
        assert!(store.pending_faults().is_empty(), "{what}");
    }
    store.inject(unavailable().at(6).on(Method::SearchCids));
    assert_eq!(found(&foreign, Search::default()).await, all);
    assert_eq!(store.pending_faults().len(), 1, "there is no such place");
}

#[tokio::test]
async fn a_listing_can_be_cut() {
    for fault in [Fault::cut().at(2), Fault::cut_after().at(2)] {
        let (store, _) = store_with(5);
        let (foreign, _serving) = ForeignClient::of(&store).await;
        store.inject(fault);
        let (found, end) = search(&foreign, Search::default()).await;
        assert_eq!(found, [4, 3]);
        assert!(end.is_err());
        let calls = soon(ended_calls(&store)).await;
        assert_eq!((calls[0].answers, calls[0].end), (2, Some(End::Cancelled)));
    }
}

#[tokio::test]
async fn a_stalled_listing_ends_with_its_client() {
    let (store, _) = store_with(5);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    store.inject(Fault::stall().at(2));
    let listing = foreign.open_listing::<_, FoundCid>(Method::SearchCids, Search::default());
    let mut listing = soon(listing).await.unwrap();
    for _ in 0..2 {
        soon(listing.message()).await.unwrap().unwrap();
    }
    drop(listing);
    let calls = soon(ended_calls(&store)).await;
    assert_eq!((calls[0].answers, calls[0].end), (2, Some(End::Cancelled)));
}

#[tokio::test]
async fn wrong_answers_are_of_other_records() {
    let (store, cids) = store_with(2);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    store.inject(Fault::wrong_answer().on(Method::SearchCids).of(cids[0]));
    assert_eq!(found(&foreign, Search::default()).await, [1, 1]);
    store.inject(Fault::wrong_answer().on(Method::SearchRecords).at(0));
    let records = foreign.list::<_, FoundRecord>(Method::SearchRecords, Search::default());
    let (records, end) = records.await;
    end.unwrap();
    let number = |found: &FoundRecord| number_of(found.record.as_ref().unwrap());
    assert_eq!(records.iter().map(number).collect::<Vec<_>>(), [0, 0]);
    store.inject(Fault::wrong_answer().on(Method::CountRecords));
    let counted = foreign.ask(Method::CountRecords, Search::default());
    let counted: Count = counted.await.unwrap();
    assert_eq!(counted.total, 3);
}

#[tokio::test]
async fn the_log_has_the_calls() {
    let (store, cids) = store_with(3);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    found(&foreign, Search::default()).await;
    found(&foreign, Search::default().page(0, 2)).await;
    let wrong = Search::of([Query::new(SKILL_ID, "x")]);
    let (_, end) = search(&foreign, wrong.clone()).await;
    assert_status("a wrong number", end, Code::Unknown, "skill ID");
    let (_, end) = foreign
        .list::<_, FoundRecord>(Method::SearchRecords, Search::default())
        .await;
    end.unwrap();
    foreign
        .ask::<_, Count>(Method::CountRecords, wrong)
        .await
        .unwrap_err();
    let calls = soon(ended_calls(&store)).await;
    let told = |call: &Call| (call.method, call.requests, call.answers, call.end);
    let unknown = Some(End::Status(Code::Unknown));
    assert_eq!(
        calls.iter().map(told).collect::<Vec<_>>(),
        [
            (Method::SearchCids, 1, 3, Some(End::Ok)),
            (Method::SearchCids, 1, 2, Some(End::Ok)),
            (Method::SearchCids, 1, 0, unknown),
            (Method::SearchRecords, 1, 3, Some(End::Ok)),
            (Method::CountRecords, 1, 0, unknown),
        ]
    );
    assert_eq!(calls_of(&store, Method::SearchCids)[1].number, 1);
    assert_eq!(Method::SearchCids.to_string(), "SearchCIDs");
    assert_eq!(cids[0], cid(&record(0)));
}

#[tokio::test]
async fn a_call_without_a_token_is_refused() {
    let store = Store::builder()
        .authorize(|token| token == "open sesame")
        .build();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let (_, end) = search(&foreign, Search::default()).await;
    assert_status(
        "no token",
        end,
        Code::Unauthenticated,
        "missing authorization header",
    );
}

/// A list of a hundred thousand takes ten megabytes.
#[tokio::test]
async fn lists_that_nobody_takes_take_no_more_than_is_allowed() {
    const RECORDS: usize = 2_000;
    const LIST: usize = RECORDS * size_of::<Cid>();
    // Of two calls, with what else they take.
    let store = Store::builder().max_buffered(2 * LIST + LIST / 2).build();
    for number in 0..RECORDS {
        store.insert(record(number)).unwrap();
    }
    let (foreign, _serving) = ForeignClient::of(&store).await;
    store.inject(Fault::stall().at(1).times(3));
    let open = || foreign.open_listing::<_, FoundCid>(Method::SearchCids, Search::default());
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(soon(open()).await.unwrap());
    }
    let refused = soon(open()).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(kept);
    let all_ended = |calls: &[Call]| calls.iter().all(|call| call.end.is_some());
    soon(store.wait_for(all_ended)).await;
    soon(open()).await.unwrap();
}

/// It would hold the whole store up.
#[tokio::test]
async fn a_search_that_takes_too_long_is_refused() {
    const LEN: usize = 200_000;
    const MANY: usize = 10_000;
    let store = Store::new();
    let skill = json!({"name": "skill", "id": 1});
    let own = store.insert(from_json(json!({
        "name": "a".repeat(2 * LEN),
        "schema_version": "1.0.0",
        "skills": vec![skill; MANY],
    })));
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let long = format!("{}b", "a".repeat(LEN));
    for (what, queries) in [
        ("a pattern", vec![Query::new(NAME, format!("*{long}"))]),
        ("numbers", vec![Query::new(SKILL_ID, "2"); MANY]),
        ("names", vec![Query::not(SKILL_NAME, "s*s"); MANY]),
    ] {
        let (found, end) = foreign
            .list::<_, FoundCid>(Method::SearchCids, Search::of(queries))
            .await;
        assert_status(what, end, Code::InvalidArgument, "takes too long");
        assert_eq!(found.len(), 0, "{what}");
    }
    let asked = Search::of(vec![Query::not(SKILL_ID, "2"); MANY]);
    let counted = foreign.ask::<_, Count>(Method::CountRecords, asked).await;
    let counted = counted.map(drop);
    assert_status("count", counted, Code::InvalidArgument, "takes too long");
    // What is long is found as ever, where there is little to compare.
    let asked = Search::of([
        Query::new(NAME, format!("{}*", "a".repeat(LEN))),
        Query::new(SKILL_NAME, "SKILL"),
    ]);
    let (found, end) = foreign.list::<_, FoundCid>(Method::SearchCids, asked).await;
    end.unwrap();
    let cid = own.unwrap().to_string();
    assert_eq!(found, [FoundCid { cid }]);
}
