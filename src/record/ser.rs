//! serde into wire bytes: what `serde_json` makes of a type, without the text.

use std::fmt::Display;

use serde::ser::{
    self, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct,
    SerializeStructVariant, SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
};

use super::encode::{self, Encoder, Loss, Start};
use super::json;
use super::path::PathError;

/// How many objects and arrays may stand in each other, the document itself included. Types recurse on
/// the stack, so the wire's own limit would be too deep.
const MAX_CONTAINERS: usize = 128;

/// How many what is in an object or array stands in, which itself stands in so many.
pub(super) fn inside(containers: usize) -> Result<usize> {
    if containers == MAX_CONTAINERS {
        let what = format!("objects and arrays nested deeper than {MAX_CONTAINERS}");
        return Err(PathError::new(what));
    }
    Ok(containers + 1)
}

type Result<T> = std::result::Result<T, PathError>;

/// The encoded Struct of `value`.
pub(super) fn to_data<T: Serialize + ?Sized>(value: &T, loss: Loss) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(loss);
    value.serialize(ToValue::top(&mut encoder))?;
    encoder.into_bytes()
}

/// Writes one value.
pub(super) struct ToValue<'a> {
    encoder: &'a mut Encoder,
    /// The field that the value is written to. `None`: it is the document itself, which is a
    /// Struct and no Value.
    tag: Option<u8>,
    /// How many objects and arrays it stands in.
    depth: usize,
}

impl<'a> ToValue<'a> {
    pub(super) fn top(encoder: &'a mut Encoder) -> Self {
        Self {
            encoder,
            tag: None,
            depth: 0,
        }
    }

    pub(super) fn loss(&self) -> Loss {
        self.encoder.loss
    }

    fn scalar(self, write: impl FnOnce(&mut Encoder)) -> Result<()> {
        let Some(tag) = self.tag else {
            return Err(not_an_object());
        };
        let value = self.encoder.open(tag);
        write(self.encoder);
        self.encoder.close(value);
        Ok(())
    }

    fn number(self, value: f64) -> Result<()> {
        if !value.is_finite() {
            return Err(PathError::new(format!("{value} is not a JSON number")));
        }
        self.scalar(|encoder| encoder.number(value))
    }

    pub(super) fn object(self) -> Result<ToObject<'a>> {
        let depth = inside(self.depth)?;
        let open = match self.tag {
            Some(tag) => [
                Some(self.encoder.open(tag)),
                Some(self.encoder.open(encode::STRUCT_VALUE)),
            ],
            None => [None, None],
        };
        Ok(ToObject {
            encoder: self.encoder,
            open,
            depth,
            key: String::new(),
            entry: None,
            variant: None,
        })
    }

    pub(super) fn array(self) -> Result<ToArray<'a>> {
        let tag = self.tag.ok_or_else(not_an_object)?;
        let depth = inside(self.depth)?;
        let open = [
            Some(self.encoder.open(tag)),
            Some(self.encoder.open(encode::LIST_VALUE)),
        ];
        Ok(ToArray {
            encoder: self.encoder,
            open,
            depth,
            len: 0,
            variant: None,
        })
    }

    /// The value of an object of one key, which says the variant of an enum.
    fn variant(self, name: &'static str) -> Result<(Self, Variant)> {
        let ToObject {
            encoder,
            open: [outer, object],
            depth,
            ..
        } = self.object()?;
        let entry = encoder.open(encode::FIELDS);
        encoder.key(name);
        let open = [outer, object, Some(entry)];
        let value = Self {
            encoder,
            tag: Some(encode::VALUE),
            depth,
        };
        Ok((value, Variant { name, open }))
    }
}

/// The object around a variant's content.
struct Variant {
    name: &'static str,
    open: [Option<Start>; 3],
}

fn close(encoder: &mut Encoder, open: impl DoubleEndedIterator<Item = Option<Start>>) {
    for start in open.rev().flatten() {
        encoder.close(start);
    }
}

fn not_an_object() -> PathError {
    PathError::new("a record is a JSON object, and this is not")
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<()> {
            #[allow(clippy::cast_precision_loss)]
            let float = value as f64;
            // The largest value of a type rounds up, and is cut off again on the way back.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let is_exact = float as $type == value && value != <$type>::MAX;
            if !is_exact && self.encoder.loss == Loss::Refused {
                return Err(no_float(value, float));
            }
            self.scalar(|encoder| encoder.number(float))
        }
    )*};
}

