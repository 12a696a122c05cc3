//! What a DIR server answers about what refers to a record: signatures and public keys.

use std::sync::Arc;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::Status;

use super::content::Added;
use super::inner::{AlreadyStored, Inner};
use crate::cid::Cid;
use crate::error::{Error, ErrorKind};
use crate::proto::core::{RecordRef, RecordReferrer, ReferrerRef};
use crate::proto::store::{
    DeleteReferrerRequest, DeleteReferrerResponse, PullReferrerRequest, PushReferrerRequest,
    PushReferrerResponse,
};
use crate::record::Record;
use crate::referrers::Referrer;

type Result<T> = std::result::Result<T, Status>;

/// The types that a real server of version 1.2.0 knows.
const TYPES: [&str; 2] = [
    "agntcy.dir.sign.v1.PublicKey",
    "agntcy.dir.sign.v1.Signature",
];

/// The longest CID that a request may have, in characters.
const MAX_CID: usize = 128;

impl Inner {
    /// What fails for a reason of its own is told in the answer, and the call goes on.
    pub(super) fn push_referrer(
        &self,
        request: PushReferrerRequest,
    ) -> Result<PushReferrerResponse> {
        let mut violations = Violations::default();
        violations.record("record_ref", request.record_ref.as_ref());
        if request.r#type.is_empty() {
            violations.add("type", REQUIRED);
        } else {
            violations.kind("type", Some(&request.r#type));
        }
        violations.none()?;
        Ok(match self.add_referrer(request) {
            Ok(cid) => PushReferrerResponse {
                success: true,
                error_message: None,
                referrer_ref: Some(ReferrerRef { cid }),
            },
            Err(words) => PushReferrerResponse {
                success: false,
                error_message: Some(words),
                referrer_ref: None,
            },
        })
    }

    /// Its CID, or why it was not added.
    fn add_referrer(&self, request: PushReferrerRequest) -> std::result::Result<String, String> {
        let mut referrer = RecordReferrer {
            r#type: request.r#type,
            record_ref: request.record_ref,
            annotations: request.annotations,
            created_at: request.created_at,
            data: request.data,
            referrer_ref: None,
        };
        let text = referrer.record_ref.clone().unwrap_or_default().cid;
        let failed = |why: String| format!("failed to push referrer for record {text}: {why}");
        let missing = || {
            failed(format!(
                "rpc error: code = NotFound desc = record not found for CID {text}: \
                 rpc error: code = NotFound desc = record not found: {text}"
            ))
        };
        let record: Option<Cid> = text.parse().ok();
        let record = record
            .filter(|cid| self.content.contains(cid))
            .ok_or_else(missing)?;
        let cid = own_cid(&referrer).map_err(|error| {
            failed(format!(
                "rpc error: code = Internal desc = failed to marshal referrer: {error}"
            ))
        })?;
        let own = cid.to_string();
        referrer.referrer_ref = Some(ReferrerRef { cid: own.clone() });
        match self.content.add_referrer(record, cid, referrer) {
            Added::New => Ok(own),
            Added::WasThere if self.already_stored == AlreadyStored::Ref => Ok(own),
            Added::WasThere => Err(failed(format!(
                "failed to push referrer blob: {own}: already exists"
            ))),
            Added::NoRecord => Err(missing()),
        }
    }

    pub(super) fn insert_referrer(&self, referrer: &Referrer) -> std::result::Result<Cid, Error> {
        let data = referrer
            .data
            .data()
            .map(|_| Struct::try_from(&referrer.data));
        let mut kept = RecordReferrer {
            r#type: referrer.referrer_type.clone(),
            record_ref: Some(RecordRef {
                cid: referrer.record.to_string(),
            }),
            annotations: referrer.annotations.clone(),
            created_at: referrer.created_at.clone(),
            data: data.transpose()?,
            referrer_ref: None,
        };
        let cid = own_cid(&kept)?;
        kept.referrer_ref = Some(ReferrerRef {
            cid: cid.to_string(),
        });
        match self.content.add_referrer(referrer.record, cid, kept) {
            Added::New | Added::WasThere => Ok(cid),
            Added::NoRecord => Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no record {} to refer to", referrer.record),
            )),
        }
    }

    pub(super) fn referrers(&self, record: &Cid) -> Vec<Referrer> {
        let mut ahead = self.content.referrers(record);
        let next = || self.content.next_referrer(ahead.as_mut()?, |_| true);
        let read = |one: RecordReferrer| Referrer {
            record: *record,
            referrer_type: one.r#type,
            data: one.data.map_or_else(Record::default, |data| {
                Record::try_from(data).expect("what is stored can be written")
            }),
            annotations: one.annotations,
            created_at: one.created_at,
            cid: one.referrer_ref.and_then(|named| named.cid.parse().ok()),
        };
        std::iter::from_fn(next).map(read).collect()
    }

    /// The matching referrers, each of which is looked up when it is its turn, or `None` where there is no such record:
    /// then a real server sends an empty response and ends the call.
    pub(super) fn pull_referrer(
        self: &Arc<Self>,
        request: PullReferrerRequest,
    ) -> Result<Option<impl Iterator<Item = RecordReferrer> + Send + use<>>> {
        let PullReferrerRequest {
            record_ref,
            referrer_type,
            referrer_ref,
        } = request;
        let mut violations = Violations::default();
        violations.record("record_ref", record_ref.as_ref());
        violations.kind("referrer_type", referrer_type.as_ref());
        violations.referrer(referrer_ref.as_ref());
        violations.none()?;
        let ahead = named(record_ref)
            .1
            .and_then(|cid| self.content.referrers(&cid));
        let store = Arc::clone(self);
        Ok(ahead.map(|mut ahead| {
            std::iter::from_fn(move || {
                let of = matching(referrer_type.as_ref(), referrer_ref.as_ref());
                store.content.next_referrer(&mut ahead, of)
            })
        }))
    }

    pub(super) fn delete_referrer(
        &self,
        request: DeleteReferrerRequest,
    ) -> Result<DeleteReferrerResponse> {
        let mut violations = Violations::default();
        violations.record("record", request.record.as_ref());
        violations.referrer(request.referrer_ref.as_ref());
        violations.kind("referrer_type", request.referrer_type.as_ref());
        violations.none()?;
        let of = matching(
            request.referrer_type.as_ref(),
            request.referrer_ref.as_ref(),
        );
        let (text, cid) = named(request.record);
        let deleted = cid
            .and_then(|cid| self.content.remove_referrers(&cid, of))
            .ok_or_else(|| {
                Status::not_found(format!(
                    "failed to resolve record manifest for CID {text}: not found"
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

/// A referrer is named by its content, as a record is, and that it is for a record is a part of it.
fn own_cid(referrer: &RecordReferrer) -> std::result::Result<Cid, Error> {
    let text = |text: &String| Kind::StringValue(text.clone());
    let object = |fields: Vec<(String, Kind)>| Struct {
        fields: fields
            .into_iter()
            .map(|(key, kind)| (key, Value { kind: Some(kind) }))
            .collect(),
    };
    let mut fields = vec![("type".to_owned(), text(&referrer.r#type))];
    if let Some(RecordRef { cid }) = &referrer.record_ref {
        let cid = vec![("cid".to_owned(), text(cid))];
        fields.push(("record_ref".to_owned(), Kind::StructValue(object(cid))));
    }
    if !referrer.annotations.is_empty() {
        let entry = |(key, value): (&String, &String)| (key.clone(), text(value));
        let annotations = referrer.annotations.iter().map(entry).collect();
        let annotations = Kind::StructValue(object(annotations));
        fields.push(("annotations".to_owned(), annotations));
    }
    if !referrer.created_at.is_empty() {
        fields.push(("created_at".to_owned(), text(&referrer.created_at)));
    }
    if let Some(data) = &referrer.data {
        fields.push(("data".to_owned(), Kind::StructValue(data.clone())));
    }
    Record::try_from(object(fields))?.cid()
}

/// The text of a CID, and the CID, unless it is malformed: then there is nothing of that name.
fn named(record_ref: Option<RecordRef>) -> (String, Option<Cid>) {
    let text = record_ref.unwrap_or_default().cid;
    let cid = text.parse().ok();
    (text, cid)
}

const REQUIRED: &str = "value is required";

/// What is wrong with the fields of a request, in their order and in the words of DIR's own checks.
#[derive(Default)]
struct Violations(Vec<String>);

impl Violations {
    fn add(&mut self, field: &str, words: &str) {
        self.0.push(format!("{field}: {words}"));
    }

    fn record(&mut self, field: &str, record_ref: Option<&RecordRef>) {
        match record_ref {
            None => self.add(field, REQUIRED),
            Some(RecordRef { cid }) => self.cid(field, cid),
        }
    }

    fn referrer(&mut self, referrer_ref: Option<&ReferrerRef>) {
        if let Some(ReferrerRef { cid }) = referrer_ref {
            self.cid("referrer_ref", cid);
        }
    }

    fn cid(&mut self, field: &str, cid: &str) {
        let field = format!("{field}.cid");
        if cid.is_empty() {
            self.add(&field, REQUIRED);
        } else if cid.chars().count() > MAX_CID {
            self.add(&field, "value must be a valid CID");
        }
    }

    fn kind(&mut self, field: &str, kind: Option<&String>) {
        if kind.is_some_and(|kind| !TYPES.contains(&kind.as_str())) {
            self.add(field, "value must be a valid referrer type");
        }
    }

    fn none(self) -> Result<()> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(Status::invalid_argument(format!("validation error: {one}"))),
            several => Err(Status::invalid_argument(format!(
                "validation errors:\n - {}",
                several.join("\n - ")
            ))),
        }
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
