//! A value of all kinds of types in each other, made of choices.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Duration;

use agntcy_dir_stream::Record;
use arbitrary::{Arbitrary, Result, Unstructured};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Everything that serde has.
#[derive(Debug, Serialize, Deserialize)]
pub enum Node {
    Unit,
    New(Box<Node>),
    Pair(Box<Node>, u16),
    Fields {
        first: Box<Node>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        second: Option<Box<Node>>,
        #[serde(rename = "<&>\u{2028}")]
        odd: bool,
    },
    List(Vec<Node>),
    Both((Box<Node>, Box<Node>)),
    ByText(BTreeMap<String, Node>),
    ByInteger(BTreeMap<i64, Node>),
    ByWide(BTreeMap<u128, u8>),
    ByBool(BTreeMap<bool, u8>),
    ByChar(BTreeMap<char, u8>),
    ByVariant(BTreeMap<Key, u8>),
    ByNew(BTreeMap<Small, u8>),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    I128(i128),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    U128(u128),
    F32(f32),
    F64(f64),
    Bool(bool),
    Char(char),
    Text(String),
    Bytes(Bytes),
    Nothing(()),
    Marker(Marker),
    Two(Two),
    Maybe(Option<u8>),
    MaybeMaybe(Option<Option<u8>>),
    MaybeNothing(Option<()>),
    Three([u8; 3]),
    Outcome(std::result::Result<u8, String>),
    Time(Duration),
    Part(Part),
    Inside(Inside),
    Beside(Beside),
    Either(Either),
    Flat(Flat),
}

/// The record itself is an object.
#[derive(Debug, Serialize, Deserialize)]
pub struct Holder<T> {
    pub value: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arbitrary)]
pub enum Key {
    A,
    #[serde(rename = "ß\"")]
    B,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arbitrary)]
pub struct Small(u8);

#[derive(Debug, Serialize, Deserialize)]
pub struct Marker;

#[derive(Debug, Serialize, Deserialize, Arbitrary)]
pub struct Two(i8, String);

#[derive(Debug, Serialize, Deserialize, Arbitrary)]
#[serde(tag = "kind")]
pub enum Inside {
    A,
    B { b: u8, c: Option<String> },
    C(BTreeMap<String, u8>),
}

#[derive(Debug, Serialize, Deserialize, Arbitrary)]
#[serde(tag = "kind", content = "content")]
pub enum Beside {
    A,
    B(i64),
    C { a: Option<f64> },
    D(u8, bool),
}

#[derive(Debug, Serialize, Deserialize, Arbitrary)]
#[serde(untagged)]
pub enum Either {
    Integer(i64),
    Float(f64),
    Text(String),
    Pair(u8, bool),
    Map { a: u8 },
    Nothing,
}

#[derive(Debug, Serialize, Deserialize, Arbitrary)]
pub struct Flat {
    a: Option<u8>,
    #[serde(flatten)]
    rest: BTreeMap<String, Option<f32>>,
}

/// As `serde_bytes` has them.
#[derive(Debug, PartialEq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct AnyBytes;
        impl<'de> Visitor<'de> for AnyBytes {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut elements: A,
            ) -> std::result::Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = elements.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(AnyBytes)
    }
}

/// A record in a type. It shows all that it has.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Part(Record);

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Makes a [`Node`], and notes what it has.
pub struct Maker<'a, 'b> {
    pub choices: &'a mut Unstructured<'b>,
    /// A float that JSON has not.
    pub not_finite: bool,
    /// What serde keeps in between, where a number has lost its type.
    pub buffered: bool,
    /// `serde_json` gives a `Value` all digits of the 64-bit float.
    pub singles: bool,
}

/// Each may stand in two objects.
const DEEPEST: usize = 70;

impl<'a, 'b> Maker<'a, 'b> {
    pub fn new(choices: &'a mut Unstructured<'b>) -> Self {
        Self {
            choices,
            not_finite: false,
            buffered: false,
            singles: false,
        }
    }

