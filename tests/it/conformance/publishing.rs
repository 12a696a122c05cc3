//! Publishing: what is queued, what becomes of it, and what is taken back.

use std::time::{Duration, SystemTime};

use agntcy_dir_stream::server::Method;
use agntcy_dir_stream::{Code, Record, Status};
use prost_types::Timestamp;
use tokio::time::{Instant, sleep};
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use super::{Server, named};
use crate::support::clock::soon;
use crate::support::foreign::assert_status;
use crate::support::messages::RecordRef;
use crate::support::publishing::{
    COMPLETED, FAILED, IN_PROGRESS, PENDING, Publication, PublicationId, Publish,
};
use crate::support::records::cid;

/// The worker of a real server has to be set to run more often than this.
const RUN: Duration = Duration::from_secs(4);

pub(super) async fn conforms(server: &Server) {
    for number in 0..4 {
        let pushed = soon(server.client.push(agent(number))).await;
        pushed.unwrap();
    }
    requests_are_answered_row_by_row(server).await;
    a_publication_ends_as_its_records_do(server).await;
    unpublishing_stops_at_the_first_error(server).await;
    what_is_published_stays_so_without_its_record(server).await;
    no_queries_are_for_all_records(server).await;
}

fn agent(number: usize) -> Record {
    named("published", number)
}

/// The CIDs of records that are there; 9 is none.
fn refs<const N: usize>(numbers: [usize; N]) -> Publish {
    Publish::refs(numbers.map(|number| cid(&agent(number))))
}

async fn create(server: &Server, request: &Publish) -> Result<String, Status> {
    let asked = server
        .foreign
        .ask(Method::CreatePublication, request.clone());
    asked.await.map(|created: PublicationId| created.id)
}

async fn publish(server: &Server, request: Publish) -> Result<(), Status> {
    server.foreign.ask(Method::Publish, request).await
}

async fn unpublish(server: &Server, request: Publish) -> Result<(), Status> {
    server.foreign.ask(Method::Unpublish, request).await
}

async fn get(server: &Server, id: &str) -> Result<Publication, Status> {
    let request = PublicationId::new(id);
    server.foreign.ask(Method::GetPublication, request).await
}

/// Which of the agents are published.
async fn published(server: &Server) -> Vec<usize> {
    let mut listed = Vec::new();
    if server.embedded.is_none() {
        let mut grpc = Grpc::new(server.foreign.channel.clone());
        grpc.ready().await.unwrap();
        let path = "/agntcy.dir.routing.v1.RoutingService/List"
            .parse()
            .unwrap();
        let codec = ProstCodec::<(), Listed>::default();
        let listing = grpc.server_streaming(tonic::Request::new(()), path, codec);
        let mut listing = soon(listing).await.unwrap().into_inner();
        while let Some(item) = soon(listing.message()).await.unwrap() {
            listed.push(item.record.unwrap().cid);
        }
    }
    let is_published = |number: &usize| {
        let cid = cid(&agent(*number));
        match &server.embedded {
            Some(store) => store.is_published(&cid),
            None => listed.contains(&cid.to_string()),
        }
    };
    (0..10).filter(is_published).collect()
}

#[derive(Clone, PartialEq, prost::Message)]
struct Listed {
    #[prost(message, optional, tag = "1")]
    record: Option<RecordRef>,
}

/// What becomes of a publication.
async fn outcome(server: &Server, request: &Publish) -> i32 {
    // At times, a real server notes that it has begun after it has noted the end, and never mends that.
    for _ in 0..5 {
        let id = create(server, request).await.unwrap();
        let created = get(server, &id).await.unwrap();
        assert_eq!(created.id, id);
        if let Some(store) = &server.embedded {
            assert_eq!(created.status, PENDING);
            store.run_publications();
        }
        let began = Instant::now();
        loop {
            let publication = get(server, &id).await.unwrap();
            assert_times(&publication);
            assert_eq!(publication.created, created.created);
            match publication.status {
                PENDING | IN_PROGRESS if began.elapsed() < RUN => {}
                IN_PROGRESS => break,
                status => return status,
            }
            // There is nothing to wait for: it has to be asked.
            sleep(Duration::from_millis(50)).await;
        }
    }
    panic!("the worker does not end");
}

/// They are in the present, in whole seconds, and by RFC 3339.
fn assert_times(publication: &Publication) {
    let now = Timestamp::from(SystemTime::now()).seconds;
    let [created, updated] = [&publication.created, &publication.updated].map(|text| {
        let time: Timestamp = text.parse().unwrap();
        assert_eq!(time.nanos, 0, "{text}");
        time.seconds
    });
    assert!(created <= updated, "{publication:?}");
    assert!(
        (created - 1..created + 60).contains(&now),
        "{publication:?} at {now}"
    );
}

