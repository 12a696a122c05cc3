//! The text of a CID, on the stack.
//!
//! All that a DIR server is sent and answers is full of these, so they are written and read here
//! rather than through a `String` and several `Vec`s. What is not in a record's own form is left
//! to the `cid` crate.

use std::ops::Deref;
use std::str;

use cid::Version;

use super::{CODEC, SHA2_256};

/// The longest CID in bytes: three numbers of 64 bits, the length of the digest, and 64 bytes of
/// that; made up to whole groups.
const MAX_BYTES: usize = (3 * 10 + 1 + 64_usize).next_multiple_of(GROUP);
/// Base32 makes eight letters of five bytes.
const GROUP: usize = 5;
const LETTERS_OF_GROUP: usize = 8;
/// The longest text: the multibase's letter stands before it.
const MAX_TEXT: usize = 1 + MAX_BYTES / GROUP * LETTERS_OF_GROUP;
/// What stands before the digest of a record's CID: version, codec, hash, and length.
const OWN: [u8; 4] = [1, CODEC as u8, SHA2_256 as u8, 32];

/// The text of a CID: CIDv1 in lower-case base32, CIDv0 in base58.
#[derive(Clone, Copy)]
pub(crate) struct CidText {
    text: [u8; MAX_TEXT],
    len: usize,
}

impl CidText {
    pub(super) fn of(cid: &cid::Cid) -> Self {
        let mut text = [0; MAX_TEXT];
        if cid.version() == Version::V0 {
            let base58 = cid.to_string();
            let len = base58.len();
            text[..len].copy_from_slice(base58.as_bytes());
            return Self { text, len };
        }
        let mut bytes = [0; MAX_BYTES];
        let written = write(cid, &mut bytes);
        text[0] = LOWER_BASE32;
        let (groups, _) = bytes[..written.next_multiple_of(GROUP)].as_chunks();
        let (places, _) = text[1..].as_chunks_mut();
        for (place, group) in places.iter_mut().zip(groups) {
            *place = encode(*group);
        }
        let len = 1 + (8 * written).div_ceil(5);
        Self { text, len }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl Deref for CidText {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("it is ASCII")
    }
}

/// How long the text of a CID is, in bytes.
pub(super) fn len(cid: &cid::Cid) -> usize {
    if is_own(cid) {
        1 + (8 * (OWN.len() + 32)).div_ceil(5)
    } else {
        CidText::of(cid).len
    }
}

/// Whether it has the form of a record's own, as nearly all have: then the numbers are known.
fn is_own(cid: &cid::Cid) -> bool {
    let hash = cid.hash();
    let is_v1 = cid.version() == Version::V1 && cid.codec() == CODEC;
    is_v1 && hash.code() == SHA2_256 && hash.digest().len() == 32
}

/// The bytes of a CIDv1, and how many there are.
fn write(cid: &cid::Cid, bytes: &mut [u8; MAX_BYTES]) -> usize {
    if is_own(cid) {
        let (head, rest) = bytes.split_at_mut(OWN.len());
        head.copy_from_slice(&OWN);
        rest[..32].copy_from_slice(cid.hash().digest());
        OWN.len() + 32
    } else {
        let written = cid.write_bytes(bytes.as_mut_slice());
        written.expect("it takes the longest")
    }
}

/// The multibase's letter.
const LOWER_BASE32: u8 = b'b';
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// What is no letter in [`VALUES`].
const NONE: u8 = 0xff;
/// The places of the letters.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 32 {
        values[LETTERS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

fn encode([a, b, c, d, e]: [u8; GROUP]) -> [u8; LETTERS_OF_GROUP] {
    let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
    std::array::from_fn(|place| LETTERS[(bits >> (35 - 5 * place) & 31) as usize])
}

fn decode(letters: [u8; LETTERS_OF_GROUP]) -> Option<[u8; GROUP]> {
    let values = letters.map(|letter| VALUES[usize::from(letter)]);
    let bits = values
        .iter()
        .fold(0, |bits: u64, value| bits << 5 | u64::from(*value));
    let [_, _, _, bytes @ ..] = bits.to_be_bytes();
    (!values.contains(&NONE)).then_some(bytes)
}

/// The digest in the text of a record's own CID. `None`: it is another, of another form, or none.
pub(super) fn own_digest(text: &str) -> Option<[u8; 32]> {
    /// The letters of 36 bytes, without the multibase's.
    const LEN: usize = 58;
    // Eight whole groups: zeros behind it do not change what is before them.
    let mut letters = [LETTERS[0]; 8 * LETTERS_OF_GROUP];
    let own: &[u8; LEN] = text
        .as_bytes()
        .strip_prefix(&[LOWER_BASE32])?
        .try_into()
        .ok()?;
    letters[..LEN].copy_from_slice(own);
    let mut bytes = [0; 8 * GROUP];
    let (places, _) = bytes.as_chunks_mut();
    for (place, group) in places.iter_mut().zip(letters.as_chunks().0) {
        *place = decode(*group)?;
    }
    // The last letter has two bits more than the last byte, and they have to be zero.
    let bytes = bytes.strip_prefix(&OWN)?.strip_suffix(&[0; 4])?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cid::multihash::Multihash;

    use super::*;
    use crate::cid::Cid;

    /// Own ones, and those of others: long and short numbers and digests.
    fn cids() -> Vec<cid::Cid> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut cids = Vec::new();
        for size in 0..=64 {
            let digest: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
            for codec in [CODEC, 0, 0x70, 0x80, u64::MAX] {
                for code in [SHA2_256, 0, 0x1234, u64::MAX] {
                    let hash = Multihash::wrap(code, &digest).unwrap();
                    cids.push(cid::Cid::new_v1(codec, hash));
                    cids.extend(cid::Cid::new_v0(hash));
                }
            }
        }
        cids
    }

    fn is_own(cid: &cid::Cid) -> bool {
        let hash = cid.hash();
        cid.version() == Version::V1
            && (cid.codec(), hash.code(), hash.size()) == (CODEC, SHA2_256, 32)
    }

    #[test]
    fn a_text_is_that_of_the_cid_crate() {
        for inner in cids() {
            let cid = Cid(inner);
            let text = inner.to_string();
            assert_eq!(*cid.text(), *text);
            assert_eq!(cid.to_string(), text);
            assert_eq!(own_digest(&text).is_some(), is_own(&inner));
            assert!(cid.is_text(text.as_bytes()));
            assert!(!cid.is_text(text.to_uppercase().as_bytes()));
            assert!(!cid.is_text(&text.as_bytes()[1..]));
            assert!(!cid.is_text(b""));
        }
    }

    #[test]
    fn what_is_read_fast_is_read_as_by_the_cid_crate() {
        let own = Cid::from_digest([0xa5; 32]).to_string();
        assert!(own_digest(&own).is_some());
        for position in 0..own.len() {
            for byte in 0..0x80 {
                let mut text = own.clone().into_bytes();
                text[position] = byte;
                let text = String::from_utf8(text).unwrap();
                let slow = super::super::parse(&text).ok();
                let fast = text.parse::<Cid>().ok();
                assert_eq!(fast.map(|cid| cid.0), slow, "{text}");
                let digest = own_digest(&text);
                let is_own = slow.is_some_and(|cid| is_own(&cid) && *CidText::of(&cid) == *text);
                assert_eq!(digest.is_some(), is_own, "{text}");
            }
        }
    }
}
