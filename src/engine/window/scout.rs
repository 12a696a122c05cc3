//! Which records are looked up before they are pushed, where those that are stored are to be left out.
//!
//! A lookup ends its call at the first record that is missing. So one call shows a whole run of records that are stored, but
//! only one that is missing. Looking up pays where it saves more pushing than the call takes: that depends on how the records
//! lie, how long the server takes for a push, and how far away it is, and all that changes. So it is measured all the time.

use std::time::Duration;

use crate::engine::waited::Waited;

/// So many records are pushed at first without being looked up, to see how long a push takes.
const UNSEEN: u32 = 8;

/// When so many pushes are under way, the server has the next one when it answers one. If it has fewer, the next may
/// still be on the line, and the time between two answers is that of the line.
const DEEP: usize = 4;

/// A call costs so much, beside the time that it takes: for its opening, at both ends.
const OPENING: Duration = Duration::from_micros(250);

/// Where looking up does not pay, so many records are pushed before it is tried again, at first. The number grows by a
/// quarter each time.
const FIRST_GAP: u32 = 8;

/// It grows until the lookups take one part in so many of the time that the pushes take, within these bounds.
const PART: f64 = 200.0;
const MANY: u32 = 32;
const LONGEST_GAP: u32 = 512;

/// Where lookups fail, it is doubled each time, so many times at most.
const MOST_DOUBLED: u32 = 16;

/// So many records are looked up then.
const TRIED: u32 = 16;

/// Lookups that take longer than that are of no use, as lookups that fail.
const LONG: Duration = Duration::from_secs(1);

/// A call carries so many times as many records as are found in the mean, and as many more.
const CARRIED: f64 = 4.0;

/// So many times what the server can push during a lookup is pushed before the next one.
const AHEAD: f64 = 3.0;

/// No more than that, since what is measured may change; and none before so many pushes were measured.
const MOST_AHEAD: f64 = 4_096.0;
const MEASURED: f64 = 16.0;

/// How much the time of a lookup counts against those before.
const STEP: f64 = 1.0 / 4.0;

/// How much what calls have found and cost counts after each further call.
const LEFT: f64 = 15.0 / 16.0;

/// How much the time of a burst of pushes does: answers that are read at once.
const STEP_OF_BURST: f64 = 1.0 / 16.0;

/// How many records are found before one is missing is the mean of about so many runs. Stored records that lie at random
/// make short runs and long ones, so it takes several.
const MANY_RUNS: u32 = 16;

/// What has one chance in so many shows that it is as it was no longer.
const UNLIKELY: f64 = 1_000.0;

/// As long as it is not known how long a push takes, a call has to find so many records in the mean.
const AT_LEAST: f64 = 1.0 / 20.0;

/// After so many pushes none of which had another behind it, it will not be known.
const FIRST_PUSHES: u32 = 16;

#[derive(Debug)]
pub(super) struct Scout {
    now: Waited,
    mode: Mode,
    gap: u32,
    /// How many records are found before one is missing, in the mean.
    found: f64,
    /// How many runs that is the mean of.
    runs: u32,
    /// How many were found since the last one that was missing.
    run: u32,
    /// How many times in a row one was missing with none found before it.
    vain: i32,
    /// How long a call that looks up takes, in the mean, in seconds.
    look_up: f64,
    calls: Calls,
    /// How many pushes had their answer before the next was sent.
    alone: u32,
    /// How many in a row were of no use.
    failures: u32,
    /// How many records a call carries that is an attempt.
    attempt: u32,
    /// How long the server took for pushes, in seconds, and for how many. Those of long ago count less.
    pushes: (f64, f64),
    /// When the last answer to a push came, if the server had the next push already.
    answered: Option<Waited>,
    /// Whether the server ends a call at a push of what is stored.
    refuses: bool,
    /// The call that looks up, or is waited for.
    call: Option<Call>,
}

/// What the last calls have brought. Those of long ago count less.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    calls: f64,
    found: f64,
    /// The time in which the server had nothing to push, in seconds. A push that has its answer may have begun before its
    /// call, so of few calls it can be less than none.
    idle: f64,
    /// How long they took, in seconds.
    took: f64,
}

impl Calls {
    /// What they have cost, in seconds.
    fn cost(&self) -> f64 {
        self.idle.max(0.0) + OPENING.as_secs_f64() * self.calls
    }

    /// What they would have cost if the server had had nothing to push meanwhile.
    fn most(&self) -> f64 {
        self.took + OPENING.as_secs_f64() * self.calls
    }
}

