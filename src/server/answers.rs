//! What a DIR server answers to each request.

use tonic::Status;

use super::inner::{AlreadyStored, Inner, Validation};
use crate::cid::Cid;
use crate::proto::core::{RecordMeta, RecordRef, RecordReferrer, ReferrerRef};
use crate::proto::store::{
    DeleteReferrerRequest, DeleteReferrerResponse, PullReferrerRequest, PullReferrerResponse,
    PushReferrerRequest, PushReferrerResponse,
};
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

    /// A record that is not there is told in the answer, and the call goes on.
    pub(super) fn push_referrer(
        &self,
        request: PushReferrerRequest,
    ) -> Result<PushReferrerResponse> {
        let record_ref = required("record_ref", request.record_ref)?;
        if request.r#type.is_empty() {
            return Err(invalid("type: value is required"));
        }
        known("type", Some(&request.r#type))?;
        let text = record_ref.cid.clone();
        let mut referrer = RecordReferrer {
            r#type: request.r#type,
            record_ref: Some(record_ref),
            annotations: request.annotations,
            created_at: request.created_at,
            data: request.data,
            referrer_ref: None,
        };
        // Named by its content, like a record.
        let own = Cid::of(&prost::Message::encode_to_vec(&referrer)).to_string();
        let referrer_ref = ReferrerRef { cid: own };
        referrer.referrer_ref = Some(referrer_ref.clone());
        let cid: Option<Cid> = text.parse().ok();
        Ok(match cid {
            Some(cid) if self.content.add_referrer(cid, referrer) => PushReferrerResponse {
                success: true,
                error_message: None,
                referrer_ref: Some(referrer_ref),
            },
            _ => PushReferrerResponse {
                success: false,
                error_message: Some(format!(
                    "failed to push referrer for record {text}: record not found"
                )),
                referrer_ref: None,
            },
        })
    }

    /// The matching referrers, or `None` where there is no such record: then a real server sends
    /// an empty response and ends the call.
    pub(super) fn pull_referrer(
        &self,
        request: PullReferrerRequest,
    ) -> Result<Option<Vec<PullReferrerResponse>>> {
        let record_ref = required("record_ref", request.record_ref)?;
        known("referrer_type", request.referrer_type.as_ref())?;
        let of = matching(
            request.referrer_type.as_ref(),
            request.referrer_ref.as_ref(),
        );
        let cid: Option<Cid> = record_ref.cid.parse().ok();
        let found = cid.and_then(|cid| self.content.referrers(&cid, of));
        let response = |referrer| PullReferrerResponse {
            referrer: Some(referrer),
        };
        Ok(found.map(|found| found.into_iter().map(response).collect()))
    }

    pub(super) fn delete_referrer(
        &self,
        request: DeleteReferrerRequest,
    ) -> Result<DeleteReferrerResponse> {
        let record_ref = required("record", request.record)?;
        known("referrer_type", request.referrer_type.as_ref())?;
        let of = matching(
            request.referrer_type.as_ref(),
            request.referrer_ref.as_ref(),
        );
        let cid: Option<Cid> = record_ref.cid.parse().ok();
        let deleted = cid
            .and_then(|cid| self.content.remove_referrers(&cid, of))
            .ok_or_else(|| {
                Status::not_found(format!(
                    "failed to resolve record manifest for CID {}: not found",
                    record_ref.cid
                ))
            })?;
        Ok(DeleteReferrerResponse {
            referrer_refs: deleted
                .into_iter()
                .filter_map(|referrer| referrer.referrer_ref)
                .collect(),
        })
    }
}

/// The referrer types that a real server knows.
const REFERRER_TYPES: [&str; 3] = [
    "agntcy.dir.sign.v1.PublicKey",
    "agntcy.dir.sign.v1.Signature",
    "agntcy.dir.security.v1.ScanReport",
];

fn invalid(what: &str) -> Status {
    Status::invalid_argument(format!("validation error: {what}"))
}

fn required(field: &str, record_ref: Option<RecordRef>) -> Result<RecordRef> {
    match record_ref {
        None => Err(invalid(&format!("{field}: value is required"))),
        Some(RecordRef { cid }) if cid.is_empty() => {
            Err(invalid(&format!("{field}.cid: value is required")))
        }
        Some(record_ref) => Ok(record_ref),
    }
}

fn known(field: &str, kind: Option<&String>) -> Result<()> {
    if kind.is_none_or(|kind| REFERRER_TYPES.contains(&kind.as_str())) {
        return Ok(());
    }
    Err(invalid(&format!(
        "{field}: value must be a valid referrer type"
    )))
}

/// What is not asked for matches.
fn matching<'a>(
    kind: Option<&'a String>,
    referrer_ref: Option<&'a ReferrerRef>,
) -> impl Fn(&RecordReferrer) -> bool + 'a {
    move |referrer| {
        kind.is_none_or(|kind| *kind == referrer.r#type)
            && referrer_ref.is_none_or(|asked| Some(asked) == referrer.referrer_ref.as_ref())
    }
}