/// An integer that would come back as another.
pub(super) fn no_float(integer: impl Display, nearest: f64) -> PathError {
    // With a precision, all digits of a float are printed.
    let what = format!("{integer} is not a 64-bit float, the nearest is {nearest:.0}");
    PathError::new(what)
}

impl<'a> ser::Serializer for ToValue<'a> {
    type Ok = ();
    type Error = PathError;
    type SerializeSeq = ToArray<'a>;
    type SerializeTuple = ToArray<'a>;
    type SerializeTupleStruct = ToArray<'a>;
    type SerializeTupleVariant = ToArray<'a>;
    type SerializeMap = ToObject<'a>;
    type SerializeStruct = ToStruct<'a>;
    type SerializeStructVariant = ToObject<'a>;

    integers!(
        serialize_i64: i64, serialize_u64: u64, serialize_i128: i128, serialize_u128: u128
    );

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.scalar(|encoder| encoder.bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.number(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.number(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.number(value.into())
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.number(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.number(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.number(value.into())
    }

    /// The value of its shortest digits, which are what text has of it: 0.1, where the digits of the
    /// same float as 64 bits would be 0.10000000149011612.
    fn serialize_f32(self, value: f32) -> Result<()> {
        if !value.is_finite() {
            return self.number(value.into());
        }
        // Of two that are as near it takes the same as `serde_json`; `Display` may take the other.
        let mut buffer = zmij::Buffer::new();
        let read = buffer.format_finite(value).parse();
        self.number(read.expect("the digits of a float are one"))
    }

    fn serialize_f64(self, value: f64) -> Result<()> {
        self.number(value)
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        self.scalar(|encoder| encoder.string(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        let mut array = self.array()?;
        for byte in value {
            array.push(byte)?;
        }
        array.close();
        Ok(())
    }

    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.scalar(Encoder::null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        let mut object = self.object()?;
        object.entry(variant, value)?;
        object.close();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ToArray<'a>> {
        self.array()
    }

    fn serialize_tuple(self, _: usize) -> Result<ToArray<'a>> {
        self.array()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<ToArray<'a>> {
        self.array()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<ToArray<'a>> {
        let (value, variant) = self.variant(variant)?;
        let mut array = value.array()?;
        array.variant = Some(variant);
        Ok(array)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<ToObject<'a>> {
        self.object()
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<ToStruct<'a>> {
        if name.starts_with(json::VERBATIM) {
            return Ok(ToStruct::Verbatim(Some(self)));
        }
        self.object().map(ToStruct::Object)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<ToObject<'a>> {
        let (value, variant) = self.variant(variant)?;
        let mut object = value.object()?;
        object.variant = Some(variant);
        Ok(object)
    }
}

/// Writes an array, and the variant around it.
pub(super) struct ToArray<'a> {
    encoder: &'a mut Encoder,
    open: [Option<Start>; 2],
    depth: usize,
    len: usize,
    variant: Option<Variant>,
}

impl ToArray<'_> {
    /// The next element.
    pub(super) fn element(&mut self) -> ToValue<'_> {
        self.len += 1;
        ToValue {
            encoder: self.encoder,
            tag: Some(encode::VALUES),
            depth: self.depth,
        }
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value
            .serialize(self.element())
            .map_err(|error| in_variant(error.in_index(self.len - 1), self.variant.as_ref()))
    }

    pub(super) fn close(self) {
        close(self.encoder, self.open.into_iter());
        close_variant(self.encoder, self.variant);
    }
}

/// Writes an object, and the variant around it.
pub(super) struct ToObject<'a> {
    encoder: &'a mut Encoder,
    open: [Option<Start>; 2],
    depth: usize,
    /// The key of the entry that is being written.
    key: String,
    entry: Option<Start>,
    variant: Option<Variant>,
}

impl ToObject<'_> {
    /// Begins an entry.
    pub(super) fn open(&mut self, key: &str) {
        self.entry = Some(self.encoder.open(encode::FIELDS));
        self.encoder.key(key);
    }

