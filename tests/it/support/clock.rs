//! Waits that fail when they take too long, and cases under a paused clock.

use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Waits for what has to come, long enough for any machine; a hang fails here, with a backtrace.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

/// Like [`soon`], under a paused clock: there a wait costs nothing, but it may be long.
pub(crate) async fn in_a_week<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(7 * 24 * 3600), future)
        .await
        .expect("this should not take a week of paused time")
}

/// A runtime on this thread. It works only while something is awaited in it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The same, with a clock of its own that is paused.
pub(crate) fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// Runs a case to its end under a paused clock. Fails if a task is left then.
pub(crate) fn on_paused_clock<F: Future>(case: F) -> F::Output {
    let runtime = paused_runtime();
    let output = runtime.block_on(case);
    runtime.block_on(async {
        let metrics = tokio::runtime::Handle::current().metrics();
        for _ in 0..1_000 {
            if metrics.num_alive_tasks() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} tasks are left", metrics.num_alive_tasks());
    });
    output
}
