//! Searches: what they find, in which order, and what is wrong with a query.

use std::collections::HashMap;

use agntcy_dir_stream::server::Method;
use agntcy_dir_stream::{Code, Record, Status};
use serde_json::json;

use super::Server;
use crate::support::clock::soon;
use crate::support::foreign::assert_status;
use crate::support::records::{cid, from_json, sized};
use crate::support::searching::{
    ANNOTATION, AUTHOR, CREATED_AT, Count, DESCRIPTION, DOMAIN_ID, DOMAIN_NAME, FoundCid,
    FoundRecord, LOCATOR, MODULE_ID, MODULE_NAME, NAME, POPULARITY, Query, SCHEMA_VERSION,
    SKILL_ID, SKILL_NAME, Search, TRUSTED, VERIFIED, VERSION,
};

const COUNT: usize = 8;

pub(super) async fn conforms(server: &Server) {
    for number in 0..COUNT {
        soon(server.client.push(agent(number))).await.unwrap();
    }
    queries_find_what_they_should(server).await;
    what_is_no_query_finds_all(server).await;
    wrong_numbers_are_errors(server).await;
    all_come_in_an_order(server).await;
    pages_are_parts_of_the_whole(server).await;
    records_themselves_are_found(server).await;
    counts_are_of_what_is_found(server).await;
    what_is_deleted_is_not_found(server).await;
}

fn agent(number: usize) -> Record {
    let full = json!({
        "name": format!("Searched-{number}"),
        "version": format!("1.{number}.0"),
        "schema_version": "1.0.0",
        "description": format!("No {number} of all"),
        "authors": [format!("Ann{number} <a@x>"), "B \"q\" C"],
        "created_at": format!("2025-0{}-01T00:00:00Z", number + 1),
        "annotations": {"team": format!("t{number}"), "kind": "searched"},
        "skills": [{"name": format!("searched/nlp/{number}"), "id": 9_100 + number}, {"name": "searched/cv", "id": 9_007}],
        "domains": [{"name": format!("searched/{number}"), "id": 9_200 + number}],
        "modules": [{"name": "searched_module", "id": 9_300 + number}],
        "locators": [
            {"type": "searched_image", "urls": [format!("https://searched.io/{number}"), "https://second"]},
            {"type": "searched_source", "urls": ["https://searched.git"]},
        ],
    });
    let changes = match number {
        4 => json!({
            "schema_version": "0.8.0",
            "locators": [{"type": "searched_image", "url": "https://searched.io/4", "urls": ["https://new"]}],
            "authors": [],
        }),
        5 => json!({
            "schema_version": "0.7.0",
            "locators": [{"type": "searched_image", "url": "https://searched.io/5"}],
            "authors": null,
            "skills": null,
        }),
        // Nothing that has its type finds it.
        6 => json!({"skills": [{"name": 5, "id": 9_007}]}),
        7 => json!({"skills": [{"id": 9_007.5}]}),
        _ => json!({}),
    };
    let mut all = full.as_object().unwrap().clone();
    all.extend(changes.as_object().unwrap().clone());
    from_json(all.into())
}

async fn cids(server: &Server, search: Search) -> Result<Vec<String>, Status> {
    let (found, end) = server.foreign.list(Method::SearchCids, search).await;
    end?;
    Ok(found.into_iter().map(|found: FoundCid| found.cid).collect())
}

/// The numbers of the agents that are found, in their order. There are other records.
async fn found(server: &Server, search: Search) -> Vec<usize> {
    let numbers: HashMap<String, usize> = (0..COUNT)
        .map(|number| (cid(&agent(number)).to_string(), number))
        .collect();
    let found = cids(server, search).await.unwrap();
    found
        .iter()
        .filter_map(|cid| numbers.get(cid).copied())
        .collect()
}

