//! Events: what is told of what, and to whom.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use agntcy_dir_stream::Record;
use agntcy_dir_stream::server::Method;
use prost::Message;
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use super::{Server, named};
use crate::support::clock::soon;
use crate::support::foreign::ForeignClient;
use crate::support::listening::{
    DELETED, Ear, Event, Heard, Listen, PUBLISHED, PULLED, PUSHED, UNPUBLISHED,
};
use crate::support::publishing::Publish;
use crate::support::records::{cid, from_json};
use crate::support::searching::{FoundCid, FoundRecord, NAME, Query, Search};

pub(super) async fn conform(server: &Server) {
    operations_are_told_row_by_row(server).await;
    filters_choose_row_by_row(server).await;
    events_say_what_they_are(server).await;
    what_is_not_read_is_lost_beyond_a_hundred(server).await;
}

/// An answer that nobody looks into.
#[derive(Clone, PartialEq, Message)]
struct Vague {}

fn agent(name: &str, schema_version: &str) -> Record {
    from_json(json!({
        "name": name,
        "version": "1.0.0",
        "schema_version": schema_version,
        "skills": [{"name": "heard/a", "id": 1}, {"name": "heard/b", "id": 2}],
        "domains": [{"name": "c"}],
        "modules": [{"name": "d"}],
        "locators": [{"type": "e"}],
    }))
}

/// In the order of OASF from 0.8 on.
const LABELS: [&str; 5] = [
    "/domains/c",
    "/locators/e",
    "/modules/d",
    "/skills/heard/a",
    "/skills/heard/b",
];
/// Before.
const LABELS_BEFORE: [&str; 5] = [
    "/skills/heard/a",
    "/skills/heard/b",
    "/domains/c",
    "/modules/d",
    "/locators/e",
];

async fn delete(server: &Server, text: &str) {
    let (_, end) = server.foreign.refs::<()>(Method::Delete, &[text]).await;
    end.unwrap();
}

/// Nothing tells when a call has begun to listen. So something is done until it is heard.
async fn begins(ear: &mut Ear, mut act: impl AsyncFnMut(usize)) {
    let heard = async {
        for number in 0.. {
            act(number).await;
            if ear.heard().is_some() {
                break;
            }
        }
        while ear.heard().is_some() {}
    };
    soon(heard).await;
}

