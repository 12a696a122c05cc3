//! A record as a part of other documents: what it is to serde.

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

use super::encode::{Encoder, Loss};
use super::ser::{ToValue, inside};
use super::wire::{self, Message, Number, Value, WireError};
use super::{Record, json};
use crate::error::Error;

/// As the object that it is, with its keys sorted.
///
/// ```
/// use agntcy_dir_stream::Record;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Row {
///     id: u64,
///     record: Record,
/// }
///
/// let text = r#"{"id":1,"record":{"name":"a","version":"1"}}"#;
/// let row: Row = serde_json::from_str(text)?;
/// assert_eq!(row.record.name(), Some("a"));
/// assert_eq!(serde_json::to_string(&row)?, text);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
///
/// If it has no data, or came from a server and is malformed, or nests deeper than 128 objects and
/// arrays.
impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data = self.data_or_error().map_err(S::Error::custom)?;
        let value = Value::Struct(Message::new(data));
        let node = Node {
            value,
            containers: 0,
            data,
        };
        node.serialize(serializer)
    }
}

/// A value in a record.
struct Node<'a> {
    value: Value<'a>,
    /// How many objects and arrays it stands in.
    containers: usize,
    /// All of the record, for the place of what is malformed.
    data: &'a [u8],
}

impl<'a> Node<'a> {
    fn inside<E: serde::ser::Error>(&self) -> Result<usize, E> {
        inside(self.containers).map_err(|error| E::custom(error.what()))
    }

    fn malformed<E: serde::ser::Error>(&self) -> impl Fn(WireError) -> E {
        let data = self.data;
        move |error| E::custom(super::malformed(error, data))
    }

    fn child(&self, message: Message<'a>, containers: usize) -> Result<Self, WireError> {
        Ok(Self {
            value: wire::json_value(message, wire::depth_in(containers))?,
            containers,
            data: self.data,
        })
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::Number(number) => match Number::from(*number) {
                Number::Unsigned(integer) => serializer.serialize_u64(integer),
                Number::Signed(integer) => serializer.serialize_i64(integer),
                Number::Float(number) => serializer.serialize_f64(number),
            },
            Value::List(message) => {
                let containers = self.inside()?;
                let mut array = serializer.serialize_seq(None)?;
                let mut elements = message.clone().fields();
                while let Some(element) =
                    wire::next_element(&mut elements).map_err(self.malformed())?
                {
                    let element = self.child(element, containers).map_err(self.malformed())?;
                    array.serialize_element(&element)?;
                }
                array.end()
            }
            Value::Struct(message) => {
                let containers = self.inside()?;
                let entries = wire::table(message.clone(), wire::depth_in(containers))
                    .map_err(self.malformed())?;
                let mut object = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    let value = self.child(entry.value, containers);
                    let value = value.map_err(self.malformed())?;
                    object.serialize_entry(entry.key, &value)?;
                }
                object.end()
            }
        }
    }
}

/// From an object of any format that says itself what it has, as JSON does; integers and equal keys as in
/// [`Record::from_json`].
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut encoder = Encoder::new(Loss::Taken);
        json::read(deserializer, ToValue::top(&mut encoder))?;
        let data = encoder.into_bytes().map_err(serde::de::Error::custom)?;
        Ok(Self::with_data(data))
    }
}

/// Canonical JSON, as [`Record::to_json`] gives it; of a record that has none, what is wrong with it, in
/// angle brackets. Control characters are escaped as in JSON, and not as in the errors of this crate.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_json() {
            Ok(json) => f.write_str(&json),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}

/// As [`Record::deserialize`].
impl TryFrom<Record> for serde_json::Value {
    type Error = Error;

    fn try_from(record: Record) -> Result<Self, Error> {
        Self::try_from(&record)
    }
}
