//! What a DIR server answers to each request.

use tonic::Status;

use super::store::{AlreadyStored, Inner, Validation};
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
            None | Some("") => return Err(not_validated("the record has no schema_version")),
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

    /// What is wrong is in the answer, and the call goes on.
    pub(super) fn push_referrer(&self, request: PushReferrerRequest) -> PushReferrerResponse {
        match self.referrer(request) {
            Ok(referrer_ref) => PushReferrerResponse {
                success: true,
                error_message: None,
                referrer_ref: Some(referrer_ref),
            },
            Err(message) => PushReferrerResponse {
                success: false,
                error_message: Some(message),
                referrer_ref: None,
            },
        }
    }

    fn referrer(&self, request: PushReferrerRequest) -> std::result::Result<ReferrerRef, String> {
        let record_ref = request.record_ref.unwrap_or_default();
        let named = named(&record_ref.cid).map_err(|status| status.message().to_owned())?;
        if request.r#type.is_empty() {
            return Err("referrer type is required".to_owned());
        }
        let not_found = not_found(&record_ref.cid).message().to_owned();
        let Some(cid) = named else {
            return Err(not_found);
        };
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
        match self.content.add_referrer(cid, referrer) {
            true => Ok(referrer_ref),
            false => Err(not_found),
        }
    }

    /// The matching referrers, or `None`, where a real server sends an empty response and ends
    /// the call.
    pub(super) fn pull_referrer(
        &self,
        request: &PullReferrerRequest,
    ) -> Result<Option<Vec<PullReferrerResponse>>> {
        let record_ref = request.record_ref.clone().unwrap_or_default();
        let cid = named(&record_ref.cid)?;
        let of = matching(
            request.referrer_type.as_ref(),
            request.referrer_ref.as_ref(),
        );
        let found = cid.and_then(|cid| self.content.referrers(&cid, of));
        Ok(found.map(|found| {
            found
                .into_iter()
                .map(|referrer| PullReferrerResponse {
                    referrer: Some(referrer),
                })
                .collect()
        }))
    }

    pub(super) fn delete_referrer(
        &self,
        request: &DeleteReferrerRequest,
    ) -> Result<DeleteReferrerResponse> {
        let record_ref = request.record.clone().unwrap_or_default();
        let cid = named(&record_ref.cid)?;
        let of = matching(
            request.referrer_type.as_ref(),
            request.referrer_ref.as_ref(),
        );
        let deleted = cid.map(|cid| self.content.remove_referrers(&cid, of));
        Ok(DeleteReferrerResponse {
            referrer_refs: deleted
                .into_iter()
                .flatten()
                .filter_map(|referrer| referrer.referrer_ref)
                .collect(),
        })
    }
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
