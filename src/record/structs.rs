//! To and from `prost_types::Struct`, for those who have one.

use bytes::Bytes;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
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

/// Decodes the data, as any protobuf library would. `prost` takes up to 100 messages in each
/// other, about 50 objects and arrays.
impl TryFrom<&Record> for Struct {
    type Error = Error;

    fn try_from(record: &Record) -> Result<Self, Error> {
        let data: Bytes = record.data_or_error()?.clone();
        Self::decode(data)
            .map_err(|error| Error::invalid("the data is not a Struct").with_source(error))
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
