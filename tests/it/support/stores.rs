//! Embedded stores with some content, or with a fault.

use std::collections::HashSet;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::server::{Call, Fault, Method, Serving, Store, Validation};
use agntcy_dir_stream::{Cid, Client, Record, Token};

use super::clock::soon;
use super::records::{cid, record};

/// Words of a server that fails which do not tell whose fault it is.
pub(crate) const VAGUE_WORDS: &str = "something went wrong";

/// A store with the records of the first numbers, and their CIDs.
pub(crate) fn store_with(count: usize) -> (Store, Vec<Cid>) {
    let store = Store::new();
    let insert = |number| store.insert(record(number)).expect("a valid record");
    let cids = (0..count).map(insert).collect();
    (store, cids)
}

/// A store that takes this long for each item.
pub(crate) fn slow_store(each: Duration) -> Store {
    let store = Store::new();
    slow_down(&store, each);
    store
}

/// Has a store take this long for each item.
pub(crate) fn slow_down(store: &Store, each: Duration) {
    store.inject(Fault::delay(each).times(u64::MAX));
}

/// A store that fails each time at the records of these numbers, in words that do not tell whose fault it is.
pub(crate) fn store_that_fails_at(bad: impl IntoIterator<Item = usize>) -> Store {
    let bad: HashSet<Cid> = bad.into_iter().map(|number| cid(&record(number))).collect();
    let validate = move |record: &Record| match bad.contains(&cid(record)) {
        true => Validation::Fail(VAGUE_WORDS.to_owned()),
        false => Validation::Pass,
    };
    Store::builder().validate(validate).build()
}

/// A store that accepts one token at a time, a client that shows it, and the token.
pub(crate) fn store_with_token() -> (Store, Client, Arc<Mutex<&'static str>>) {
    let current = Arc::new(Mutex::new("one"));
    let (accepted, given) = (Arc::clone(&current), Arc::clone(&current));
    let now = |token: &Mutex<&'static str>| *token.lock().expect("nobody panics with it");
    let store = Store::builder()
        .authorize(move |token| token == now(&accepted))
        .build();
    let token = Token::from_fn(move || ready(Ok::<_, std::io::Error>(now(&given).to_owned())));
    let client = store.client().with_token(token).expect("it is in memory");
    (store, client, current)
}

/// Serves a store over TCP.
pub(crate) async fn listen(store: &Store) -> Serving {
    store.listen("127.0.0.1:0").await.expect("a free port")
}

/// Serves a store over TCP, to a client of its own.
pub(crate) async fn serve(store: &Store) -> (Serving, Client) {
    let serving = listen(store).await;
    let client = soon(Client::connect(serving.url())).await;
    (serving, client.expect("a connection"))
}

/// The calls of this method that a store has seen.
pub(crate) fn calls_of(store: &Store, method: Method) -> Vec<Call> {
    let mut calls = store.calls();
    calls.retain(|call| call.method == method);
    calls
}

/// Waits until the store's calls are over, and returns them.
pub(crate) async fn ended_calls(store: &Store) -> Vec<Call> {
    let are_over = |calls: &[Call]| calls.iter().all(|call| call.end.is_some());
    store.wait_for(are_over).await
}