    pub fn node(&mut self, depth: usize) -> Result<Node> {
        if depth == DEEPEST || self.choices.is_empty() {
            return Ok(Node::Unit);
        }
        let deeper = depth + 1;
        Ok(match self.choices.int_in_range(0..=47)? {
            0 => Node::Unit,
            1 => Node::New(self.boxed(deeper)?),
            2 => Node::Pair(self.boxed(deeper)?, self.any()?),
            3 | 4 => Node::Fields {
                first: self.boxed(deeper)?,
                second: if self.any()? {
                    Some(self.boxed(deeper)?)
                } else {
                    None
                },
                odd: self.any()?,
            },
            5 | 6 => Node::List(self.some(|make| make.node(deeper))?),
            7 => Node::Both((self.boxed(deeper)?, self.boxed(deeper)?)),
            8 | 9 => Node::ByText(self.map(Self::any, |make| make.node(deeper))?),
            10 => Node::ByInteger(
                self.map(|make| Ok(make.integer()? as i64), |make| make.node(deeper))?,
            ),
            11 => Node::ByWide(self.map(|make| Ok(make.integer()? as u128), Self::any)?),
            12 => Node::ByBool(self.any()?),
            13 => Node::ByChar(self.any()?),
            14 => Node::ByVariant(self.any()?),
            15 => Node::ByNew(self.any()?),
            16 => Node::I8(self.any()?),
            17 => Node::I16(self.any()?),
            18 => Node::I32(self.any()?),
            19 => Node::I64(self.integer()? as i64),
            20 => Node::I128(self.integer()?),
            21 => Node::U8(self.any()?),
            22 => Node::U16(self.any()?),
            23 => Node::U32(self.any()?),
            24 => Node::U64(self.integer()? as u64),
            25 => Node::U128(self.integer()? as u128),
            26 => {
                self.singles = true;
                let float = if self.any()? {
                    self.any()?
                } else {
                    self.any::<i32>()? as f32 / 10.0
                };
                self.not_finite |= !f32::is_finite(float);
                Node::F32(float)
            }
            27 => Node::F64(self.float()?),
            28 => Node::Bool(self.any()?),
            29 => Node::Char(self.any()?),
            30 | 31 => Node::Text(self.any()?),
            32 => Node::Bytes(Bytes(self.any()?)),
            33 => Node::Nothing(()),
            34 => Node::Marker(Marker),
            35 => Node::Two(self.any()?),
            36 => Node::Maybe(self.any()?),
            37 => Node::MaybeMaybe(self.any()?),
            38 => Node::MaybeNothing(self.any()?),
            39 => Node::Three(self.any()?),
            40 => Node::Outcome(self.any()?),
            41 => Node::Time(Duration::new(
                self.any::<u32>()?.into(),
                self.choices.int_in_range(0..=999_999_999)?,
            )),
            42 => Node::Part(self.part(deeper)?),
            43 => {
                self.buffered = true;
                Node::Inside(self.any()?)
            }
            44 | 45 => {
                self.buffered = true;
                let value: Beside = self.any()?;
                if let Beside::C { a: Some(float) } = &value {
                    self.not_finite |= !float.is_finite();
                }
                Node::Beside(value)
            }
            46 => {
                self.buffered = true;
                let value: Either = self.any()?;
                if let Either::Float(float) = &value {
                    self.not_finite |= !float.is_finite();
                }
                Node::Either(value)
            }
            _ => {
                self.buffered = true;
                self.singles = true;
                let value: Flat = self.any()?;
                self.not_finite |= value
                    .rest
                    .values()
                    .flatten()
                    .any(|float| !float.is_finite());
                Node::Flat(value)
            }
        })
    }

    fn any<T: Arbitrary<'b>>(&mut self) -> Result<T> {
        self.choices.arbitrary()
    }

    fn boxed(&mut self, depth: usize) -> Result<Box<Node>> {
        self.node(depth).map(Box::new)
    }

    fn some<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.choices.int_in_range(0..=3)?;
        (0..count).map(|_| one(self)).collect()
    }

    /// Nothing is made for a key that is there, since it would be noted and not be in the map.
    fn map<K: Ord, V>(
        &mut self,
        mut key: impl FnMut(&mut Self) -> Result<K>,
        mut value: impl FnMut(&mut Self) -> Result<V>,
    ) -> Result<BTreeMap<K, V>> {
        let mut map = BTreeMap::new();
        for _ in 0..self.choices.int_in_range(0..=3)? {
            if let Entry::Vacant(vacant) = map.entry(key(self)?) {
                vacant.insert(value(self)?);
            }
        }
        Ok(map)
    }

    /// Of all widths, and many that are 64-bit floats.
    fn integer(&mut self) -> Result<i128> {
        Ok(match self.choices.int_in_range(0..=4)? {
            0 => self.any::<i8>()?.into(),
            1 => self.any::<i64>()?.into(),
            2 => self.any::<i32>()?.into(),
            3 => i128::from(self.any::<i16>()?) << self.choices.int_in_range(0..=112)?,
            _ => self.any()?,
        })
    }

    fn float(&mut self) -> Result<f64> {
        let float = match self.choices.int_in_range(0..=2)? {
            0 => self.integer()? as f64,
            1 => f64::from(self.any::<i32>()?) / 1000.0,
            _ => self.any()?,
        };
        self.not_finite |= !float.is_finite();
        Ok(float)
    }

    fn part(&mut self, depth: usize) -> Result<Part> {
        // What is refused here, `from_serialize` refuses elsewhere.
        let mut inner = Maker::new(self.choices);
        let value = inner.node(depth)?;
        Ok(Part(
            Record::from_serialize(&Holder { value }).unwrap_or_else(|_| empty()),
        ))
    }
}

fn empty() -> Record {
    Record::from_json("{}").expect("an object is a record")
}
