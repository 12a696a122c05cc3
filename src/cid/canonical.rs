//! Canonical JSON: what a CID is made of.
//!
//! It is the record's Struct as Go's `encoding/json` writes it: keys sorted by their bytes, no
//! white space, numbers in the shortest form that reads back the same, `<`, `>`, `&`, U+2028 and
//! U+2029 escaped. Written straight from the wire bytes, with a stack of its own, so that a
//! record may nest as deep as a server takes it.

use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::scan;
use crate::record::wire::{self, Entry, Fields, Message, Text, Value, WireError};

/// Text that is checked as it is written.
type Unchecked<'a> = &'a [u8];

/// The canonical JSON of an encoded Struct.
pub(crate) fn json(data: &[u8]) -> Result<String, WireError> {
    let mut out = Vec::with_capacity(data.len() + data.len() / 8 + 16);
    write_document(data, &mut out)?;
    Ok(text_of(out))
}

/// The canonical JSON of a value.
pub(crate) fn text(value: Value<'_>) -> Result<String, WireError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(text_of(out))
}

fn text_of(out: Vec<u8>) -> String {
    String::from_utf8(out).expect("made of UTF-8 strings and ASCII")
}

/// The SHA2-256 of the canonical JSON of an encoded Struct, without the text.
pub(crate) fn digest(data: &[u8]) -> Result<[u8; 32], WireError> {
    let mut out = Hashing::new();
    write_document(data, &mut out)?;
    Ok(out.digest())
}

/// Checks that an encoded Struct has canonical JSON.
pub(crate) fn check(data: &[u8]) -> Result<(), WireError> {
    write_document(data, &mut Nowhere)
}

fn write_document(data: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
    write::<Unchecked<'_>>(document(data), out).map_err(|error| first_fault(data, error))
}

/// If there are several faults, the one that is met first when text is checked as it is read.
#[cold]
fn first_fault(data: &[u8], found: WireError) -> WireError {
    let read = write::<&str>(document(data), &mut Nowhere);
    read.err().unwrap_or(found)
}

fn document<'a, T>(data: &'a [u8]) -> Value<'a, T> {
    Value::Struct(Message::new(data))
}

/// Where the text goes.
pub(crate) trait Sink {
    fn write(&mut self, text: &[u8]);

    #[inline]
    fn push(&mut self, byte: u8) {
        self.write(&[byte]);
    }

    /// Writes text in quotes, and `after` behind it, if the text needs no escape. `false`: nothing is written, since it
    /// may need one, or since there is no room for it.
    fn quoted<const N: usize>(&mut self, text: &[u8], after: &[u8; N]) -> bool;
}

/// A buffer's part of [`Sink::quoted`].
#[inline]
fn fill<const N: usize>(place: &mut [u8], text: &[u8], after: &[u8; N]) -> bool {
    let (start, place) = place.split_at_mut(1);
    let (middle, end) = place.split_at_mut(text.len());
    start[0] = b'"';
    end[0] = b'"';
    end[1..].copy_from_slice(after);
    scan::copy_plain(text, middle)
}

impl Sink for Vec<u8> {
    #[inline]
    fn write(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }

    #[inline]
    fn quoted<const N: usize>(&mut self, text: &[u8], after: &[u8; N]) -> bool {
        let len = self.len();
        self.resize(len + text.len() + N + 2, 0);
        let is_plain = fill(&mut self[len..], text, after);
        if !is_plain {
            self.truncate(len);
        }
        is_plain
    }
}

struct Nowhere;

impl Sink for Nowhere {
    #[inline]
    fn write(&mut self, _: &[u8]) {}

    fn quoted<const N: usize>(&mut self, text: &[u8], _: &[u8; N]) -> bool {
        text.is_ascii()
    }
}

/// Hashes the text in chunks of whole blocks, since the pieces that it comes in are shorter.
struct Hashing {
    hasher: Sha256,
    chunk: [u8; Self::CHUNK],
    len: usize,
}

impl Hashing {
    const CHUNK: usize = 1024;

