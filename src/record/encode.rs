//! Writes the wire bytes of `Struct`, `Value` and `ListValue`.

use prost::encoding::encode_varint;

use super::path::PathError;

/// `Struct.fields`.
pub(super) const FIELDS: u8 = field(1, LENGTH_DELIMITED);
/// `Struct.FieldsEntry.key`.
const KEY: u8 = field(1, LENGTH_DELIMITED);
/// `Struct.FieldsEntry.value`.
pub(super) const VALUE: u8 = field(2, LENGTH_DELIMITED);
/// `ListValue.values`.
pub(super) const VALUES: u8 = field(1, LENGTH_DELIMITED);

const NULL_VALUE: u8 = field(1, VARINT);
const NUMBER_VALUE: u8 = field(2, FIXED64);
const STRING_VALUE: u8 = field(3, LENGTH_DELIMITED);
const BOOL_VALUE: u8 = field(4, VARINT);
/// `Value.struct_value`.
pub(super) const STRUCT_VALUE: u8 = field(5, LENGTH_DELIMITED);
/// `Value.list_value`.
pub(super) const LIST_VALUE: u8 = field(6, LENGTH_DELIMITED);

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;

const fn field(number: u8, wire_type: u8) -> u8 {
    number << 3 | wire_type
}

/// The bytes written so far.
#[derive(Debug)]
pub(super) struct Encoder {
    out: Vec<u8>,
    /// How many messages are open.
    open: usize,
    pub(super) loss: Loss,
}

/// What becomes of a value that would come back as another: an integer that is no 64-bit float, and a
/// key that stands twice in the text of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is refused.
    Refused,
    /// The nearest float stands for the integer, and the last of equal keys counts.
    Taken,
}

/// Where an open message begins.
#[derive(Debug)]
#[must_use]
pub(super) struct Start(usize);

impl Encoder {
    pub(super) fn new(loss: Loss) -> Self {
        Self {
            out: Vec::new(),
            open: 0,
            loss,
        }
    }

    /// What was written. An error, if a value inside could not be written and the type around it went on: that leaves
    /// a message open. (An array whose element is refused at once, as NaN is, has none open, and lacks the element.)
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, PathError> {
        match self.open {
            0 => Ok(self.out),
            _ => Err(PathError::new(
                "a value inside could not be written, and the type around it went on",
            )),
        }
    }

    /// Begins a message whose length is not known yet: one byte stands for it.
    pub(super) fn open(&mut self, tag: u8) -> Start {
        self.out.extend_from_slice(&[tag, 0]);
        self.open += 1;
        Start(self.out.len())
    }

    /// Ends a message: its length is written, and what is longer than a byte moves it on.
    pub(super) fn close(&mut self, Start(start): Start) {
        self.open -= 1;
        let len = self.out.len() - start;
        if let Ok(len @ 0..0x80) = u8::try_from(len) {
            self.out[start - 1] = len;
        } else {
            let mut varint = Vec::with_capacity(10);
            encode_varint(len as u64, &mut varint);
            self.out.splice(start - 1..start, varint);
        }
    }

    pub(super) fn key(&mut self, key: &str) {
        self.text(KEY, key);
    }

    pub(super) fn null(&mut self) {
        self.out.extend_from_slice(&[NULL_VALUE, 0]);
    }

    pub(super) fn number(&mut self, value: f64) {
        self.out.push(NUMBER_VALUE);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn string(&mut self, value: &str) {
        self.text(STRING_VALUE, value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(&[BOOL_VALUE, u8::from(value)]);
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.out.push(tag);
        encode_varint(text.len() as u64, &mut self.out);
        self.out.extend_from_slice(text.as_bytes());
    }
}
