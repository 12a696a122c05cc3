//! What refers to a record: what is pushed, pulled and deleted.

use agntcy_dir_stream::server::Method;
use agntcy_dir_stream::{Code, Status};
use prost::Message as _;
use prost_types::Struct;
use prost_types::value::Kind;
use serde_json::json;

use super::{Server, named};
use crate::support::clock::soon;
use crate::support::foreign::assert_status;
use crate::support::messages::RecordRef;
use crate::support::records::cid;
use crate::support::referrers::{
    DeleteReferrer, DeletedReferrers, PUBLIC_KEY, PullReferrer, PulledReferrer, PushReferrer,
    PushedReferrer, Referrer, SIGNATURE, data_of,
};

pub(super) async fn conform(server: &Server) {
    for number in 0..2 {
        let pushed = soon(server.client.push(named("referred", number))).await;
        pushed.unwrap();
    }
    pushes_are_answered_row_by_row(server).await;
    the_result_of_a_push_is_its_own(server).await;
    what_was_pushed_is_pulled(server).await;
    pulls_are_answered_row_by_row(server).await;
    deletes_are_answered_row_by_row(server).await;
    referrers_go_with_their_record(server).await;
    the_limit_is_4_mib(server).await;
}

/// The CID of a record that is there.
fn kept(number: usize) -> String {
    cid(&named("referred", number)).to_string()
}

/// The CID of one that is not.
fn missing() -> String {
    cid(&named("nowhere", 0)).to_string()
}

fn some(cid: impl ToString) -> Option<RecordRef> {
    Some(RecordRef::new(cid))
}

async fn push(
    server: &Server,
    requests: Vec<PushReferrer>,
) -> (Vec<PushedReferrer>, Result<(), Status>) {
    server.foreign.call(Method::PushReferrer, requests).await
}

/// What a call of pulls gives that ends OK.
async fn pull(server: &Server, requests: Vec<PullReferrer>) -> Vec<Option<Referrer>> {
    let (answers, end) = server.foreign.call(Method::PullReferrer, requests).await;
    end.unwrap();
    let answers = answers.into_iter();
    answers
        .map(|answer: PulledReferrer| answer.referrer)
        .collect()
}

fn of(record: impl ToString) -> PullReferrer {
    PullReferrer {
        record: some(record),
        ..PullReferrer::default()
    }
}

/// What refers to a record, in the order of the CIDs: a real server gives it in any.
async fn referrers_of(server: &Server, number: usize) -> Vec<Referrer> {
    let pulled = pull(server, vec![of(kept(number))]).await;
    let mut pulled: Vec<Referrer> = pulled.into_iter().flatten().collect();
    pulled.sort_by_key(cid_of);
    pulled
}

fn cid_of(referrer: &Referrer) -> String {
    referrer.referrer.clone().expect("it has a CID").cid
}

async fn delete(
    server: &Server,
    requests: Vec<DeleteReferrer>,
) -> (Vec<Vec<String>>, Result<(), Status>) {
    let call = server.foreign.call(Method::DeleteReferrer, requests);
    let (answers, end): (Vec<DeletedReferrers>, _) = call.await;
    let cids = |answer: DeletedReferrers| answer.referrers.into_iter().map(|one| one.cid);
    let answers = answers.into_iter().map(|answer| {
        let mut cids: Vec<_> = cids(answer).collect();
        cids.sort();
        cids
    });
    (answers.collect(), end)
}

/// Deletes all that refers to a record.
async fn delete_all(server: &Server, number: usize) {
    let all = DeleteReferrer {
        record: some(kept(number)),
        ..DeleteReferrer::default()
    };
    delete(server, vec![all]).await.1.unwrap();
}

