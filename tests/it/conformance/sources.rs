//! Searches, events and following through the client, against both servers.

use std::collections::BTreeSet;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Change, ErrorKind, EventFilter, EventKind, Gap, Heard};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::Server;
use crate::support::clock::soon;
use crate::support::records::{cid, from_json};

pub(super) async fn conform(server: &Server) {
    searches_find_what_they_should(server).await;
    events_are_heard(server).await;
    a_store_is_followed(server).await;
}

fn agent(number: usize) -> Record {
    from_json(json!({
        "name": format!("Sourced-{number}"),
        "version": format!("2.{number}"),
        "schema_version": "1.0.0",
        "skills": [{"name": format!("sourced/{}", number % 2), "id": 8_000 + number}],
    }))
}

async fn found(server: &Server, query: Query) -> BTreeSet<Cid> {
    let found: Vec<_> = soon(server.client.search(query).try_collect())
        .await
        .unwrap();
    let count = found.len();
    let found = BTreeSet::from_iter(found);
    assert_eq!(found.len(), count, "each once");
    found
}

fn agents(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<Cid> {
    numbers
        .into_iter()
        .map(|number| cid(&agent(number)))
        .collect()
}

async fn searches_find_what_they_should(server: &Server) {
    let pushed = stream::iter((0..20).map(agent))
        .push_to(&server.client)
        .finish();
    assert_eq!(soon(pushed).await.stats.succeeded, 20);
    let all = Query::new().name("sourced-*");
    assert_eq!(found(server, all.clone()).await, agents(0..20));
    assert_eq!(
        found(server, Query::new().name("SOURCED-1?")).await,
        agents(10..20)
    );
    let odd = Query::new()
        .name("Sourced-*")
        .skill("sourced/1")
        .version("2.*");
    assert_eq!(found(server, odd).await, agents((1..20).step_by(2)));
    let few = Query::new().skill_id(8_003).skill_id(8_004);
    assert_eq!(found(server, few).await, agents(3..5));
    assert_eq!(found(server, all.clone().limit(7)).await.len(), 7);
    assert!(
        found(server, Query::new())
            .await
            .is_superset(&agents(0..20))
    );
    // What this server does not know, it is not asked for.
    let newer = [
        all.clone().annotation("sourced:*"),
        all.clone().without(Query::new().skill("sourced/1")),
    ];
    for query in newer {
        let found: Result<Vec<_>, _> = soon(server.client.search(query).try_collect()).await;
        match found {
            Ok(found) => assert!(!server.is_1_2 && found.len() < 20),
            Err(error) => {
                assert!(server.is_1_2, "{error}");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            }
        }
    }
    match soon(server.client.count(all)).await {
        Ok(count) => assert!(!server.is_1_2 && count == 20),
        Err(error) => assert!(
            server.is_1_2 && error.kind() == ErrorKind::Unsupported,
            "{error}"
        ),
    }
}

/// Nobody can tell when the real server has begun to listen, so events are caused until one is heard.
async fn events_are_heard(server: &Server) {
    let filter = EventFilter::new()
        .kind(EventKind::Pushed)
        .kind(EventKind::Deleted);
    let mut events = server.client.listen(filter);
    let begun = soon(events.next()).await.unwrap().unwrap();
    assert!(matches!(begun, Heard::Gap(Gap::Begin)));
    let mut number = 100;
    let first = loop {
        soon(server.client.push(agent(number))).await.unwrap();
        match tokio::time::timeout(Duration::from_secs(1), events.next()).await {
            Ok(heard) => break heard.unwrap().unwrap(),
            Err(_) => number += 1,
        }
    };
    let Heard::Event(event) = first else {
        panic!("{first:?}");
    };
    assert_eq!(event.kind, EventKind::Pushed);
    assert_eq!(event.cid(), Some(cid(&agent(number))));
    assert!(
        event.labels.iter().any(|label| label.contains("sourced")),
        "{:?}",
        event.labels
    );
    soon(server.client.delete(&agent(number))).await.unwrap();
    let heard = soon(events.next()).await.unwrap().unwrap();
    let Heard::Event(event) = heard else {
        panic!("{heard:?}");
    };
    assert_eq!(
        (event.kind, event.cid()),
        (EventKind::Deleted, Some(cid(&agent(number))))
    );
    for number in 100..number {
        soon(server.client.delete(&agent(number))).await.unwrap();
    }
}

async fn a_store_is_followed(server: &Server) {
    let query = Query::new().name("sourced-*");
    for (query, of_all) in [(query, false), (Query::new(), true)] {
        let mut changes = server.client.follow(query);
        assert_eq!(soon(changes.next()).await.unwrap().unwrap(), Change::Init);
        let mut there = BTreeSet::new();
        loop {
            match soon(changes.next()).await.unwrap().unwrap() {
                Change::InitApply(cid) => assert!(there.insert(cid)),
                Change::InitDone => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(there.is_superset(&agents(0..20)));
        assert!(of_all || there == agents(0..20));
        // Events, or the list that comes some seconds later.
        let new = agent(200);
        soon(server.client.push(new.clone())).await.unwrap();
        assert_eq!(next(&mut changes).await, Change::Apply(cid(&new)));
        soon(server.client.delete(&new)).await.unwrap();
        assert_eq!(next(&mut changes).await, Change::Delete(cid(&new)));
    }
}

/// The next, but for lists that are over.
async fn next(changes: &mut Source<Change>) -> Change {
    loop {
        match soon(changes.next()).await.unwrap().unwrap() {
            Change::Confirmed => {}
            change => return change,
        }
    }
}
