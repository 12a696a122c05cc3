//! An outage that lasts is given up once, and not for each item, whatever answers in the server's place.

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Fault, Store};
use agntcy_dir_stream::{CircuitBreaker, Retry, Status};
use tokio::time::Instant;

use crate::support::clock::{SECOND, in_a_week};
use crate::support::records::records;

/// Behind the window there are 76 more, and each would have a timeout of its own.
#[tokio::test(start_paused = true)]
async fn an_outage_in_which_something_answers_is_given_up_in_its_time() {
    let away = || Fault::status(Status::unavailable("no healthy upstream"));
    let faults = [
        ("a proxy answers", away as fn() -> Fault),
        ("calls break", Fault::cut),
        ("no connection", Fault::no_connection),
    ];
    for (what, fault) in faults {
        for (timeout, give_up) in [(600, 300), (60, 300), (60, 60), (59, 60), (10, 300)] {
            let store = Store::new();
            store.inject(fault().times(u64::MAX));
            let breaker = CircuitBreaker::new().give_up_after(Some(give_up * SECOND));
            let client = store.client().with_breaker(breaker);
            let options = Options::new().retry(Retry::new().timeout(timeout * SECOND));
            let began = Instant::now();
            let pushing = records(1_100).push_to_with(&client, &options);
            let summary = in_a_week(pushing.finish()).await;
            assert_eq!(summary.stats.failed, 1_100, "{what}");
            let took = began.elapsed();
            assert!(
                took < 2 * give_up * SECOND,
                "{what}, timeout {timeout} s, give up after {give_up} s: {took:?}"
            );
        }
    }
}
