//! Wire bytes into serde: any type is read in place, text is borrowed.

use std::cell::Cell;
use std::iter;

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::json::{self, MAX_EXACT};
use super::path::PathError;
use super::ser::inside;
use super::wire::{self, Entry, Fields, Message, Number};
use crate::cid::canonical;

type Result<T> = std::result::Result<T, PathError>;

const VALUE_NOT_READ: &str = "a key whose value was not read";

/// Reads an encoded Struct as a `T`.
pub(super) fn from_data<'de, T: Deserialize<'de>>(data: &'de [u8]) -> Result<T> {
    T::deserialize(Value {
        value: wire::Value::Struct(Message::new(data)),
        containers: 0,
    })
}

struct Value<'de> {
    value: wire::Value<'de>,
    /// How many objects and arrays it stands in.
    containers: usize,
}

impl<'de> Value<'de> {
    fn read(message: Message<'de>, containers: usize) -> Result<Self> {
        let value = wire::json_value(message, wire::depth_in(containers))?;
        Ok(Self { value, containers })
    }
}

/// A hint that the value must be of one of these kinds, as in `serde_json`: a visitor that takes others
/// too, such as the number of a field for its name, is not asked.
macro_rules! hints {
    ($($method:ident: $($kind:pat_param)|+),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.value {
                $($kind)|+ => self.deserialize_any(visitor),
                _ => self.refuse(&visitor),
            }
        }
    )*};
}

/// Integers that are wider than what any value is given as.
macro_rules! wide_integers {
    ($($method:ident, $visit:ident: $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            if let wire::Value::Number(number) = self.value
                && number.fract() == 0.0
                && !wire::is_negative_zero(number)
            {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let integer = number as $type;
                #[allow(clippy::cast_precision_loss)]
                if integer as f64 == number && integer != <$type>::MAX {
                    return visitor.$visit(integer);
                }
            }
            self.refuse(&visitor)
        }
    )*};
}

impl<'de> Value<'de> {
    /// The type asks for another kind of value.
    fn refuse<R>(&self, expected: &dyn Expected) -> Result<R> {
        let found = match self.value {
            wire::Value::Null => Unexpected::Other("null"),
            wire::Value::Bool(value) => Unexpected::Bool(value),
            wire::Value::Number(number) => match Number::from(number) {
                Number::Unsigned(integer) => Unexpected::Unsigned(integer),
                Number::Signed(integer) => Unexpected::Signed(integer),
                Number::Float(number) => Unexpected::Float(number),
            },
            wire::Value::String(text) => Unexpected::Str(text),
            wire::Value::List(_) => Unexpected::Seq,
            wire::Value::Struct(_) => Unexpected::Map,
        };
        Err(de::Error::invalid_type(found, expected))
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = PathError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            wire::Value::Null => visitor.visit_unit(),
            wire::Value::Bool(value) => visitor.visit_bool(value),
            wire::Value::String(value) => visitor.visit_borrowed_str(value),
            wire::Value::Number(number) => match Number::from(number) {
                Number::Unsigned(integer) => visitor.visit_u64(integer),
                Number::Signed(integer) => visitor.visit_i64(integer),
                Number::Float(number) => visitor.visit_f64(number),
            },
            wire::Value::List(message) => {
                let mut elements = message.fields();
                let mut array = Array {
                    containers: inside(self.containers)?,
                    elements: &mut elements,
                    len: 0,
                };
                let value = visitor.visit_seq(&mut array)?;
                match array.next_element::<de::IgnoredAny>()? {
                    None => Ok(value),
                    Some(_) => Err(PathError::new("the array is longer than expected")),
                }
            }
            wire::Value::Struct(message) => {
                let mut object = Object::read(message, self.containers)?;
                let value = visitor.visit_map(&mut object)?;
                match (object.entries.len(), &object.value) {
                    (0, None) => Ok(value),
                    (_, Some(_)) => Err(PathError::new(VALUE_NOT_READ)),
                    (_, None) => Err(PathError::new("the object has more keys than expected")),
                }
            }
        }
    }

    hints!(
        deserialize_bool: wire::Value::Bool(_),
        deserialize_i8: wire::Value::Number(_),
        deserialize_i16: wire::Value::Number(_),
        deserialize_i32: wire::Value::Number(_),
        deserialize_i64: wire::Value::Number(_),
        deserialize_u8: wire::Value::Number(_),
        deserialize_u16: wire::Value::Number(_),
        deserialize_u32: wire::Value::Number(_),
        deserialize_u64: wire::Value::Number(_),
        deserialize_f64: wire::Value::Number(_),
        deserialize_char: wire::Value::String(_),
        deserialize_str: wire::Value::String(_),
        deserialize_string: wire::Value::String(_),
        deserialize_identifier: wire::Value::String(_),
        deserialize_unit: wire::Value::Null,
        deserialize_seq: wire::Value::List(_),
        deserialize_map: wire::Value::Struct(_),
    );

    wide_integers!(deserialize_i128, visit_i128: i128, deserialize_u128, visit_u128: u128);

    /// Of its shortest digits, which are what was written for an `f32`: to round it twice is not the same.
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let wire::Value::Number(number) = self.value else {
            return self.refuse(&visitor);
        };
        let is_exact = match Number::from(number) {
            Number::Unsigned(integer) => integer <= MAX_EXACT,
            Number::Signed(integer) => integer.unsigned_abs() <= MAX_EXACT,
            Number::Float(_) => false,
        };
        if !is_exact {
            let mut digits = zmij::Buffer::new();
            let single: f32 = digits
                .format_finite(number)
                .parse()
                .expect("the digits of a float are one");
            if single.is_infinite() {
                let what = format!("{number:e} is too large for a 32-bit float");
                return Err(PathError::new(what));
            }
            return visitor.visit_f64(single.into());
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            wire::Value::String(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    /// A struct may be written as an array of its fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.value {
            wire::Value::List(_) => self.deserialize_seq(visitor),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            wire::Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        if name != json::RAW_VALUE {
            return visitor.visit_newtype_struct(self);
        }
        let text = canonical::text(self.value)?;
        visitor.visit_map(MapDeserializer::new(iter::once((name, text))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let mut object = match self.value {
            wire::Value::Struct(message) => Object::read(message, self.containers)?,
            wire::Value::String(variant) => {
                return visitor.visit_enum(BorrowedStrDeserializer::new(variant));
            }
            _ => {
                let what = format!("the enum {name} is a text or an object");
                return Err(PathError::new(what));
            }
        };
        match (object.entries.next(), object.entries.next()) {
            (Some(entry), None) => {
                let is_read = Cell::new(false);
                let variant = Variant {
                    value: Value::read(entry.value, object.containers)?,
                    name: entry.key,
                    is_read: &is_read,
                };
                let value = visitor.visit_enum(variant);
                let value = value.map_err(|error| error.in_key(entry.key))?;
                match is_read.get() {
                    true => Ok(value),
                    false => Err(PathError::new(VALUE_NOT_READ)),
                }
            }
            _ => Err(PathError::new(format!(
                "the enum {name} is an object with one key"
            ))),
        }
    }

    /// What nobody reads is not looked into.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }
}

struct Array<'a, 'de> {
    elements: &'a mut Fields<'de>,
    containers: usize,
    len: usize,
}

impl<'de> SeqAccess<'de> for Array<'_, 'de> {
    type Error = PathError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(element) = wire::next_element(self.elements)? else {
            return Ok(None);
        };
        self.len += 1;
        let element = Value::read(element, self.containers)?;
        seed.deserialize(element)
            .map(Some)
            .map_err(|error| error.in_index(self.len - 1))
    }
}

struct Object<'de> {
    entries: std::vec::IntoIter<Entry<'de>>,
    value: Option<Entry<'de>>,
    containers: usize,
}