    fn new() -> Self {
        Self {
            hasher: Sha256::new(),
            chunk: [0; Self::CHUNK],
            len: 0,
        }
    }

    fn digest(mut self) -> [u8; 32] {
        self.hasher.update(&self.chunk[..self.len]);
        self.hasher.finalize().into()
    }

    /// Takes what does not fit into the chunk.
    #[inline(never)]
    fn overflow(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let free = &mut self.chunk[self.len..];
            let (now, later) = text.split_at(text.len().min(free.len()));
            free[..now.len()].copy_from_slice(now);
            self.len += now.len();
            if self.len == Self::CHUNK {
                self.hasher.update(self.chunk);
                self.len = 0;
            }
            text = later;
        }
    }
}

impl Sink for Hashing {
    #[inline]
    fn write(&mut self, text: &[u8]) {
        match self.chunk.get_mut(self.len..self.len + text.len()) {
            Some(free) => {
                free.copy_from_slice(text);
                self.len += text.len();
            }
            None => self.overflow(text),
        }
    }

    #[inline]
    fn quoted<const N: usize>(&mut self, text: &[u8], after: &[u8; N]) -> bool {
        let len = text.len() + N + 2;
        let Some(place) = self.chunk.get_mut(self.len..self.len + len) else {
            // As if it were not plain: the rest of a chunk is filled piece by piece.
            return false;
        };
        let is_plain = fill(place, text, after);
        if is_plain {
            self.len += len;
        }
        is_plain
    }
}

/// What is open, the innermost last.
///
/// On the stack of the thread as long as there are no more than in most records, and so are the
/// entries.
type Stack<'a> = SmallVec<[Open<'a>; 16]>;
/// The entries of all open structs, the innermost last.
type Entries<'a, T> = SmallVec<[Entry<'a, T>; 64]>;

/// Writes the canonical JSON of a value.
fn write<'a, T: Text<'a>>(mut value: Value<'a, T>, out: &mut impl Sink) -> Result<(), WireError> {
    let mut entries = Entries::<T>::new();
    let mut open = Stack::new();
    loop {
        match value {
            Value::Null => out.write(b"null"),
            Value::Bool(true) => out.write(b"true"),
            Value::Bool(false) => out.write(b"false"),
            Value::Number(value) => number(value, out),
            Value::String(value) => string(value.as_ref(), b"", out)?,
            Value::Struct(message) => {
                let start = entries.len();
                wire::entries(message, wire::depth_in(open.len() + 1), &mut entries)?;
                out.push(b'{');
                open.push(Open::Struct { start, next: start });
            }
            Value::List(message) => {
                out.push(b'[');
                open.push(Open::List {
                    elements: message.fields(),
                    first: true,
                });
            }
        }
        let Some(message) = next_value(&mut open, &mut entries, out)? else {
            return Ok(());
        };
        value = wire::json_value(message, wire::depth_in(open.len()))?;
    }
}

/// A container that is being written.
enum Open<'a> {
    /// Its entries are those from `start` on, and the next to write is `next`.
    Struct {
        start: usize,
        next: usize,
    },
    List {
        elements: Fields<'a>,
        first: bool,
    },
}

/// Writes what stands before the next value, closing what is at its end. `None`: all is closed.
fn next_value<'a, T: Text<'a>>(
    open: &mut Stack<'a>,
    entries: &mut Entries<'a, T>,
    out: &mut impl Sink,
) -> Result<Option<Message<'a>>, WireError> {
    while let Some(innermost) = open.last_mut() {
        match innermost {
            Open::Struct { start, next } => {
                if let Some(entry) = entries.get_mut(*next) {
                    if next > start {
                        out.push(b',');
                    }
                    *next += 1;
                    string(entry.key.as_ref(), b":", out)?;
                    return Ok(Some(std::mem::take(&mut entry.value)));
                }
                entries.truncate(*start);
                out.push(b'}');
            }
            Open::List { elements, first } => {
                if let Some(element) = wire::next_element(elements)? {
                    if !std::mem::take(first) {
                        out.push(b',');
                    }
                    return Ok(Some(element));
                }
                out.push(b']');
            }
        }
        open.pop();
    }
    Ok(None)
}

