//! To and from `prost_types::Struct`, for those who have one.

use std::fmt;

use prost_types::value::Kind;
use prost_types::{ListValue, NullValue, Struct, Value};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

use super::Record;
use crate::error::Error;

/// As [`Record::from_serialize`]; a value of no kind is refused, since JSON has no such thing.
impl TryFrom<&Struct> for Record {
    type Error = Error;

    fn try_from(value: &Struct) -> Result<Self, Error> {
        Self::from_serialize(&Object(value))
    }
}

/// As [`Record::from_serialize`]; a value of no kind is refused, since JSON has no such thing.
impl TryFrom<Struct> for Record {
    type Error = Error;

    fn try_from(value: Struct) -> Result<Self, Error> {
        Self::try_from(&value)
    }
}

/// As [`Record::deserialize`]. (`prost`, by itself, decodes up to 33 objects in each other.)
impl TryFrom<&Record> for Struct {
    type Error = Error;

    fn try_from(record: &Record) -> Result<Self, Error> {
        record.deserialize().map(|Document(message)| message)
    }
}

struct Document(Struct);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyObject).map(Self)
    }
}

struct AnyObject;

impl<'de> Visitor<'de> for AnyObject {
    type Value = Struct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Struct, A::Error> {
        let mut message = Struct::default();
        while let Some((key, Node(kind))) = entries.next_entry()? {
            message.fields.insert(key, value(kind));
        }
        Ok(message)
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

struct Node(Kind);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind).map(Self)
    }
}

struct AnyKind;

impl<'de> Visitor<'de> for AnyKind {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Kind, E> {
        Ok(Kind::NullValue(NullValue::NullValue.into()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::BoolValue(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value))
    }

    // Integers are what a float was that is a whole number: none is too large.
    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::StringValue(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Kind, A::Error> {
        let mut values = Vec::new();
        while let Some(Node(kind)) = elements.next_element()? {
            values.push(value(kind));
        }
        Ok(Kind::ListValue(ListValue { values }))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Kind, A::Error> {
        AnyObject.visit_map(entries).map(Kind::StructValue)
    }
}

struct Object<'a>(&'a Struct);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.fields.iter();
        serializer.collect_map(entries.map(|(key, value)| (key, Element(value))))
    }
}

struct Array<'a>(&'a ListValue);

impl Serialize for Array<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values.iter().map(Element))
    }
}

struct Element<'a>(&'a Value);

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            Some(Kind::NullValue(_)) => serializer.serialize_unit(),
            Some(Kind::NumberValue(number)) => serializer.serialize_f64(*number),
            Some(Kind::StringValue(text)) => serializer.serialize_str(text),
            Some(Kind::BoolValue(value)) => serializer.serialize_bool(*value),
            Some(Kind::StructValue(object)) => Object(object).serialize(serializer),
            Some(Kind::ListValue(array)) => Array(array).serialize(serializer),
            None => Err(S::Error::custom("a value of no kind")),
        }
    }
}