#[derive(Debug)]
struct Call {
    /// Since when it is wanted.
    since: Waited,
    carried: u32,
    found: u32,
    /// Whether the server had pushes to do when it was wanted.
    began_busy: bool,
    /// How many pushes were answered meanwhile.
    pushes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// So many are pushed, then all are looked up.
    LooksUp { unseen: u32 },
    /// So many are pushed, then so many are looked up.
    Pushes { unseen: u32, tried: u32 },
}

/// What is to become of the items that wait for their lookup, when a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// They wait on.
    Stay,
    /// They wait on, and so do those that have not left yet.
    LookUpAll,
    /// So many are pushed.
    Push(u32),
}

impl Scout {
    pub(super) fn new() -> Self {
        Self {
            now: Waited::default(),
            mode: Mode::LooksUp { unseen: UNSEEN },
            gap: FIRST_GAP,
            found: 1.0,
            runs: 1,
            run: 0,
            vain: 0,
            look_up: 0.0,
            calls: Calls::default(),
            alone: 0,
            failures: 0,
            attempt: 1,
            pushes: (0.0, 0.0),
            answered: None,
            refuses: false,
            call: None,
        }
    }

    pub(super) fn time_is(&mut self, now: Waited) {
        self.now = now;
    }

    /// Whether the next record is to be looked up before it is pushed.
    pub(super) fn looks_up_next(&mut self) -> bool {
        match &mut self.mode {
            Mode::LooksUp { unseen: 0 } => true,
            Mode::Pushes { unseen: 0, tried } => {
                *tried -= 1;
                if *tried == 0 {
                    let unseen = self.enough();
                    self.mode = Mode::Pushes {
                        unseen,
                        tried: TRIED,
                    };
                }
                true
            }
            Mode::LooksUp { unseen } | Mode::Pushes { unseen, .. } => {
                *unseen -= 1;
                false
            }
        }
    }

    /// What a call costs, in the mean, in seconds.
    fn cost(&self) -> f64 {
        match self.calls.calls {
            0.0 => OPENING.as_secs_f64(),
            calls => self.calls.cost() / calls,
        }
    }

    /// How long a push takes the server, in seconds.
    fn push(&self) -> Option<f64> {
        let (time, pushes) = self.pushes;
        (pushes > 0.0).then(|| time / pushes)
    }