async fn queries_find_what_they_should(server: &Server) {
    let q = Query::new;
    let rows: Vec<(Vec<Query>, &[usize])> = vec![
        (vec![q(NAME, "searched-1")], &[1]),
        (vec![q(NAME, "SEARCHED-?")], &[0, 1, 2, 3, 4, 5]),
        (vec![q(NAME, "searched-??")], &[]),
        (vec![q(NAME, "searched-1"), q(NAME, "*d-3")], &[1, 3]),
        (vec![q(NAME, "searched")], &[]),
        (vec![q(NAME, "")], &[]),
        (vec![q(NAME, "searched_1")], &[]),
        (vec![q(NAME, "searched_*")], &[]),
        (vec![q(NAME, "searched%")], &[]),
        (vec![q(NAME, r"s\earched-1*")], &[1]),
        (vec![q(NAME, r"searched-\*")], &[]),
        (vec![q(NAME, r"searched-*\")], &[]),
        (vec![q(NAME, "searched-*"), q(VERSION, "1.2.0")], &[2]),
        (
            vec![q(NAME, "searched-*"), q(VERSION, "1.?.0")],
            &[0, 1, 2, 3, 4, 5],
        ),
        (
            vec![
                q(NAME, "searched-*"),
                q(VERSION, ">=1.1"),
                q(VERSION, "<1.3.0"),
            ],
            &[1, 2],
        ),
        (
            vec![
                q(NAME, "searched-*"),
                q(VERSION, ">1.4.0"),
                q(VERSION, "1.0*"),
            ],
            &[0, 5],
        ),
        (vec![q(NAME, "searched-*"), q(VERSION, "=1.1.0")], &[1]),
        (vec![q(NAME, "searched-*"), q(VERSION, "<=1.1.0")], &[0, 1]),
        (
            // As text.
            vec![q(NAME, "searched-*"), q(VERSION, ">=1.10.0")],
            &[2, 3, 4, 5],
        ),
        (vec![q(SKILL_ID, "9101")], &[1]),
        (vec![q(SKILL_ID, "009101")], &[1]),
        (vec![q(SKILL_ID, "9007")], &[0, 1, 2, 3, 4]),
        (
            vec![q(SKILL_ID, "9007"), q(SKILL_ID, "9100")],
            &[0, 1, 2, 3, 4],
        ),
        (vec![q(SKILL_NAME, "searched/NLP/*")], &[0, 1, 2, 3, 4]),
        // Of one and the same skill.
        (
            vec![q(SKILL_ID, "9007"), q(SKILL_NAME, "searched/nlp/*")],
            &[],
        ),
        (
            vec![q(SKILL_ID, "9007"), q(SKILL_NAME, "searched/cv")],
            &[0, 1, 2, 3, 4],
        ),
        (vec![q(DOMAIN_ID, "9202")], &[2]),
        (vec![q(DOMAIN_NAME, "searched/?")], &[0, 1, 2, 3, 4, 5]),
        (
            vec![q(DOMAIN_ID, "9202"), q(DOMAIN_NAME, "searched/3")],
            &[],
        ),
        (vec![q(MODULE_ID, "9303")], &[3]),
        (vec![q(MODULE_NAME, "searched_module")], &[0, 1, 2, 3, 4, 5]),
        (
            vec![q(MODULE_ID, "9303"), q(MODULE_NAME, "searched_*")],
            &[3],
        ),
        (vec![q(LOCATOR, "searched_image")], &[0, 1, 2, 3, 4, 5]),
        (vec![q(LOCATOR, "SEARCHED_S*")], &[0, 1, 2, 3]),
        (
            vec![q(LOCATOR, "searched_image:https://searched.io/4")],
            &[4],
        ),
        (vec![q(LOCATOR, "searched_image:https://searched.git")], &[]),
        (vec![q(LOCATOR, "searched_image:")], &[0, 1, 2, 3, 4, 5]),
        (vec![q(LOCATOR, ":https://searched.git")], &[0, 1, 2, 3]),
        (vec![q(LOCATOR, "*searched.io/5")], &[5]),
        (vec![q(LOCATOR, "*://searched.io/3")], &[3]),
        (vec![q(LOCATOR, "*:https://searched.io/3")], &[3]),
        (vec![q(LOCATOR, "https://searched.io/3")], &[]),
        (vec![q(LOCATOR, "*second")], &[]),
        (vec![q(LOCATOR, "*https://new")], &[]),
        // Types and URLs are not in pairs.
        (
            vec![
                q(LOCATOR, "searched_image:*.git"),
                q(LOCATOR, "searched_source:*io/2"),
            ],
            &[0, 1, 2, 3],
        ),
        (vec![q(NAME, "searched-*"), q(CREATED_AT, "2025-02*")], &[1]),
        (
            vec![
                q(NAME, "searched-*"),
                q(CREATED_AT, ">=2025-03"),
                q(CREATED_AT, "<2025-05"),
            ],
            &[2, 3],
        ),
        (
            vec![q(NAME, "searched-*"), q(SCHEMA_VERSION, "0.*")],
            &[4, 5],
        ),
        (
            vec![q(NAME, "searched-*"), q(SCHEMA_VERSION, ">=0.8")],
            &[0, 1, 2, 3, 4],
        ),
        (vec![q(AUTHOR, "ann1")], &[1]),
        (vec![q(AUTHOR, "A?N2 ")], &[2]),
        // The database has them as JSON that Go has written.
        (vec![q(NAME, "searched-*"), q(AUTHOR, "<a@x>")], &[]),
        (vec![q(NAME, "searched-*"), q(AUTHOR, "a@x")], &[0, 1, 2, 3]),
        (vec![q(NAME, "searched-*"), q(AUTHOR, "B \"q")], &[]),
        (
            vec![q(NAME, "searched-*"), q(AUTHOR, "\",\"")],
            &[0, 1, 2, 3],
        ),
        (vec![q(NAME, "searched-*"), q(AUTHOR, "")], &[0, 1, 2, 3, 4]),
        (vec![q(NAME, "searched-*"), q(VERIFIED, "True")], &[]),
        (
            vec![q(NAME, "searched-*"), q(VERIFIED, "no")],
            &[0, 1, 2, 3, 4, 5],
        ),
        (vec![q(NAME, "searched-*"), q(TRUSTED, "true")], &[]),
        (
            vec![q(NAME, "searched-*"), q(TRUSTED, "false")],
            &[0, 1, 2, 3, 4, 5],
        ),
        (
            vec![
                q(NAME, "searched-*"),
                q(VERIFIED, "true"),
                q(VERIFIED, "false"),
            ],
            &[0, 1, 2, 3, 4, 5],
        ),
    ];
    for (queries, expected) in rows {
        let what = format!("{queries:?}");
        let mut numbers = found(server, Search::of(queries)).await;
        numbers.sort_unstable();
        assert_eq!(numbers, expected, "{what}");
    }
}

async fn what_is_no_query_finds_all(server: &Server) {
    let ignored = [
        Query::new(0, "x"),
        Query::new(16, "x"),
        Query::new(99, "x"),
        Query::new(LOCATOR, ""),
        Query::new(LOCATOR, " : "),
        Query::new(MODULE_NAME, " "),
    ];
    // Later servers know these.
    let unknown = [
        Query::new(ANNOTATION, "nobody:has"),
        Query::new(DESCRIPTION, "nobody has"),
    ];
    let unknown = unknown.into_iter().filter(|_| server.is_1_2);
    for query in ignored.into_iter().chain(unknown) {
        let what = format!("{query:?}");
        let mut numbers = found(server, Search::of([query])).await;
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "{what}");
    }
}

async fn wrong_numbers_are_errors(server: &Server) {
    for (kind, name) in [
        (SKILL_ID, "skill"),
        (DOMAIN_ID, "domain"),
        (MODULE_ID, "module"),
    ] {
        for (value, quoted, reason) in [
            ("x", r#""x""#, "invalid syntax"),
            ("", r#""""#, "invalid syntax"),
            ("-1", r#""-1""#, "invalid syntax"),
            ("+1", r#""+1""#, "invalid syntax"),
            ("1.0", r#""1.0""#, "invalid syntax"),
            ("a\"b\\é\n", r#""a\"b\\é\n""#, "invalid syntax"),
            (
                "18446744073709551616",
                r#""18446744073709551616""#,
                "value out of range",
            ),
        ] {
            let words = format!(
                "failed to create filter options: failed to parse {name} ID {quoted}: \
                 strconv.ParseUint: parsing {quoted}: {reason}"
            );
            for method in [Method::SearchCids, Method::SearchRecords] {
                let asked = Search::of([Query::new(NAME, "*"), Query::new(kind, value)]);
                let (answers, end) = server.foreign.list::<_, FoundCid>(method, asked).await;
                assert_status(&words, end, Code::Unknown, &words);
                assert_eq!(answers, []);
            }
        }
    }
}

/// Release 1.2 does not say in which, and gives what its database comes by.
async fn all_come_in_an_order(server: &Server) {
    let named = || [Query::new(NAME, "searched-*")];
    for sort_mode in 0..5 {
        let sorted = |search| Search {
            sort_mode,
            ..search
        };
        let numbers = found(server, sorted(Search::of(named()))).await;
        let all = cids(server, sorted(Search::default())).await.unwrap();
        if server.is_1_2 {
            assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
            assert!(all.is_sorted());
            let verified = sorted(Search::of([Query::new(VERIFIED, "false")]));
            assert_eq!(cids(server, verified).await.unwrap(), all);
        } else {
            assert_eq!(numbers, [5, 4, 3, 2, 1, 0]);
            let own = cids(server, sorted(Search::of(named()))).await.unwrap();
            // Others have been used.
            let is_by_use = sort_mode == POPULARITY;
            assert!(is_by_use || all.starts_with(&own), "they are the newest");
        }
    }
    if server.is_1_2 {
        let not = Query::not(NAME, "searched-2");
        assert_eq!(found(server, Search::of([not])).await, [2]);
    }
}

async fn pages_are_parts_of_the_whole(server: &Server) {
    let named = || Search::of([Query::new(NAME, "searched-*"), Query::new(DOMAIN_NAME, "*")]);
    for search in [named, Search::default] {
        let whole = cids(server, search()).await.unwrap();
        assert_eq!(cids(server, search().page(0, 0)).await.unwrap(), whole);
        for size in [1, 2, 5, whole.len() + 1] {
            let mut pages = Vec::new();
            while pages.len() < whole.len() {
                let page = search().page(pages.len().try_into().unwrap(), size.try_into().unwrap());
                let page = cids(server, page).await.unwrap();
                assert!(page.len() == size || pages.len() + page.len() == whole.len());
                pages.extend(page);
            }
            assert_eq!(pages, whole);
        }
        let behind = search().page(whole.len().try_into().unwrap(), 5);
        assert_eq!(cids(server, behind).await.unwrap(), [""; 0]);
    }
}

async fn records_themselves_are_found(server: &Server) {
    let asked = || Search::of([Query::new(NAME, "searched-*")]);
    let own = cids(server, asked()).await.unwrap();
    let (found, end) = server
        .foreign
        .list::<_, FoundRecord>(Method::SearchRecords, asked())
        .await;
    end.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|found| cid(found.record.as_ref().unwrap()).to_string())
        .collect();
    assert_eq!(found, own);

    let long = sized(4 << 20);
    soon(server.client.push(long.clone())).await.unwrap();
    let asked = Search::of([Query::new(NAME, "long")]);
    let (answers, end) = server
        .foreign
        .list::<_, FoundRecord>(Method::SearchRecords, asked)
        .await;
    let words = "trying to send message larger than max (4194309 vs. 4194304)";
    assert_status("a long record", end, Code::ResourceExhausted, words);
    assert_eq!(answers, []);
    soon(server.client.delete(&long)).await.unwrap();
}

async fn counts_are_of_what_is_found(server: &Server) {
    let asked = Search::of([Query::new(NAME, "searched-?"), Query::new(VERSION, ">=1.2")]);
    let counted = server.foreign.ask(Method::CountRecords, asked).await;
    if server.is_1_2 {
        let words = "unknown method CountRecords for service agntcy.dir.search.v1.SearchService";
        assert_status(
            "count",
            counted.map(|_: Count| ()),
            Code::Unimplemented,
            words,
        );
    } else {
        assert_eq!(counted.unwrap(), Count { total: 4 });
    }
}

async fn what_is_deleted_is_not_found(server: &Server) {
    let asked = || Search::of([Query::new(NAME, "searched-*")]);
    soon(server.client.delete(&agent(2))).await.unwrap();
    let mut numbers = found(server, asked()).await;
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 3, 4, 5]);
    soon(server.client.push(agent(2))).await.unwrap();
    let expected = match server.is_1_2 {
        true => [0, 1, 3, 4, 5, 2],
        false => [2, 5, 4, 3, 1, 0],
    };
    assert_eq!(found(server, asked()).await, expected);
}
