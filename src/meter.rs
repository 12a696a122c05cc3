//! What is told to the recorder of the `metrics` crate, if the feature is on; else nothing, at no cost.

#[cfg(not(feature = "metrics"))]
pub(crate) use self::off::{FlightTime, Meter, call_ended, circuit, token};
#[cfg(feature = "metrics")]
pub use self::on::describe_metrics;
#[cfg(feature = "metrics")]
pub(crate) use self::on::{FlightTime, Meter, call_ended, circuit, token};

#[cfg(feature = "metrics")]
mod on {
    use std::sync::Arc;
    use std::time::Duration;

    use metrics::{
        Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
        describe_histogram, gauge, histogram,
    };
    use tokio::time::Instant;
    use tonic::Status;

    use crate::engine::Control;
    use crate::error::ErrorKind;
    use crate::stats::Stats;
    use crate::verdict::code_name;

    /// Tells the recorder of the `metrics` crate what the metrics of this crate are, and in which units. To be called
    /// once, when the recorder is installed. (Feature `metrics`.)
    ///
    /// | name | | unit | labels | what it is |
    /// |---|---|---|---|---|
    /// | `dir_stream.records` | counter | records | `operation`, `outcome` | results handed out; the outcome is `ok`, `already_stored`, or the [name](crate::ErrorKind::as_str) of the error's kind |
    /// | `dir_stream.requests` | counter | requests | `operation` | requests handed to calls, with those that a call gives back because it has not sent them |
    /// | `dir_stream.resends` | counter | requests | `operation` | of these, for items that had been sent before |
    /// | `dir_stream.bytes.sent`, `dir_stream.bytes.received` | counter | bytes | `operation` | messages on the line, as [`Stats::bytes_sent`] has them |
    /// | `dir_stream.calls` | counter | calls | `operation` | calls opened, with those that look up what became of lost answers |
    /// | `dir_stream.faults` | counter | faults | `operation` | as [`Stats::faults`] |
    /// | `dir_stream.in_window` | gauge | records | `operation` | taken and not yet handed out, over all adapters |
    /// | `dir_stream.in_flight` | gauge | records | `operation` | of these, sent and not yet answered |
    /// | `dir_stream.queue.duration` | histogram | seconds | `operation` | from the input to a call, or to an error before one |
    /// | `dir_stream.flight.duration` | histogram | seconds | `operation` | from a call to the answer |
    /// | `rpc.client.call.duration` | histogram | seconds | `rpc.system.name`, `rpc.method`, `rpc.response.status_code`, `server.address`, `server.port` | calls that ended by themselves or broke |
    /// | `dir_stream.circuit.open` | gauge | 1 or 0 | `server.address`, `server.port` | whether the [circuit](crate::CircuitBreaker) is open |
    /// | `dir_stream.tokens` | counter | tokens | `source`: `value`, `file` or `function` | [tokens](crate::Token) that came, but for those that are still shown |
    ///
    /// `operation` is `push`, `pull`, `lookup`, `exists` or `delete`. The names that begin with `rpc` and `server` are
    /// those of OpenTelemetry's conventions; a call here is a stream of many records. Queue and flight times are
    /// samples: those of one record at a time, for each adapter and each call, as TCP measures its round trip. The
    /// flight of a delete, whose call is acknowledged as a whole, is that of its call.
    ///
    /// Counts are told when an adapter is polled, in batches: one that is not polled any more is behind until it is
    /// dropped. Two clients for one address share its labels. The recorder is asked for when an adapter is polled
    /// first, and for the counter of an outcome whenever there are more of it.
    ///
    /// It costs 780 instructions a record with Prometheus's recorder, which is 3 % of a push (the example `quickstart`
    /// under `valgrind --tool=callgrind`, with the recorder and without the feature, November 2026).
    pub fn describe_metrics() {
        describe_counter!(
            "dir_stream.records",
            Unit::Count,
            "Results handed out, by outcome"
        );
        describe_counter!(
            "dir_stream.requests",
            Unit::Count,
            "Requests handed to calls"
        );
        describe_counter!(
            "dir_stream.resends",
            Unit::Count,
            "Requests for items that had been sent before"
        );
        describe_counter!(
            "dir_stream.bytes.sent",
            Unit::Bytes,
            "Messages sent, on the line"
        );
        describe_counter!(
            "dir_stream.bytes.received",
            Unit::Bytes,
            "Messages received, on the line"
        );
        describe_counter!("dir_stream.calls", Unit::Count, "Calls opened");
        describe_counter!(
            "dir_stream.faults",
            Unit::Count,
            "Calls that broke, and records at which the server failed"
        );
        describe_gauge!(
            "dir_stream.in_window",
            Unit::Count,
            "Records taken and not yet handed out"
        );
        describe_gauge!(
            "dir_stream.in_flight",
            Unit::Count,
            "Records sent and not yet answered"
        );
        describe_histogram!(
            "dir_stream.queue.duration",
            Unit::Seconds,
            "From the input to a call"
        );
        describe_histogram!(
            "dir_stream.flight.duration",
            Unit::Seconds,
            "From a call to the answer"
        );
        describe_histogram!(
            "rpc.client.call.duration",
            Unit::Seconds,
            "Duration of calls"
        );
        describe_gauge!(
            "dir_stream.circuit.open",
            Unit::Count,
            "Whether the circuit is open"
        );
        describe_counter!(
            "dir_stream.tokens",
            Unit::Count,
            "Tokens that came from their source"
        );
    }

