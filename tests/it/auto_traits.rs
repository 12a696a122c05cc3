//! Auto traits are part of the API: what is `Send` stays so, and what need not be is not asked.

use std::rc::Rc;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{
    BoxAdapter, Change, Checkpoint, CircuitBreaker, ClientBuilder, Compression, Deleted,
    DeletedReferrers, Error, ErrorKind, EventFilter, Failed, FirstFailure, Found, Handle, Heard,
    Leftover, Publication, Published, Pulled, PulledReferrers, Pushed, PushedReferrer, Remainder,
    Retry, Signed, Signing, Source, Stats, Summary, Unpublished, Verdict,
};
use futures::stream::FusedStream;
use futures::{Stream, StreamExt, stream};
use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::support::peer::scripted;

assert_impl_all!(Client: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(ClientBuilder: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Record: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Cid: Send, Sync, Unpin, Copy, Ord, std::hash::Hash);
assert_impl_all!(Error: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(ErrorKind: Send, Sync, Copy);
assert_impl_all!(Failed<Record>: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(Failed<Record, *const ()>: std::error::Error, std::fmt::Debug);
assert_not_impl_any!(Failed<Record, Rc<()>>: Send, Sync);
assert_impl_all!(Pushed: Send, Sync, Unpin);
assert_impl_all!(Pulled: Send, Sync, Unpin);
assert_impl_all!(Found: Send, Sync, Unpin);
assert_impl_all!(Deleted: Send, Sync, Unpin);
assert_impl_all!(Referrer: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(ReferrersOf: Send, Sync, Unpin, Clone, std::hash::Hash);
assert_impl_all!(PushedReferrer: Send, Sync, Unpin);
assert_impl_all!(PulledReferrers: Send, Sync, Unpin);
assert_impl_all!(DeletedReferrers: Send, Sync, Unpin);
assert_impl_all!(Signed: Send, Sync, Unpin);
assert_impl_all!(Signing<Records>: Send, Unpin, FusedStream, std::fmt::Debug);
assert_impl_all!(SignFailed<(), Failed<Record>, Error>: Send, Sync, std::error::Error);
assert_impl_all!(SignFailed<*const (), Failed<Record>, Error>: std::error::Error);
assert_impl_all!(Published: Send, Sync, Unpin);
assert_impl_all!(Unpublished: Send, Sync, Unpin);
assert_impl_all!(Publication: Send, Sync, Unpin);
assert_impl_all!(Source<Cid>: Send, Unpin, FusedStream, std::fmt::Debug);
assert_impl_all!(Query: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(EventFilter: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Heard: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Change: Send, Sync, Unpin, Copy, std::fmt::Debug);

assert_impl_all!(Options: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Retry: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(CircuitBreaker: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Compression: Send, Sync, Copy, std::fmt::Debug);
assert_impl_all!(Verdict: Send, Sync, Copy, std::fmt::Debug);
assert_impl_all!(Handle: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Checkpoint: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(Stats: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Summary: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(FirstFailure: Send, Sync, Unpin, Clone, std::fmt::Debug);
assert_impl_all!(Leftover<Record>: Send, Sync, Unpin, Clone);
type Records = stream::Empty<Record>;
type Tagged = stream::Empty<(Record, Rc<()>)>;
assert_impl_all!(Remainder<Records, PushResult>: Send, Sync, Unpin, std::fmt::Debug);
assert_not_impl_any!(Remainder<Tagged, PushResult<Rc<()>>>: Send, Sync);
assert_impl_all!(BoxAdapter<'static, Records, PushResult>: Send, Unpin, FusedStream, std::fmt::Debug);
assert_not_impl_any!(BoxAdapter<'static, Records, PushResult>: Sync);
assert_not_impl_any!(BoxAdapter<'static, Tagged, PushResult>: Send);
assert_not_impl_any!(BoxAdapter<'static, Records, PushResult<Rc<()>>>: Send);

fn is_send<T: Send>(_: &T) {}

/// Asks whether a value is `Send`: the method with the bound is picked where it holds, and the
/// trait's where it does not.
struct Ask<'a, T>(&'a T);

impl<T: Send> Ask<'_, T> {
    fn is_send(&self) -> bool {
        let _: &T = self.0;
        true
    }
}

trait Otherwise {
    fn is_send(&self) -> bool {
        false
    }
}

impl<T> Otherwise for Ask<'_, T> {}

fn client() -> Client {
    scripted().0
}

#[test]
fn an_adapter_is_send_exactly_when_its_input_is() {
    let client = client();
    let sends = stream::empty::<Record>();
    assert!(Ask(&sends.clone().push_to(&client)).is_send());
    assert!(Ask(&sends.clone().pull_from(&client)).is_send());
    assert!(Ask(&sends.clone().lookup_in(&client)).is_send());
    assert!(Ask(&sends.clone().delete_from(&client)).is_send());
    assert!(Ask(&sends.clone().push_to(&client).erase()).is_send());
    assert!(Ask(&sends.clone().push_to(&client).erase().finish()).is_send());
    assert!(Ask(&sends.push_to(&client).finish()).is_send());

    let stays = stream::empty::<(Record, Rc<()>)>();
    assert!(!Ask(&stays.push_to(&client)).is_send());
    let stays = stream::empty::<(Cid, Rc<()>)>();
    assert!(!Ask(&stays.clone().pull_from(&client)).is_send());
    assert!(!Ask(&stays.clone().lookup_in(&client)).is_send());
    assert!(!Ask(&stays.delete_from(&client)).is_send());
}

#[test]
fn the_futures_of_the_client_are_send() {
    let client = client();
    is_send(&client.push(Record::default()));
    is_send(&client.pull(String::new()));
    is_send(&client.lookup(String::new()));
    is_send(&client.delete(String::new()));
    is_send(&Client::connect("http://127.0.0.1:1"));
}

/// A connection outlives the store's handle that serves it, in a task.
#[cfg(feature = "server")]
fn _served(store: &agntcy_dir_stream::server::Store) {
    tokio::spawn(store.serve(tokio::io::empty()));
}

/// An adapter over borrowed records can be spawned with them, behind a reference to the client.
fn _spawned(client: Client, records: Vec<Record>) {
    tokio::spawn(async move {
        let results = stream::iter(records.iter().cloned()).push_to(&client);
        results.for_each(|_| async {}).await;
    });
}

/// It can be kept in a struct: erased, or boxed as a plain stream.
struct _Pipeline<'a> {
    erased: BoxAdapter<'a, stream::BoxStream<'a, Record>, PushResult>,
    boxed: stream::BoxStream<'a, PushResult>,
}

/// It can be moved, whatever its input is.
#[test]
fn an_adapter_is_unpin_even_if_its_input_is_not() {
    fn is_unpin<T: Unpin>(_: &T) {}
    let pinned = stream::once(async { Record::default() });
    is_unpin(&pinned.push_to(&client()));
}

/// The adapter borrows the input and not the client.
fn _outlives_the_client<'a>(texts: &'a [&'a str]) -> impl Stream<Item = PullResult<&'a str>> {
    let client = client();
    stream::iter(texts.iter().copied()).pull_from(&client)
}

/// The method names clash with no prelude that is likely to be there too.
mod with_other_preludes {
    use agntcy_dir_stream::prelude::*;
    use futures::prelude::*;
    use futures::stream;
    #[allow(unused_imports)]
    use tokio_stream::*;

    fn _push(client: &Client) -> impl Stream<Item = PushResult> {
        stream::empty::<Record>().push_to(client)
    }

    fn _others(client: &Client) {
        drop(stream::empty::<Cid>().pull_from(client));
        drop(stream::empty::<Cid>().lookup_in(client));
        drop(stream::empty::<Cid>().delete_from(client));
    }
}