/// A request that makes no sense ends the call.
async fn pushes_are_answered_row_by_row(server: &Server) {
    let good = || PushReferrer::signature(kept(0), 0);
    let of_kind = |kind: &str| PushReferrer {
        kind: kind.to_owned(),
        ..good()
    };
    let of_record = |record: Option<RecordRef>| PushReferrer { record, ..good() };
    let unknown = "validation error: type: value must be a valid referrer type";
    let rows = [
        (
            "no record",
            of_record(None),
            "validation error: record_ref: value is required",
        ),
        (
            "empty CID",
            of_record(some("")),
            "validation error: record_ref.cid: value is required",
        ),
        (
            "a CID that is too long",
            of_record(some("é".repeat(129))),
            "validation error: record_ref.cid: value must be a valid CID",
        ),
        (
            "no type",
            of_kind(""),
            "validation error: type: value is required",
        ),
        ("unknown type", of_kind("my.type"), unknown),
        (
            "a type of a newer server",
            of_kind("agntcy.dir.security.v1.ScanReport"),
            unknown,
        ),
        (
            "nothing",
            PushReferrer::default(),
            "validation errors:\n - record_ref: value is required\n - type: value is required",
        ),
    ];
    for (number, (what, request, words)) in (1..).zip(rows) {
        let before = PushReferrer::signature(kept(0), 2 * number);
        let behind = PushReferrer::signature(kept(0), 2 * number + 1);
        let what = format!("push of a referrer, {what}");
        let requests = vec![before.clone(), request, behind];
        let (answers, end) = push(server, requests).await;
        let message = end.as_ref().err().map(|status| status.message().to_owned());
        assert_status(&what, end, Code::InvalidArgument, words);
        assert_eq!(message.as_deref(), Some(words), "{what}");
        assert!(
            answers.len() == 1 && answers[0].success,
            "{what}: {answers:?}"
        );
        let stored = referrers_of(server, 0).await;
        assert_eq!(
            stored,
            [before.pulled()],
            "{what}: those behind it are not processed"
        );
        delete_all(server, 0).await;
    }
}

/// What is wrong with a single referrer is told in its answer, and the call goes on.
async fn the_result_of_a_push_is_its_own(server: &Server) {
    let signature = PushReferrer::signature(kept(0), 0);
    let with_data = |data: Option<Struct>| PushReferrer {
        data,
        ..signature.clone()
    };
    let with = |kind: Option<Kind>| {
        let value = prost_types::Value { kind };
        let fields = [("a".to_owned(), value)].into();
        with_data(Some(Struct { fields }))
    };
    let rows = [
        ("good", signature.clone(), None),
        (
            "the same again",
            signature.clone(),
            Some(": already exists"),
        ),
        (
            "missing",
            PushReferrer::signature(missing(), 0),
            Some("code = NotFound desc = record not found"),
        ),
        (
            "malformed",
            PushReferrer::signature("oops", 0),
            Some("code = NotFound desc = record not found"),
        ),
        (
            "the longest CID",
            PushReferrer::signature("é".repeat(128), 0),
            Some("record not found"),
        ),
        (
            "of a referrer",
            PushReferrer::signature(signature.cid(), 0),
            Some("code = NotFound desc = record not found"),
        ),
        ("no data", with_data(None), None),
        ("empty data", with_data(Some(Struct::default())), None),
        (
            "nothing but a type",
            PushReferrer::public_key(kept(0)),
            None,
        ),
        (
            "a time that is none",
            PushReferrer {
                created_at: "yesterday".to_owned(),
                ..signature.clone()
            },
            None,
        ),
        (
            "a number that is none",
            with(Some(Kind::NumberValue(f64::NAN))),
            Some("failed to marshal referrer"),
        ),
        (
            "a value of no kind",
            with(None),
            Some("failed to marshal referrer"),
        ),
        (
            "of another record",
            PushReferrer::signature(kept(1), 0),
            None,
        ),
    ];
    let requests = rows.iter().map(|(_, request, _)| request.clone()).collect();
    let (answers, end) = push(server, requests).await;
    end.unwrap();
    assert_eq!(answers.len(), rows.len());
    for ((what, request, words), answer) in rows.into_iter().zip(answers) {
        let Some(words) = words else {
            let good = PushedReferrer {
                success: true,
                error: None,
                referrer: some(request.cid()),
            };
            assert_eq!(answer, good, "{what}");
            continue;
        };
        assert!(
            !answer.success && answer.referrer.is_none(),
            "{what}: {answer:?}"
        );
        let error = answer.error.unwrap();
        let record = request.record.unwrap().cid;
        let begins = format!("failed to push referrer for record {record}: ");
        assert!(
            error.starts_with(&begins) && error.contains(words),
            "{what}: {error}"
        );
    }
    let (answers, end) = push(server, vec![signature]).await;
    end.unwrap();
    let error = answers[0].error.as_deref().unwrap();
    assert!(
        error.ends_with(": already exists"),
        "in another call: {error}"
    );
}