    /// A token has come that was not the one before.
    pub(crate) fn token(source: &'static str) {
        counter!("dir_stream.tokens", "source" => source).increment(1);
    }

    /// The metrics of an adapter. They are made at the first poll, by the recorder that is there then.
    pub(crate) struct Meter {
        control: Arc<Control>,
        operation: &'static str,
        instruments: Option<Instruments>,
        /// What was told.
        told: Stats,
        in_flight: f64,
        /// A record that is on its way to a call, and when it was taken.
        queued: Option<(u64, Instant)>,
        taken: u64,
    }

    struct Instruments {
        requests: Counter,
        resends: Counter,
        bytes_sent: Counter,
        bytes_received: Counter,
        calls: Counter,
        faults: Counter,
        in_window: Gauge,
        in_flight: Gauge,
        queue: Histogram,
        flight: Histogram,
    }

    impl Instruments {
        fn of(operation: &'static str) -> Self {
            Self {
                requests: counter!("dir_stream.requests", "operation" => operation),
                resends: counter!("dir_stream.resends", "operation" => operation),
                bytes_sent: counter!("dir_stream.bytes.sent", "operation" => operation),
                bytes_received: counter!("dir_stream.bytes.received", "operation" => operation),
                calls: counter!("dir_stream.calls", "operation" => operation),
                faults: counter!("dir_stream.faults", "operation" => operation),
                in_window: gauge!("dir_stream.in_window", "operation" => operation),
                in_flight: gauge!("dir_stream.in_flight", "operation" => operation),
                queue: histogram!("dir_stream.queue.duration", "operation" => operation),
                flight: histogram!("dir_stream.flight.duration", "operation" => operation),
            }
        }
    }

    impl Meter {
        pub(crate) fn new(control: &Arc<Control>, operation: &'static str) -> Self {
            Self {
                control: Arc::clone(control),
                operation,
                instruments: None,
                told: Stats::default(),
                in_flight: 0.0,
                queued: None,
                taken: 0,
            }
        }

        fn instruments(&mut self) -> &Instruments {
            let operation = self.operation;
            self.instruments
                .get_or_insert_with(|| Instruments::of(operation))
        }

        /// All records below this index are taken.
        pub(crate) fn taken_below(&mut self, index: u64) {
            if self.queued.is_none() && self.taken < index {
                self.queued = Some((index - 1, Instant::now()));
            }
            self.taken = index;
        }

        /// No record below this index waits for a call.
        pub(crate) fn sent_below(&mut self, index: u64) {
            if let Some((queued, since)) = self.queued
                && queued < index
            {
                self.queued = None;
                self.instruments().queue.record(since.elapsed());
            }
        }

        /// What measures the flights of a call.
        pub(crate) fn flight_time(&mut self) -> FlightTime {
            FlightTime {
                histogram: self.instruments().flight.clone(),
                left: None,
            }
        }

        /// Tells what was counted since the last time.
        pub(crate) fn publish(&mut self, in_flight: usize) {
            let stats = self.control.counters.stats();
            self.tell(stats, in_flight);
        }

