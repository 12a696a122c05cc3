//! What a refused token says: that it is old, or that this caller is not known.

use std::time::Duration;

use tokio::time::Instant;

/// How old a token may be, when a call shows it, to count as one that the source has given for that call. One that is
/// older may have expired since.
pub(super) const FRESH: Duration = Duration::from_millis(100);

/// How often a token may be renewed at once that the server has accepted just before.
const PACE: Duration = Duration::from_secs(1);

/// How long after it came a token may be refused for that to count as said of a new one. A call that is refused later has
/// waited for its connection, or was held up on its way, and its token may have expired before the server saw it.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// After so many tokens in a row that were refused late, and none that was accepted, the server is slow and does not know
/// the caller.
const MOST_LATE: u32 = 5;

/// A token as a call shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownToken {
    /// Tokens are numbered as they come from their source.
    pub(super) number: u64,
    /// Whether it came because another was refused.
    pub(super) is_second: bool,
    /// Whether it had just come.
    pub(super) is_fresh: bool,
    pub(super) came: Instant,
}

/// What becomes of a call whose token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is opened again, with another token.
    Again,
    /// The same, after a wait: the server changes its mind too often.
    Later,
    /// The server does not know this caller.
    Final,
}

/// What a node has said of the tokens that were shown to one of its methods, by all adapters of a client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Renewal {
    /// The latest that was accepted; 0 if none was.
    accepted: u64,
    /// The last that was renewed though it was fresh and had been accepted, and when.
    renewed: Option<(u64, Instant)>,
    /// The last that was refused late, and how many were since one was accepted.
    late: (u64, u32),
}

impl Renewal {
    /// A call was accepted that has shown the token of this number.
    pub(super) fn accepted(&mut self, number: u64) {
        self.accepted = self.accepted.max(number);
        self.late.1 = 0;
    }

    /// A call was refused that has shown this token.
    pub(super) fn refused(&mut self, token: ShownToken, now: Instant) -> Refusal {
        let was_accepted = token.number <= self.accepted;
        match token {
            ShownToken {
                is_fresh: false, ..
            } => Refusal::Again,
            _ if was_accepted => {
                // Calls side by side are refused together.
                let is_too_soon = |(last, at)| last < token.number && now < at + PACE;
                match self.renewed.is_some_and(is_too_soon) {
                    true => Refusal::Later,
                    false => {
                        self.renewed = Some((token.number, now));
                        Refusal::Again
                    }
                }
            }
            ShownToken {
                is_second: true, ..
            } if !self.may_have_expired(token, now) => Refusal::Final,
            _ => Refusal::Again,
        }
    }

    /// Whether it may have expired on its way. A late refusal has itself taken a second, so no other wait is needed.
    fn may_have_expired(&mut self, token: ShownToken, now: Instant) -> bool {
        if now < token.came + ON_ITS_WAY {
            return false;
        }
        // Calls side by side are refused together.
        if self.late.0 < token.number {
            self.late = (token.number, self.late.1 + 1);
        }
        self.late.1 < MOST_LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u64, is_second: bool, is_fresh: bool) -> ShownToken {
        ShownToken {
            number,
            is_second,
            is_fresh,
            came: Instant::now(),
        }
    }

    #[test]
    fn the_first_that_is_refused_is_renewed_and_the_second_is_final() {
        let (mut renewal, now) = (Renewal::default(), Instant::now());
        assert_eq!(renewal.refused(token(1, false, true), now), Refusal::Again);
        assert_eq!(renewal.refused(token(2, true, true), now), Refusal::Final);
    }

    /// It may have expired while the server was away.
    #[test]
    fn a_second_one_that_has_grown_old_is_renewed() {
        let (mut renewal, now) = (Renewal::default(), Instant::now());
        assert_eq!(renewal.refused(token(2, true, false), now), Refusal::Again);
        assert_eq!(renewal.refused(token(3, true, true), now), Refusal::Final);
    }

    /// It may have expired while the network held it.
    #[test]
    fn a_second_one_that_is_refused_late_is_renewed_and_only_several_in_a_row_are_final() {
        let (mut renewal, now) = (Renewal::default(), Instant::now());
        let late = now + 2 * ON_ITS_WAY;
        for number in 2..6 {
            // By two calls.
            for _ in 0..2 {
                let refusal = renewal.refused(token(number, true, true), late);
                assert_eq!(refusal, Refusal::Again);
            }
        }
        let mut known = renewal;
        assert_eq!(renewal.refused(token(6, true, true), late), Refusal::Final);
        known.accepted(1);
        assert_eq!(known.refused(token(6, true, true), late), Refusal::Again);
        assert_eq!(known.refused(token(7, true, true), now), Refusal::Final);
    }

    #[test]
    fn calls_that_are_refused_late_are_opened_again_with_the_token_that_was_accepted() {
        let (mut renewal, now) = (Renewal::default(), Instant::now());
        renewal.accepted(8);
        for _ in 0..4 {
            assert_eq!(renewal.refused(token(7, true, false), now), Refusal::Again);
        }
    }

    /// As where one of two servers behind an address knows the caller.
    #[test]
    fn a_server_that_changes_its_mind_is_not_asked_without_a_wait() {
        let (mut renewal, now) = (Renewal::default(), Instant::now());
        renewal.accepted(1);
        assert_eq!(renewal.refused(token(1, false, true), now), Refusal::Again);
        assert_eq!(renewal.refused(token(1, false, true), now), Refusal::Again);
        renewal.accepted(2);
        assert_eq!(renewal.refused(token(2, true, true), now), Refusal::Later);
        let later = now + PACE;
        assert_eq!(renewal.refused(token(2, true, true), later), Refusal::Again);
    }
}
