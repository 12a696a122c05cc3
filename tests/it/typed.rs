//! A record reads as any type as `serde_json` reads its canonical text: the same values, and the same
//! refusals.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CString, OsString};
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::num::{NonZeroU8, Wrapping};
use std::ops::{Bound, Range};
use std::path::PathBuf;

use agntcy_dir_stream::Record;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde::de::{
    DeserializeOwned, Deserializer, EnumAccess, IgnoredAny, MapAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Value, json};

use crate::support::properties::cases;

#[derive(Debug, PartialEq, Deserialize)]
struct Fields {
    a: Value,
    #[serde(default)]
    b: u8,
    c: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    a: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Flat {
    a: Option<u8>,
    #[serde(flatten)]
    rest: HashMap<String, Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Deserialize)]
struct Newtype(u16);

#[derive(Debug, PartialEq, Deserialize)]
struct Pair(i8, String);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outside {
    A,
    B(u8),
    C(u8, String),
    D { a: u8 },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "a", rename_all = "lowercase")]
enum Inside {
    A,
    B { b: u8 },
    C(BTreeMap<String, u8>),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "a", content = "b", rename_all = "lowercase")]
enum Beside {
    A,
    B(u8),
    C { a: Option<u8> },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
    Text(String),
    Pair(u8, bool),
    Map { a: u8 },
    Nothing,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Renamed {
    #[serde(alias = "b", rename = "a")]
    one: Option<u8>,
    #[serde(skip)]
    skipped: u8,
    #[serde(default, with = "as_text")]
    c: u8,
}

/// Numbers that are written as text.
mod as_text {
    use serde::Deserialize;

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u8, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Other {
    A,
    #[serde(other)]
    Else,
}

/// Bytes, as `serde_bytes` reads them.
#[derive(Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// Takes one entry or element, and leaves the others.
#[derive(Debug, PartialEq)]
struct First(Option<u8>);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = First;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("something in something")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<First, A::Error> {
                let first = map.next_entry::<IgnoredAny, u8>()?;
                Ok(First(first.map(|(_, value)| value)))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<First, A::Error> {
                Ok(First(seq.next_element()?))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Keys that read as numbers, as booleans, and as neither.
fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "a", "b", "c", "d", "0", "1", "-1", "+1", "01", "1.0", "-0", "1e2", " 1", "1 ", "", "true",
            "false", "256", "A", "0x1", "NaN", "inf", "1_0", "18446744073709551616", "null",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// Values of few kinds and names, so that many of them fit a type. (`-0` is not among them: `serde_json`
/// reads it as an `i128`, but as no `i64`. Here it is a float, and no integer.)
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..4).prop_map(Value::from),
        (-(1i64 << 53)..=1 << 53).prop_map(Value::from),
        // Beyond 2^53, with digits that are the shortest.
        prop::sample::select(vec![9_007_199_254_740_994_i64, -9_007_199_254_740_996])
            .prop_map(Value::from),
        prop::sample::select(vec![0.5, 1e300, -1.5, 255.5]).prop_map(Value::from),
        keys().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            (keys(), inner.clone()).prop_map(|(a, b)| json!({ "a": a, "b": b })),
            prop::collection::btree_map(keys(), inner, 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

#[derive(Deserialize)]
struct Holder<T> {
    value: T,
}

/// Whether it could be read.
fn agrees<T: DeserializeOwned + Debug + PartialEq>(record: &Record) -> bool {
    let text = record.to_json().unwrap();
    // Not by `from_str`: of a map with flags as keys it reads a key from its second byte on, and some are
    // no text then.
    let theirs = serde_json::from_slice::<Holder<T>>(text.as_bytes()).map(|holder| holder.value);
    let ours = record.deserialize::<Holder<T>>().map(|holder| holder.value);
    let name = std::any::type_name::<T>();
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{name} of {text}"),
        (Err(_), Err(_)) => {}
        _ => panic!("{name} of {text}: {ours:?}, and serde_json: {theirs:?}"),
    }
    ours.is_ok()
}

macro_rules! all_agree {
    ($record:expr, $read:expr; $($type:ty),* $(,)?) => {
        $(*$read.entry(stringify!($type)).or_default() += usize::from(agrees::<$type>($record));)*
    };
}

/// What a visitor is given that asks for an `i64` and takes anything.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked(String);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        macro_rules! given {
            ($($visit:ident: $type:ty),*) => {$(
                fn $visit<E>(self, value: $type) -> Result<Asked, E> {
                    Ok(Asked(format!("{} {value:?}", stringify!($type))))
                }
            )*};
        }
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Asked;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("anything")
            }

            given!(
                visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str
            );

            fn visit_unit<E>(self) -> Result<Asked, E> {
                Ok(Asked("null".into()))
            }
        }
        deserializer.deserialize_i64(Visitor)
    }
}

/// Reads no values.
#[derive(Debug, PartialEq)]
struct KeysAlone(Vec<String>);

impl<'de> Deserialize<'de> for KeysAlone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = KeysAlone;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<KeysAlone, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_key()? {
                    keys.push(key);
                }
                Ok(KeysAlone(keys))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// How often something could be read as each type.
type Read = BTreeMap<&'static str, usize>;

