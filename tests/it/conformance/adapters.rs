//! Referrers, signing and publishing through the adapters, against both servers.

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, PublishStatus, Pushed, Referrer, ReferrersOf, SignFailed};
use futures::{StreamExt, stream};
use serde_json::json;

use super::{Server, named};
use crate::support::clock::soon;
use crate::support::records::{cid, from_json};
use crate::support::results::kinds;

pub(super) async fn conform(server: &Server) {
    a_pipeline_signs_what_it_pushes(server).await;
    referrers_are_kept_one_by_one(server).await;
    what_is_published_is_taken_back(server).await;
}

fn signature(of: Cid) -> Referrer {
    let data = from_json(json!({"parts": [1, 0.5, null], "signature": of.to_string()}));
    let mut signature = Referrer::new(of, Referrer::SIGNATURE, data);
    signature.annotations = [("by".to_owned(), "a test".to_owned())].into();
    signature.created_at = "2026-01-01T00:00:00Z".to_owned();
    signature
}

fn key(of: Cid, number: usize) -> Referrer {
    Referrer::new(of, Referrer::PUBLIC_KEY, from_json(json!({"key": number})))
}

fn missing() -> Cid {
    cid(&named("nowhere", 0))
}

/// One in ten is refused, for one in ten the signer fails, and one in ten has a referrer of a record that is not there.
async fn a_pipeline_signs_what_it_pushes(server: &Server) {
    let records = stream::iter((0..100).map(|number| match number % 10 {
        3 => named("refuse", 1_000 + number),
        _ => named("signed", number),
    }));
    let signer = |pushed: &Pushed| {
        std::future::ready(match pushed.index % 10 {
            4 => Err("the signer is away"),
            5 => Ok(vec![signature(pushed.cid), key(missing(), 0)]),
            _ => Ok(vec![signature(pushed.cid), key(pushed.cid, 0)]),
        })
    };
    let signed = records
        .push_to(&server.client)
        .sign_with(&server.client, signer);
    let signed: Vec<_> = soon(signed.collect()).await;
    assert_eq!(signed.len(), 100);
    for (number, result) in signed.iter().enumerate() {
        match (number % 10, result) {
            (3, Err(SignFailed::NotPushed(failed))) => {
                assert_eq!(failed.kind(), ErrorKind::Rejected);
            }
            (4, Err(SignFailed::NotSigned { .. })) => {}
            (5, Err(SignFailed::NotAttached { referrers, .. })) => {
                assert_eq!(kinds(referrers), [None, Some(ErrorKind::NotFound)]);
            }
            (_, Ok(signed)) => {
                assert_eq!(signed.pushed.cid, cid(&named("signed", number)));
                assert!(signed.referrers.iter().all(|one| one.cid.is_some()));
            }
            (_, result) => panic!("{number}: {result:?}"),
        }
    }

    // Again: all is there, which is no failure.
    let stored = stream::iter((0..3).map(|number| signature(cid(&named("signed", number)))));
    let stored: Vec<_> = soon(stored.push_referrers_to(&server.client).collect()).await;
    for (number, result) in stored.into_iter().enumerate() {
        let stored = result.unwrap();
        assert!(stored.already_stored, "{number}");
        assert_eq!(stored.cid, None, "the server does not tell it");
    }
}

async fn referrers_are_kept_one_by_one(server: &Server) {
    let of = |number: usize| cid(&named("signed", number));
    let asked = (0..100).map(|number| match number % 10 {
        3 => (ReferrersOf::new(missing()), number),
        _ => (ReferrersOf::new(of(number)), number),
    });
    let options = Options::new().calls(8);
    let pulled = stream::iter(asked).pull_referrers_from_with(&server.client, &options);
    let pulled: Vec<_> = soon(pulled.collect()).await;
    for (number, result) in pulled.into_iter().enumerate() {
        let expected = match number % 10 {
            3 => Err(ErrorKind::NotFound),
            4 => Ok(vec![]),
            5 => Ok(vec![signature(of(number))]),
            _ => Ok(vec![key(of(number), 0), signature(of(number))]),
        };
        let found = result.map(|pulled| {
            let mut found = pulled.referrers;
            found.sort_by(|one, other| one.referrer_type.cmp(&other.referrer_type));
            for one in &mut found {
                assert!(one.cid.take().is_some());
                // A server in Go writes the keys of an object in another order each time.
                one.data = one.data.to_json().unwrap().parse().unwrap();
            }
            found
        });
        assert_eq!(found.map_err(|failed| failed.kind()), expected, "{number}");
    }
    let one = stream::iter([ReferrersOf::new(of(0)).of_type(Referrer::PUBLIC_KEY)]);
    let one: Vec<_> = soon(one.pull_referrers_from(&server.client).collect()).await;
    let one = &one[0].as_ref().unwrap().referrers[0];
    assert_eq!(one.data.to_json().unwrap(), r#"{"key":0}"#);

    let deleted = [
        ReferrersOf::new(of(0)).only(one.cid.unwrap()),
        ReferrersOf::new(missing()),
        ReferrersOf::new(of(1)),
        ReferrersOf::new(of(1)),
    ];
    let deleted: Vec<_> = soon(
        stream::iter(deleted)
            .delete_referrers_from(&server.client)
            .collect(),
    )
    .await;
    assert_eq!(
        kinds(&deleted),
        [None, Some(ErrorKind::NotFound), None, None]
    );
    let count = |place: usize| deleted[place].as_ref().unwrap().referrers.len();
    assert_eq!((count(0), count(2), count(3)), (1, 2, 0));
    let left = soon(server.client.pull_referrers(of(0)))
        .await
        .unwrap()
        .referrers;
    assert_eq!(left.len(), 1);

    // What a server refuses at sight ends its call, and takes no other along.
    let unknown = Referrer::new(of(6), "agntcy.dir.sign.v9.Seal", from_json(json!({})));
    let pushed = stream::iter([key(of(6), 1), unknown, key(of(6), 2)]);
    let pushed: Vec<_> = soon(pushed.push_referrers_to(&server.client).collect()).await;
    assert_eq!(kinds(&pushed), [None, Some(ErrorKind::Rejected), None]);
}

async fn what_is_published_is_taken_back(server: &Server) {
    let mut refs: Vec<_> = (6..9).map(|number| cid(&named("signed", number))).collect();
    // A real server notes the end of one in sixty before it notes the beginning, and never mends that.
    let mut end = PublishStatus::Pending;
    for _ in 0..5 {
        let queued: Vec<_> = soon(stream::iter(&refs).publish_to(&server.client).collect()).await;
        let ids: Vec<_> = queued
            .iter()
            .map(|result| &result.as_ref().unwrap().publication)
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "one batch: {ids:?}");
        if let Some(store) = &server.embedded {
            store.run_publications();
        }
        let waits = server
            .client
            .wait_for_publication(ids[0], Duration::from_millis(50));
        if let Ok(ended) = tokio::time::timeout(Duration::from_secs(10), waits).await {
            end = ended.unwrap().status;
            break;
        }
    }
    assert_eq!(end, PublishStatus::Completed);
    let failed = soon(server.client.publication("nowhere"))
        .await
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotFound, "{failed}");

    refs.insert(1, missing());
    let results: Vec<_> = soon(stream::iter(&refs).unpublish_from(&server.client).collect()).await;
    assert_eq!(
        kinds(&results),
        [None, Some(ErrorKind::NotFound), None, None]
    );
}
