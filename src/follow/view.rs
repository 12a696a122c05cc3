//! Which records a store has, as far as lists and events tell.
//!
//! A plain state machine with no I/O, and no clock but the times that it is told.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Change;
use crate::cid::{Cid, CidMap};
use crate::search::Listed;

/// How long what a server lists may be older than what it has told by events. It tells that a record was stored or
/// deleted, and only then changes the database in which it searches.
pub(super) const LAG: Duration = Duration::from_secs(5);

/// How many events the view remembers of those that stored, and of those that deleted. A server that tells of so many in
/// [`LAG`], or while it lists, has another list follow.
const MOST_LATELY: usize = 50_000;

/// How many records are looked at together for what is there no more.
const LOOKED_AT: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct View {
    /// Each with the list that it was last in, or was told of before. Behind 255 the numbers begin again: a record that is
    /// gone may then be taken for one that is there, until the next list.
    known: CidMap<u8>,
    list: u8,
    /// What came by events lately.
    came: Lately,
    /// What went by events lately, or since the list has begun.
    went: Lately,
    is_listing: bool,
    /// When a server was last asked for a list.
    asked: Option<Instant>,
    /// What came shortly before the list, or since: it is there, whether the list has it or not.
    kept: HashSet<Cid>,
    /// Of what came before the list, what it has not had so far.
    unlisted: HashSet<Cid>,
    /// What the list has, and went shortly before, or since.
    overruled: HashSet<Cid>,
    /// Whether events have overruled the last list.
    is_overruled: bool,
    /// Whether there were more events than are remembered, since the last list.
    is_overrun: bool,
    /// Whether a first list has come to its end.
    is_init_done: bool,
    /// What went before that, and has not come again.
    went_before: BTreeSet<Cid>,
    /// While what is left over from older lists is looked for: the last that was looked at.
    sweeps: Option<Option<Cid>>,
}

impl View {
    /// An event tells that this record was stored.
    pub(super) fn came(&mut self, cid: Cid, now: Instant) -> Option<Change> {
        self.forget(now);
        self.went.remove(&cid);
        self.is_overrun |= !self.came.insert(cid, now);
        if self.is_listing || self.sweeps.is_some() {
            self.kept.insert(cid);
        }
        if self.known.contains(&cid) {
            return None;
        }
        self.known.insert(&cid, self.list.wrapping_sub(1));
        self.told(cid)
    }

    /// An event tells that this record was deleted.
    pub(super) fn went(&mut self, cid: Cid, now: Instant) -> Option<Change> {
        self.forget(now);
        self.came.remove(&cid);
        self.kept.remove(&cid);
        self.unlisted.remove(&cid);
        self.is_overrun |= !self.went.insert(cid, now);
        self.known.remove(&cid)?;
        if self.is_init_done {
            return Some(Change::Delete(cid));
        }
        self.went_before.insert(cid);
        None
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self, now: Instant) {
        self.forget(now);
        self.is_listing = true;
        self.list = self.list.wrapping_add(1);
        self.overruled.clear();
        self.kept = self.came.iter().copied().collect();
        self.unlisted.clone_from(&self.kept);
    }

