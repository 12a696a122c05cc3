//! What the store holds: records by CID, and what refers to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use super::search::{Filters, Searched};
use super::steps::Steps;
use crate::cid::Cid;
use crate::proto::core::{RecordMeta, RecordReferrer};
use crate::record::{MAX_RECORD_LEN, Record};

/// What a search may take in steps: so many, which is twice what the longest record may take to be read,
const SEARCH: usize = 2 * MAX_RECORD_LEN;

/// and so many for each record that there is. One of a few patterns takes some hundred for an ordinary record.
const SEARCH_EACH: usize = 1 << 13;

#[derive(Default)]
pub(super) struct Content {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    records: HashMap<Cid, Stored>,
    /// The records in the order they came.
    order: BTreeMap<u64, Cid>,
    /// By the record they refer to, in the order they came.
    referrers: HashMap<Cid, BTreeMap<u64, RecordReferrer>>,
    /// The record that each of them refers to, and its key there, by its own CID.
    referred: HashMap<Cid, (Cid, u64)>,
}

impl Tables {
    fn steps_of_a_search(&self) -> Steps {
        let each = SEARCH_EACH.saturating_mul(self.records.len());
        Steps::new(each.saturating_add(SEARCH))
    }

    /// Takes those that match from what refers to a record.
    fn take_referrers(
        &mut self,
        cid: &Cid,
        matches: impl Fn(&RecordReferrer) -> bool,
    ) -> Vec<RecordReferrer> {
        let Some(referrers) = self.referrers.get_mut(cid) else {
            return Vec::new();
        };
        let matching = referrers.iter().filter(|(_, one)| matches(one));
        let places: Vec<_> = matching.map(|(place, _)| *place).collect();
        let taken: Vec<_> = places
            .iter()
            .filter_map(|place| referrers.remove(place))
            .collect();
        if referrers.is_empty() {
            self.referrers.remove(cid);
        }
        for own in taken.iter().filter_map(own_cid) {
            self.referred.remove(&own);
        }
        taken
    }
}

/// The place behind the last of those in an order.
fn behind<T>(ordered: &BTreeMap<u64, T>) -> u64 {
    ordered.last_key_value().map_or(0, |(last, _)| last + 1)
}

/// The CID of a referrer that is stored.
fn own_cid(referrer: &RecordReferrer) -> Option<Cid> {
    referrer.referrer_ref.as_ref()?.cid.parse().ok()
}

/// What refers to a record, as far as nobody has looked at it. What comes later is not in it, and what is gone by
/// then is passed over.
pub(super) struct Referrers {
    record: Cid,
    places: Range<u64>,
}

/// What became of a referrer.
pub(super) enum Added {
    New,
    WasThere,
    /// There is no record for it to refer to.
    NoRecord,
}

/// A record, and what is known of it.
pub(super) struct Stored {
    record: Record,
    meta: RecordMeta,
    /// Read when somebody first searches, or listens: most stores are only pushed to and pulled from.
    searched: OnceLock<Option<Searched>>,
    /// Its key in the order.
    place: u64,
    /// How often it was pulled or looked up.
    used: u64,
}

impl Stored {
    /// The labels of its events.
    pub(super) fn labels(&self) -> Vec<String> {
        let labels = |one: &Searched| one.labels(&self.meta.schema_version);
        self.searched().map_or_else(Vec::new, labels)
    }

    fn is_found(&self, filters: &Filters, steps: &Steps) -> bool {
        let finds = |one| filters.find(&self.meta, one, steps);
        !steps.are_spent() && self.searched().is_some_and(finds)
    }

    fn searched(&self) -> Option<&Searched> {
        let searched = self.searched.get_or_init(|| Searched::of(&self.record));
        searched.as_ref()
    }
}

/// In which order records are listed.
#[derive(Clone, Copy)]
pub(super) enum Order {
    NewestFirst,
    OldestFirst,
    ByCid,
    /// Of those that are used as much, the newest first.
    MostUsedFirst,
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

fn page<'a>(found: impl Iterator<Item = &'a Cid>, offset: usize, limit: usize) -> Vec<Cid> {
    found.skip(offset).take(limit).copied().collect()
}

impl Content {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether it was not there before, and shows it as it is stored then. What is told while it is shown is told
    /// before anything else becomes of it.
    pub(super) fn insert(
        &self,
        cid: Cid,
        record: Record,
        show: impl FnOnce(bool, &Stored),
    ) -> bool {
        let mut tables = self.tables();
        if let Some(stored) = tables.records.get(&cid) {
            show(false, stored);
            return false;
        }
        let stored = Stored {
            meta: describe(&cid, &record),
            searched: OnceLock::new(),
            record,
            place: behind(&tables.order),
            used: 0,
        };
        show(true, &stored);
        tables.order.insert(stored.place, cid);
        tables.records.insert(cid, stored);
        true
    }

    pub(super) fn contains(&self, cid: &Cid) -> bool {
        self.tables().records.contains_key(cid)
    }

    pub(super) fn record(&self, cid: &Cid) -> Option<Record> {
        let tables = self.tables();
        tables.records.get(cid).map(|stored| stored.record.clone())
    }

    /// The record for somebody who uses it.
    pub(super) fn pull(&self, cid: &Cid, show: impl FnOnce(&Stored)) -> Option<Record> {
        let mut tables = self.tables();
        let stored = tables.records.get_mut(cid)?;
        stored.used += 1;
        show(stored);
        Some(stored.record.clone())
    }