/// A finite number as Go's `encoding/json` writes a float64: the shortest digits that read back
/// the same (the nearest of them; of two as near, the even one), with an exponent below 1e-6 and
/// from 1e21 on.
pub(crate) fn number(value: f64, out: &mut impl Sink) {
    /// 2^53: every integer up to here is a float64 of its own, and its digits are the shortest.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value == 0.0 {
        out.write(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
        return;
    }
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation)]
        let integer = value as i64;
        return out.write(itoa::Buffer::new().format(integer).as_bytes());
    }
    if value < 0.0 {
        out.push(b'-');
    }
    let mut buffer = zmij::Buffer::new();
    let mut digits = [0; 17];
    let (digits, point) = shortest(buffer.format_finite(value.abs()), &mut digits);
    let len = i32::try_from(digits.len()).expect("there are at most 17");
    if !(-5..=21).contains(&point) {
        let (first, rest) = digits.split_at(1);
        out.write(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.write(rest);
        }
        out.write(if point > 0 { b"e+" } else { b"e" });
        out.write(itoa::Buffer::new().format(point - 1).as_bytes());
    } else if point <= 0 {
        out.write(b"0.");
        zeros(point.unsigned_abs(), out);
        out.write(digits);
    } else if point < len {
        let (whole, fraction) = digits.split_at(point.unsigned_abs() as usize);
        out.write(whole);
        out.push(b'.');
        out.write(fraction);
    } else {
        out.write(digits);
        zeros(len.abs_diff(point), out);
    }
}

/// Takes a printed positive float apart: its digits without zeros around them, and where among
/// them the point is.
fn shortest<'a>(printed: &str, digits: &'a mut [u8; 17]) -> (&'a [u8], i32) {
    let (mantissa, exponent) = printed.split_once('e').unwrap_or((printed, "0"));
    let mut point: i32 = exponent.parse().expect("a float's exponent is an i32");
    let mut len = 0;
    let mut is_fraction = false;
    for byte in mantissa.bytes() {
        match byte {
            b'.' => is_fraction = true,
            b'0' if len == 0 => point -= i32::from(is_fraction),
            digit => {
                // What comes after 17 is zeros, which make an integer long.
                if let Some(place) = digits.get_mut(len) {
                    *place = digit;
                    len += 1;
                }
                point += i32::from(!is_fraction);
            }
        }
    }
    while len > 1 && digits[len - 1] == b'0' {
        len -= 1;
    }
    (&digits[..len], point)
}

fn zeros(count: u32, out: &mut impl Sink) {
    for _ in 0..count {
        out.push(b'0');
    }
}

/// A string as Go's `encoding/json` writes it, with its HTML escapes, and what comes after it.
#[inline]
fn string<const N: usize>(
    text: &[u8],
    after: &[u8; N],
    out: &mut impl Sink,
) -> Result<(), WireError> {
    if !out.quoted(text, after) {
        wire::checked(text)?;
        out.push(b'"');
        if scan::may_be_escaped(text) {
            escaped(text, out);
        } else {
            out.write(text);
        }
        out.push(b'"');
        out.write(after);
    }
    Ok(())
}

