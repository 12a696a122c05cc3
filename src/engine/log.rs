//! What the log is told of an adapter: that it begins and how it ends, and how its calls end.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;
use tonic::Code;
use tracing::field::Empty;
use tracing::{Span, debug, debug_span, info, warn};

use super::calls::Lane;
use super::control::Control;
use super::window::{Ended, EndedBy, Report};
use crate::LOG;
use crate::error::{ErrorKind, in_words};
use crate::verdict::{Verdict, code_name};

/// The own lines of an adapter, or a source. When it is dropped, the adapter is gone, however it came to that.
pub(super) struct Log {
    control: Arc<Control>,
    operation: &'static str,
    /// An adapter over one item is told of at a lower level: a service may make thousands of them a second.
    is_single: bool,
    /// Whether it goes on after it has given up, and so may give up again and again.
    keeps_trying: bool,
    /// When it was last told that such an adapter gave up, and whether it was told since that it goes on.
    gave_up: Option<(Instant, bool)>,
    began: Option<Instant>,
    end: &'static str,
}

/// How long it is not told again that an adapter has given up that keeps trying.
const QUIET: Duration = Duration::from_secs(60);

/// An event at `info` or higher, or at `debug` for a single item.
macro_rules! say {
    ($log:expr, $level:ident, $($what:tt)*) => {
        match $log.is_single {
            true => debug!(target: LOG, $($what)*),
            false => $level!(target: LOG, $($what)*),
        }
    };
}

impl Log {
    pub(super) fn new(control: &Arc<Control>, operation: &'static str, is_single: bool) -> Self {
        Self {
            control: Arc::clone(control),
            operation,
            is_single,
            keeps_trying: false,
            gave_up: None,
            began: None,
            end: "dropped",
        }
    }

    pub(super) fn keeps_trying(mut self, keeps_trying: bool) -> Self {
        self.keeps_trying = keeps_trying;
        self
    }

    pub(super) fn begin<'a>(&mut self, nodes: impl Iterator<Item = &'a str>) {
        self.began = Some(Instant::now());
        let operation = self.operation;
        say!(
            self,
            info,
            operation,
            nodes = ?nodes.collect::<Vec<_>>(),
            "the stream begins"
        );
    }

    /// So many items are left out, which were done before.
    pub(super) fn resumes_at(&self, done: u64) {
        let operation = self.operation;
        say!(
            self,
            info,
            operation,
            done,
            "the stream resumes: what is done is left out"
        );
    }

    /// It ends by itself, or by an order.
    pub(super) fn end(&mut self, is_stopped: bool) {
        self.end = if is_stopped { "stopped" } else { "ended" };
    }

    /// All that is left fails, since the server is away for too long.
    pub(super) fn gives_up(&mut self, why: &tonic::Status) {
        let (operation, error) = (self.operation, in_words(why));
        let items = self.control.counters.stats().in_window;
        if self.has_told() {
            debug!(target: LOG, operation, items, %error, "what was taken is given up again");
        } else {
            say!(self, warn, operation, items, %error, "the circuit was open for too long: what was taken is given up");
        }
    }

    /// All that is left fails, since the server refuses who asks, or what is asked.
    pub(super) fn is_refused(&mut self, why: &tonic::Status) {
        let (operation, error) = (self.operation, in_words(why));
        if self.has_told() {
            debug!(target: LOG, operation, %error, "the server refuses the caller again");
        } else if self.keeps_trying {
            say!(self, warn, operation, %error, "the server refuses the caller: what comes fails until it is asked again");
        } else {
            say!(self, warn, operation, %error, "the server refuses the caller: all remaining items fail");
        }
    }

    /// Whether it was told a short while ago that it gave up. If not, that is told now.
    fn has_told(&mut self) -> bool {
        let now = Instant::now();
        let has = self.gave_up.is_some_and(|(at, _)| now < at + QUIET);
        if self.keeps_trying && !has {
            self.gave_up = Some((now, false));
        }
        has
    }

    /// The server has answered.
    pub(super) fn goes_on(&mut self) {
        if let Some((_, is_told @ false)) = &mut self.gave_up {
            *is_told = true;
            let operation = self.operation;
            say!(self, info, operation, "the stream goes on");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Before the log is told, whose subscriber may panic.
        self.control.end();
        if let Some(began) = self.began {
            let (operation, end) = (self.operation, self.end);
            let (elapsed, stats) = (began.elapsed(), self.control.counters.stats());
            // Records that are at fault themselves are part of any import.
            let unanswered = ErrorKind::ALL.iter().filter(|kind| !kind.is_answer());
            // Nor is an error of the input an item that waits for its answer.
            let unanswered = unanswered.filter(|kind| **kind != ErrorKind::Input);
            match unanswered.map(|kind| stats.failed_as(*kind)).sum() {
                0_u64 => say!(
                    self,
                    info,
                    operation,
                    end,
                    ?elapsed,
                    stats = stats.to_string(),
                    "the stream is over"
                ),
                unanswered => {
                    let last_fault = self.control.counters.last_fault();
                    say!(
                        self,
                        warn,
                        operation,
                        end,
                        ?elapsed,
                        unanswered,
                        stats = stats.to_string(),
                        last_fault = last_fault.map(tracing::field::display),
                        "the stream is over"
                    );
                }
            }
        }
    }
}

/// The span of a call.
pub(super) fn call_span(path: &'static str, node: &str, number: u64) -> Span {
    debug_span!(target: LOG, "dir.call",
        method = path.rsplit('/').next(),
        node,
        number,
        items = Empty,
        answers = Empty,
        outcome = Empty,
    )
}

/// A call is dropped, since the server does not keep to the protocol, and nothing of it is awaited.
pub(super) fn out_of_step<R, A>(lane: &mut Lane<R, A>, error: &str)
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    lane.tell("out of step");
    lane.span
        .in_scope(|| debug!(target: LOG, %error, unanswered = 0, "the call broke"));
}

/// A call is over.
pub(super) fn call_ended<R, A>(lane: &mut Lane<R, A>, ended: &Ended, report: Report)
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    if lane.span.is_disabled() {
        return;
    }
    let status = ended.end.status.as_deref();
    let outcome = match (ended.end.by, status) {
        (EndedBy::Stall, _) => "stalled",
        (EndedBy::Disorder, _) => "out of step",
        (EndedBy::Peer, status) => code_name(status.map_or(Code::Ok, tonic::Status::code)),
    };
    lane.tell(outcome);
    let unanswered = lane.flight.load();
    lane.span.in_scope(|| match (report, status.map(in_words)) {
        (Report::Broke | Report::Fails, error) => {
            let error = error.as_deref().unwrap_or("answers are missing");
            debug!(target: LOG,
                %error,
                unanswered, "the call broke"
            );
        }
        (_, Some(error)) if ended.is_asked_again => {
            debug!(target: LOG,
                %error,
                unanswered, "the caller was refused: the call is opened again, with the next token or on another node"
            );
        }
        (_, Some(error)) if ended.verdict != Some(Verdict::Record) => {
            debug!(target: LOG, %error, unanswered, "the call ended");
        }
        _ => debug!(target: LOG, unanswered, "the call ended"),
    });
}