    /// The record, which is shown first.
    pub(super) fn show(&self, cid: &Cid, show: impl FnOnce(&Stored)) -> Option<Record> {
        let tables = self.tables();
        let stored = tables.records.get(cid)?;
        show(stored);
        Some(stored.record.clone())
    }

    pub(super) fn look_up(&self, cid: &Cid) -> Option<RecordMeta> {
        let mut tables = self.tables();
        let stored = tables.records.get_mut(cid)?;
        stored.used += 1;
        Some(stored.meta.clone())
    }

    /// The records that filters find, so many of them at most, without so many of the first. `None`: that takes too
    /// long.
    pub(super) fn find(
        &self,
        filters: &Filters,
        order: Order,
        offset: usize,
        limit: usize,
    ) -> Option<Vec<Cid>> {
        let tables = self.tables();
        let steps = tables.steps_of_a_search();
        let is_found = |cid: &&Cid| tables.records[*cid].is_found(filters, &steps);
        let all = tables.order.values();
        let found = match order {
            Order::OldestFirst => page(all.filter(is_found), offset, limit),
            Order::ByCid => {
                let mut found: Vec<_> = all.filter(is_found).collect();
                // As text, in which digits come before letters.
                found.sort_by_cached_key(|cid| cid.to_string());
                page(found.into_iter(), offset, limit)
            }
            Order::NewestFirst => page(all.rev().filter(is_found), offset, limit),
            Order::MostUsedFirst => {
                let mut found: Vec<_> = all.rev().filter(is_found).collect();
                found.sort_by_key(|cid| Reverse(tables.records[*cid].used));
                page(found.into_iter(), offset, limit)
            }
        };
        (!steps.are_spent()).then_some(found)
    }

    /// `None`: that takes too long.
    pub(super) fn count(&self, filters: &Filters) -> Option<usize> {
        let tables = self.tables();
        let steps = tables.steps_of_a_search();
        let all = tables.records.values();
        let count = all
            .filter(|stored| stored.is_found(filters, &steps))
            .count();
        (!steps.are_spent()).then_some(count)
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
    /// Shows whether the record was there, before anything else becomes of it.
    pub(super) fn remove(&self, cid: &Cid, show: impl FnOnce(bool)) {
        let mut tables = self.tables();
        let removed = tables.records.remove(cid);
        if let Some(stored) = &removed {
            tables.order.remove(&stored.place);
        }
        show(removed.is_some());
        tables.take_referrers(cid, |_| true);
        if let Some((record, place)) = tables.referred.remove(cid)
            && let Some(others) = tables.referrers.get_mut(&record)
        {
            others.remove(&place);
            if others.is_empty() {
                tables.referrers.remove(&record);
            }
        }
    }

    /// Shows the records that were there, the oldest first.
    pub(super) fn clear(&self, show: impl FnMut(&Cid)) {
        let mut tables = self.tables();
        tables.order.values().for_each(show);
        *tables = Tables::default();
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
        if tables.referred.contains_key(&own) {
            return Added::WasThere;
        }
        let others = tables.referrers.entry(record).or_default();
        let place = behind(others);
        others.insert(place, referrer);
        tables.referred.insert(own, (record, place));
        Added::New
    }

    /// `None`: the record is not there.
    pub(super) fn referrers(&self, cid: &Cid) -> Option<Referrers> {
        let tables = self.tables();
        tables.records.get(cid)?;
        Some(Referrers {
            record: *cid,
            places: 0..tables.referrers.get(cid).map_or(0, behind),
        })
    }

    /// The next of them that matches.
    pub(super) fn next_referrer(
        &self,
        of: &mut Referrers,
        matches: impl Fn(&RecordReferrer) -> bool,
    ) -> Option<RecordReferrer> {
        let tables = self.tables();
        let mut ahead = tables.referrers.get(&of.record)?.range(of.places.clone());
        let (place, next) = ahead.find(|(_, one)| matches(one))?;
        of.places.start = place + 1;
        Some(next.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn own(number: u8) -> Cid {
        Cid::of(&[number])
    }

    fn add(content: &Content, record: Cid, number: u8) {
        let referrer = RecordReferrer {
            r#type: number.to_string(),
            ..RecordReferrer::default()
        };
        let added = content.add_referrer(record, own(number), referrer);
        assert!(matches!(added, Added::New), "{number}");
    }

    #[test]
    fn referrers_that_come_are_not_looked_at_and_those_that_go_are_passed_over() {
        let content = Content::default();
        let record = content.other_than(&own(0));
        let cid = Cid::of(b"record");
        content.insert(cid, record, |_, _| {});
        for number in 1..=5 {
            add(&content, cid, number);
        }
        let mut ahead = content.referrers(&cid).expect("the record is there");
        let mut next = || {
            let next = content.next_referrer(&mut ahead, |one| one.r#type != "4");
            next.map(|one| one.r#type)
        };
        assert_eq!(next().as_deref(), Some("1"));
        for gone in [1, 2] {
            content.remove(&own(gone), |_| {});
        }
        add(&content, cid, 6);
        assert_eq!(next().as_deref(), Some("3"));
        assert_eq!(next().as_deref(), Some("5"));
        assert_eq!(next(), None);
        content.remove(&cid, |_| {});
        assert_eq!(next(), None);
        assert!(content.referrers(&cid).is_none());
    }
}
