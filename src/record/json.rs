//! JSON text into wire bytes, through `serde_json`'s parser and our serializer.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use serde::Serializer as _;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::encode::{Encoder, Loss};
use super::path::PathError;
use super::ser::{ToArray, ToValue, no_float};
use crate::cid::canonical;
use crate::error::Error;

/// How the names begin of what `serde_json` passes on as JSON text: numbers, where some crate of
/// the build asks for its `arbitrary_precision`, and `RawValue`.
pub(super) const VERBATIM: &str = "$serde_json::private::";
const NUMBER: &str = "$serde_json::private::Number";
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The encoded Struct of a JSON text.
pub(super) fn to_data(text: &[u8], loss: Loss) -> Result<Vec<u8>, Error> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if is_utf_16(text) {
        return Err(Error::invalid("text in UTF-16, where UTF-8 is needed"));
    }
    let mut encoder = Encoder::new(loss);
    parse(text, ToValue::top(&mut encoder)).map_err(|error| Error::invalid(error.to_string()))?;
    let data = encoder.into_bytes();
    data.map_err(|error| Error::invalid(error.to_string()))
}

/// Whether a text looks as editors of Windows save it: with a byte order mark, or with a zero in its first
/// character, which no JSON text in UTF-8 has.
fn is_utf_16(text: &[u8]) -> bool {
    matches!(
        text,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]
    )
}

/// Writes a JSON text that stands in another document.
pub(super) fn transcode(text: &[u8], to: ToValue<'_>) -> Result<(), PathError> {
    parse(text, to).map_err(|error| PathError::new(error.to_string()))
}

fn parse(text: &[u8], to: ToValue<'_>) -> Result<(), serde_json::Error> {
    let large = Cell::new(false);
    let mut parser = serde_json::Deserializer::from_slice(text);
    // `ToValue` has a limit of its own, which is that of all ways in.
    parser.disable_recursion_limit();
    let value = Value { to, large: &large };
    value.deserialize(&mut parser)?;
    parser.end()?;
    if large.get() {
        check_integers(text)?;
    }
    Ok(())
}

/// Reads a value of whatever format, and writes it.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D, to: ToValue<'_>) -> Result<(), D::Error> {
    let large = &Cell::new(false);
    Value { to, large }.deserialize(from)
}

/// Reads one value, and writes it to `to`.
struct Value<'a> {
    to: ToValue<'a>,
    /// Set where a float came that may have been an integer in the text, and this matters.
    large: &'a Cell<bool>,
}

impl Value<'_> {
    fn is_strict(&self) -> bool {
        self.to.loss() == Loss::Refused
    }

    fn integer<E: de::Error>(
        self,
        value: impl ToString,
        float: f64,
        is_exact: bool,
    ) -> Result<(), E> {
        if self.is_strict() && !is_exact {
            check_integer(&value.to_string(), float).map_err(|error| say(&error))?;
        }
        self.to.serialize_f64(float).map_err(|error| say(&error))
    }
}

fn say<E: de::Error>(error: &PathError) -> E {
    // The parser says where.
    E::custom(error.what())
}