async fn requests_are_answered_row_by_row(server: &Server) {
    let no_refs = Publish::refs([""; 0]);
    let no_queries = Publish::queries(Vec::new());
    for (what, request, words) in [
        ("no refs", &no_refs, "record refs cannot be empty"),
        ("no queries", &no_queries, "queries cannot be empty"),
        (
            "nothing",
            &Publish::default(),
            "invalid publish request: must specify record_refs, queries, or all_records",
        ),
    ] {
        let what = format!("creation of a publication, {what}");
        let end = create(server, request).await.map(drop);
        assert_status(&what, end, Code::InvalidArgument, words);
    }
    for (what, id, code, words) in [
        (
            "no ID",
            "",
            Code::InvalidArgument,
            "publication_id cannot be empty",
        ),
        (
            "an ID of none",
            "00000000-0000-4000-8000-000000000000",
            Code::Unknown,
            "failed to get publication by ID: record not found",
        ),
        (
            "no UUID",
            "oops",
            Code::Unknown,
            "failed to get publication by ID: record not found",
        ),
    ] {
        let what = format!("look at a publication, {what}");
        assert_status(&what, get(server, id).await.map(drop), code, words);
    }
    for (what, request, code, words) in [
        (
            "missing",
            refs([9]),
            Code::NotFound,
            &*format!(
                "failed to get record: failed to lookup object: record not found: {}",
                cid(&agent(9))
            ),
        ),
        (
            "malformed",
            Publish::refs(["oops"]),
            Code::NotFound,
            "failed to get record: failed to lookup object: record not found: oops",
        ),
        (
            "empty CID",
            Publish::refs([""]),
            Code::InvalidArgument,
            "failed to get record: object reference is required and must have a CID",
        ),
        (
            "nothing",
            Publish::default(),
            Code::InvalidArgument,
            "unpublish request must specify record_refs",
        ),
        (
            "queries",
            no_queries,
            Code::InvalidArgument,
            "unpublish request must specify record_refs",
        ),
    ] {
        let what = format!("unpublishing, {what}");
        assert_status(&what, unpublish(server, request).await, code, words);
    }
    // What is taken whatever it is.
    for request in [
        no_refs.clone(),
        Publish::default(),
        refs([9]),
        Publish::refs(["oops"]),
        Publish::refs([""]),
    ] {
        publish(server, request).await.unwrap();
    }
    unpublish(server, no_refs).await.unwrap();
    unpublish(server, refs([0]))
        .await
        .expect("it is not published");
    assert_eq!(published(server).await, [0; 0]);
}

async fn a_publication_ends_as_its_records_do(server: &Server) {
    for (what, request, status, is_published) in [
        ("one", refs([0]), COMPLETED, vec![0]),
        ("again, and twice", refs([0, 0]), COMPLETED, vec![0]),
        ("missing", refs([9]), FAILED, vec![0]),
        ("malformed", Publish::refs(["oops"]), FAILED, vec![0]),
        ("empty CID", Publish::refs([""]), FAILED, vec![0]),
        (
            "one that is missing among others",
            refs([1, 9, 2]),
            FAILED,
            vec![0, 1, 2],
        ),
    ] {
        assert_eq!(outcome(server, &request).await, status, "{what}");
        assert_eq!(published(server).await, is_published, "{what}");
    }
    publish(server, refs([3])).await.unwrap();
    // What is queued later comes later.
    assert_eq!(outcome(server, &refs([0])).await, COMPLETED);
    assert_eq!(published(server).await, [0, 1, 2, 3]);
}

async fn unpublishing_stops_at_the_first_error(server: &Server) {
    let end = unpublish(server, refs([1, 9, 2])).await;
    assert_status("unpublishing", end, Code::NotFound, "record not found");
    assert_eq!(
        published(server).await,
        [0, 2, 3],
        "the one before it is done"
    );
    unpublish(server, refs([1, 2])).await.expect("again");
    assert_eq!(published(server).await, [0, 3]);
}

async fn what_is_published_stays_so_without_its_record(server: &Server) {
    soon(server.client.delete(&agent(3))).await.unwrap();
    assert_eq!(published(server).await, [0, 3]);
    let end = unpublish(server, refs([3])).await;
    assert_status(
        "unpublishing of a deleted record",
        end,
        Code::NotFound,
        "record not found",
    );
    soon(server.client.push(agent(3))).await.unwrap();
    unpublish(server, refs([0, 3])).await.unwrap();
    assert_eq!(published(server).await, [0; 0]);
}

async fn no_queries_are_for_all_records(server: &Server) {
    publish(server, Publish::queries(Vec::new())).await.unwrap();
    // What is queued later comes later.
    assert_eq!(outcome(server, &refs([0])).await, COMPLETED);
    assert_eq!(published(server).await, [0, 1, 2, 3]);
}
