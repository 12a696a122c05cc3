//! Waits that fail when they take too long.

use std::time::Duration;

pub(crate) async fn within<F: Future>(seconds: u64, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(seconds), future).await {
        Ok(output) => output,
        Err(_) => panic!("this should not take {seconds} seconds"),
    }
}

/// Long enough for any machine.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    within(60, future).await
}

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let seen = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(120), seen).await;
    assert!(seen.is_ok(), "in two minutes it did not come that {what}");
}
