//! Content identifiers: a record's identity.

pub(crate) mod canonical;
mod map;
mod text;

use std::fmt;
use std::str::FromStr;

use cid::Version;
use cid::multibase::{self, Base};
use cid::multihash::Multihash;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use self::map::CidMap;
pub(crate) use self::text::CidText;
use crate::error::Error;

/// The multicodec number that DIR gives a record's content.
const CODEC: u64 = 0x01;
/// The multihash number of SHA2-256.
const SHA2_256: u64 = 0x12;
/// The longest text that is looked at, in bytes: more than a digest of 64 bytes takes in base 2.
/// To decode some bases takes the square of the length.
const MAX_TEXT: usize = 1024;
/// How much of a text that is no CID an error shows, in characters.
const SHOWN: usize = 80;

/// The content identifier of a record: the SHA2-256 hash of its canonical JSON.
///
/// A record's own is CIDv1 with codec 0x01, printed in base32: `baeareig…`, 59 characters.
/// Parsing takes any valid CIDv0 or CIDv1 text, in any multibase, with a digest of up to 64
/// bytes; printing writes CIDv1 in lower-case base32 and CIDv0 in base58. Two CIDs are equal if
/// version, codec and hash are, however they were written. The order is that of these, and means
/// nothing.
///
/// ```
/// use agntcy_dir_stream::{Cid, Record};
///
/// let record: Record = r#"{"name": "a"}"#.parse()?;
/// let cid = record.cid()?;
/// assert_eq!(cid.to_string().parse::<Cid>()?, cid);
/// record.verify(&cid)?;
/// # Ok::<(), agntcy_dir_stream::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(cid::Cid);

impl Cid {
    /// The CID of canonical JSON.
    #[cfg(feature = "server")]
    pub(crate) fn of(canonical: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self::from_digest(Sha256::digest(canonical).into())
    }

    /// The CID of content with this SHA2-256.
    pub(crate) fn from_digest(digest: [u8; 32]) -> Self {
        let hash = Multihash::wrap(SHA2_256, &digest).expect("32 bytes fit into a multihash");
        Self(cid::Cid::new_v1(CODEC, hash))
    }

    /// Its digest, if it is one as records of DIR have.
    pub(crate) fn own_digest(&self) -> Option<[u8; 32]> {
        let hash = self.0.hash();
        let is_own =
            self.0.version() == Version::V1 && self.0.codec() == CODEC && hash.code() == SHA2_256;
        hash.digest().try_into().ok().filter(|_| is_own)
    }

    /// The first 8 bytes of its digest.
    pub(crate) fn beginning(&self) -> u64 {
        let digest = self.0.hash().digest();
        digest
            .iter()
            .take(8)
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    /// Its text, as [`Display`](fmt::Display) prints it.
    pub(crate) fn text(&self) -> CidText {
        CidText::of(&self.0)
    }

    /// How long that is, in bytes.
    pub(crate) fn text_len(&self) -> usize {
        text::len(&self.0)
    }

    /// Whether `text` is its text, as [`Display`](fmt::Display) prints it. If not, it may still be
    /// its text in another base.
    pub(crate) fn is_text(&self, text: &[u8]) -> bool {
        self.text().as_bytes() == text
    }
}

impl FromStr for Cid {
    type Err = Error;

    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid), with the text and what is wrong with it.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::invalid("the CID is empty"));
        }
        if let Some(digest) = text::own_digest(text) {
            return Ok(Self::from_digest(digest));
        }
        if text.len() > MAX_TEXT {
            let shown: String = text.chars().take(SHOWN).collect();
            let message = format!("`{shown}…`, {} bytes long, is not a CID", text.len());
            return Err(Error::invalid(message));
        }
        parse(text).map(Self).map_err(|error| {
            let shown: String = text.chars().take(SHOWN).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            Error::invalid(format!("`{shown}{more}` is not a CID")).with_source(error)
        })
    }
}

/// Stricter than the crate's own: nothing may stand around the CID, neither a path before it nor
/// bytes behind it, and only a CIDv1 has a multibase.
fn parse(text: &str) -> Result<cid::Cid, cid::Error> {
    let is_v0 = Version::is_v0_str(text);
    let bytes = if is_v0 {
        Base::Base58Btc.decode(text)?
    } else {
        multibase::decode(text)?.1
    };
    let mut rest = bytes.as_slice();
    let cid = cid::Cid::read_bytes(&mut rest)?;
    if rest.is_empty() && is_v0 == (cid.version() == Version::V0) {
        Ok(cid)
    } else {
        Err(cid::Error::ParsingError)
    }
}

impl TryFrom<&str> for Cid {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

/// As text.
impl Serialize for Cid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// From text.
impl<'de> Deserialize<'de> for Cid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
