//! What became of one input: a line of the results.

use std::collections::BTreeMap;
use std::fmt;

use agntcy_dir_stream::{Cid, ErrorKind, Failed, Record, Referrer, TryFailed};
use serde::Serialize;
use serde_json::Value;

use crate::input::{Origin, Unread};

/// As it is printed. The names of the fields stay as they are; there may be more of them later.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) index: u64,
    #[serde(flatten)]
    pub(crate) origin: Option<Origin>,
    /// Of what succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cid: Option<Cid>,
    #[serde(flatten)]
    pub(crate) done: Done,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Failure>,
}

/// What was done, as far as there is more to say than a CID.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) already_stored: Option<bool>,
    /// The index of an input before it that is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicate_of: Option<u64>,
    /// What was not done, and would have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) would: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exists: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Of what was to be signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publication: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) referrers: Option<Vec<Value>>,
    /// Where the record was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<Record>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// What failed: `push`, `sign`, `publish`; `input` for what is no input.
    pub(crate) stage: &'static str,
    /// By the name that [`ErrorKind::as_str`] gives it.
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// How many calls have carried it; 0: it never left.
    pub(crate) attempts: u32,
    /// The CID that was put in, or that the record has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cid: Option<Cid>,
}

impl Outcome {
    pub(crate) fn new(index: u64, origin: Option<Origin>, cid: Cid) -> Self {
        Self {
            index,
            origin,
            cid: Some(cid),
            done: Done::default(),
            error: None,
        }
    }

    pub(crate) fn failed(index: u64, origin: Option<Origin>, error: Failure) -> Self {
        Self {
            index,
            origin,
            cid: None,
            done: Done::default(),
            error: Some(error),
        }
    }

    pub(crate) fn unread(index: u64, unread: Unread) -> Self {
        let failure = Failure {
            stage: "input",
            kind: unread.kind,
            message: unread.message,
            attempts: 0,
            cid: None,
        };
        Self::failed(index, unread.origin, failure)
    }

    pub(crate) fn of_item<I, T>(
        failed: Failed<I, T>,
        origin: Option<Origin>,
        cid: Option<Cid>,
    ) -> Self {
        let failure = Failure {
            stage: failed.operation,
            kind: failed.kind(),
            message: words(&failed.error),
            attempts: failed.attempts,
            cid,
        };
        let mut outcome = Self::failed(failed.index, origin, failure);
        outcome.done.duplicate_of = failed.duplicate_of;
        outcome
    }

    /// Of an input that names a record.
    pub(crate) fn of_ref(failed: TryFailed<Unread, Cid, Option<Origin>>) -> Self {
        match failed {
            TryFailed::Input(unread) => Self::unread(unread.index, unread.error),
            TryFailed::Item(failed) => {
                let (failed, origin) = failed.take_tag();
                let cid = failed.input;
                Self::of_item(failed, origin, Some(cid))
            }
        }
    }

    /// What stands at the place of this input: for people.
    pub(crate) fn place(&self) -> Place<'_> {
        Place(self)
    }
}

pub(crate) struct Place<'a>(&'a Outcome);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cid = self
            .0
            .cid
            .or(self.0.error.as_ref().and_then(|error| error.cid));
        match (&self.0.origin, cid) {
            (Some(Origin { file, line: 0 }), _) => f.write_str(file),
            (Some(Origin { file, line }), _) => write!(f, "{file}:{line}"),
            (None, Some(cid)) => cid.fmt(f),
            (None, None) => write!(f, "input {}", self.0.index),
        }
    }
}

/// An error with the causes behind it, in one line.
pub(crate) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}

/// A referrer as it is printed, and read.
pub(crate) fn referrer(referrer: &Referrer) -> Value {
    serde_json::json!({
        "cid": referrer.record,
        "type": referrer.referrer_type,
        "data": referrer.data.data().map(|_| &referrer.data),
        "annotations": referrer.annotations,
        "created_at": referrer.created_at,
    })
}
