//! Content identifiers: a record's identity.

pub(crate) mod canonical;
mod map;
mod scan;
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
/// The longest digest that is kept, in bytes: that of a record's CID.
const MAX_DIGEST: usize = 32;
/// The longest text that is looked at, in bytes: more than the longest CID takes in base 2.
/// To decode some bases takes the square of the length.
const MAX_TEXT: usize = 1024;
/// How much of a text that is no CID an error shows, in characters.
const SHOWN: usize = 80;

/// The content identifier of a record: the SHA2-256 hash of its canonical JSON.
///
/// A record's own is CIDv1 with codec 0x01, printed in base32: `baeareig…`, 59 characters. Parsing takes any valid
/// CIDv0 or CIDv1 text, in any multibase, with a digest of up to 32 bytes, which is what a DIR server's have, and codes
/// of codec and hash below 2^32; printing writes CIDv1 in lower-case base32 and CIDv0 in base58. Two CIDs are equal if
/// version, codec and hash are, however they were written. The order is that of these, and means nothing. It takes 44
/// bytes. No record's own is a CIDv0, so to look one up finds nothing.
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
pub struct Cid {
    form: Form,
    /// Behind its end there are zeros.
    digest: [u8; MAX_DIGEST],
}

/// All but the digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Form {
    is_v0: bool,
    /// Of the digest, in bytes.
    len: u8,
    codec: u32,
    hash: u32,
}

impl Form {
    /// That of a record's own CID.
    const OWN: Self = Self {
        is_v0: false,
        len: 32,
        codec: CODEC as u32,
        hash: SHA2_256 as u32,
    };
}

impl Cid {
    /// The CID of canonical JSON.
    #[cfg(feature = "server")]
    pub(crate) fn of(canonical: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self::from_digest(Sha256::digest(canonical).into())
    }

    /// The CID of content with this SHA2-256.
    pub(crate) fn from_digest(digest: [u8; 32]) -> Self {
        Self {
            form: Form::OWN,
            digest,
        }
    }

    /// One of any form, if there is room for it.
    fn from_any(cid: &cid::Cid) -> Result<Self, &'static str> {
        let hash = cid.hash();
        let (codec, code) = (u32::try_from(cid.codec()), u32::try_from(hash.code()));
        let (Ok(codec), Ok(code)) = (codec, code) else {
            return Err("its codec or its hash function has a code beyond 32 bits");
        };
        let mut digest = [0; MAX_DIGEST];
        let Some(place) = digest.get_mut(..hash.digest().len()) else {
            return Err("its digest is longer than the 32 bytes of a record's");
        };
        place.copy_from_slice(hash.digest());
        let form = Form {
            is_v0: cid.version() == Version::V0,
            len: hash.size(),
            codec,
            hash: code,
        };
        Ok(Self { form, digest })
    }

    /// As the `cid` crate has it.
    fn to_any(self) -> cid::Cid {
        let digest = &self.digest[..usize::from(self.form.len)];
        let hash = Multihash::wrap(self.form.hash.into(), digest).expect("it is short enough");
        match self.form.is_v0 {
            true => cid::Cid::new_v0(hash).expect("it was one"),
            false => cid::Cid::new_v1(self.form.codec.into(), hash),
        }
    }

    /// Its digest, if it is one as records of DIR have.
    pub(crate) fn own_digest(&self) -> Option<[u8; 32]> {
        (self.form == Form::OWN).then_some(self.digest)
    }

    /// The first 8 bytes of its digest.
    pub(crate) fn beginning(&self) -> u64 {
        let (beginning, _) = self.digest.split_first_chunk().expect("it has 32");
        u64::from_be_bytes(*beginning)
    }

    /// Its text, as [`Display`](fmt::Display) prints it.
    pub(crate) fn text(&self) -> CidText {
        match self.form {
            Form::OWN => CidText::own(&self.digest),
            _ => CidText::any(&self.to_any()),
        }
    }

    /// How long that is, in bytes.
    pub(crate) fn text_len(&self) -> usize {
        match self.form {
            Form::OWN => text::OWN_LEN,
            _ => self.text().len(),
        }
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
        let shown = || {
            let shown: String = text.chars().take(SHOWN).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            shown + more
        };
        let cid = parse(text).map_err(|error| {
            Error::invalid(format!("`{}` is not a CID", shown())).with_source(error)
        })?;
        Self::from_any(&cid)
            .map_err(|why| Error::invalid(format!("`{}` is no record's CID: {why}", shown())))
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
