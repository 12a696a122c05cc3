//! What a server says of when to come back.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

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
            Pushback::After(Duration::from_millis(millis))
        }));
    }
    if let Some(delay) = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
    {
        return Some(Pushback::After(delay));
    }
    let seconds = status.metadata().get("retry-after")?.to_str().ok()?;
    Some(Pushback::After(Duration::from_secs(seconds.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic::metadata::MetadataMap;
    use tonic_types::ErrorDetails;

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
}
