//! What a status becomes: whose error it is, what is printed of it, and what is read of a damaged
//! one.

use std::num::NonZeroUsize;
use std::pin::pin;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Error, Retry};
use futures::{StreamExt, stream};
use tonic::Code;

use crate::support::{poll, record, scripted};

#[tokio::test(start_paused = true)]
async fn the_status_of_a_call_is_shared_by_all_that_it_ended() {
    let all = NonZeroUsize::new(1_000).unwrap();
    let long = "x".repeat(900 << 10);
    for code in [Code::PermissionDenied, Code::Unavailable] {
        let (client, peer) = scripted();
        let options = Options::new().retry(Retry::off()).in_flight(all, all);
        let results = stream::iter((0..1_000).map(record)).push_to_with(&client, &options);
        let mut results = pin!(results);
        assert!(poll(&mut results).is_pending());
        let mut call = peer.call();
        let mut sent = call.records().len();
        while sent < 1_000 {
            // An input that is always ready is taken in parts.
            assert!(poll(&mut results).is_pending());
            sent += call.records().len();
        }
        call.end(code, &long);
        let error = |result: PushResult| result.unwrap_err().error;
        let errors: Vec<Error> = results.as_mut().map(error).collect().await;
        assert_eq!(errors.len(), 1_000);
        let first = errors[0].status().unwrap();
        assert_eq!(first.message(), long);
        for error in &errors {
            assert!(std::ptr::eq(error.status().unwrap(), first));
            assert!(error.to_string().len() < 5_000);
        }
        let last_fault = results.monitor().last_fault();
        assert!(last_fault.is_none_or(|words| words.len() < 5_000));
    }
}