macro_rules! scalars {
    ($($visit:ident, $serialize:ident: $type:ty),*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<(), E> {
            self.to.$serialize(value).map_err(|error| say(&error))
        }
    )*};
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    scalars!(
        visit_bool, serialize_bool: bool,
        visit_str, serialize_str: &str
    );

    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(value, value as f64, value.unsigned_abs() <= MAX_EXACT)
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.integer(value, value as f64, value <= MAX_EXACT)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        if value.abs() >= SMALLEST_LARGE && self.is_strict() {
            self.large.set(true);
        }
        self.to.serialize_f64(value).map_err(|error| say(&error))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.to.serialize_unit().map_err(|error| say(&error))
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut array = self.to.array().map_err(|error| say(&error))?;
        loop {
            let element = Element {
                array: &mut array,
                large: self.large,
            };
            if elements.next_element_seed(element)?.is_none() {
                break;
            }
        }
        array.close();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut key = entries.next_key::<Cow<'de, str>>()?;
        if *NUMBERS_ARE_TEXT && key.as_deref() == Some(NUMBER) {
            let text = entries.next_value::<Cow<'de, str>>()?;
            return number(&text, self.to).map_err(|error| say(&error));
        }
        let mut seen = self.is_strict().then(HashSet::new);
        let mut object = self.to.object().map_err(|error| say(&error))?;
        while let Some(name) = key {
            object.open(&name);
            if let Some(seen) = &mut seen
                && let Some(name) = seen.replace(name)
            {
                let what = format!("the key `{name}` comes twice in one object");
                return Err(de::Error::custom(what));
            }
            let value = Value {
                to: object.value(),
                large: self.large,
            };
            entries.next_value_seed(value)?;
            object.close_entry();
            key = entries.next_key()?;
        }
        object.close();
        Ok(())
    }
}

/// An element is opened only once there is one.
struct Element<'a, 'b> {
    array: &'a mut ToArray<'b>,
    large: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = Value {
            to: self.array.element(),
            large: self.large,
        };
        value.deserialize(deserializer)
    }
}

/// Whether `arbitrary_precision` is on somewhere in the build: then, and only then, is this a
/// number.
static NUMBERS_ARE_TEXT: LazyLock<bool> =
    LazyLock::new(|| "1e999".parse::<serde_json::Number>().is_ok());

/// From 2^63 on, `serde_json` may read an integer as a float.
const SMALLEST_LARGE: f64 = 9_223_372_036_854_775_808.0;

/// 2^53: each integer up to here is a 64-bit float.
pub(super) const MAX_EXACT: u64 = 1 << 53;

fn number(text: &str, to: ToValue<'_>) -> Result<(), PathError> {
    let value: f64 = text
        .parse()
        .map_err(|_| PathError::new(format!("{text} is not a JSON number")))?;
    if is_integer(text) && to.loss() == Loss::Refused {
        check_integer(text, value)?;
    }
    to.serialize_f64(value)
}

/// Checks that an integer literal survives as `float`: that this is its exact value, or that the
/// float is printed so. (Canonical JSON prints 2^60 as 1152921504606847000.)
fn check_integer(literal: &str, float: f64) -> Result<(), PathError> {
    let mut printed = Vec::new();
    canonical::number(float, &mut printed);
    // With a precision, all digits of a float are printed.
    match format!("{float:.0}") == literal || printed == literal.as_bytes() {
        true => Ok(()),
        false => Err(no_float(literal, float)),
    }
}

fn is_integer(literal: &str) -> bool {
    !literal.contains(['.', 'e', 'E'])
}

/// Looks at the integers of a valid JSON text as they were written.
fn check_integers(text: &[u8]) -> Result<(), serde_json::Error> {
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        match byte {
            b'"' => rest = after_string(after),
            b'-' | b'0'..=b'9' => {
                let len = rest
                    .iter()
                    .position(|byte| {
                        !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
                    })
                    .unwrap_or(rest.len());
                let (literal, after) = rest.split_at(len);
                let literal = str::from_utf8(literal).expect("digits are ASCII");
                let value = literal.parse().expect("the parser has taken this number");
                if is_integer(literal)
                    && let Err(error) = check_integer(literal, value)
                {
                    let read = &text[..text.len() - after.len()];
                    let line = read.iter().filter(|byte| **byte == b'\n').count() + 1;
                    let column = read.iter().rev().take_while(|byte| **byte != b'\n').count();
                    return Err(de::Error::custom(format_args!(
                        "{} at line {line} column {column}",
                        error.what()
                    )));
                }
                rest = after;
            }
            _ => rest = after,
        }
    }
    Ok(())
}

/// What follows a string, whose opening quote is read.
fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [b'\\', _, after @ ..] => after,
            [b'"', after @ ..] => return after,
            [_, after @ ..] => after,
            [] => return rest,
        }
    }
}