/// The content of a string, with what has to be escaped.
fn escaped(bytes: &[u8], out: &mut impl Sink) {
    let mut written = 0;
    for (position, byte) in bytes.iter().copied().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == NONE {
            continue;
        }
        let plain = &bytes[written..position];
        let len = match escape {
            // U+2028 is E2 80 A8, U+2029 is E2 80 A9.
            LINE_SEPARATOR => match bytes[position..] {
                [_, 0x80, last @ (0xa8 | 0xa9), ..] => {
                    out.write(plain);
                    out.write(&[b'\\', b'u', b'2', b'0', b'2', HEX[usize::from(last & 0xf)]]);
                    3
                }
                _ => continue,
            },
            CODE => {
                let [high, low] = [byte >> 4, byte & 0xf].map(|half| HEX[usize::from(half)]);
                out.write(plain);
                out.write(&[b'\\', b'u', b'0', b'0', high, low]);
                1
            }
            short => {
                out.write(plain);
                out.write(&[b'\\', short]);
                1
            }
        };
        written = position + len;
    }
    out.write(&bytes[written..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A byte that stands for itself.
const NONE: u8 = 0;
/// A byte that is written as `\u` and its code.
const CODE: u8 = 1;
/// It may be U+2028 or U+2029.
const LINE_SEPARATOR: u8 = 2;

/// What becomes of each byte; any other value is the letter after the backslash.
const ESCAPES: [u8; 256] = {
    let mut escapes = [NONE; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = CODE;
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[b'\t' as usize] = b't';
    escapes[b'\n' as usize] = b'n';
    escapes[0x0c] = b'f';
    escapes[b'\r' as usize] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes[b'<' as usize] = CODE;
    escapes[b'>' as usize] = CODE;
    escapes[b'&' as usize] = CODE;
    escapes[scan::SEPARATOR as usize] = LINE_SEPARATOR;
    escapes
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Record;

    #[test]
    fn a_digest_is_that_of_the_text_however_long() {
        for len in (0..80).chain(900..1100).chain(1950..2150).chain([100_000]) {
            let text = "a<".repeat(len / 2) + &"b".repeat(len % 2);
            for value in [
                serde_json::json!({"a": text.replace('<', "c"), "b": [1, text]}),
                serde_json::json!({"a": vec![1; len / 2], "b": text}),
            ] {
                let record = Record::try_from(value).unwrap();
                let data = record.data().unwrap();
                let text = json(data).unwrap();
                assert_eq!(digest(data).unwrap(), *Sha256::digest(&text), "{len}");
                check(data).unwrap();
            }
        }
    }

    #[test]
    fn of_several_faults_the_one_is_told_that_a_reader_meets_first() {
        let entry = |key: &[u8], value: &[u8]| {
            let len = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
            let key = [&[0x0a, len(key)], key].concat();
            let value = [&[0x12, len(value)], value].concat();
            [&[0x0a, len(&key) + len(&value)], &key[..], &value[..]].concat()
        };
        let null = b"\x08\x00";
        let cases = [
            // A key is read before all values.
            ([entry(b"a", b"\x1a\x01\xff"), entry(b"b\xff", null)], 15),
            ([entry(b"\xff", null), entry(b"\xff", null)], 4),
            ([entry(b"\xff", null), b"\x0a\x09\x0a".to_vec()], 4),
            (
                [entry(b"a", b"\x1a\x01\xff"), entry(b"b", b"\x1a\x01\xfe")],
                9,
            ),
        ];
        for (entries, offset) in cases {
            let data = entries.concat();
            for error in [
                check(&data).unwrap_err(),
                json(&data).unwrap_err(),
                digest(&data).unwrap_err(),
            ] {
                let what = (error.what, error.offset_in(&data));
                assert_eq!(what, ("text that is not UTF-8", offset), "{data:x?}");
            }
        }
    }

    fn escape(char: char) -> String {
        match char {
            '"' | '\\' => format!("\\{char}"),
            '\u{8}' => "\\b".into(),
            '\t' => "\\t".into(),
            '\n' => "\\n".into(),
            '\u{c}' => "\\f".into(),
            '\r' => "\\r".into(),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                format!("\\u{:04x}", u32::from(char))
            }
            _ => char.into(),
        }
    }

    #[test]
    fn a_character_is_escaped_wherever_it_stands() {
        let chars = ('\0'..'\u{800}').chain('\u{2000}'..'\u{2100}');
        for char in chars.chain(['\u{10ffff}', '\u{a028}']) {
            for before in 0..18 {
                for after in [0, 1, 7, 8, 9] {
                    let [before, after] = [before, after].map(|len| "~".repeat(len));
                    let mut out = Vec::new();
                    let text = format!("{before}{char}{after}");
                    string(text.as_bytes(), b"", &mut out).unwrap();
                    let expected = format!("\"{before}{}{after}\"", escape(char));
                    assert_eq!(String::from_utf8(out).unwrap(), expected);
                }
            }
        }
    }
}
