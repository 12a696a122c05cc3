//! What is to be published, and what is.
//!
//! What waits may take a bounded amount of memory, and of what is done the latest are told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use prost::Message as _;
use tonic::Status;

use super::budget::{Budget, Share, places_of};
use crate::cid::Cid;
use crate::proto::routing::publish_request::Request;
use crate::proto::routing::{GetPublicationResponse, PublicationStatus};

/// How many that are done can be asked for; older ones are forgotten.
const DONE: usize = 10_000;

/// What those that wait may take in memory, in bytes.
const WAITING: usize = 64 << 20;

/// What a publication takes beside what it asks for, in bytes.
const PUBLICATION: usize = 512;

pub(super) struct Publications {
    tables: Mutex<Tables>,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct Tables {
    /// By its ID.
    all: HashMap<String, Publication>,
    /// The IDs of those that wait, in the order they came.
    waiting: VecDeque<String>,
    /// Of those that do not, in the order in which they were done.
    done: VecDeque<String>,
    published: HashSet<Cid>,
}

struct Publication {
    /// What it asks for, with the memory that it takes. `None`: it is done.
    waits: Option<(Option<Request>, Share)>,
    /// What is told of it.
    told: GetPublicationResponse,
}

/// What a request takes in memory, in bytes.
fn unpacked_len(asked: &Request) -> usize {
    match asked {
        Request::RecordRefs(asked) => places_of(&asked.refs) + asked.encoded_len(),
        Request::Queries(asked) => places_of(&asked.queries) + asked.encoded_len(),
    }
}

impl Default for Publications {
    fn default() -> Self {
        let refusal = "the store has too many publications that wait: try again later";
        Self {
            tables: Mutex::default(),
            budget: Arc::new(Budget::new(WAITING, refusal)),
        }
    }
}

impl Publications {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it wait, and gives its ID.
    pub(super) fn queue(&self, asked: Option<Request>) -> Result<String, Status> {
        let room = Share::of(&self.budget);
        room.set(PUBLICATION + asked.as_ref().map_or(0, unpacked_len))?;
        let id = new_id();
        let now = now();
        let told = GetPublicationResponse {
            publication_id: id.clone(),
            status: PublicationStatus::Pending.into(),
            created_time: now.clone(),
            last_update_time: now,
        };
        let mut tables = self.tables();
        let waits = Some((asked, room));
        tables.all.insert(id.clone(), Publication { waits, told });
        tables.waiting.push_back(id.clone());
        Ok(id)
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
            done,
            published,
        } = &mut *tables;
        for id in waiting.drain(..) {
            let publication = all.get_mut(&id).expect("what waits is there");
            let asked = publication.waits.take().and_then(|(asked, _)| asked);
            let (found, are_all) = find(asked);
            published.extend(found);
            let status = match are_all {
                true => PublicationStatus::Completed,
                false => PublicationStatus::Failed,
            };
            publication.told.set_status(status);
            publication.told.last_update_time = now();
            done.push_back(id);
            if done.len() > DONE
                && let Some(oldest) = done.pop_front()
            {
                all.remove(&oldest);
            }
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
