//! JSON text, looked at without a parser of numbers, and with equal keys kept.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// What editors put before it.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// How many brackets are open at once at most, whether or not it is JSON otherwise.
#[must_use]
pub fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    outside_of_strings(text, |rest| {
        match rest[0] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        1
    });
    deepest
}

/// The numbers without a point and an exponent, of valid JSON.
#[must_use]
pub fn integers(text: &[u8]) -> Vec<String> {
    let mut integers = Vec::new();
    outside_of_strings(text, |rest| {
        let is_of_number =
            |byte: &&u8| matches!(**byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        if !matches!(rest[0], b'-' | b'0'..=b'9') {
            return 1;
        }
        let literal: Vec<u8> = rest.iter().take_while(is_of_number).copied().collect();
        let len = literal.len();
        let literal = String::from_utf8(literal).expect("it is ASCII");
        if !literal.contains(['.', 'e', 'E']) {
            integers.push(literal);
        }
        len
    });
    integers
}

/// Gives what is left of the text at each place that is in no string. `each` returns how far to go.
fn outside_of_strings(text: &[u8], mut each: impl FnMut(&[u8]) -> usize) {
    let mut place = 0;
    let mut is_in_string = false;
    while place < text.len() {
        place += match (is_in_string, text[place]) {
            (true, b'\\') => 2,
            (true, byte) => {
                is_in_string = byte != b'"';
                1
            }
            (false, b'"') => {
                is_in_string = true;
                1
            }
            (false, _) => each(&text[place..]),
        };
    }
}

/// Whether an object of valid JSON has a key twice. The text is no deeper than the stack allows.
#[must_use]
pub fn has_equal_keys(text: &[u8]) -> bool {
    let mut parser = serde_json::Deserializer::from_slice(text);
    parser.disable_recursion_limit();
    Unique::deserialize(&mut parser).is_err()
}

struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

macro_rules! nothing {
    ($($visit:ident: $type:ty),*) => {$(
        fn $visit<E>(self, _: $type) -> Result<Self, E> {
            Ok(self)
        }
    )*};
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without equal keys")
    }

    nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, Self)) = entries.next_entry::<String, Self>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a key comes twice"));
            }
        }
        Ok(self)
    }
}
