//! What a DIR server answers about records.

use tonic::Status;

use super::content::{Order, Stored};
use super::inner::{AlreadyStored, Inner, Validation};
use super::search::Filters;
use crate::cid::Cid;
use crate::proto::core::{RecordMeta, RecordRef};
use crate::proto::events::EventType;
use crate::proto::search::{CountRecordsRequest, CountRecordsResponse, SearchRequest, SortMode};
use crate::record::Record;

type Result<T> = std::result::Result<T, Status>;

/// A CID in a request. `None`: it is malformed, so the store has nothing of that name.
fn named(text: &str) -> Result<Option<Cid>> {
    if text.is_empty() {
        return Err(Status::invalid_argument("record cid is required"));
    }
    Ok(text.parse().ok())
}

fn not_found(text: &str) -> Status {
    Status::not_found(format!("record not found: {text}"))
}

fn refused(reasons: &[String]) -> Status {
    Status::invalid_argument(format!(
        "record validation failed: [{}]",
        reasons.join("; ")
    ))
}

fn not_validated(reason: &str) -> Status {
    Status::internal(format!("failed to validate record: {reason}"))
}

/// It would be as long when it is asked for again.
fn too_long() -> Status {
    Status::invalid_argument("the search takes too long: ask with fewer or shorter queries")
}

impl Inner {
    pub(super) fn push(&self, record: Record) -> Result<RecordRef> {
        if record.data().is_none() {
            return Err(refused(&["record is nil".to_owned()]));
        }
        let cid = record
            .cid()
            .map_err(|error| Status::internal(format!("failed to marshal record: {error}")))?;
        match record.schema_version() {
            None | Some("") => {
                return Err(not_validated(
                    "failed to get schema version from record: schema_version field is missing",
                ));
            }
            Some(_) => {}
        }
        if record.name().is_none_or(str::is_empty) {
            return Err(refused(&["name: is required".to_owned()]));
        }
        match self.validate.as_ref().map(|validate| validate(&record)) {
            None | Some(Validation::Pass) => {}
            Some(Validation::Refuse(reasons)) => return Err(refused(&reasons)),
            Some(Validation::Fail(reason)) => return Err(not_validated(&reason)),
        }
        let is_new = self.insert(cid, record);
        if !is_new && self.already_stored == AlreadyStored::Error {
            return Err(Status::internal(format!(
                "failed to push record: {cid} already exists"
            )));
        }
        Ok(RecordRef {
            cid: cid.to_string(),
        })
    }

    pub(super) fn pull(&self, request: &RecordRef) -> Result<Record> {
        named(&request.cid)?
            .and_then(|cid| {
                let show = |stored: &Stored| self.tell(EventType::RecordPulled, &cid, stored);
                self.content.pull(&cid, show)
            })
            .ok_or_else(|| not_found(&request.cid))
    }

    pub(super) fn lookup(&self, request: &RecordRef) -> Result<RecordMeta> {
        named(&request.cid)?
            .and_then(|cid| self.content.look_up(&cid))
            .ok_or_else(|| not_found(&request.cid))
    }

    /// Idempotent: what is not there is deleted.
    pub(super) fn delete(&self, request: &RecordRef) -> Result<()> {
        let tell = |_| self.tell_deleted(&request.cid);
        match named(&request.cid)? {
            Some(cid) => self.content.remove(&cid, tell),
            None => tell(false),
        }
        Ok(())
    }

    /// Whether it was not there before.
    pub(super) fn insert(&self, cid: Cid, record: Record) -> bool {
        let show = |is_new, stored: &Stored| {
            if is_new || self.already_stored == AlreadyStored::Ref {
                self.tell(EventType::RecordPushed, &cid, stored);
            }
        };
        self.content.insert(cid, record, show)
    }

    /// What the server does with a record for another request is a pull, too, but no use of it.
    pub(super) fn pull_for_itself(&self, cid: &Cid) -> Option<Record> {
        let show = |stored: &Stored| self.tell(EventType::RecordPulled, cid, stored);
        self.content.show(cid, show)
    }

    pub(super) fn tell_deleted(&self, cid: impl ToString) {
        self.events.tell(EventType::RecordDeleted, cid, Vec::new);
    }

    pub(super) fn tell(&self, kind: EventType, cid: &Cid, stored: &Stored) {
        self.events.tell(kind, cid, || stored.labels());
    }

    pub(super) fn search(&self, request: &SearchRequest) -> Result<Vec<Cid>> {
        let filters = Filters::new(&request.queries, self.release_1_2)?;
        let order = match request.sort_mode() {
            // Its database reads them so, without being asked to.
            _ if self.release_1_2 && filters.read_records => Order::OldestFirst,
            _ if self.release_1_2 => Order::ByCid,
            SortMode::Popularity => Order::MostUsedFirst,
            _ => Order::NewestFirst,
        };
        let limit = match request.limit() {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let offset = request.offset() as usize;
        let found = self.content.find(&filters, order, offset, limit);
        found.ok_or_else(too_long)
    }

    pub(super) fn count_records(
        &self,
        request: CountRecordsRequest,
    ) -> Result<CountRecordsResponse> {
        if self.release_1_2 {
            return Err(Status::unimplemented(
                "unknown method CountRecords for service agntcy.dir.search.v1.SearchService",
            ));
        }
        let filters = Filters::new(&request.queries, false)?;
        let count = self.content.count(&filters).ok_or_else(too_long)?;
        Ok(CountRecordsResponse {
            total_count: count.try_into().unwrap_or(u32::MAX),
        })
    }
}
