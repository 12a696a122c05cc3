//! The text of a CID, on the stack.
//!
//! All that a DIR server is sent and answers is full of these, so they are written and read here
//! rather than through a `String` and several `Vec`s. What is not in a record's own form is left
//! to the `cid` crate.

use std::ops::Deref;
use std::str;

use super::{CODEC, SHA2_256};

/// The text of a record's own CID, in bytes.
pub(super) const OWN_LEN: usize = 59;
/// The multibase's letter.
const LOWER_BASE32: u8 = b'b';
/// What stands before the digest of a record's CID: version, codec, hash, and length.
const HEAD: [u8; 4] = [1, CODEC as u8, SHA2_256 as u8, 32];
/// Base32 makes eight letters of five bytes.
const GROUP: usize = 5;
const LETTERS: usize = 8;
/// What is coded: the head and the digest, made up to whole groups. The zeros are letters behind the text's end.
const CODED: usize = (HEAD.len() + 32_usize).next_multiple_of(GROUP);
/// The letters of these, behind the multibase's.
const CODED_LETTERS: usize = CODED / GROUP * LETTERS;

/// The text of a CID: CIDv1 in lower-case base32, CIDv0 in base58.
#[derive(Clone, Debug)]
pub(crate) enum CidText {
    Own([u8; OWN_LEN]),
    Any(String),
}

impl CidText {
    pub(super) fn own(digest: &[u8; 32]) -> Self {
        let mut coded = [0; CODED];
        coded[..HEAD.len()].copy_from_slice(&HEAD);
        coded[HEAD.len()..][..32].copy_from_slice(digest);
        let mut letters = [0; CODED_LETTERS];
        let places = letters.as_chunks_mut().0.iter_mut();
        for (place, group) in places.zip(coded.as_chunks().0) {
            *place = encode(*group);
        }
        let mut text = [LOWER_BASE32; OWN_LEN];
        text[1..].copy_from_slice(&letters[..OWN_LEN - 1]);
        Self::Own(text)
    }

    pub(super) fn any(cid: &cid::Cid) -> Self {
        Self::Any(cid.to_string())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(text) => text,
            Self::Any(text) => text.as_bytes(),
        }
    }
}

impl Deref for CidText {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("it is ASCII")
    }
}

/// Eight bytes that are all the same, as one word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The letters `a` to `z` and `2` to `7` of five bytes, all eight at once.
fn encode([a, b, c, d, e]: [u8; GROUP]) -> [u8; LETTERS] {
    let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
    // Halves of 20 bits, quarters of 10, and bytes of 5.
    let bits = (bits & 0xff_fff0_0000) << 12 | bits & 0xf_ffff;
    let bits = (bits & 0x000f_fc00_000f_fc00) << 6 | bits & 0x0000_03ff_0000_03ff;
    let values = (bits & 0x03e0_03e0_03e0_03e0) << 3 | bits & 0x001f_001f_001f_001f;
    // The highest bit of the bytes from 26 on.
    let is_digit = (values + each(0x80 - 26)) & each(0x80);
    let shift = (is_digit >> 7) * u64::from(b'a' - (b'2' - 26));
    (values + each(b'a') - shift).to_be_bytes()
}

/// The five bytes of eight letters. `None`: they are not all such letters.
fn decode(letters: [u8; LETTERS]) -> Option<[u8; GROUP]> {
    const HIGH: u64 = each(0x80);
    let letters = u64::from_be_bytes(letters);
    if letters & HIGH != 0 {
        return None;
    }
    // The highest bit of the bytes from this one on.
    let from = |byte: u8| (letters + each(0x80 - byte)) & HIGH;
    let is_letter = from(b'a') & !from(b'z' + 1);
    let is_digit = from(b'2') & !from(b'7' + 1);
    if is_letter | is_digit != HIGH {
        return None;
    }
    let [letter, digit] = [is_letter >> 7, is_digit >> 7];
    let bits = letters - letter * u64::from(b'a') - digit * u64::from(b'2' - 26);
    let bits = (bits >> 3 & 0x03e0_03e0_03e0_03e0) | bits & 0x001f_001f_001f_001f;
    let bits = (bits >> 6 & 0x000f_fc00_000f_fc00) | bits & 0x0000_03ff_0000_03ff;
    let bits = (bits >> 12 & 0xff_fff0_0000) | bits & 0xf_ffff;
    let [_, _, _, bytes @ ..] = bits.to_be_bytes();
    Some(bytes)
}

