//! A record: an OASF document kept as wire bytes.

mod de;
mod embed;
mod encode;
mod json;
mod message;
mod path;
mod ser;
mod structs;
pub(crate) mod wire;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use self::encode::Loss;
use self::wire::WireError;
use crate::cid::{Cid, canonical};
use crate::error::{Error, ErrorKind};

/// The largest record that a DIR server takes, in bytes of its encoded message: 4 MiB.
/// [`Record::encoded_len`] is what counts.
pub const MAX_RECORD_LEN: usize = 4 << 20;

/// An agent record (an OASF document), kept as the wire's own bytes.
///
/// A record is a JSON object; on the wire it is a `google.protobuf.Struct` in an
/// `agntcy.dir.core.v1.Record`. This type holds the encoded Struct and nothing else: a clone is a
/// reference count, a push copies the bytes once, and a pull copies nothing. What is asked of it
/// is read from those bytes.
///
/// | | from | to |
/// |---|---|---|
/// | JSON text | [`FromStr`], [`from_json`](Self::from_json), [`from_json_strict`](Self::from_json_strict) | [`to_json`](Self::to_json), `Display` |
/// | a type of yours | [`from_serialize`](Self::from_serialize) | [`deserialize`](Self::deserialize) |
/// | a part of a type of yours | `Deserialize` | `Serialize` |
/// | `serde_json::Value` | `TryFrom<Value>`, `TryFrom<&Value>` | `TryFrom<Record>`, `TryFrom<&Record>` |
/// | `prost_types::Struct` | `TryFrom<Struct>`, `TryFrom<&Struct>` | `TryFrom<&Record>` |
/// | wire bytes of a Record | [`from_wire`](Self::from_wire) | [`to_wire`](Self::to_wire) |
/// | wire bytes of a Struct | [`from_data`](Self::from_data) | [`data`](Self::data) |
///
/// It is a [`prost::Message`] too, which is how records arrive: decoding does not look into the
/// data, so a record from a server can be malformed. [`cid`](Self::cid) finds out.
///
/// One value is one record, and has one CID, by whichever of these it comes in. What one of them
/// writes the others read.
///
/// # What is taken, and what is refused
///
/// All of these constructors check what they are given; what they return has a CID (or has no
/// data). What they refuse is an [`Invalid`](ErrorKind::Invalid) error that says where.
///
/// All numbers of a record are 64-bit floats, which is all that the format has. So some integers, and
/// an object with two equal keys, cannot come back as they were. There are ways in for those who want
/// what every other DIR client makes of them, and for those who want to know:
///
/// | what | `from_json`, `FromStr`, from `Value` | `from_json_strict` | `from_serialize` | why |
/// |---|---|---|---|---|
/// | an integer that is no such float: 9223372036854775807 | the nearest one: 9223372036854776000 | refused | refused | text is read as Go, Python and JavaScript read it, so the CID is theirs; a type has to come back as it was |
/// | 1152921504606847000, which JSON prints for 2^60 | 2^60 | 2^60 | refused | it comes back as the same text, but not as the same `u64` |
/// | two equal keys in an object | the last counts | refused | the last counts | RFC 8259 leaves it open: `serde_json` and JavaScript take the last, DIR's Go client refuses them |
/// | fractions: 0.1 | the nearest float | the same | the same, of its shortest digits: `0.1f32` is 0.1 | as in any JSON |
/// | NaN, infinities, 1e309 | refused | refused | refused | JSON has none (`serde_json` writes `null`) |
/// | a byte order mark before the text | skipped | skipped | – | some editors write it |
/// | bytes that are not UTF-8, lone surrogates | refused | refused | – | protobuf has none |
/// | deeper than 128 objects and arrays in each other, the record itself included | refused | refused | refused | types recurse on the stack |
///
/// A `serde_json::Value` is taken as its text is, and strictly by `from_serialize(&value)`; a `Struct` has nothing to
/// lose. A type of yours is taken as its text is by way of a `Value`:
/// `Record::try_from(serde_json::to_value(&value)?)`. What a type has as a `RawValue` is read as by `from_json_strict`.
/// (A `Value` that `serde_json` made of an `f32` has all digits of the 64-bit float, which is another value.) Wire
/// bytes may nest 10,000 messages deep, which is a DIR server's limit (two for each object or array): of such a record
/// there is a CID, and text by `to_json`, but what is deeper than 128 is not read as a type, a `Value` or a `Struct`,
/// nor is its text read again.
///
/// Two records are equal (`==`) if their wire bytes are; the same document can be encoded in many ways,
/// and [`cid`](Self::cid) is the same for all of them.
///
/// Reading a record takes at most 16 bytes of memory for each of its bytes, and 1 MiB, besides what is
/// made of it.
///
/// ```
/// use agntcy_dir_stream::Record;
///
/// let record: Record = r#"{"name": "a", "version": "1.0.0", "skills": []}"#.parse()?;
/// assert_eq!(record.name(), Some("a"));
/// assert_eq!(record.to_json()?, r#"{"name":"a","skills":[],"version":"1.0.0"}"#);
///
/// let record = Record::from_json(r#"{"maximum": 9223372036854775807}"#)?;
/// assert_eq!(record.to_json()?, r#"{"maximum":9223372036854776000}"#);
///
/// let error = Record::from_json(r#"["a"]"#).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid: a record is a JSON object, and this is not at line 1 column 1"
/// );
/// # Ok::<(), agntcy_dir_stream::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// The encoded `google.protobuf.Struct`; `None` is a record without data.
    data: Option<Bytes>,
}

