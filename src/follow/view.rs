//! Which records a store has, as far as lists and events tell.
//!
//! A plain state machine with no I/O, and no clock but the times that it is told.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Change;
use crate::cid::{Cid, CidMap};

/// How long what a server lists may be older than what it has told by events. It tells that a record was stored or deleted,
/// and only then changes the database in which it searches.
pub(super) const LAG: Duration = Duration::from_secs(5);

/// How many records are looked at together for what is there no more.
const LOOKED_AT: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct View {
    /// Each with the list that it was last in. Behind 255 the numbers begin again: a record that is gone may then be taken for
    /// one that is there, until the next list.
    known: CidMap<u8>,
    list: u8,
    /// What came by events lately.
    came: VecDeque<(Instant, Cid)>,
    /// What went by events lately, or since the list has begun.
    went: HashMap<Cid, Instant>,
    is_listing: bool,
    /// Whether a first list has come to its end.
    is_init_done: bool,
    /// What went before that.
    went_before: VecDeque<Cid>,
    /// While what is left over from older lists is looked for: the last that was looked at.
    sweeps: Option<Option<Cid>>,
}

impl View {
    /// An event tells that this record was stored.
    pub(super) fn came(&mut self, cid: Cid, now: Instant) -> Option<Change> {
        self.forget(now);
        self.went.remove(&cid);
        self.came.push_back((now, cid));
        self.insert(cid)
    }

    /// An event tells that this record was deleted.
    pub(super) fn went(&mut self, cid: Cid, now: Instant) -> Option<Change> {
        self.forget(now);
        self.went.insert(cid, now);
        self.known.remove(&cid)?;
        if self.is_init_done {
            return Some(Change::Delete(cid));
        }
        self.went_before.push_back(cid);
        None
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self, now: Instant) {
        self.forget(now);
        self.is_listing = true;
        self.list = self.list.wrapping_add(1);
        for (_, cid) in &self.came {
            if let Some(list) = self.known.get_mut(cid) {
                *list = self.list;
            }
        }
    }

    /// The list has this record.
    pub(super) fn listed(&mut self, cid: Cid) -> Option<Change> {
        match self.went.contains_key(&cid) {
            true => None,
            false => self.insert(cid),
        }
    }

    /// The list is over. If it was whole, what it did not have is gone: [`sweep`](Self::sweep).
    pub(super) fn end_list(&mut self, is_whole: bool) -> Option<Change> {
        self.is_listing = false;
        if !is_whole {
            return None;
        }
        self.sweeps = Some(None);
        let is_first = !std::mem::replace(&mut self.is_init_done, true);
        is_first.then_some(Change::InitDone)
    }

    /// The next records that are gone, some at a time. `None`: there are no more.
    pub(super) fn sweep(&mut self) -> Option<Vec<Change>> {
        let last = self.sweeps?;
        if let Some(cid) = self.went_before.pop_front() {
            // It may have come again.
            let is_gone = !self.known.contains(&cid);
            return Some(Vec::from_iter(is_gone.then_some(Change::Delete(cid))));
        }
        let looked_at = self.known.behind(last, LOOKED_AT);
        let Some((last, _)) = looked_at.last() else {
            self.sweeps = None;
            return None;
        };
        self.sweeps = Some(Some(*last));
        let gone = looked_at.iter().filter(|(_, list)| *list != self.list);
        let gone: Vec<Cid> = gone.map(|(cid, _)| *cid).collect();
        for cid in &gone {
            self.known.remove(cid);
        }
        Some(gone.into_iter().map(Change::Delete).collect())
    }

    fn insert(&mut self, cid: Cid) -> Option<Change> {
        let is_new = self.known.insert(&cid, self.list).is_none();
        is_new.then_some(match self.is_init_done {
            true => Change::Apply(cid),
            false => Change::InitApply(cid),
        })
    }

    /// Forgets what lists know by now.
    fn forget(&mut self, now: Instant) {
        if self.is_listing {
            return;
        }
        let is_old = |at: Instant| now.saturating_duration_since(at) > LAG;
        while self.came.front().is_some_and(|(at, _)| is_old(*at)) {
            self.came.pop_front();
        }
        self.went.retain(|_, at| !is_old(*at));
    }
}