async fn what_was_pushed_is_pulled(server: &Server) {
    let signature = PushReferrer::signature(kept(0), 0);
    let mut pushed = vec![
        signature.pulled(),
        PushReferrer {
            data: None,
            ..signature.clone()
        }
        .pulled(),
        PushReferrer {
            data: Some(Struct::default()),
            ..signature.clone()
        }
        .pulled(),
        PushReferrer {
            created_at: "yesterday".to_owned(),
            ..signature.clone()
        }
        .pulled(),
        PushReferrer::public_key(kept(0)).pulled(),
    ];
    pushed.sort_by_key(cid_of);
    assert_eq!(referrers_of(server, 0).await, pushed);

    let key = PushReferrer::public_key(kept(0)).pulled();
    let other = PushReferrer::signature(kept(1), 0).pulled();
    let of_kind = |kind: &str| PullReferrer {
        kind: Some(kind.to_owned()),
        ..of(kept(0))
    };
    let of_ref = |referrer: &str| PullReferrer {
        referrer: some(referrer),
        ..of(kept(0))
    };
    let cid = signature.cid();
    for (what, request, found) in [
        ("by type", of_kind(PUBLIC_KEY), Some(&key)),
        ("by ref", of_ref(&cid), Some(&signature.pulled())),
        (
            "by both",
            PullReferrer {
                kind: Some(SIGNATURE.to_owned()),
                ..of_ref(&cid)
            },
            Some(&signature.pulled()),
        ),
        (
            "by a ref of another type",
            PullReferrer {
                kind: Some(PUBLIC_KEY.to_owned()),
                ..of_ref(&cid)
            },
            None,
        ),
        ("by a ref of another record", of_ref(&cid_of(&other)), None),
        ("by a ref of a record", of_ref(&kept(0)), None),
        ("by a ref that is malformed", of_ref("oops"), None),
    ] {
        // Nothing marks where the answers to one request end, nor that it has none.
        let requests = vec![of(kept(1)), request, of(kept(1))];
        let expected = [Some(&other), found, Some(&other)];
        let expected: Vec<_> = expected.into_iter().flatten().collect();
        let pulled = pull(server, requests).await;
        assert_eq!(
            pulled.iter().flatten().collect::<Vec<_>>(),
            expected,
            "pull of referrers {what}"
        );
        assert_eq!(pulled.len(), expected.len());
    }
}