/// The digest in the text of a record's own CID. `None`: it is another, of another form, or none.
pub(super) fn own_digest(text: &str) -> Option<[u8; 32]> {
    let own: &[u8; OWN_LEN] = text.as_bytes().try_into().ok()?;
    let [LOWER_BASE32, own @ ..] = own else {
        return None;
    };
    // What stands for zeros, behind the end.
    let mut letters = [b'a'; CODED_LETTERS];
    letters[..OWN_LEN - 1].copy_from_slice(own);
    let mut bytes = [0; CODED];
    let places = bytes.as_chunks_mut().0.iter_mut();
    for (place, group) in places.zip(letters.as_chunks().0) {
        *place = decode(*group)?;
    }
    // The last letter has two bits more than the last byte, and they have to be zero.
    let bytes = bytes
        .strip_prefix(&HEAD)?
        .strip_suffix(&[0; CODED - HEAD.len() - 32])?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cid::Version;
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
            let text = inner.to_string();
            assert_eq!(own_digest(&text).is_some(), is_own(&inner));
            let is_kept = inner.hash().size() <= 32
                && inner.codec() != u64::MAX
                && inner.hash().code() != u64::MAX;
            let Ok(cid) = text.parse::<Cid>() else {
                assert!(!is_kept, "{text}");
                continue;
            };
            assert!(is_kept, "{text}");
            assert_eq!(cid.to_any(), inner);
            assert_eq!(*cid.text(), *text);
            assert_eq!(cid.text_len(), text.len());
            assert_eq!(cid.to_string(), text);
            assert!(cid.is_text(text.as_bytes()));
            assert!(!cid.is_text(text.to_uppercase().as_bytes()));
            assert!(!cid.is_text(&text.as_bytes()[1..]));
            assert!(!cid.is_text(b""));
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_said() {
        let long = cid::Cid::new_v1(CODEC, Multihash::wrap(SHA2_256, &[7; 33]).unwrap());
        let error = long.to_string().parse::<Cid>().unwrap_err();
        let words = format!(
            "invalid: `{long}` is no record's CID: its digest is longer than the 32 bytes of a record's"
        );
        assert_eq!(error.to_string(), words);
        let odd = cid::Cid::new_v1(1 << 32, Multihash::wrap(SHA2_256, &[7; 32]).unwrap());
        let error = odd.to_string().parse::<Cid>().unwrap_err();
        assert!(
            error.to_string().ends_with("a code beyond 32 bits"),
            "{error}"
        );
    }

    #[test]
    fn a_group_there_and_back_is_as_letter_by_letter() {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let bytes: [u8; GROUP] = std::array::from_fn(|_| random.u8(..));
            let bits = bytes
                .iter()
                .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            let letter = |place: usize| ALPHABET[(bits >> (35 - 5 * place) & 31) as usize];
            let letters = std::array::from_fn(letter);
            assert_eq!(encode(bytes), letters);
            assert_eq!(decode(letters), Some(bytes));
        }
        for byte in 0..=u8::MAX {
            for place in 0..LETTERS {
                let mut letters = *b"az27az27";
                letters[place] = byte;
                assert_eq!(
                    decode(letters).is_some(),
                    ALPHABET.contains(&byte),
                    "{byte}"
                );
            }
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
                let kept = slow.filter(|cid| Cid::from_any(cid).is_ok());
                assert_eq!(fast.map(Cid::to_any), kept, "{text}");
                let digest = own_digest(&text);
                let is_own = slow.is_some_and(|cid| is_own(&cid) && cid.to_string() == text);
                assert_eq!(digest.is_some(), is_own, "{text}");
            }
        }
    }
}
