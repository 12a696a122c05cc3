//! What a server says of when to come back.

use std::time::Duration;

use prost::Message as _;
use tonic::Status;
use tonic_types::pb;

/// The longest wait that a server can ask for. Behind a slip of its own, such as a wrong unit, it is tried again after that.
const LONGEST: Duration = Duration::from_secs(600);

/// A server's word on the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushback {
    After(Duration),
    Never,
}

/// Reads, in this order: the trailer `grpc-retry-pushback-ms` (gRPC proposal A6: anything but a
/// number of milliseconds from 0 up means "not again"), `google.rpc.RetryInfo` in the status
/// details, and HTTP's `retry-after` in seconds.
pub(crate) fn of(status: &Status) -> Option<Pushback> {
    if let Some(value) = status.metadata().get("grpc-retry-pushback-ms") {
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        return Some(millis.map_or(Pushback::Never, |millis| {
            after(Duration::from_millis(millis))
        }));
    }
    if let Some(delay) = retry_delay(status.details()) {
        return Some(after(delay));
    }
    let seconds = status.metadata().get("retry-after")?.to_str().ok()?;
    Some(after(Duration::from_secs(seconds.parse().ok()?)))
}

fn after(wait: Duration) -> Pushback {
    Pushback::After(wait.min(LONGEST))
}

/// The delay of the first `RetryInfo` in a status's details. (`tonic_types` has a method for it, which panics at the
/// most negative number of seconds in a build with overflow checks.)
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let details = pb::Status::decode(details).ok()?.details;
    let info = details
        .iter()
        .find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = pb::RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos).ok()?;
    Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()))
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic::metadata::MetadataMap;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn with(key: &'static str, value: &'static str) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert(key, value.parse().expect("ASCII"));
        Status::with_metadata(Code::Unavailable, "later", metadata)
    }

    #[test]
    fn a_server_says_when_to_come_back() {
        let seconds = |seconds| Some(Pushback::After(Duration::from_secs(seconds)));
        assert_eq!(of(&Status::unavailable("later")), None);
        assert_eq!(of(&with("grpc-retry-pushback-ms", "2000")), seconds(2));
        assert_eq!(of(&with("grpc-retry-pushback-ms", "0")), seconds(0));
        for never in ["-1", "soon", ""] {
            let status = with("grpc-retry-pushback-ms", never);
            assert_eq!(of(&status), Some(Pushback::Never), "{never}");
        }
        assert_eq!(of(&with("retry-after", "7")), seconds(7));
        // HTTP's other form, a date, is not read.
        assert_eq!(
            of(&with("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")),
            None
        );
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::Unavailable, "later", details);
        assert_eq!(of(&status), seconds(3));
        let status = Status::with_details(Code::Unavailable, "", b"no message"[..].into());
        assert_eq!(of(&status), None);
    }

    #[test]
    fn no_number_of_a_server_is_too_large_or_too_small() {
        let longest = Some(Pushback::After(LONGEST));
        assert_eq!(
            of(&with("grpc-retry-pushback-ms", "18446744073709551615")),
            longest
        );
        assert_eq!(of(&with("retry-after", "18446744073709551615")), longest);
        let asked = |seconds, nanos| {
            let delay = prost_types::Duration { seconds, nanos };
            let info = pb::RetryInfo {
                retry_delay: Some(delay),
            };
            let detail = prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: info.encode_to_vec(),
            };
            let status = pb::Status {
                details: vec![detail],
                ..pb::Status::default()
            };
            let details = status.encode_to_vec().into();
            of(&Status::with_details(Code::Unavailable, "", details))
        };
        assert_eq!(asked(3, 0), Some(Pushback::After(Duration::from_secs(3))));
        for (seconds, nanos) in [(i64::MAX, i32::MAX), (600, 1), (i64::MAX, 0)] {
            assert_eq!(asked(seconds, nanos), longest, "{seconds}, {nanos}");
        }
        for (seconds, nanos) in [
            (i64::MIN, i32::MIN),
            (i64::MIN, 0),
            (-1, 0),
            (0, -1),
            (3, i32::MIN),
        ] {
            assert_eq!(asked(seconds, nanos), None, "{seconds}, {nanos}");
        }
    }
}