async fn pulls_are_answered_row_by_row(server: &Server) {
    let with_kind = |kind: &str| PullReferrer {
        kind: Some(kind.to_owned()),
        ..of(kept(0))
    };
    for (what, request, words) in [
        (
            "no record",
            PullReferrer::default(),
            "validation error: record_ref: value is required",
        ),
        (
            "empty CID",
            of(""),
            "validation error: record_ref.cid: value is required",
        ),
        (
            "unknown type",
            with_kind("my.type"),
            "validation error: referrer_type: value must be a valid referrer type",
        ),
        (
            "empty type",
            with_kind(""),
            "validation error: referrer_type: value must be a valid referrer type",
        ),
        (
            "empty ref",
            PullReferrer {
                referrer: some(""),
                ..of(kept(0))
            },
            "validation error: referrer_ref.cid: value is required",
        ),
        (
            "empty type and ref",
            PullReferrer {
                referrer: some(""),
                ..with_kind("")
            },
            "validation errors:\n - referrer_type: value must be a valid referrer type\n - referrer_ref.cid: value is required",
        ),
    ] {
        let requests = vec![of(kept(1)), request, of(kept(1))];
        let call = server
            .foreign
            .call::<_, PulledReferrer>(Method::PullReferrer, requests);
        let (answers, end) = call.await;
        let what = format!("pull of referrers, {what}");
        assert_status(&what, end, Code::InvalidArgument, words);
        assert_eq!(answers.len(), 1, "{what}");
    }
    // Where there is no such record, the call ends as if all were well.
    for absent in [missing(), "oops".to_owned()] {
        let pulled = pull(server, vec![of(kept(1)), of(&absent), of(kept(1))]).await;
        let are_there: Vec<_> = pulled.iter().map(Option::is_some).collect();
        assert_eq!(are_there, [true, false], "an empty response, then the end");
    }
}

async fn deletes_are_answered_row_by_row(server: &Server) {
    let of = |record: String| DeleteReferrer {
        record: some(record),
        ..DeleteReferrer::default()
    };
    let with_kind = |kind: &str| DeleteReferrer {
        kind: Some(kind.to_owned()),
        ..of(kept(0))
    };
    let with_ref = |referrer: &str| DeleteReferrer {
        referrer: some(referrer),
        ..of(kept(0))
    };
    let key = PushReferrer::public_key(kept(0));
    for (what, request, code, words) in [
        (
            "no record",
            DeleteReferrer::default(),
            Code::InvalidArgument,
            "validation error: record: value is required",
        ),
        (
            "empty CID",
            of(String::new()),
            Code::InvalidArgument,
            "validation error: record.cid: value is required",
        ),
        (
            "unknown type",
            with_kind("my.type"),
            Code::InvalidArgument,
            "validation error: referrer_type: value must be a valid referrer type",
        ),
        (
            "empty ref and type",
            DeleteReferrer {
                kind: Some(String::new()),
                ..with_ref("")
            },
            Code::InvalidArgument,
            "validation errors:\n - referrer_ref.cid: value is required\n - referrer_type: value must be a valid referrer type",
        ),
        (
            "missing",
            of(missing()),
            Code::NotFound,
            &format!(
                "failed to resolve record manifest for CID {}: not found",
                missing()
            ),
        ),
        (
            "malformed",
            of("oops".to_owned()),
            Code::NotFound,
            "failed to resolve record manifest for CID oops: not found",
        ),
    ] {
        let what = format!("delete of referrers, {what}");
        let requests = vec![with_ref(&key.cid()), request, of(kept(1))];
        let (answers, end) = delete(server, requests).await;
        assert_status(&what, end, code, words);
        assert_eq!(answers, [[key.cid()]], "{what}: the one before it is done");
        assert_eq!(
            referrers_of(server, 1).await.len(),
            1,
            "{what}: the one behind it is not"
        );
        let (answers, end) = push(server, vec![key.clone()]).await;
        end.unwrap();
        assert!(answers[0].success, "what was deleted can be pushed again");
    }

    let signature = PushReferrer::signature(kept(0), 0);
    let mut rest: Vec<_> = referrers_of(server, 0).await.iter().map(cid_of).collect();
    rest.retain(|cid| *cid != key.cid() && *cid != signature.cid());
    assert_eq!(rest.len(), 3);
    let none: Vec<String> = Vec::new();
    for (what, request, deleted) in [
        (
            "by a ref of another type",
            DeleteReferrer {
                kind: Some(PUBLIC_KEY.to_owned()),
                ..with_ref(&signature.cid())
            },
            none.clone(),
        ),
        ("by a ref that is malformed", with_ref("oops"), none.clone()),
        (
            "by a ref of another record",
            DeleteReferrer {
                record: some(kept(1)),
                ..with_ref(&signature.cid())
            },
            none.clone(),
        ),
        ("by ref", with_ref(&signature.cid()), vec![signature.cid()]),
        ("by ref, again", with_ref(&signature.cid()), none.clone()),
        ("by type", with_kind(PUBLIC_KEY), vec![key.cid()]),
        ("all", of(kept(0)), rest),
        ("all, again", of(kept(0)), none),
    ] {
        let (answers, end) = delete(server, vec![request]).await;
        end.unwrap();
        assert_eq!(answers, [deleted], "delete of referrers {what}");
    }
    assert_eq!(referrers_of(server, 0).await, []);
    assert_eq!(referrers_of(server, 1).await.len(), 1);
}

