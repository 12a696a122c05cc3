//! The embedded store tells what happens: to whom, how much of it, and how that ends.

use agntcy_dir_stream::server::{Fault, Method, Store};

use crate::support::clock::soon;
use crate::support::foreign::ForeignClient;
use crate::support::listening::{DELETED, Event, Heard, Listen, PULLED, PUSHED};
use crate::support::records::{cid, record};

#[tokio::test]
async fn who_listens_hears_what_happens_from_then_on() {
    let store = Store::new();
    let (foreign, _serving) = ForeignClient::of(&store).await;
    store.insert(record(0)).unwrap();
    let listening = foreign.open_listing::<_, Heard>(Method::Listen, Listen::default());
    let acting = async {
        store.wait_for(|_| store.listeners() == 1).await;
        store.insert(record(1)).unwrap();
        store.insert(record(1)).unwrap();
        store.remove(&cid(&record(0)));
        store.remove(&cid(&record(0)));
        store.clear();
    };
    let (listening, ()) = soon(async { tokio::join!(listening, acting) }).await;
    let mut listening = listening.unwrap();
    for (kind, number) in [(PUSHED, 1), (DELETED, 0), (DELETED, 1)] {
        let heard = soon(listening.message()).await.unwrap().unwrap();
        let event = heard.event.unwrap();
        assert_eq!(event.r#type, kind);
        assert_eq!(event.resource_id, cid(&record(number)).to_string());
    }
    drop(listening);
    soon(store.wait_for(|_| store.listeners() == 0)).await;
}