type Told<'a> = (i32, String, &'a [&'a str]);

/// Does something, and looks at what is told of it: the types, what it is about, and the labels.
async fn tells(
    server: &Server,
    ear: &mut Ear,
    what: &str,
    expected: &[Told<'_>],
    act: impl AsyncFnOnce(),
) {
    act().await;
    let mut told = Vec::new();
    let mut behind = None;
    loop {
        // What else there is comes before this, though a server tells each event from a task of its own.
        if told.len() == expected.len() && behind.is_none() {
            let last = format!("behind {what}");
            delete(server, &last).await;
            behind = Some(last);
        }
        let event = ear.hear().await;
        if behind.as_ref() == Some(&event.resource_id) {
            break;
        }
        if !event.resource_id.starts_with("begin") {
            told.push(event);
        }
    }
    let told: BTreeSet<_> = told
        .iter()
        .map(|event| {
            (
                event.r#type,
                event.resource_id.clone(),
                event.labels.clone(),
            )
        })
        .collect();
    let labels = |labels: &[&str]| labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected: BTreeSet<_> = expected
        .iter()
        .map(|(kind, id, of)| (*kind, id.clone(), labels(of)))
        .collect();
    assert_eq!(told, expected, "{what}");
}

async fn operations_are_told_row_by_row(server: &Server) {
    let foreign = &server.foreign;
    let mut ear = Ear::open(foreign, Listen::default());
    begins(&mut ear, async |number| {
        delete(server, &format!("begin {number}")).await;
    })
    .await;
    let ear = &mut ear;

    let record = agent("heard", "1.0.0");
    let id = cid(&record).to_string();
    let push = async |record: &Record| foreign.push(vec![record.clone()]).await.1;
    tells(
        server,
        ear,
        "push",
        &[(PUSHED, id.clone(), &LABELS)],
        async || push(&record).await.unwrap(),
    )
    .await;
    tells(server, ear, "push again", &[], async || {
        drop(push(&record).await.unwrap_err());
    })
    .await;
    tells(server, ear, "refused", &[], async || {
        drop(push(&named("refuse", 0)).await.unwrap_err());
    })
    .await;
    for (version, labels) in [
        ("0.7.0", &LABELS_BEFORE),
        ("0.8.0", &LABELS),
        ("1.1.0", &LABELS),
    ] {
        let record = agent("heard", version);
        let told = (PUSHED, cid(&record).to_string(), labels.as_slice());
        tells(server, ear, version, &[told], async || {
            push(&record).await.unwrap();
        })
        .await;
    }
    let odd = from_json(json!({"name": "odd", "schema_version": "1.0.0", "skills": [{"name": 5}]}));
    let told = (PUSHED, cid(&odd).to_string(), [].as_slice());
    tells(server, ear, "odd types", &[told], async || {
        push(&odd).await.unwrap();
    })
    .await;

    let refs = async |method, text: &str| foreign.refs::<Vague>(method, &[text]).await.1;
    let pulled = [(PULLED, id.clone(), LABELS.as_slice())];
    tells(server, ear, "pull", &pulled, async || {
        refs(Method::Pull, &id).await.unwrap();
    })
    .await;
    tells(server, ear, "pull of what is missing", &[], async || {
        drop(refs(Method::Pull, "oops").await.unwrap_err());
    })
    .await;
    tells(server, ear, "lookup", &[], async || {
        refs(Method::Lookup, &id).await.unwrap();
    })
    .await;
    let asked = || Search::of([Query::new(NAME, "heard"), Query::new(11, "1.0.0")]);
    tells(server, ear, "search", &[], async || {
        let (found, _) = foreign
            .list::<_, FoundCid>(Method::SearchCids, asked())
            .await;
        assert_eq!(found.len(), 1);
    })
    .await;
    tells(server, ear, "search for records", &pulled, async || {
        let (found, _) = foreign
            .list::<_, FoundRecord>(Method::SearchRecords, asked())
            .await;
        assert_eq!(found.len(), 1);
    })
    .await;

    let published = [pulled[0].clone(), (PUBLISHED, id.clone(), &LABELS)];
    let unpublished = [pulled[0].clone(), (UNPUBLISHED, id.clone(), &[])];
    let publish = async |method| -> () { foreign.ask(method, Publish::refs([&id])).await.unwrap() };
    tells(server, ear, "publish", &published, async || {
        publish(Method::Publish).await;
        if let Some(store) = &server.embedded {
            store.run_publications();
        }
    })
    .await;
    for what in ["unpublish", "unpublish again"] {
        tells(server, ear, what, &unpublished, async || {
            publish(Method::Unpublish).await;
        })
        .await;
    }

    let deleted = [(DELETED, id.clone(), [].as_slice())];
    for what in ["delete", "delete again"] {
        tells(server, ear, what, &deleted, async || {
            delete(server, &id).await;
        })
        .await;
    }
    let oops = [(DELETED, "oops".to_owned(), [].as_slice())];
    tells(server, ear, "malformed", &oops, async || {
        delete(server, "oops").await;
    })
    .await;
    tells(server, ear, "empty", &[], async || {
        drop(refs(Method::Delete, "").await.unwrap_err());
    })
    .await;
}

async fn filters_choose_row_by_row(server: &Server) {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let known = agent("filtered", "1.0.0");
    let id = cid(&known).to_string();
    let listen = |types: &[i32], labels: &[&str], cids: &[&str]| Listen {
        types: types.to_vec(),
        labels: texts(labels),
        cids: texts(cids),
    };
    // A record is pushed, pulled and deleted, over and over.
    let rows: [(Listen, &[i32]); 9] = [
        (listen(&[], &[], &[]), &[PUSHED, PULLED, DELETED]),
        (listen(&[PUSHED, DELETED], &[], &[]), &[PUSHED, DELETED]),
        (listen(&[PUSHED, 99], &[], &[]), &[PUSHED]),
        (listen(&[], &["kills/heard/b"], &[]), &[PUSHED, PULLED]),
        (
            listen(&[], &["nothing", "/domains/c"], &[]),
            &[PUSHED, PULLED],
        ),
        // What has no label has none that fits.
        (listen(&[], &[""], &[]), &[PUSHED, PULLED]),
        (listen(&[], &[], &["oops", &id]), &[PUSHED, PULLED, DELETED]),
        (listen(&[PULLED], &["heard"], &[&id]), &[PULLED]),
        (listen(&[DELETED, PULLED], &["heard"], &[]), &[PULLED]),
    ];
    for (asked, expected) in rows {
        let what = format!("{asked:?}");
        let mut ear = Ear::open(&server.foreign, asked);
        let cycle = async || {
            let (_, end) = server.foreign.push(vec![known.clone()]).await;
            end.unwrap();
            let (_, end) = server.foreign.refs::<Vague>(Method::Pull, &[&id]).await;
            end.unwrap();
            delete(server, &id).await;
        };
        begins(&mut ear, async |_| cycle().await).await;
        // The last events of what came before may come late.
        let mut heard = BTreeSet::new();
        for _ in 0..3 {
            cycle().await;
            for _ in expected {
                let event = ear.hear().await;
                assert_eq!(event.resource_id, id);
                heard.insert(event.r#type);
            }
        }
        assert_eq!(heard, expected.iter().copied().collect(), "{what}");
    }
}

async fn events_say_what_they_are(server: &Server) {
    let began = SystemTime::now();
    let mut ear = Ear::open(&server.foreign, Listen::default());
    begins(&mut ear, async |number| {
        delete(server, &format!("say {number}")).await;
    })
    .await;
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        delete(server, "say").await;
        let event: Event = ear.hear().await;
        let time = SystemTime::try_from(event.time.unwrap()).unwrap();
        let second = Duration::from_secs(1);
        assert!(began - second < time && time < SystemTime::now() + second);
        assert_eq!(event.metadata, Default::default());
        let lengths: Vec<_> = event.id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{}", event.id);
        assert!(ids.insert(event.id));
    }
}

/// As far as what is on its way, which is held back by a window of 64 KiB.
async fn what_is_not_read_is_lost_beyond_a_hundred(server: &Server) {
    const PUSHES: usize = 150;
    // An event is longer than the window, so none but the first is on its way as a whole.
    let skills: Vec<Value> = (0..100)
        .map(|_| json!({"name": "s".repeat(1_000)}))
        .collect();
    let record = |number: usize| {
        let name = format!("unread-{number}");
        from_json(json!({"name": name, "schema_version": "1.0.0", "skills": skills}))
    };
    let url = &server.url;
    let endpoint = Endpoint::from_shared(url.clone()).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let slow = ForeignClient {
        channel: endpoint.connect().await.unwrap(),
    };
    let asked = || Listen {
        types: vec![PUSHED],
        ..Listen::default()
    };
    let mut ear = Ear::open(&server.foreign, asked());
    let mut listening = Box::pin(slow.open_listing::<_, Heard>(Method::Listen, asked()));
    let mut poked = 0;
    let mut listening = loop {
        let record = from_json(json!({"name": "poke", "schema_version": "1.0.0", "number": poked}));
        server.foreign.push(vec![record]).await.1.unwrap();
        poked += 1;
        let opened = tokio::time::timeout(Duration::from_millis(20), &mut listening);
        if let Ok(opened) = opened.await {
            break opened.unwrap();
        }
    };
    let expected: Vec<_> = (0..PUSHES)
        .map(|number| cid(&record(number)).to_string())
        .collect();
    let mut pushed = BTreeSet::new();
    for (number, expected) in expected.iter().enumerate() {
        server.foreign.push(vec![record(number)]).await.1.unwrap();
        // The other one hears it: so it has been told.
        while !pushed.contains(expected) {
            pushed.insert(ear.hear().await.resource_id);
        }
    }
    let mut heard = Vec::new();
    let last = from_json(json!({"name": "unread, the last", "schema_version": "1.0.0"}));
    let last_id = cid(&last).to_string();
    while !heard.ends_with(std::slice::from_ref(&last_id)) {
        let event = soon(listening.message()).await.unwrap().unwrap();
        heard.push(event.event.unwrap().resource_id);
        if heard.len() == 50 {
            // There is room again.
            server.foreign.push(vec![last.clone()]).await.1.unwrap();
        }
    }
    heard.pop();
    heard.retain(|id| expected.contains(id));
    assert!((100..110).contains(&heard.len()), "{}", heard.len());
    let first: BTreeSet<_> = expected[..heard.len()].iter().collect();
    assert_eq!(heard.iter().collect::<BTreeSet<_>>(), first);
}
