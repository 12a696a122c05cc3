//! The embedded store searches: its order, its faults, its log.

use agntcy_dir_stream::server::{Call, End, Fault, Method, Store};
use agntcy_dir_stream::{Cid, Code, Status};

use crate::support::foreign::{ForeignClient, assert_status};
use crate::support::records::{cid, number_of, number_with_cid, record};
use crate::support::searching::{
    Count, FoundCid, FoundRecord, NAME, POPULARITY, Query, RECENCY, Search,
};
use crate::support::stores::{calls_of, ended_calls, store_with};

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
    let (store, _) = store_with(5);
    let (foreign, _serving) = ForeignClient::of(&store).await;
    let all = Search::default;
    assert_eq!(found(&foreign, all()).await, [4, 3, 2, 1, 0]);
    assert_eq!(found(&foreign, all().page(0, 2)).await, [4, 3]);
    assert_eq!(found(&foreign, all().page(2, 2)).await, [2, 1]);
    assert_eq!(found(&foreign, all().page(4, 2)).await, [0]);
    assert_eq!(found(&foreign, all().page(5, 2)).await, [0; 0]);
    assert_eq!(found(&foreign, all().page(3, 0)).await, [1, 0], "no limit");
    let named = Search::of([Query::new(NAME, "agent-?"), Query::not(NAME, "*3")]);
    assert_eq!(found(&foreign, named).await, [4, 2, 1, 0]);
    let asked = Search::of([Query::new(NAME, "agent-3")]);
    let count: Count = foreign.ask(Method::CountRecords, asked).await.unwrap();
    assert_eq!(count.total, 1);
}
