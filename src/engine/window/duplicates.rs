//! Items that are the same as one before them in the window: they have that one's outcome, and are not sent.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::Window;
use super::slot::State;
use crate::cid::Cid;
use crate::error::Error;

/// Which items of the window are the same. Those that are make a group, by the index of its first. One of them is
/// tried, and the others wait for its outcome.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// The item of each content whose outcome others have, by the beginning of its CID.
    tried: HashMap<u64, u64, BuildHasherDefault<Beginning>>,
    /// The groups of items that wait, and of those that are tried though they are not the first of theirs.
    group_of: BTreeMap<u64, u64>,
    /// Who waits: the group and the item.
    waiting: BTreeSet<(u64, u64)>,
    /// Which item these have their outcome from, until they are handed out.
    outcome_of: BTreeMap<u64, u64>,
}

impl Duplicates {
    /// Those that are the same have the same.
    pub(super) fn group(&self, index: u64) -> u64 {
        self.group_of.get(&index).copied().unwrap_or(index)
    }

    /// Whether its outcome is that of another item.
    pub(super) fn has_outcome_of_another(&self, index: u64) -> bool {
        self.outcome_of.contains_key(&index)
    }

    /// The next of the group that waits.
    fn next(&self, group: u64) -> Option<u64> {
        let mut waiting = self.waiting.range((group, 0)..=(group, u64::MAX));
        waiting.next().map(|(_, index)| *index)
    }

    /// The item waits no more.
    pub(super) fn waits_no_more(&mut self, index: u64) {
        let group = self.group(index);
        self.waiting.remove(&(group, index));
    }

    /// The item is handed out. Returns which one it has its outcome from, if that is not its own.
    pub(super) fn handed_out(&mut self, index: u64) -> Option<u64> {
        if !self.group_of.is_empty() {
            self.group_of.remove(&index);
        }
        if self.outcome_of.is_empty() {
            return None;
        }
        self.outcome_of.remove(&index)
    }
}

/// The beginning of a digest is a hash already.
#[derive(Debug, Default)]
pub(super) struct Beginning(u64);

impl Hasher for Beginning {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, beginning: u64) {
        self.0 = beginning;
    }
}

impl<E, O: Clone> Window<E, O> {
    /// The item in the window that is the same as this one, which is being checked and will have its outcome. `None`:
    /// this one is tried itself.
    pub(super) fn same_as(&mut self, index: u64, cid: &Cid) -> Option<u64> {
        let cid_of = self.rules.dedup?;
        let tried = self.duplicates.tried.entry(cid.beginning());
        let tried = *tried.or_insert(index);
        if tried == index {
            return None;
        }
        let slot = self.slot(tried)?;
        if cid_of(&slot.entry) != Some(cid) {
            return None;
        }
        if self.leaves_it_to_the_next(tried) {
            // That says nothing of those that are taken later.
            self.duplicates.tried.insert(cid.beginning(), index);
            return None;
        }
        Some(tried)
    }

    /// An item has the outcome of another, now or later.
    pub(super) fn follow(&mut self, index: u64, tried: u64) {
        if let State::Settled(outcome) = &self.live(tried).state {
            let outcome = outcome.clone();
            let first = self.duplicates.outcome_of.get(&tried).copied();
            self.has_outcome(index, first.unwrap_or(tried), outcome);
        } else {
            let group = self.duplicates.group(tried);
            self.duplicates.group_of.insert(index, group);
            self.duplicates.waiting.insert((group, index));
            self.set_state(index, State::Duplicate);
        }
    }

    /// An item has its outcome, and gives it to those that are the same. If it was given up without an answer, the next
    /// of them is tried in its place.
    pub(super) fn pass_on(&mut self, tried: u64) {
        if self.duplicates.waiting.is_empty() {
            return;
        }
        let group = self.duplicates.group(tried);
        while let Some(next) = self.duplicates.next(group) {
            if self.leaves_it_to_the_next(tried) && self.refused.is_none() && self.rules.retries {
                return self.inherit(next, tried);
            }
            let State::Settled(outcome) = &self.live(tried).state else {
                unreachable!("it has its outcome");
            };
            let outcome = outcome.clone();
            self.duplicates.waits_no_more(next);
            self.has_outcome(next, tried, outcome);
        }
    }

    /// Whether an item was given up, so that the next that is the same is tried in its place. Where a write must not be
    /// made twice, it is not, if this one may have been made.
    fn leaves_it_to_the_next(&mut self, tried: u64) -> bool {
        let must_not_repeat = self.must_not_repeat();
        let slot = self.live(tried);
        slot.is_given_up() && !(must_not_repeat && slot.is_settled_in_doubt())
    }

    /// An item has the outcome of another, and whatever comes behind it and is the same will have it, too.
    fn has_outcome(&mut self, index: u64, tried: u64, outcome: Result<O, Error>) {
        self.duplicates.outcome_of.insert(index, tried);
        self.settle(index, outcome);
        self.stands_for_those_to_come(index);
    }

    /// Those that are taken later and are the same have the outcome of this one.
    fn stands_for_those_to_come(&mut self, index: u64) {
        let cid_of = self.rules.dedup;
        let cid = cid_of.and_then(|cid_of| cid_of(&self.live(index).entry));
        if let Some(beginning) = cid.map(Cid::beginning) {
            self.duplicates.tried.insert(beginning, index);
        }
    }

    /// The item is tried itself, since the one that was tried before it was given up.
    fn inherit(&mut self, index: u64, given_up: u64) {
        let may_have_landed = matches!(
            &self.live(given_up).state,
            State::Settled(Err(error)) if error.may_have_landed()
        );
        self.set_state(index, State::Waiting);
        let slot = self.live(index);
        if may_have_landed {
            slot.trouble.get_or_insert_default().may_have_landed = true;
        }
        self.stands_for_those_to_come(index);
    }

    /// An item leaves the window. Returns which one it has its outcome from, if that is not its own.
    pub(super) fn leaves(&mut self, index: u64, entry: &E) -> Option<u64> {
        let beginning = (self.rules.dedup?)(entry)?.beginning();
        if let Entry::Occupied(tried) = self.duplicates.tried.entry(beginning)
            && *tried.get() == index
        {
            tried.remove();
        }
        self.duplicates.handed_out(index)
    }
}
