//! What the store holds: records by CID, and what refers to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use crate::cid::Cid;
use crate::proto::core::{RecordMeta, RecordReferrer};
use crate::record::Record;

#[derive(Default)]
pub(super) struct Content {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    records: HashMap<Cid, Stored>,
    /// By the record they refer to, in the order they came.
    referrers: HashMap<Cid, Vec<RecordReferrer>>,
    /// The record that each of them refers to, by its own CID.
    referred: HashMap<Cid, Cid>,
}

impl Tables {
    /// Takes those that match from what refers to a record.
    fn take_referrers(
        &mut self,
        cid: &Cid,
        matches: impl Fn(&RecordReferrer) -> bool,
    ) -> Vec<RecordReferrer> {
        let Some(referrers) = self.referrers.get_mut(cid) else {
            return Vec::new();
        };
        let taken: Vec<_> = referrers.extract_if(.., |one| matches(one)).collect();
        if referrers.is_empty() {
            self.referrers.remove(cid);
        }
        for own in taken.iter().filter_map(own_cid) {
            self.referred.remove(&own);
        }
        taken
    }
}

/// The CID of a referrer that is stored.
fn own_cid(referrer: &RecordReferrer) -> Option<Cid> {
    referrer.referrer_ref.as_ref()?.cid.parse().ok()
}

/// What became of a referrer.
pub(super) enum Added {
    New,
    WasThere,
    /// There is no record for it to refer to.
    NoRecord,
}

struct Stored {
    record: Record,
    meta: RecordMeta,
}

/// What a lookup tells of a record, beside its CID.
#[derive(Default, Deserialize)]
struct Described {
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
    #[serde(default)]
    schema_version: Value,
    #[serde(default)]
    created_at: Value,
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn describe(cid: &Cid, record: &Record) -> RecordMeta {
    // Annotations of another shape than text by text are none.
    let described: Described = record.deserialize().unwrap_or_default();
    RecordMeta {
        cid: cid.to_string(),
        annotations: described
            .annotations
            .into_iter()
            .map(|(key, value)| (key, text(value)))
            .collect(),
        schema_version: text(described.schema_version),
        created_at: text(described.created_at),
    }
}

impl Content {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was not there before.
    pub(super) fn insert(&self, cid: Cid, record: Record) -> bool {
        let mut tables = self.tables();
        if tables.records.contains_key(&cid) {
            return false;
        }
        let meta = describe(&cid, &record);
        tables.records.insert(cid, Stored { record, meta });
        true
    }

    pub(super) fn contains(&self, cid: &Cid) -> bool {
        self.tables().records.contains_key(cid)
    }

    pub(super) fn record(&self, cid: &Cid) -> Option<Record> {
        let tables = self.tables();
        tables.records.get(cid).map(|stored| stored.record.clone())
    }

    pub(super) fn meta(&self, cid: &Cid) -> Option<RecordMeta> {
        let tables = self.tables();
        tables.records.get(cid).map(|stored| stored.meta.clone())
    }

    /// A record that is not the one of this CID.
    pub(super) fn other_than(&self, cid: &Cid) -> Record {
        let tables = self.tables();
        let other = tables.records.iter().find(|(other, _)| *other != cid);
        other
            .map_or_else(
                || Record::from_serialize(&BTreeMap::from([("name", "another record")])),
                |(_, stored)| Ok(stored.record.clone()),
            )
            .expect("an object of one text is a record")
    }

    /// Removes a record and what refers to it, or, as a real server does, a referrer by its own CID.
    pub(super) fn remove(&self, cid: &Cid) {
        let mut tables = self.tables();
        tables.records.remove(cid);
        tables.take_referrers(cid, |_| true);
        if let Some(record) = tables.referred.get(cid).copied() {
            tables.take_referrers(&record, |one| own_cid(one).as_ref() == Some(cid));
        }
    }

    pub(super) fn clear(&self) {
        *self.tables() = Tables::default();
    }

    pub(super) fn len(&self) -> usize {
        self.tables().records.len()
    }

    pub(super) fn cids(&self) -> Vec<Cid> {
        let mut cids: Vec<Cid> = self.tables().records.keys().copied().collect();
        cids.sort();
        cids
    }

    pub(super) fn add_referrer(&self, record: Cid, own: Cid, referrer: RecordReferrer) -> Added {
        let mut tables = self.tables();
        if !tables.records.contains_key(&record) {
            return Added::NoRecord;
        }
        if tables.referred.insert(own, record).is_some() {
            return Added::WasThere;
        }
        tables.referrers.entry(record).or_default().push(referrer);
        Added::New
    }

    /// `None`: the record is not there.
    pub(super) fn referrers(
        &self,
        cid: &Cid,
        matches: impl Fn(&RecordReferrer) -> bool,
    ) -> Option<Vec<RecordReferrer>> {
        let tables = self.tables();
        tables.records.get(cid)?;
        let all = tables.referrers.get(cid).into_iter().flatten();
        Some(all.filter(|referrer| matches(referrer)).cloned().collect())
    }

    /// `None`: the record is not there.
    pub(super) fn remove_referrers(
        &self,
        cid: &Cid,
        matches: impl Fn(&RecordReferrer) -> bool,
    ) -> Option<Vec<RecordReferrer>> {
        let mut tables = self.tables();
        tables.records.get(cid)?;
        Some(tables.take_referrers(cid, matches))
    }

    /// The CID of a referrer that is not this one.
    pub(super) fn other_referrer_than(&self, cid: &str) -> Cid {
        let tables = self.tables();
        let mut others = tables.referred.keys();
        let other = others.find(|other| other.to_string() != cid).copied();
        other.unwrap_or_else(|| Cid::of(b"another referrer"))
    }
}
