//! A JSON value as a tree, and its canonical text written the slow way.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::digits;

/// A value of a record. The wire has values of no kind, and numbers that are none, which JSON has not.
#[derive(Clone, Debug)]
pub enum Tree {
    NoKind,
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

/// `-0` is not `0`, and NaN is itself.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NoKind, Self::NoKind) | (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Number(one), Self::Number(other)) => one.to_bits() == other.to_bits(),
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::List(one), Self::List(other)) => one == other,
            (Self::Object(one), Self::Object(other)) => one == other,
            _ => false,
        }
    }
}

impl Tree {
    /// As Go's `encoding/json` writes it. `None`: there is no JSON for it.
    #[must_use]
    pub fn canonical(&self) -> Option<String> {
        let mut text = String::new();
        self.write(&mut text)?;
        Some(text)
    }

    fn write(&self, text: &mut String) -> Option<()> {
        match self {
            Self::NoKind => return None,
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(&digits::go(*number)?),
            Self::Text(value) => quoted(value, text),
            Self::List(elements) => {
                text.push('[');
                for (place, element) in elements.iter().enumerate() {
                    if place > 0 {
                        text.push(',');
                    }
                    element.write(text)?;
                }
                text.push(']');
            }
            // A `BTreeMap` sorts texts by their bytes.
            Self::Object(entries) => {
                text.push('{');
                for (place, (key, value)) in entries.iter().enumerate() {
                    if place > 0 {
                        text.push(',');
                    }
                    quoted(key, text);
                    text.push(':');
                    value.write(text)?;
                }
                text.push('}');
            }
        }
        Some(())
    }

    /// How many objects and arrays stand in each other.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::List(elements) => 1 + elements.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(entries) => 1 + entries.values().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }
}

fn quoted(value: &str, text: &mut String) {
    text.push('"');
    for char in value.chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(text, "\\u{:04x}", u32::from(char)).expect("a string takes all");
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

/// All numbers become the nearest 64-bit float.
impl From<&serde_json::Value> for Tree {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.as_f64().expect("it is a float or less")),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(elements) => Self::List(elements.iter().map(Self::from).collect()),
            Value::Object(entries) => {
                let entries = entries.iter();
                Self::Object(
                    entries
                        .map(|(key, value)| (key.clone(), value.into()))
                        .collect(),
                )
            }
        }
    }
}

impl From<&prost_types::Struct> for Tree {
    fn from(message: &prost_types::Struct) -> Self {
        let entries = message.fields.iter();
        Self::Object(
            entries
                .map(|(key, value)| (key.clone(), value.into()))
                .collect(),
        )
    }
}

impl From<&prost_types::Value> for Tree {
    fn from(value: &prost_types::Value) -> Self {
        use prost_types::value::Kind;
        match &value.kind {
            None => Self::NoKind,
            Some(Kind::NullValue(_)) => Self::Null,
            Some(Kind::BoolValue(value)) => Self::Bool(*value),
            Some(Kind::NumberValue(number)) => Self::Number(*number),
            Some(Kind::StringValue(text)) => Self::Text(text.clone()),
            Some(Kind::ListValue(list)) => Self::List(list.values.iter().map(Self::from).collect()),
            Some(Kind::StructValue(message)) => message.into(),
        }
    }
}
