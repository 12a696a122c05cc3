//! Canonical JSON: what a CID is made of.
//!
//! It is the record's Struct as Go's `encoding/json` writes it: keys sorted by their bytes, no
//! white space, numbers in the shortest form that reads back the same, `<`, `>`, `&`, U+2028 and
//! U+2029 escaped. Written straight from the wire bytes, with a stack of its own, so that a
//! record may nest as deep as a server takes it.

use std::io::Write as _;

use crate::record::wire::{self, Entry, Fields, Message, Value, WireError};

/// The canonical JSON of an encoded Struct.
pub(crate) fn json(data: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(data.len() + data.len() / 8 + 16);
    // The entries of all open structs, the innermost last.
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut value = Value::Struct(Message::new(data));
    loop {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(value) => number(value, &mut out),
            Value::String(value) => string(value, &mut out),
            Value::Struct(message) => {
                let start = entries.len();
                wire::sorted_entries(message, wire::depth_in(open.len() + 1), &mut entries)?;
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
        let Some(message) = next_value(&mut open, &mut entries, &mut out)? else {
            return Ok(out);
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
fn next_value<'a>(
    open: &mut Vec<Open<'a>>,
    entries: &mut Vec<Entry<'a>>,
    out: &mut Vec<u8>,
) -> Result<Option<Message<'a>>, WireError> {
    while let Some(innermost) = open.last_mut() {
        match innermost {
            Open::Struct { start, next } => {
                if let Some(entry) = entries.get_mut(*next) {
                    if next > start {
                        out.push(b',');
                    }
                    *next += 1;
                    string(entry.key, out);
                    out.push(b':');
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
pub(crate) fn number(value: f64, out: &mut Vec<u8>) {
    /// 2^53: every integer up to here is a float64 of its own, and its digits are the shortest.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
        return;
    }
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation)]
        let integer = value as i64;
        return write(out, format_args!("{integer}"));
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
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        write(out, format_args!("e{:+}", point - 1));
    } else if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend((point..0).map(|_| b'0'));
        out.extend_from_slice(digits);
    } else if point < len {
        let (whole, fraction) = digits.split_at(point.unsigned_abs() as usize);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(digits);
        out.extend((len..point).map(|_| b'0'));
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

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("a Vec takes all that is written");
}

/// A string as Go's `encoding/json` writes it, with its HTML escapes.
fn string(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = value.as_bytes();
    let mut written = 0;
    for (position, byte) in bytes.iter().copied().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == NONE {
            continue;
        }
        let len = match escape {
            // U+2028 is E2 80 A8, U+2029 is E2 80 A9.
            LINE_SEPARATOR => match bytes[position..] {
                [_, 0x80, last @ (0xa8 | 0xa9), ..] => {
                    out.extend_from_slice(&bytes[written..position]);
                    write(out, format_args!("\\u20{:02x}", last - 0x80));
                    3
                }
                _ => continue,
            },
            CODE => {
                out.extend_from_slice(&bytes[written..position]);
                write(out, format_args!("\\u{byte:04x}"));
                1
            }
            short => {
                out.extend_from_slice(&bytes[written..position]);
                out.extend_from_slice(&[b'\\', short]);
                1
            }
        };
        written = position + len;
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// A byte that stands for itself.
const NONE: u8 = 0;
/// A byte that is written as `\u` and its code.
const CODE: u8 = 1;
/// The first byte of U+2028 and U+2029, and of others that stand for themselves.
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
    escapes[0xe2] = LINE_SEPARATOR;
    escapes
};
