//! How fast, and how patiently.

use std::num::NonZero;
use std::time::Duration;

use agntcy_dir_stream::{CircuitBreaker, Options, Retry};

#[derive(clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Pace")]
pub(crate) struct Arguments {
    /// How many records may be on their way at once [default: 1024]
    #[arg(long, value_name = "RECORDS")]
    window: Option<NonZero<usize>>,

    /// How many calls run side by side, where the server takes time for a record [default: 1]
    #[arg(long, value_name = "N")]
    calls: Option<NonZero<usize>>,

    /// How many records a second are taken at most [default: no limit]
    #[arg(long, value_name = "RECORDS")]
    rate: Option<NonZero<u32>>,

    #[command(flatten)]
    patience: Patience,
}

/// How long it tries.
#[derive(clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Pace")]
pub(crate) struct Patience {
    /// How often a record is tried [default: 5]
    #[arg(long, value_name = "N")]
    attempts: Option<NonZero<u32>>,

    /// How long a server that goes away is waited for, and how long a record may take [default: 300, and 600 for a record]
    ///
    /// A server that is not there at the beginning is not waited for.
    #[arg(long, value_name = "SECONDS")]
    retry_for: Option<NonZero<u64>>,

    /// How long a call may make no progress before another takes its place [default: 60]
    #[arg(long, value_name = "SECONDS")]
    stall_after: Option<NonZero<u64>>,
}

impl Arguments {
    pub(crate) fn options(&self) -> Options {
        let mut options = self.patience.options();
        if let Some(window) = self.window {
            options = options.window(window.get());
        }
        if let Some(calls) = self.calls {
            options = options.calls(calls.get());
        }
        if let Some(rate) = self.rate {
            options = options.rate(rate.get());
        }
        options
    }

    pub(crate) fn breaker(&self) -> CircuitBreaker {
        self.patience.breaker()
    }
}

impl Patience {
    pub(crate) fn options(&self) -> Options {
        let mut retry = Retry::new();
        if let Some(attempts) = self.attempts {
            retry = retry.max_attempts(attempts.get());
        }
        if let Some(time) = self.retry_for {
            retry = retry.timeout(Duration::from_secs(time.get()));
        }
        let mut options = Options::new().retry(retry);
        if let Some(time) = self.stall_after {
            options = options.stall_after(Some(Duration::from_secs(time.get())));
        }
        options
    }

    pub(crate) fn breaker(&self) -> CircuitBreaker {
        match self.retry_for {
            Some(time) => {
                CircuitBreaker::new().give_up_after(Some(Duration::from_secs(time.get())))
            }
            None => CircuitBreaker::new(),
        }
    }
}
