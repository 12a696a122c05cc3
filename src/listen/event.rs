//! What happens in a server.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::cid::Cid;
use crate::proto::events::{self, EventType, ListenRequest};

/// Which events are listened to: [`Client::listen`](crate::Client::listen).
///
/// A new filter lets all through. Values of one kind are alternatives, and an event must match each kind that there is.
///
/// ```
/// use agntcy_dir_stream::{EventFilter, EventKind};
///
/// let filter = EventFilter::new().kind(EventKind::Pushed).kind(EventKind::Deleted);
/// # let _ = filter;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct EventFilter {
    kinds: Vec<EventKind>,
    labels: Vec<String>,
    cids: Vec<Cid>,
}

impl EventFilter {
    /// All events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Events of this kind.
    pub fn kind(mut self, kind: EventKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Events with a label that has this text in it, such as `/skills/natural_language_processing`. Only what is
    /// pushed, pulled or published has labels: with this filter, nothing is heard of what is deleted.
    pub fn label(mut self, part: impl Into<String>) -> Self {
        self.labels.push(part.into());
        self
    }

    /// Events of this record.
    pub fn cid(mut self, cid: Cid) -> Self {
        self.cids.push(cid);
        self
    }

    pub(crate) fn to_request(&self) -> ListenRequest {
        ListenRequest {
            event_types: self.kinds.iter().map(|kind| kind.number()).collect(),
            label_filters: self.labels.clone(),
            cid_filters: self.cids.iter().map(Cid::to_string).collect(),
        }
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A record was pushed. Some servers say so of one that was stored before, too.
    Pushed,
    /// A record was pulled.
    Pulled,
    /// A record was deleted.
    Deleted,
    /// A record was published.
    Published,
    /// A record is no longer published.
    Unpublished,
    /// A sync with another directory was created.
    SyncCreated,
    /// A sync has completed.
    SyncCompleted,
    /// A sync has failed.
    SyncFailed,
    /// A record was signed.
    Signed,
    /// A public key was uploaded.
    PublicKeyUploaded,
    /// Of a kind that came after this crate, by its number in the protocol.
    Other(i32),
}

impl EventKind {
    fn number(self) -> i32 {
        let kind = match self {
            Self::Pushed => EventType::RecordPushed,
            Self::Pulled => EventType::RecordPulled,
            Self::Deleted => EventType::RecordDeleted,
            Self::Published => EventType::RecordPublished,
            Self::Unpublished => EventType::RecordUnpublished,
            Self::SyncCreated => EventType::SyncCreated,
            Self::SyncCompleted => EventType::SyncCompleted,
            Self::SyncFailed => EventType::SyncFailed,
            Self::Signed => EventType::RecordSigned,
            Self::PublicKeyUploaded => EventType::PublicKeyUploaded,
            Self::Other(number) => return number,
        };
        kind.into()
    }

    fn of_number(number: i32) -> Self {
        match EventType::try_from(number) {
            Ok(EventType::RecordPushed) => Self::Pushed,
            Ok(EventType::RecordPulled) => Self::Pulled,
            Ok(EventType::RecordDeleted) => Self::Deleted,
            Ok(EventType::RecordPublished) => Self::Published,
            Ok(EventType::RecordUnpublished) => Self::Unpublished,
            Ok(EventType::SyncCreated) => Self::SyncCreated,
            Ok(EventType::SyncCompleted) => Self::SyncCompleted,
            Ok(EventType::SyncFailed) => Self::SyncFailed,
            Ok(EventType::RecordSigned) => Self::Signed,
            Ok(EventType::PublicKeyUploaded) => Self::PublicKeyUploaded,
            Ok(EventType::Unspecified) | Err(_) => Self::Other(number),
        }
    }
}

/// Something that has happened in a server: [`Heard::Event`](crate::Heard::Event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The server's own number of it.
    pub id: String,
    /// What has happened.
    pub kind: EventKind,
    /// When, by the server's clock.
    pub time: Option<SystemTime>,
    /// What it happened to, as the server calls it: the CID of a record, or the id of a sync.
    pub resource: String,
    /// What the record is about, such as `/skills/natural_language_processing`.
    pub labels: Vec<String>,
    /// What else there is to say, such as `signer`.
    pub metadata: BTreeMap<String, String>,
}

impl Event {
    /// The record that it happened to, if it is a record.
    #[must_use]
    pub fn cid(&self) -> Option<Cid> {
        self.resource.parse().ok()
    }

    pub(super) fn of(event: events::Event) -> Self {
        let time = event.timestamp.and_then(|time| {
            let seconds = u64::try_from(time.seconds).ok()?;
            let nanos = u32::try_from(time.nanos)
                .ok()
                .filter(|n| *n < 1_000_000_000)?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
        });
        Self {
            kind: EventKind::of_number(event.r#type),
            id: event.id,
            time,
            resource: event.resource_id,
            labels: event.labels,
            metadata: event.metadata.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_number() {
        for number in -1..20 {
            assert_eq!(EventKind::of_number(number).number(), number);
        }
        assert_eq!(EventKind::of_number(3), EventKind::Deleted);
        assert_eq!(EventKind::of_number(11), EventKind::Other(11));
    }

    #[test]
    fn a_time_that_is_none_is_left_out() {
        let event = |seconds, nanos| {
            let time = prost_types::Timestamp { seconds, nanos };
            Event::of(events::Event {
                timestamp: Some(time),
                ..events::Event::default()
            })
        };
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(event(1, 0).time, Some(second));
        assert_eq!(event(-1, 0).time, None);
        assert_eq!(event(1, -1).time, None);
        assert_eq!(event(1, i32::MAX).time, None);
    }
}