    fn longest_gap(&self) -> u32 {
        let push = self.push().unwrap_or(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let enough = (PART * self.cost() / push).min(f64::from(LONGEST_GAP)) as u32;
        enough.max(MANY)
    }

    /// How many records are pushed before the next lookup: enough for the server to have something to do until its end.
    fn enough(&self) -> u32 {
        let (_, measured) = self.pushes;
        let push = self.push().filter(|_| measured >= MEASURED);
        let busy = push.map_or(0.0, |push| AHEAD * self.look_up / push);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let busy = busy.min(MOST_AHEAD) as u32;
        self.gap + busy
    }

    /// The answer to a push has come, and so many more are awaited.
    pub(super) fn pushed(&mut self, awaited: usize) {
        let more = awaited >= DEEP;
        if let Some(before) = self.answered {
            let took = self.now.since(before).as_secs_f64();
            let (time, pushes) = self.pushes;
            // The first of a burst has taken the time of all.
            let left = if took > 0.0 { 1.0 - STEP_OF_BURST } else { 1.0 };
            self.pushes = (time * left + took, pushes * left + 1.0);
        } else if !more {
            self.alone = self.alone.saturating_add(1);
        }
        self.answered = more.then_some(self.now);
        if let Some(call) = &mut self.call {
            call.pushes += 1;
        }
    }

    /// No push is under way any more.
    pub(super) fn pushes_nothing(&mut self) {
        self.answered = None;
    }

    /// The server has ended a call at a record that is stored.
    pub(super) fn refused(&mut self) {
        self.refuses = true;
    }

    /// A call that looks up is wanted. That it may have to wait for its turn is part of what it takes.
    pub(super) fn wants_call(&mut self) {
        self.call.get_or_insert(Call {
            since: self.now,
            carried: 0,
            found: 0,
            began_busy: self.answered.is_some(),
            pushes: 0,
        });
    }

    /// Whether the call is to carry another record. More than are likely to be found would be sent in vain; and as long as
    /// it is not known how long the server takes for them, few are tried.
    pub(super) fn carries_another(&mut self) -> bool {
        let most = match self.mode {
            // It may be that each takes very long.
            Mode::LooksUp { .. } if self.calls.calls == 0.0 => 1,
            Mode::LooksUp { .. } => {
                let found = self.found.max(f64::from(self.run));
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let most = (CARRIED * (1.0 + found)) as u32;
                most
            }
            Mode::Pushes { .. } => self.attempt,
        };
        let Some(call) = &mut self.call else {
            return false;
        };
        let another = call.carried < most;
        call.carried += u32::from(another);
        another
    }

    pub(super) fn found(&mut self) {
        if let Some(call) = &mut self.call {
            call.found += 1;
        }
    }

    /// The call is over: at a record that is missing, or behind the last that it carried.
    pub(super) fn ended(&mut self, is_missing: bool) -> Decision {
        let Some(call) = self.call.take().filter(|call| call.carried > 0) else {
            return Decision::Stay;
        };
        let took = self.now.since(call.since);
        if took >= LONG {
            self.failed();
            return Decision::Push(self.enough());
        }
        self.failures = 0;
        // It may have been longer while lookups failed.
        self.gap = self.gap.min(LONGEST_GAP);
        let took = took.as_secs_f64();
        self.look_up += STEP * (took - self.look_up);
        let push = self.push().unwrap_or(0.0);
        // Of pushes that go on all the time, one is cut in two by the begin and the end.
        let cut = u32::from(call.began_busy && self.answered.is_some());
        let idle = took - push * f64::from(call.pushes + cut);
        let is_long_run = self.learn(call.found, (idle, took), is_missing);
        let pushes = matches!(self.mode, Mode::Pushes { .. });
        let pays = match pushes {
            // Pushes go on beside the calls that are tried, and would not beside those to come.
            true => self.pays(self.calls.most()) || is_long_run && self.pays(self.calls.cost()),
            false => !is_missing || self.pays(self.calls.cost()),
        };
        if pays {
            self.gap = FIRST_GAP;
            self.attempt = 1;
            self.mode = Mode::LooksUp { unseen: 0 };
            return match pushes {
                true => Decision::LookUpAll,
                false => Decision::Stay,
            };
        }
        if is_missing {
            self.attempt = 1;
        } else {
            self.attempt = (self.attempt * 2).min(TRIED);
            // The next one finds twice as many, if this goes on. That may pay, where a call takes as long whatever it finds.
            if pushes && call.carried < TRIED && 2.1 * f64::from(call.found) * push > took {
                return Decision::Stay;
            }
        }
        if pushes && self.gap < self.longest_gap() {
            self.gap += self.gap / 4;
        }
        let enough = self.enough();
        self.mode = Mode::Pushes {
            unseen: enough,
            tried: TRIED,
        };
        Decision::Push(enough)
    }

    /// Learns from how many records were found, up to one that is missing, or so far. If each is stored by chance, with a mean
    /// of `m` found before one is missing, then none is found with a chance of 1 in 1 + m, and at least n with
    /// (m / (1 + m))^n.
    ///
    /// Returns whether the run is longer than was to be expected.
    fn learn(&mut self, found: u32, (idle, took): (f64, f64), is_missing: bool) -> bool {
        self.run = self.run.saturating_add(found);
        let run = f64::from(self.run);
        let mean = self.found;
        if is_missing {
            self.vain = match self.run {
                0 => self.vain.saturating_add(1),
                _ => 0,
            };
            self.run = 0;
        }
        let mut left = LEFT;
        let mut found = f64::from(found);
        let is_long = (1.0 + 1.0 / mean).powf(run) > UNLIKELY;
        if is_missing && self.vain > 0 && (1.0 + mean).powi(self.vain) > UNLIKELY {
            // What was before counts no more, and what comes next is to tell soon.
            left = 0.0;
            found = 1.0 / (1.0 + f64::from(self.vain));
            self.runs = 1;
            self.found = found;
        } else if is_long {
            left = 0.0;
            self.runs = 1;
            self.found = run;
        } else if is_missing {
            self.runs = (self.runs + 1).min(MANY_RUNS);
            self.found += (run - mean) / f64::from(self.runs);
        }
        let before = self.calls;
        self.calls = Calls {
            calls: before.calls * left + 1.0,
            found: before.found * left + found,
            idle: before.idle * left + idle,
            took: before.took * left + took,
        };
        is_long
    }

    /// So many have been pushed that waited for their lookup.
    pub(super) fn pushed_unseen(&mut self, items: u32) {
        if let Mode::Pushes { unseen, .. } = &mut self.mode {
            *unseen = unseen.saturating_sub(items);
        }
    }

    /// Lookups are of no use, so for a long time none is tried; and if that goes on, for longer and longer.
    pub(super) fn failed(&mut self) {
        self.call = None;
        self.attempt = 1;
        self.gap = LONGEST_GAP << self.failures.min(MOST_DOUBLED);
        self.failures += 1;
        self.mode = Mode::Pushes {
            unseen: self.enough(),
            tried: TRIED,
        };
    }

    /// Whether calls that look up save more than this cost.
    fn pays(&self, cost: f64) -> bool {
        let Calls { found, calls, .. } = self.calls;
        match self.push() {
            // A push of what is stored costs a call, too.
            push if self.refuses => found * (push.unwrap_or(0.0) + self.cost()) > cost,
            Some(push) => found * push > cost,
            None if self.alone < FIRST_PUSHES => found >= AT_LEAST * calls,
            // There is never a push behind another: each takes as long as a lookup.
            None => found > calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes so long for a push and for a call that looks up, both in milliseconds.
    struct Server {
        scout: Scout,
        push: u64,
        look_up: u64,
        now: Duration,
    }

    impl Server {
        fn new(push: u64, look_up: u64) -> Self {
            let mut server = Self {
                scout: Scout::new(),
                push,
                look_up,
                now: Duration::ZERO,
            };
            for _ in 0..UNSEEN {
                assert!(!server.scout.looks_up_next());
                server.pushes();
            }
            server
        }

        fn wait(&mut self, milliseconds: u64) {
            self.now += Duration::from_millis(milliseconds);
            self.scout.time_is(Waited::of(self.now));
        }

        fn pushes(&mut self) {
            self.wait(self.push);
            self.scout.pushed(DEEP);
        }

        /// A call that finds so many, while the server has nothing to push.
        fn looks_up(&mut self, found: u32) -> Decision {
            self.scout.wants_call();
            self.scout.carries_another();
            self.wait(self.look_up);
            for _ in 0..found {
                self.scout.found();
            }
            self.scout.pushes_nothing();
            self.scout.ended(true)
        }

        fn looks_up_all(&mut self) -> bool {
            (0..2 * TRIED).all(|_| self.scout.looks_up_next())
        }
    }

    #[test]
    fn calls_that_save_more_than_they_take_go_on() {
        let mut server = Server::new(5, 10);
        for _ in 0..50 {
            assert_eq!(server.looks_up(3), Decision::Stay);
        }
        assert!(server.looks_up_all());
    }

    #[test]
    fn calls_that_take_more_than_they_save_become_few() {
        let mut server = Server::new(5, 10);
        let mut pushed = Vec::new();
        for _ in 0..40 {
            if let Decision::Push(items) = server.looks_up(1) {
                pushed.push(items);
            }
        }
        assert!(pushed.len() >= 38 && pushed.is_sorted(), "{pushed:?}");
        // What the server does during a lookup, and some more.
        assert!((FIRST_GAP..FIRST_GAP + 4).contains(&pushed[0]));
        assert!(pushed.last().is_some_and(|most| (400..600).contains(most)));
    }

    #[test]
    fn a_run_of_stored_records_and_its_end_are_noticed_at_once() {
        let mut server = Server::new(5, 10);
        for _ in 0..20 {
            server.looks_up(0);
        }
        assert!(!server.looks_up_all());
        assert_eq!(server.looks_up(TRIED), Decision::LookUpAll);
        assert!(server.looks_up_all());
        server.looks_up(50);
        assert_eq!(server.looks_up(0), Decision::Stay);
        server.looks_up(0);
        assert!(matches!(server.looks_up(0), Decision::Push(_)));
    }

    #[test]
    fn a_server_that_refuses_what_is_stored_is_asked_where_half_is() {
        let mut server = Server::new(0, 1);
        assert!(matches!(server.looks_up(1), Decision::Push(_)));
        server.scout.refused();
        for _ in 0..20 {
            server.looks_up(2);
        }
        assert!(server.looks_up_all());
    }

    /// As over a long line.
    #[test]
    fn a_server_whose_answers_come_in_bursts_is_asked_again_in_time() {
        let mut server = Server::new(0, 10);
        for _ in 0..50 {
            server.scout.wants_call();
            server.scout.carries_another();
            server.wait(10);
            (0..1_000).for_each(|_| server.scout.pushed(DEEP));
            server.scout.ended(true);
        }
        let push = server.scout.push().unwrap_or(0.0);
        assert!((8e-6..12e-6).contains(&push), "{push}");
        let pushed = (0..).take_while(|_| !server.scout.looks_up_next()).count();
        assert!((512..100_000).contains(&pushed), "{pushed}");
    }

    #[test]
    fn where_lookups_fail_few_are_tried_and_fewer_as_long_as_they_do() {
        let mut server = Server::new(5, 0);
        server.looks_up(10);
        for doubled in 0..4 {
            server.scout.failed();
            let pushed = (0..).take_while(|_| !server.scout.looks_up_next());
            assert!(pushed.count() >= (LONGEST_GAP << doubled) as usize);
        }
        // They are in order again, and find nothing.
        server.looks_up(0);
        let pushed = (0..).take_while(|_| !server.scout.looks_up_next());
        assert!(pushed.count() <= 2 * LONGEST_GAP as usize);
    }
}
