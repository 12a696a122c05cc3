//! What a DIR server answers about records.

use tonic::Status;

use super::inner::{AlreadyStored, Inner, Validation};
use crate::cid::Cid;
use crate::proto::core::{RecordMeta, RecordRef};
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
        let is_new = self.content.insert(cid, record);
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
            .and_then(|cid| self.content.record(&cid))
            .ok_or_else(|| not_found(&request.cid))
    }

    pub(super) fn lookup(&self, request: &RecordRef) -> Result<RecordMeta> {
        named(&request.cid)?
            .and_then(|cid| self.content.meta(&cid))
            .ok_or_else(|| not_found(&request.cid))
    }

    /// Idempotent: what is not there is deleted.
    pub(super) fn delete(&self, request: &RecordRef) -> Result<()> {
        if let Some(cid) = named(&request.cid)? {
            self.content.remove(&cid);
        }
        Ok(())
    }
}
