//! Whether a call whose token was refused may be opened again, with another.

/// What has become of the tokens that an adapter has shown to a node. Tokens are numbered as they come from their source.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    /// The latest that a call was accepted with; 0 if none was.
    accepted: u64,
    /// The latest that was refused; 0 if none was.
    refused: u64,
}

impl Renewal {
    /// A call was accepted that has shown this token.
    pub(crate) fn accepted(&mut self, token: u64) {
        self.accepted = self.accepted.max(token);
    }

    /// A call was refused that has shown this token. Returns whether it may be opened again. It may not if the token was
    /// asked for because another was refused, and no call was accepted since.
    pub(crate) fn refused(&mut self, token: u64) -> bool {
        let is_second = 0 < self.refused && self.refused < token;
        let nothing_since = self.accepted <= self.refused;
        let was_accepted = token <= self.accepted;
        self.refused = self.refused.max(token);
        was_accepted || !(is_second && nothing_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_refused_is_renewed_and_the_second_is_final() {
        let mut renewal = Renewal::default();
        assert!(renewal.refused(1));
        assert!(!renewal.refused(2));
    }

    /// Calls side by side are refused together.
    #[test]
    fn all_calls_with_the_refused_token_are_opened_again() {
        let mut renewal = Renewal::default();
        assert!((0..4).all(|_| renewal.refused(7)));
        renewal.accepted(8);
        assert!(renewal.refused(7), "late");
    }

    #[test]
    fn one_that_was_accepted_and_expires_is_renewed_each_time() {
        let mut renewal = Renewal::default();
        for token in 1..100 {
            renewal.accepted(token);
            assert!(renewal.refused(token));
        }
        assert!(!renewal.refused(100));
    }

    #[test]
    fn a_refusal_that_comes_late_is_none_of_the_next_token() {
        let mut renewal = Renewal::default();
        renewal.accepted(1);
        renewal.accepted(2);
        assert!(renewal.refused(1));
        assert!(renewal.refused(2), "it was accepted");
        assert!(!renewal.refused(3));
    }

    /// The source has changed its mind by itself, as a file that is replaced.
    #[test]
    fn a_token_that_came_without_a_refusal_has_its_renewal() {
        let mut renewal = Renewal::default();
        assert!(renewal.refused(1));
        renewal.accepted(2);
        assert!(renewal.refused(3));
        assert!(!renewal.refused(4));
    }
}
