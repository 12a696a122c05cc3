//! What holds for each result, whatever was done.

use agntcy_dir_stream::{Cid, Code, ErrorKind};

use super::case::Operation;
use super::server::Server;
use crate::known::KNOWN;

/// What became of an item: its index, its tag, and the CID of its success, or the kind of its error with the number of
/// attempts.
pub(super) type Seen = (u64, usize, Result<Option<Cid>, (ErrorKind, u32)>);

pub(super) fn check(server: &Server, seen: &Seen) {
    let (index, tag, outcome) = seen;
    assert_eq!(*index, *tag as u64, "the tag of another item");
    let number = server.case.numbers[*tag];
    match outcome {
        Ok(cid) => succeeded(server, number, *cid),
        Err((kind, attempts)) => failed(server, number, *kind, *attempts),
    }
}

fn succeeded(server: &Server, number: usize, cid: Option<Cid>) {
    let state = server.state();
    assert_eq!(cid, Some(KNOWN[number].cid), "the outcome of another");
    assert!(
        state.answered.contains(&number),
        "{number} succeeded, and the server has not said so"
    );
    let is_there = state.stored.contains(&number);
    assert_eq!(
        is_there,
        server.case.operation != Operation::Delete,
        "{number} succeeded, and that is not true"
    );
}

fn failed(server: &Server, number: usize, kind: ErrorKind, attempts: u32) {
    let case = &server.case;
    let state = server.state();
    let what = format!("{number}: {kind:?} in {attempts} calls");
    let was_taken = state.taken.contains(&number);
    // Another item of the same record may have been sent.
    let is_alone = case.is_unique(number);
    if kind == ErrorKind::Invalid {
        assert!(
            case.operation == Operation::Push && case.is_invalid(number),
            "{what}"
        );
        assert!(!was_taken, "{what}, and it was sent");
        return;
    }
    if is_alone && attempts == 0 {
        assert!(!was_taken || state.is_odd, "{what}, and it was taken");
    }
    let was_said = |codes: &[Code]| {
        assert!(
            state.codes.iter().any(|code| codes.contains(code)),
            "{what}, of no call"
        )
    };
    match kind {
        ErrorKind::NotSent => assert!(!was_taken || !is_alone, "{what}, but it was taken"),
        ErrorKind::Unavailable | ErrorKind::CircuitOpen => {}
        ErrorKind::OutcomeUnknown => {
            let writes = [Operation::Push, Operation::Delete].contains(&case.operation);
            assert!(writes, "{what} of a read");
        }
        ErrorKind::Mismatch => assert!(state.is_odd, "{what}"),
        ErrorKind::NotFound => was_said(&[Code::NotFound]),
        ErrorKind::Rejected => was_said(&[Code::InvalidArgument]),
        ErrorKind::ServerFailed => was_said(&[Code::Internal]),
        ErrorKind::Denied => was_said(&[Code::Unauthenticated]),
        _ => panic!("{what}"),
    }
    if is_alone
        && matches!(
            kind,
            ErrorKind::NotSent | ErrorKind::Unavailable | ErrorKind::CircuitOpen
        )
    {
        is_unchanged(server, &state.stored, number, &what);
    }
    if case.time.is_zero() && is_alone {
        assert_eq!(kind, ErrorKind::NotSent, "{what}: there was no time");
    }
}

fn is_unchanged(
    server: &Server,
    stored: &std::collections::BTreeSet<usize>,
    number: usize,
    what: &str,
) {
    assert_eq!(
        stored.contains(&number),
        server.case.is_there(number),
        "{what}, but it was carried out"
    );
}

/// An item of which the server has nothing, as a remainder says.
pub(super) fn was_not_sent(server: &Server, tag: usize) {
    let number = server.case.numbers[tag];
    if server.case.is_unique(number) {
        let state = server.state();
        is_unchanged(
            server,
            &state.stored,
            number,
            &format!("{number} is unsent"),
        );
    }
}
