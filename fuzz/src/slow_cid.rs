//! The text of the CID of a text, bit by bit.

use sha2::{Digest as _, Sha256};

/// CIDv1, codec 1, SHA2-256 of 32 bytes, in lower-case base32 without padding.
#[must_use]
pub fn of(canonical: &str) -> String {
    let mut bytes = vec![0x01, 0x01, 0x12, 0x20];
    bytes.extend_from_slice(&Sha256::digest(canonical));
    let bit = |number: usize| {
        bytes
            .get(number / 8)
            .map_or(0, |byte| byte >> (7 - number % 8) & 1)
    };
    let letter = |letter: usize| {
        let value = (0..5).fold(0, |value, place| value << 1 | bit(5 * letter + place));
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(value)])
    };
    let letters = (bytes.len() * 8).div_ceil(5);
    std::iter::once('b')
        .chain((0..letters).map(letter))
        .collect()
}
