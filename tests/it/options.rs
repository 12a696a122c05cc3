//! What options refuse.

use std::panic::{AssertUnwindSafe, catch_unwind};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{CircuitBreaker, Retry};

/// What a panic says.
#[track_caller]
fn panic_message<R>(make: impl FnOnce() -> R) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(make)) else {
        panic!("a zero was taken");
    };
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned());
    words.unwrap_or_else(|| *panic.downcast::<String>().expect("a panic says something"))
}

#[test]
fn a_number_of_zero_panics_and_says_what_there_has_to_be() {
    let client = || Client::connect_lazy("http://127.0.0.1:1").expect("a URL");
    let said = [
        panic_message(|| Options::new().window(0)),
        panic_message(|| Options::new().window_bytes(0)),
        panic_message(|| Options::new().calls(0)),
        panic_message(|| Options::new().rate(0)),
        panic_message(|| Options::new().in_flight(0, 1)),
        panic_message(|| Options::new().in_flight(1, 0)),
        panic_message(|| Retry::new().max_attempts(0)),
        panic_message(|| CircuitBreaker::new().threshold(0)),
        panic_message(|| client().with_connections(0)),
        panic_message(|| client().with_call_rate(0)),
    ];
    for words in said {
        assert!(words.contains("at least"), "{words}");
    }
}

#[cfg(feature = "server")]
#[test]
fn a_store_that_serves_nobody_cannot_be_built() {
    use agntcy_dir_stream::server::Store;

    assert!(panic_message(|| Store::builder().max_calls(0)).contains("one call at least"));
    assert!(
        panic_message(|| Store::builder().max_connections(0)).contains("one connection at least")
    );
}
