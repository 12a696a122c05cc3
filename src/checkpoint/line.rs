//! The text of a checkpoint: one line of fixed length says all, so that a line is valid or not by itself.

use std::io::Write as _;

use sha2::{Digest as _, Sha256};

/// A sector of a disk, which is written as a whole or not at all.
pub(super) const LEN: usize = 512;

pub(super) const MAX_IDENTITY_LEN: usize = 256;

const HEAD: &str = "agntcy-dir-stream checkpoint 1, write ";
const DONE: &str = ", done ";
const OF: &str = ", of \"";
const CHECK: &str = "\", sha256 ";

const HASH_LEN: usize = 32;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// How many lines were written before.
    pub(super) number: u64,
    pub(super) done: u64,
    pub(super) identity: String,
}

pub(super) fn is_identity(text: &str) -> bool {
    (1..=MAX_IDENTITY_LEN).contains(&text.len()) && !text.chars().any(char::is_control)
}

pub(super) fn encode(number: u64, done: u64, identity: &str) -> [u8; LEN] {
    let mut line = [b' '; LEN];
    let mut rest = &mut line[..];
    write!(rest, "{HEAD}{number}{DONE}{done}{OF}{identity}").expect("all parts are bounded");
    let end = LEN - rest.len();
    let (said, rest) = line.split_at_mut(end);
    let (check, rest) = rest.split_at_mut(CHECK.len());
    check.copy_from_slice(CHECK.as_bytes());
    rest[..2 * HASH_LEN].copy_from_slice(&hex(&Sha256::digest(said).into()));
    line[LEN - 1] = b'\n';
    line
}

/// What a line says, if each byte of it is as it was written.
pub(super) fn decode(bytes: &[u8]) -> Option<Line> {
    let text = str::from_utf8(bytes).ok()?.trim_end();
    let (said, _) = text.rsplit_once(CHECK)?;
    let (number, said) = said.strip_prefix(HEAD)?.split_once(DONE)?;
    let (done, identity) = said.split_once(OF)?;
    let line = Line {
        number: number.parse().ok()?,
        done: done.parse().ok()?,
        identity: identity.to_owned(),
    };
    // The hash, the spaces, and numbers that could be written in another way.
    let is_whole = is_identity(identity) && encode(line.number, line.done, identity) == bytes;
    is_whole.then_some(line)
}

pub(super) fn hex(bytes: &[u8; HASH_LEN]) -> [u8; 2 * HASH_LEN] {
    let digits = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let byte = bytes[at / 2];
        let half = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
        digits[usize::from(half)]
    })
}