        fn tell(&mut self, stats: Stats, in_flight: usize) {
            let in_flight = in_flight as f64;
            let (told, told_in_flight) = (std::mem::take(&mut self.told), self.in_flight);
            let operation = self.operation;
            let its = self.instruments();
            let add = |counter: &Counter, now: u64, before: u64| {
                if now > before {
                    counter.increment(now - before);
                }
            };
            let plain = |stats: &Stats| stats.succeeded - stats.already_stored;
            add(&its.requests, stats.sent, told.sent);
            add(&its.resends, stats.resent, told.resent);
            add(&its.bytes_sent, stats.bytes_sent, told.bytes_sent);
            add(
                &its.bytes_received,
                stats.bytes_received,
                told.bytes_received,
            );
            add(&its.calls, stats.calls, told.calls);
            add(&its.faults, stats.faults, told.faults);
            change(
                &its.in_window,
                stats.in_window as f64 - told.in_window as f64,
            );
            change(&its.in_flight, in_flight - told_in_flight);
            // An outcome has its counter when it is there.
            let outcome = |outcome: &'static str, now: u64, before: u64| {
                if now > before {
                    let labels = [("operation", operation), ("outcome", outcome)];
                    counter!("dir_stream.records", &labels).increment(now - before);
                }
            };
            outcome("ok", plain(&stats), plain(&told));
            outcome("already_stored", stats.already_stored, told.already_stored);
            if stats.failed > told.failed {
                for kind in ErrorKind::ALL {
                    outcome(kind.as_str(), stats.failed_as(*kind), told.failed_as(*kind));
                }
            }
            self.told = stats;
            self.told.sent = self.told.sent.max(told.sent);
            self.told.resent = self.told.resent.max(told.resent);
            self.in_flight = in_flight;
        }
    }

    /// What was counted last is told, too; an adapter that is dropped holds nothing any more.
    impl Drop for Meter {
        fn drop(&mut self) {
            if self.instruments.is_some() {
                let mut stats = self.control.counters.stats();
                stats.in_window = 0;
                self.tell(stats, 0);
            }
        }
    }

    /// The circuit of a node has opened or closed, or is looked at for the first time.
    pub(crate) fn circuit(node: &str, is_open: bool) {
        gauge!("dir_stream.circuit.open", address(node)).set(f64::from(u8::from(is_open)));
    }

    fn change(gauge: &Gauge, by: f64) {
        if by != 0.0 {
            gauge.increment(by);
        }
    }

    /// A call is over, of the method of this path.
    pub(crate) fn call_ended(
        path: &'static str,
        node: &str,
        took: Duration,
        status: Option<&Status>,
    ) {
        let code = status.map_or(tonic::Code::Ok, Status::code);
        let mut labels = vec![
            Label::from_static_parts("rpc.system.name", "grpc"),
            Label::from_static_parts("rpc.method", path.trim_start_matches('/')),
            Label::from_static_parts("rpc.response.status_code", code_name(code)),
        ];
        labels.extend(address(node));
        histogram!("rpc.client.call.duration", labels).record(took);
    }

    /// The labels of a node, which is a URL or a name: its host, and its port if that is not the scheme's.
    fn address(node: &str) -> Vec<Label> {
        let uri = node.parse::<http::Uri>().ok();
        let authority = uri.as_ref().and_then(http::Uri::authority);
        let host = authority.map_or(node, |authority| authority.host());
        let mut labels = vec![Label::new("server.address", host.to_owned())];
        let of_scheme = match uri.as_ref().and_then(http::Uri::scheme_str) {
            Some("https") => 443,
            _ => 80,
        };
        let port = authority.and_then(|authority| authority.port_u16());
        if let Some(port) = port.filter(|port| *port != of_scheme) {
            labels.push(Label::new("server.port", port.to_string()));
        }
        labels
    }

    /// Measures one flight of a call at a time.
    pub(crate) struct FlightTime {
        histogram: Histogram,
        /// How many requests had left, and when.
        left: Option<(usize, Instant)>,
    }

    impl FlightTime {
        /// Of a call whose answers come when something happens.
        pub(crate) fn off() -> Self {
            Self {
                histogram: Histogram::noop(),
                left: None,
            }
        }

        /// So many requests have left.
        pub(crate) fn sent(&mut self, requests: usize) {
            self.left.get_or_insert_with(|| (requests, Instant::now()));
        }

        /// So many have their answers.
        pub(crate) fn answered(&mut self, requests: usize) {
            if let Some((_, since)) = self.left.take_if(|(left, _)| *left <= requests) {
                self.histogram.record(since.elapsed());
            }
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod off {
    use std::sync::Arc;
    use std::time::Duration;

    use tonic::Status;

    use crate::engine::Control;

    pub(crate) fn token(_: &'static str) {}

    pub(crate) fn circuit(_: &str, _: bool) {}

    pub(crate) fn call_ended(_: &'static str, _: &str, _: Duration, _: Option<&Status>) {}

    pub(crate) struct Meter;

    #[allow(clippy::unused_self)]
    impl Meter {
        pub(crate) fn new(_: &Arc<Control>, _: &'static str) -> Self {
            Self
        }

        pub(crate) fn taken_below(&mut self, _: u64) {}

        pub(crate) fn sent_below(&mut self, _: u64) {}

        pub(crate) fn flight_time(&mut self) -> FlightTime {
            FlightTime
        }

        pub(crate) fn publish(&mut self, _: usize) {}
    }

    pub(crate) struct FlightTime;

    #[allow(clippy::unused_self)]
    impl FlightTime {
        pub(crate) fn off() -> Self {
            Self
        }

        pub(crate) fn sent(&mut self, _: usize) {}

        pub(crate) fn answered(&mut self, _: usize) {}
    }
}