    /// A server is asked for it.
    pub(super) fn is_asked_for(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    pub(super) fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// The list has this record.
    pub(super) fn listed(&mut self, cid: Cid) -> Listed<Change> {
        self.unlisted.remove(&cid);
        if self.went.contains(&cid) {
            return match self.overruled.insert(cid) {
                true => Listed::Known,
                false => Listed::Twice,
            };
        }
        match self.known.insert(&cid, self.list) {
            None => self.told(cid).map_or(Listed::Known, Listed::New),
            Some(list) if list == self.list => Listed::Twice,
            Some(_) => Listed::Known,
        }
    }

    /// The list is over. If it was whole, what it did not have is gone: [`sweep`](Self::sweep).
    pub(super) fn end_list(&mut self, is_whole: bool) -> Option<Change> {
        self.is_listing = false;
        let is_overrun = std::mem::take(&mut self.is_overrun);
        self.is_overruled = is_overrun || !self.unlisted.is_empty() || !self.overruled.is_empty();
        self.unlisted = HashSet::new();
        self.overruled = HashSet::new();
        if !is_whole {
            return None;
        }
        self.sweeps = Some(None);
        let is_first = !std::mem::replace(&mut self.is_init_done, true);
        is_first.then_some(Change::InitDone)
    }

    /// Whether events have told otherwise than the last list, shortly before it. One of them is wrong.
    pub(super) fn is_overruled(&self) -> bool {
        self.is_overruled
    }

    /// The next records that are gone, some at a time. `None`: there are no more.
    pub(super) fn sweep(&mut self) -> Option<Vec<Change>> {
        let last = self.sweeps?;
        if let Some(cid) = self.went_before.pop_first() {
            return Some(vec![Change::Delete(cid)]);
        }
        let looked_at = self.known.behind(last, LOOKED_AT);
        let Some((last, _)) = looked_at.last() else {
            self.sweeps = None;
            self.kept = HashSet::new();
            return None;
        };
        self.sweeps = Some(Some(*last));
        let is_gone = |(cid, list): &&(Cid, u8)| *list != self.list && !self.kept.contains(cid);
        let gone = looked_at.iter().filter(is_gone);
        let gone: Vec<Cid> = gone.map(|(cid, _)| *cid).collect();
        for cid in &gone {
            self.known.remove(cid);
        }
        Some(gone.into_iter().map(Change::Delete).collect())
    }

    /// What is to be told of a record that was not there. What went and was not told to go is not told to come.
    fn told(&mut self, cid: Cid) -> Option<Change> {
        if self.went_before.remove(&cid) {
            return None;
        }
        Some(match self.is_init_done {
            true => Change::Apply(cid),
            false => Change::InitApply(cid),
        })
    }

    /// Forgets what lists know by now.
    fn forget(&mut self, now: Instant) {
        self.came.forget(now);
        if !self.is_listing {
            self.went.forget(now);
        }
    }
}

/// Records, and when each was last told of.
#[derive(Debug, Default)]
struct Lately {
    at: HashMap<Cid, Instant>,
    /// The oldest first. Some are of records that were told of again, or no longer count.
    queue: VecDeque<(Instant, Cid)>,
}

impl Lately {
    /// Returns whether there was room for it.
    fn insert(&mut self, cid: Cid, now: Instant) -> bool {
        if self.queue.len() >= MOST_LATELY {
            return false;
        }
        self.at.insert(cid, now);
        self.queue.push_back((now, cid));
        true
    }

    fn remove(&mut self, cid: &Cid) {
        self.at.remove(cid);
    }

    fn contains(&self, cid: &Cid) -> bool {
        self.at.contains_key(cid)
    }