    /// The value of the entry.
    pub(super) fn value(&mut self) -> ToValue<'_> {
        ToValue {
            encoder: self.encoder,
            tag: Some(encode::VALUE),
            depth: self.depth,
        }
    }

    pub(super) fn close_entry(&mut self) {
        close(self.encoder, [self.entry.take()].into_iter());
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<()> {
        self.open(key);
        value
            .serialize(self.value())
            .map_err(|error| in_variant(error.in_key(key), self.variant.as_ref()))?;
        self.close_entry();
        Ok(())
    }

    pub(super) fn close(self) {
        close(self.encoder, self.open.into_iter());
        close_variant(self.encoder, self.variant);
    }
}

fn in_variant(error: PathError, variant: Option<&Variant>) -> PathError {
    match variant {
        Some(variant) => error.in_key(variant.name),
        None => error,
    }
}

fn close_variant(encoder: &mut Encoder, variant: Option<Variant>) {
    if let Some(variant) = variant {
        close(encoder, variant.open.into_iter());
    }
}

macro_rules! arrays {
    ($($trait:ident::$method:ident),*) => {$(
        impl $trait for ToArray<'_> {
            type Ok = ();
            type Error = PathError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.push(value)
            }

            fn end(self) -> Result<()> {
                self.close();
                Ok(())
            }
        }
    )*};
}

arrays!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl SerializeMap for ToObject<'_> {
    type Ok = ();
    type Error = PathError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = key.serialize(ToKey)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let key = std::mem::take(&mut self.key);
        self.entry(&key, value)
    }

    fn end(self) -> Result<()> {
        self.close();
        Ok(())
    }
}

impl SerializeStructVariant for ToObject<'_> {
    type Ok = ();
    type Error = PathError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<()> {
        self.entry(key, value)
    }

    fn end(self) -> Result<()> {
        self.close();
        Ok(())
    }
}

/// Writes a struct, or JSON text that `serde_json` passes on as one.
pub(super) enum ToStruct<'a> {
    Object(ToObject<'a>),
    Verbatim(Option<ToValue<'a>>),
}

impl SerializeStruct for ToStruct<'_> {
    type Ok = ();
    type Error = PathError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<()> {
        match self {
            Self::Object(object) => object.entry(key, value),
            Self::Verbatim(to) => {
                let text = value.serialize(ToKey)?;
                match to.take() {
                    Some(to) => json::transcode(text.as_bytes(), to),
                    None => Err(PathError::new("JSON text of more than one value")),
                }
            }
        }
    }

    fn end(self) -> Result<()> {
        if let Self::Object(object) = self {
            object.close();
        }
        Ok(())
    }
}

/// Makes the text of a key.
struct ToKey;

macro_rules! keys {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, key: $type) -> Result<String> {
            Ok(key.to_string())
        }
    )*};
}

fn not_a_key<T>() -> Result<T> {
    Err(PathError::new(
        "a key is text, a number or a bool, and this is not",
    ))
}

/// The key that text has of a float: with a point or an exponent.
fn float_key(key: impl Display + Serialize, is_finite: bool) -> Result<String> {
    if !is_finite {
        return Err(PathError::new(format!("{key} is not a JSON number")));
    }
    serde_json::to_string(&key).map_err(|error| PathError::new(error.to_string()))
}

impl ser::Serializer for ToKey {
    type Ok = String;
    type Error = PathError;
    type SerializeSeq = Impossible<String, PathError>;
    type SerializeTuple = Impossible<String, PathError>;
    type SerializeTupleStruct = Impossible<String, PathError>;
    type SerializeTupleVariant = Impossible<String, PathError>;
    type SerializeMap = Impossible<String, PathError>;
    type SerializeStruct = Impossible<String, PathError>;
    type SerializeStructVariant = Impossible<String, PathError>;

    keys!(
        serialize_bool: bool, serialize_char: char, serialize_str: &str,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_i128: i128, serialize_u128: u128
    );

    fn serialize_f32(self, key: f32) -> Result<String> {
        float_key(key, key.is_finite())
    }

    fn serialize_f64(self, key: f64) -> Result<String> {
        float_key(key, key.is_finite())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<String> {
        not_a_key()
    }

    fn serialize_none(self) -> Result<String> {
        not_a_key()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<String> {
        key.serialize(self)
    }

    fn serialize_unit(self) -> Result<String> {
        not_a_key()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<String> {
        not_a_key()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        key: &T,
    ) -> Result<String> {
        key.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String> {
        not_a_key()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq> {
        not_a_key()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        not_a_key()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct> {
        not_a_key()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        not_a_key()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        not_a_key()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct> {
        not_a_key()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        not_a_key()
    }
}