fn all_types_agree(record: &Record, read: &mut Read) {
    all_agree!(record, read;
        Value, bool, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, f32, f64, char, String, (), Unit,
        Option<u8>, Option<Option<String>>, Vec<u8>, Vec<Value>, BTreeSet<String>, (u8, bool),
        [Value; 2], Newtype, Pair, Bytes, First, Map<String, Value>, BTreeMap<String, u8>,
        BTreeMap<i8, Value>, BTreeMap<u64, Value>, BTreeMap<i128, Value>, BTreeMap<bool, Value>,
        BTreeMap<char, Value>, BTreeMap<Option<String>, Value>, BTreeMap<Key, Value>, BTreeMap<Newtype2, Value>,
        ByFloat, Asked, BTreeMap<Asked, Value>, KeysAlone, Fields, Strict, Flat, Outside, Inside, Beside, Untagged, Box<Fields>,
        Result<u8, String>, std::net::IpAddr, std::time::Duration, std::time::SystemTime, PathBuf, CString,
        OsString, NonZeroU8, Wrapping<i8>, Range<u8>, Bound<u8>, PhantomData<u8>, Cell<u8>, Box<str>,
        Option<()>, Cow<'static, str>, Renamed, Other, Vec<Outside>, Vec<Inside>, Vec<Untagged>,
        BTreeMap<String, Option<Outside>>,
    );
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    A,
    B,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Newtype2(u8);

/// A map whose keys are floats.
#[derive(Debug, PartialEq)]
struct ByFloat(Vec<(f64, f32)>);

impl<'de> Deserialize<'de> for ByFloat {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ByFloat;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<ByFloat, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(ByFloat(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Values that some type of the list reads, and that random values rarely hit.
fn samples() -> Vec<Value> {
    vec![
        json!(1),
        json!(0.5),
        json!(true),
        json!([1, "a"]),
        json!([1, true]),
        json!({"Ok": 1}),
        json!({"secs": 1, "nanos": 2}),
        json!("127.0.0.1"),
        json!({"secs_since_epoch": 1, "nanos_since_epoch": 2}),
        json!({"start": 1, "end": 2}),
        json!({"Included": 1}),
        json!("Unbounded"),
        json!({"Unix": [97, 98]}),
        json!([97, 98]),
        json!({"a": 1, "c": "2"}),
        json!("c"),
        json!("a"),
        json!({"a": "b", "b": 1}),
        json!({"a": "c", "b": {"a": null}}),
        json!({"a": 1}),
        json!({"b": 1}),
        json!({"c": [1, "a"]}),
        json!({"d": {"a": 1}}),
        json!({"d": [1]}),
        json!({"1": 1, "-1": 2, "1.0": 3, "+1": 4, "01": 5}),
        json!({"1": 1}),
        json!({"0.5": 1.5, "1e2": 0}),
        json!({"true": 1, "false": null}),
        json!({}),
        json!([]),
        json!(null),
    ]
}

#[test]
fn a_record_reads_as_its_text_does() {
    let read = RefCell::new(Read::new());
    let check = |value: Value| {
        let record = Record::try_from(json!({ "value": value })).unwrap();
        all_types_agree(&record, &mut read.borrow_mut());
    };
    samples().into_iter().for_each(check);
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..cases(2_000)
    });
    let outcome = runner.run(&values(), |value| {
        check(value);
        Ok(())
    });
    outcome.unwrap();
    // Refusals alone would prove little.
    for (name, times) in read.into_inner() {
        assert!(times > 0, "no value could be read as {name}");
    }
}

/// An enum whose variant is borrowed.
struct Borrowed(String);

impl<'de> Deserialize<'de> for Borrowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Borrowed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an enum")
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Borrowed, A::Error> {
                let (name, content) = data.variant::<&'de str>()?;
                content.unit_variant()?;
                Ok(Borrowed(name.to_owned()))
            }
        }
        deserializer.deserialize_enum("Borrowed", &[], Names)
    }
}

#[test]
fn the_name_of_a_variant_can_be_borrowed() {
    let record = Record::from_json(r#"{"value": "A"}"#).unwrap();
    assert_eq!(
        record.deserialize::<Holder<Borrowed>>().unwrap().value.0,
        "A"
    );
    let record = Record::from_json(r#"{"value": {"A": null}}"#).unwrap();
    assert_eq!(
        record.deserialize::<Holder<Borrowed>>().unwrap().value.0,
        "A"
    );
}

/// The one key of an object, as bytes and nothing else.
struct KeyBytes(Vec<u8>);

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key(Vec<u8>);
        impl<'de> Deserialize<'de> for Key {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(Bytes)
            }
        }
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key(bytes.to_vec()))
            }
        }
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = KeyBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyBytes, A::Error> {
                let entry = map.next_entry::<Key, Value>()?;
                Ok(KeyBytes(entry.map(|(Key(key), _)| key).unwrap_or_default()))
            }
        }
        deserializer.deserialize_map(One)
    }
}

#[test]
fn a_key_reads_as_bytes_as_in_text() {
    let text = r#"{"a":1}"#;
    assert_eq!(serde_json::from_str::<KeyBytes>(text).unwrap().0, b"a");
    let record = Record::from_json(text).unwrap();
    assert_eq!(record.deserialize::<KeyBytes>().unwrap().0, b"a");
}
