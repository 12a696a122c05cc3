//! What is to be published, and what is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

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

    /// Works through those that wait. `find` gives the records that can be published, and whether they are all that
    /// was asked for.
    pub(super) fn run(&self, mut find: impl FnMut(Option<Request>) -> (Vec<Cid>, bool)) {
        let mut tables = self.tables();
        let Tables {
            all,
            waiting,
            published,
        } = &mut *tables;
        for id in waiting.drain(..) {
            let publication = all.get_mut(&id).expect("what waits is there");
            let (found, are_all) = find(publication.asked.take());
            published.extend(found);
            let status = match are_all {
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