impl Record {
    /// Reads JSON text. An integer that is no 64-bit float becomes the nearest one, as in every other
    /// client of a directory; of equal keys the last counts.
    /// [`from_json_strict`](Self::from_json_strict) refuses both.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), with line and column (in bytes, without a byte order mark).
    pub fn from_json(text: impl AsRef<[u8]>) -> Result<Self, Error> {
        json::to_data(text.as_ref(), Loss::Taken).map(Self::with_data)
    }

    /// As [`from_json`](Self::from_json), but refuses what would come back as something else: integers
    /// that are no 64-bit float, and an object that has a key twice.
    ///
    /// ```
    /// use agntcy_dir_stream::Record;
    ///
    /// let error = Record::from_json_strict(r#"{"id": 9007199254740993}"#).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid: 9007199254740993 is not a 64-bit float, the nearest is 9007199254740992 \
    ///      at line 1 column 23"
    /// );
    /// let error = Record::from_json_strict(r#"{"a": 1, "a": 2}"#).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid: the key `a` comes twice in one object at line 1 column 12"
    /// );
    /// ```
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), with line and column.
    pub fn from_json_strict(text: impl AsRef<[u8]>) -> Result<Self, Error> {
        json::to_data(text.as_ref(), Loss::Refused).map(Self::with_data)
    }

    /// Writes any type that serializes to an object, straight to wire bytes. The result is what
    /// `serde_json` would make of it, and [`deserialize`](Self::deserialize) gives back what was written:
    /// an integer that is no 64-bit float is refused. One exception: an `untagged` enum or
    /// a flattened field reads a number as from JSON text, so `1.0` may come back as an integer, and an `f32` as
    /// its neighbour.
    ///
    /// ```
    /// use agntcy_dir_stream::Record;
    ///
    /// #[derive(serde::Serialize)]
    /// struct Agent<'a> {
    ///     name: &'a str,
    ///     load: f64,
    /// }
    ///
    /// let record = Record::from_serialize(&Agent { name: "a", load: 0.5 })?;
    /// assert_eq!(record.name(), Some("a"));
    ///
    /// let error = Record::from_serialize(&Agent { name: "a", load: f64::NAN }).unwrap_err();
    /// assert_eq!(error.to_string(), "invalid: $.load: NaN is not a JSON number");
    /// # Ok::<(), agntcy_dir_stream::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), with the path of the value: what this type refuses, and
    /// what the value's own `Serialize` does.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        Self::serialized(value, Loss::Refused)
    }

    fn serialized<T: Serialize + ?Sized>(value: &T, loss: Loss) -> Result<Self, Error> {
        ser::to_data(value, loss)
            .map(Self::with_data)
            .map_err(|error| error.to_error(&[]))
    }

    /// Takes the encoding of an `agntcy.dir.core.v1.Record` message, without copying it (where
    /// `data` comes in one piece, as all encoders write it).
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), with the offset in bytes from the start of the data.
    pub fn from_wire(message: impl Into<Bytes>) -> Result<Self, Error> {
        let record = Self::decode(message.into()).map_err(|error| {
            Error::invalid("these bytes are not a Record message").with_source(error)
        })?;
        record.checked()
    }

    /// Takes the encoding of a `google.protobuf.Struct`, without copying it.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), with the offset in bytes.
    pub fn from_data(data: impl Into<Bytes>) -> Result<Self, Error> {
        Self::with_data(data.into()).checked()
    }

    pub(crate) fn with_data(data: impl Into<Bytes>) -> Self {
        Self {
            data: Some(data.into()),
        }
    }

    fn checked(self) -> Result<Self, Error> {
        if let Some(data) = &self.data {
            canonical::check(data).map_err(|error| malformed(error, data))?;
        }
        Ok(self)
    }

    /// The encoded `google.protobuf.Struct`. `None`: the record has no data, not even an empty
    /// object.
    #[must_use]
    pub fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    /// The encoded `agntcy.dir.core.v1.Record` message: a copy, a few bytes longer than the data.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// The length of the encoded message in bytes. A DIR server takes up to [`MAX_RECORD_LEN`].
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        prost::Message::encoded_len(self)
    }

    /// The canonical JSON text: keys sorted, no white space. It is what the CID is made of.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), if the record has no data, or came from a server and is
    /// malformed.
    pub fn to_json(&self) -> Result<String, Error> {
        let data = self.data_or_error()?;
        canonical::json(data).map_err(|error| malformed(error, data))
    }

    /// Reads the record as any type, straight from the wire bytes. Text is borrowed where `T`
    /// borrows, since the wire has it unescaped.
    ///
    /// It gives what `serde_json` would read of the canonical text, and refuses what that would, with
    /// these exceptions:
    ///
    /// - Whole numbers beyond 2^53 are read exactly, as whatever integer type holds them; the text has
    ///   their shortest digits, which are another integer. (What serde buffers, as for `untagged`, `tag`,
    ///   `content` and `flatten`, holds no `i128`.)
    /// - It goes one object or array deeper.
    /// - `-0` is no integer, not even an `i128`.
    /// - What `T` does not read is not looked into, since that would cost more than the reading: in a
    ///   record from a server that was not verified, it may be malformed.
    /// - A `&RawValue` cannot be borrowed, since there is no text; a `Box<RawValue>` is canonical text.
    ///
    /// ```
    /// use agntcy_dir_stream::Record;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Agent<'a> {
    ///     name: &'a str,
    ///     authors: Vec<&'a str>,
    /// }
    ///
    /// let record: Record = r#"{"name": "a\u0041", "authors": ["b"], "version": "1"}"#.parse()?;
    /// let agent: Agent = record.deserialize()?;
    /// assert_eq!((agent.name, agent.authors), ("aA", vec!["b"]));
    /// # Ok::<(), agntcy_dir_stream::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), with the path of the value that `T` does not take, or
    /// the offset of bytes that are malformed.
    pub fn deserialize<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Error> {
        let data = self.data_or_error()?;
        de::from_data(data).map_err(|error| error.to_error(data))
    }

    /// The record's CID, computed from its content on each call: one pass of canonical JSON and
    /// SHA-256.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid), if the record has no data, or came from a server and is
    /// malformed.
    pub fn cid(&self) -> Result<Cid, Error> {
        let data = self.data_or_error()?;
        canonical::digest(data)
            .map(Cid::from_digest)
            .map_err(|error| malformed(error, data))
    }

    /// Checks that this is the record that `cid` names.
    ///
    /// # Errors
    ///
    /// [`Mismatch`](ErrorKind::Mismatch) if it is another, with both CIDs, and as
    /// [`cid`](Self::cid).
    pub fn verify(&self, cid: &Cid) -> Result<(), Error> {
        let own = self.cid()?;
        if own == *cid {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Mismatch,
            format!("the content of {cid} hashes to {own}"),
        ))
    }

    /// The text at the key `name`, read without looking at the rest.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// The text at the key `version`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.text("version")
    }

    /// The text at the key `schema_version`: the version of OASF that the record follows.
    #[must_use]
    pub fn schema_version(&self) -> Option<&str> {
        self.text("schema_version")
    }

    /// Whether the record has what no DIR server does without: a `schema_version` and a `name`, both texts that are not
    /// empty.
    ///
    /// It is a [precheck](crate::PushItem::precheck), and no validation: that is up to the schema that the server asks
    /// for.
    ///
    /// # Errors
    ///
    /// Of kind [`Invalid`](ErrorKind::Invalid), naming the field.
    ///
    /// ```
    /// # use agntcy_dir_stream::Record;
    /// let record: Record = r#"{"name": "a"}"#.parse()?;
    /// assert_eq!(record.check_required().unwrap_err().to_string(), "invalid: the record has no schema_version");
    /// # Ok::<_, agntcy_dir_stream::Error>(())
    /// ```
    pub fn check_required(&self) -> Result<(), Error> {
        let has = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        if !has(self.schema_version()) {
            Err(Error::invalid("the record has no schema_version"))
        } else if !has(self.name()) {
            Err(Error::invalid("the record has no name"))
        } else {
            Ok(())
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        match wire::top_level(self.data.as_deref()?, key).ok()?? {
            wire::Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn data_or_error(&self) -> Result<&Bytes, Error> {
        self.data
            .as_ref()
            .ok_or_else(|| Error::invalid("the record has no data"))
    }
}

fn malformed(error: WireError, data: &[u8]) -> Error {
    let offset = error.offset_in(data);
    Error::invalid(format!("{} at byte {offset} of the data", error.what))
}

/// Reads JSON text, as [`Record::from_json`] does.
impl FromStr for Record {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_json(text)
    }
}

/// As [`Record::from_json`] reads its text. [`Record::from_serialize`] is the strict way.
impl TryFrom<&serde_json::Value> for Record {
    type Error = Error;

    fn try_from(value: &serde_json::Value) -> Result<Self, Error> {
        Self::serialized(value, Loss::Taken)
    }
}

/// As [`Record::from_json`] reads its text. [`Record::from_serialize`] is the strict way.
impl TryFrom<serde_json::Value> for Record {
    type Error = Error;

    fn try_from(value: serde_json::Value) -> Result<Self, Error> {
        Self::try_from(&value)
    }
}

/// As [`Record::deserialize`]. Whole numbers that an `i64` or `u64` holds become integers, others floats.
///
/// Where `serde_json`'s feature `raw_value` or `arbitrary_precision` is on, it takes an object whose first
/// key is its private name for these (`$serde_json::private::…`) for what that stands for, in a record as
/// in any text.
impl TryFrom<&Record> for serde_json::Value {
    type Error = Error;

    fn try_from(record: &Record) -> Result<Self, Error> {
        record.deserialize()
    }
}

/// Shows what the record is and how long, not what is in it.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("name", &self.name())
            .field("version", &self.version())
            .field("data_len", &self.data.as_ref().map(Bytes::len))
            .finish()
    }
}
