//! What is to be published, and what is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::content::Content;
use crate::cid::Cid;
use crate::proto::routing::publish_request::Request;
use crate::proto::routing::{GetPublicationResponse, PublicationStatus};

#[derive(Default)]
pub(super) struct Publications {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    /// By its ID.
    all: HashMap<String, Publication>,
    /// The IDs of those that wait, in the order they came.
    waiting: VecDeque<String>,
    published: HashSet<Cid>,
}

struct Publication {
    asked: Option<Request>,
    /// What is told of it.
    told: GetPublicationResponse,
}

impl Publications {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it wait, and gives its ID.
    pub(super) fn queue(&self, asked: Option<Request>) -> String {
        let id = new_id();
        let now = now();
        let told = GetPublicationResponse {
            publication_id: id.clone(),
            status: PublicationStatus::Pending.into(),
            created_time: now.clone(),
            last_update_time: now,
        };
        let mut tables = self.tables();
        tables.all.insert(id.clone(), Publication { asked, told });
        tables.waiting.push_back(id.clone());
        id
    }

    pub(super) fn get(&self, id: &str) -> Option<GetPublicationResponse> {
        let tables = self.tables();
        tables
            .all
            .get(id)
            .map(|publication| publication.told.clone())
    }

    /// Works through those that wait.
    pub(super) fn run(&self, content: &Content) {
        let mut tables = self.tables();
        let Tables {
            all,
            waiting,
            published,
        } = &mut *tables;
        for id in waiting.drain(..) {
            let publication = all.get_mut(&id).expect("what waits is there");
            let done = publish(published, content, publication.asked.take());
            let status = match done {
                true => PublicationStatus::Completed,
                false => PublicationStatus::Failed,
            };
            publication.told.set_status(status);
            publication.told.last_update_time = now();
        }
    }

    pub(super) fn unpublish(&self, cid: &Cid) {
        self.tables().published.remove(cid);
    }

    pub(super) fn is_published(&self, cid: &Cid) -> bool {
        self.tables().published.contains(cid)
    }

    pub(super) fn clear(&self) {
        *self.tables() = Tables::default();
    }
}

/// Whether all that was asked for could be published. What could be is, in any case.
fn publish(published: &mut HashSet<Cid>, content: &Content, asked: Option<Request>) -> bool {
    match asked {
        None => false,
        Some(Request::RecordRefs(refs)) => refs.refs.iter().fold(true, |all, record_ref| {
            let cid = record_ref.cid.parse().ok();
            let stored = cid.filter(|cid| content.contains(cid));
            published.extend(stored);
            all && stored.is_some()
        }),
        // No query is one that all records fit.
        Some(Request::Queries(_)) => {
            published.extend(content.cids());
            true
        }
    }
}

/// A UUID of version 4.
pub(super) fn new_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|part| &hex[part])
        .join("-")
}

/// By RFC 3339, in whole seconds.
fn now() -> String {
    let now = prost_types::Timestamp::from(SystemTime::now());
    prost_types::Timestamp { nanos: 0, ..now }.to_string()
}