impl<'de> Object<'de> {
    /// One that stands in so many objects and arrays.
    fn read(message: Message<'de>, containers: usize) -> Result<Self> {
        let containers = inside(containers)?;
        let entries = wire::table(message, wire::depth_in(containers))?;
        Ok(Self {
            entries: entries.into_iter(),
            value: None,
            containers,
        })
    }
}

impl<'de> MapAccess<'de> for &mut Object<'de> {
    type Error = PathError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if self.value.is_some() {
            return Err(PathError::new(VALUE_NOT_READ));
        }
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        let key = entry.key;
        self.value = Some(entry);
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let entry = self.value.take();
        let entry = entry.ok_or_else(|| PathError::new("a value whose key was not read"))?;
        let value = Value::read(entry.value, self.containers)?;
        seed.deserialize(value)
            .map_err(|error| error.in_key(entry.key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A key: text, from which numbers and bools are parsed where a type has them as keys.
struct Key<'de>(&'de str);

impl Key<'_> {
    /// As JSON writes it: `+1` and `01` are no numbers, and no other names for `1`.
    fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        // The parser takes white space.
        let Self(text) = self;
        let is_bare = !text.contains(|char: char| char.is_ascii_whitespace());
        is_bare.then(|| serde_json::from_str(text).ok()).flatten()
    }
}

/// Takes the first of these types as which the key can be read.
macro_rules! parsed {
    ($($method:ident: $($type:ty, $visit:ident),+;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            $(
                if let Some(value) = self.parse::<$type>() {
                    return visitor.$visit(value);
                }
            )+
            Err(de::Error::invalid_type(Unexpected::Str(self.0), &visitor))
        }
    )*};
}

/// Whatever number the key is: the visitor says whether it fits.
macro_rules! numbers {
    ($($method:ident),* $(,)?) => {
        parsed!($($method: u64, visit_u64, i64, visit_i64, f64, visit_f64;)*);
    };
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = PathError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.0)
    }

    numbers!(
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_f64,
    );

    parsed!(
        deserialize_bool: bool, visit_bool;
        deserialize_i128: i128, visit_i128;
        deserialize_u128: u128, visit_u128;
        deserialize_f32: u64, visit_u64, i64, visit_i64, f32, visit_f32;
    );

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.0.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        if name != json::RAW_VALUE {
            return visitor.visit_newtype_struct(self);
        }
        let text = canonical::text(wire::Value::String(self.0))?;
        visitor.visit_map(MapDeserializer::new(iter::once((name, text))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The one entry of an object that is an enum's variant with content.
struct Variant<'a, 'de> {
    name: &'de str,
    value: Value<'de>,
    /// Set when the content is read: what is left unread is an error, as in text.
    is_read: &'a Cell<bool>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = PathError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let name = BorrowedStrDeserializer::<PathError>::new(self.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = PathError;

    fn unit_variant(self) -> Result<()> {
        self.is_read.set(true);
        Deserialize::deserialize(self.value)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.is_read.set(true);
        seed.deserialize(self.value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.is_read.set(true);
        self.value.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.is_read.set(true);
        self.value.deserialize_struct("", fields, visitor)
    }
}