    fn iter(&self) -> impl Iterator<Item = &Cid> {
        self.at.keys()
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |at: Instant| now.saturating_duration_since(at) > LAG;
        while let Some((at, cid)) = self.queue.front().copied().filter(|(at, _)| is_old(*at)) {
            self.queue.pop_front();
            if self.at.get(&cid) == Some(&at) {
                self.at.remove(&cid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn cid(n: u8) -> Cid {
        Cid::from_digest([n; 32])
    }

    fn swept(view: &mut View) -> Vec<Change> {
        std::iter::from_fn(|| view.sweep()).flatten().collect()
    }

    /// Of what was never there, and of one record over and over, while a list lasts and between lists.
    #[test]
    fn events_without_end_take_a_bounded_amount_of_memory_and_have_another_list_follow() {
        let now = Instant::now();
        for is_listing in [true, false] {
            for of in [u32::MAX, 1] {
                let mut view = View::default();
                view.begin_list(now);
                assert_eq!(view.end_list(true), Some(Change::InitDone));
                assert_eq!(swept(&mut view), []);
                if is_listing {
                    view.begin_list(now);
                }
                let used = allocation_counter::measure(|| {
                    for number in 0..400_000 {
                        let mut digest = [0; 32];
                        digest[..4].copy_from_slice(&(number % of).to_be_bytes());
                        assert_eq!(view.went(Cid::from_digest(digest), now), None);
                    }
                });
                let bytes = used.bytes_max;
                assert!(bytes < 20 << 20, "{bytes} bytes, {of} records");
                if !is_listing {
                    view.begin_list(now);
                }
                view.end_list(true);
                assert!(view.is_overruled(), "{of} records");
                let later = now + 2 * LAG;
                view.begin_list(later);
                view.end_list(true);
                assert!(!view.is_overruled(), "{of} records");
            }
        }
    }

    /// What is told when a list has this one.
    fn told(view: &mut View, n: u8) -> Option<Change> {
        match view.listed(cid(n)) {
            Listed::New(change) => Some(change),
            Listed::Known | Listed::Twice => None,
        }
    }

    /// A list of these from beginning to end.
    fn list(view: &mut View, now: Instant, of: &[u8]) -> Vec<Change> {
        view.begin_list(now);
        let mut changes: Vec<_> = of.iter().filter_map(|n| told(view, *n)).collect();
        changes.extend(view.end_list(true));
        changes.extend(swept(view));
        changes
    }

    #[test]
    fn a_first_list_is_told_and_then_the_difference() {
        let (mut view, now) = (View::default(), Instant::now());
        assert_eq!(
            list(&mut view, now, &[1, 2]),
            [
                Change::InitApply(cid(1)),
                Change::InitApply(cid(2)),
                Change::InitDone
            ]
        );
        assert_eq!(list(&mut view, now, &[1, 2]), []);
        assert_eq!(
            list(&mut view, now, &[2, 3]),
            [Change::Apply(cid(3)), Change::Delete(cid(1))]
        );
    }

    #[test]
    fn a_list_that_is_not_whole_deletes_nothing() {
        let (mut view, now) = (View::default(), Instant::now());
        list(&mut view, now, &[1, 2]);
        view.begin_list(now);
        assert_eq!(told(&mut view, 3), Some(Change::Apply(cid(3))));
        assert_eq!(view.end_list(false), None);
        assert_eq!(swept(&mut view), []);
        assert_eq!(list(&mut view, now, &[1, 2, 3]), []);
    }

    #[test]
    fn an_event_is_newer_than_a_list_for_a_while() {
        let (mut view, now) = (View::default(), Instant::now());
        list(&mut view, now, &[1]);
        assert_eq!(view.came(cid(2), now), Some(Change::Apply(cid(2))));
        assert_eq!(view.came(cid(2), now), None, "it was stored again");
        assert_eq!(view.went(cid(1), now), Some(Change::Delete(cid(1))));
        assert_eq!(list(&mut view, now, &[1]), []);
        // Then the list is right.
        let later = now + LAG + Duration::from_secs(1);
        assert_eq!(
            list(&mut view, later, &[1]),
            [Change::Apply(cid(1)), Change::Delete(cid(2))]
        );
    }

    #[test]
    fn what_happens_during_a_list_counts_until_its_end() {
        let (mut view, now) = (View::default(), Instant::now());
        list(&mut view, now, &[1, 2]);
        view.begin_list(now);
        let later = now + 10 * LAG;
        assert_eq!(view.went(cid(1), now), Some(Change::Delete(cid(1))));
        assert_eq!(view.came(cid(3), later), Some(Change::Apply(cid(3))));
        assert_eq!(told(&mut view, 1), None);
        assert_eq!(told(&mut view, 2), None);
        assert_eq!(view.end_list(true), None);
        assert_eq!(swept(&mut view), []);
    }

    #[test]
    fn what_goes_before_the_first_list_is_over_is_told_behind_it() {
        let (mut view, now) = (View::default(), Instant::now());
        view.begin_list(now);
        assert_eq!(told(&mut view, 1), Some(Change::InitApply(cid(1))));
        assert_eq!(told(&mut view, 2), Some(Change::InitApply(cid(2))));
        assert_eq!(view.went(cid(1), now), None);
        assert_eq!(view.went(cid(2), now), None);
        assert_eq!(view.came(cid(2), now), None, "nobody was told that it went");
        assert_eq!(view.end_list(true), Some(Change::InitDone));
        assert_eq!(swept(&mut view), [Change::Delete(cid(1))]);
    }

    /// What events tell of is in no list for that: each that the list has counts once.
    #[test]
    fn a_list_counts_each_record_once_whatever_events_tell() {
        let (mut view, now) = (View::default(), Instant::now());
        list(&mut view, now, &[1, 2]);
        view.came(cid(3), now);
        view.went(cid(2), now);
        view.begin_list(now);
        view.came(cid(1), now);
        view.came(cid(4), now);
        for n in 1..=4 {
            assert_eq!(view.listed(cid(n)), Listed::Known, "{n}");
            assert_eq!(view.listed(cid(n)), Listed::Twice, "{n}");
        }
        assert_eq!(view.listed(cid(5)), Listed::New(Change::Apply(cid(5))));
        assert_eq!(view.listed(cid(5)), Listed::Twice);
    }

    /// That is all that is kept: the search has the same view.
    #[test]
    fn a_million_records_fit_into_64_mib() {
        let info = allocation_counter::measure(|| {
            let (mut view, now) = (View::default(), Instant::now());
            for list in 0..2 {
                view.begin_list(now);
                let mut random = fastrand::Rng::with_seed(0);
                for _ in 0..1_000_000 {
                    let mut digest = [0; 32];
                    random.fill(&mut digest);
                    let is_new = matches!(view.listed(Cid::from_digest(digest)), Listed::New(_));
                    assert_eq!(is_new, list == 0);
                }
                view.end_list(true);
                assert!(
                    std::iter::from_fn(|| view.sweep())
                        .flatten()
                        .next()
                        .is_none()
                );
            }
        });
        assert!(info.bytes_max <= 64 << 20, "{} bytes", info.bytes_max);
    }

    /// What happens to a store, and what is told of it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A record is stored. Whether that is told, and the list knows it by then.
        Push(u8, Told),
        Delete(u8, Told),
        /// A list is made, of so many tenths of what there is at its beginning, with so many steps in the middle of it.
        List {
            tenths: usize,
            steps: usize,
        },
        Wait(u64),
    }

    #[derive(Clone, Copy, Debug)]
    enum Told {
        Now,
        /// The list knows it a second later.
        Early,
        Never,
    }

    fn how_told() -> impl Strategy<Value = Told> {
        prop_oneof![Just(Told::Now), Just(Told::Early), Just(Told::Never)]
    }

    fn step() -> impl Strategy<Value = Step> {
        let record = 0..12_u8;
        prop_oneof![
            3 => (record.clone(), how_told()).prop_map(|(n, told)| Step::Push(n, told)),
            3 => (record, how_told()).prop_map(|(n, told)| Step::Delete(n, told)),
            2 => (0..=10_usize, 0..6_usize).prop_map(|(tenths, steps)| Step::List { tenths, steps }),
            1 => (0..8_u64).prop_map(Step::Wait),
        ]
    }

    /// A store, a view of it, and someone who carries out what the view tells.
    struct World {
        view: View,
        now: Instant,
        stored: BTreeSet<u8>,
        /// What its lists know, and what they will know later.
        listed: BTreeSet<u8>,
        late: Vec<(Instant, u8, bool)>,
        consumer: BTreeSet<Cid>,
        is_init_done: bool,
    }

    impl World {
        fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
            for change in changes {
                match change {
                    Change::InitApply(cid) => {
                        assert!(!self.is_init_done && self.consumer.insert(cid));
                    }
                    Change::InitDone => {
                        assert!(!std::mem::replace(&mut self.is_init_done, true));
                    }
                    Change::Apply(cid) => {
                        assert!(self.is_init_done && self.consumer.insert(cid));
                    }
                    Change::Delete(cid) => {
                        assert!(self.is_init_done && self.consumer.remove(&cid));
                    }
                    Change::Init | Change::Confirmed => unreachable!("a view does not tell that"),
                }
            }
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            let now = self.now;
            for (_, n, is_there) in self.late.extract_if(.., |(at, ..)| *at <= now) {
                match is_there {
                    true => self.listed.insert(n),
                    false => self.listed.remove(&n),
                };
            }
        }

        fn happen(&mut self, n: u8, is_there: bool, told: Told) {
            match is_there {
                true => self.stored.insert(n),
                false => self.stored.remove(&n),
            };
            match told {
                Told::Early => self
                    .late
                    .push((self.now + Duration::from_secs(1), n, is_there)),
                Told::Now | Told::Never => {
                    self.late.retain(|(_, other, _)| *other != n);
                    match is_there {
                        true => self.listed.insert(n),
                        false => self.listed.remove(&n),
                    };
                }
            }
            let change = match (told, is_there) {
                (Told::Never, _) => None,
                (_, true) => self.view.came(cid(n), self.now),
                (_, false) => self.view.went(cid(n), self.now),
            };
            self.apply(change);
        }

        fn run(&mut self, steps: &mut impl Iterator<Item = Step>) -> bool {
            let Some(step) = steps.next() else {
                return false;
            };
            match step {
                Step::Push(n, told) => self.happen(n, true, told),
                Step::Delete(n, told) => self.happen(n, false, told),
                Step::Wait(seconds) => self.pass(seconds),
                Step::List {
                    tenths,
                    steps: inner,
                } => {
                    let snapshot: Vec<u8> = self.listed.iter().copied().collect();
                    let count = snapshot.len() * tenths / 10;
                    self.view.begin_list(self.now);
                    for (place, n) in snapshot[..count].iter().enumerate() {
                        if place < inner {
                            let mut one = steps
                                .by_ref()
                                .filter(|step| !matches!(step, Step::List { .. }));
                            if let Some(step) = one.next() {
                                self.run(&mut std::iter::once(step));
                            }
                        }
                        let change = told(&mut self.view, *n);
                        self.apply(change);
                    }
                    let change = self.view.end_list(count == snapshot.len());
                    self.apply(change);
                    let changes = swept(&mut self.view);
                    self.apply(changes);
                }
            }
            true
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// Whatever was lost, early or cut short: after a quiet while and a list, the view is the store.
        #[test]
        fn the_view_becomes_the_store(steps in prop::collection::vec(step(), 0..60)) {
            let mut world = World {
                view: View::default(),
                now: Instant::now(),
                stored: BTreeSet::new(),
                listed: BTreeSet::new(),
                late: Vec::new(),
                consumer: BTreeSet::new(),
                is_init_done: false,
            };
            let mut steps = steps.into_iter();
            while world.run(&mut (&mut steps as &mut dyn Iterator<Item = Step>)) {}
            world.pass(LAG.as_secs() + 1);
            world.run(&mut std::iter::once(Step::List { tenths: 10, steps: 0 }));
            let stored: BTreeSet<Cid> = world.stored.iter().map(|n| cid(*n)).collect();
            prop_assert_eq!(world.consumer, stored);
            prop_assert!(world.is_init_done);
        }
    }
}