async fn referrers_go_with_their_record(server: &Server) {
    let signature = PushReferrer::signature(kept(1), 0);
    let pushed = [signature.pulled()];
    assert_eq!(referrers_of(server, 1).await, pushed);
    soon(server.client.delete(&named("referred", 1)))
        .await
        .unwrap();
    let push_again = async || {
        let (answers, end) = push(server, vec![signature.clone()]).await;
        end.unwrap();
        answers[0].success
    };
    assert!(!push_again().await, "there is no record");
    soon(server.client.push(named("referred", 1)))
        .await
        .unwrap();
    assert_eq!(referrers_of(server, 1).await, []);
    assert!(push_again().await);
    assert_eq!(referrers_of(server, 1).await, pushed);

    // A referrer can be deleted as if it were a record.
    let cid = signature.cid();
    let (_, end) = server.foreign.refs::<()>(Method::Delete, &[&cid]).await;
    end.unwrap();
    assert_eq!(referrers_of(server, 1).await, []);
    assert!(server.has(&named("referred", 1)).await);
    assert!(push_again().await);
}

async fn the_limit_is_4_mib(server: &Server) {
    let filled = |fill: usize| PushReferrer {
        data: Some(data_of(json!({"fill": "x".repeat(fill)}))),
        ..PushReferrer::signature(kept(0), 0)
    };
    let sized = |len: usize| {
        let around = filled(len).encoded_len() - len;
        let request = filled(len - around);
        assert_eq!(request.encoded_len(), len);
        request
    };
    // It comes back with its CID: the longest that can be pushed is too long to be pulled again.
    let around = sized(4 << 20).pulled();
    let around = PulledReferrer {
        referrer: Some(around),
    }
    .encoded_len()
        - (4 << 20);
    let fits = sized((4 << 20) - around);
    for (request, is_pulled) in [(&fits, true), (&sized(4 << 20), false)] {
        let (answers, end) = push(server, vec![request.clone()]).await;
        end.unwrap();
        assert!(answers[0].success, "{answers:?}");
        let what = format!("pull of a referrer of {} bytes", request.encoded_len());
        let call = server
            .foreign
            .call(Method::PullReferrer, vec![of(kept(0)), of(kept(1))]);
        let (answers, end): (Vec<PulledReferrer>, _) = call.await;
        if is_pulled {
            end.expect(&what);
            assert_eq!(answers[0].referrer, Some(request.pulled()), "{what}");
        } else {
            let words = format!(
                "trying to send message larger than max ({} vs. 4194304)",
                (4 << 20) + around
            );
            assert_status(&what, end, Code::ResourceExhausted, &words);
            assert_eq!(answers, [], "{what}: those behind it are not processed");
        }
        delete_all(server, 0).await;
    }
    let behind = PushReferrer::public_key(kept(0));
    let (_, end) = push(server, vec![sized((4 << 20) + 1), behind]).await;
    assert_status(
        "push of a referrer over 4 MiB",
        end,
        Code::ResourceExhausted,
        "grpc: received message larger than max (4194305 vs. 4194304)",
    );
    assert_eq!(referrers_of(server, 0).await, []);
}
