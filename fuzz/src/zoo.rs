//! Types that a record may be read as, and values of few kinds, so that many of them fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use agntcy_dir_stream::Record;
use arbitrary::{Result, Unstructured};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value, json};

use crate::typed::{Beside, Bytes, Either, Flat, Holder, Inside, Key, Marker, Node, Small, Two};

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Fields {
    a: Value,
    #[serde(default)]
    b: u8,
    c: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Strict {
    a: i64,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
enum Outside {
    A,
    B(u8),
    C(u8, String),
    D {
        a: u8,
    },
    #[serde(other)]
    Other,
}

/// Reads the record as each type, and its text by `serde_json`.
pub fn read_as_all(record: &Record) {
    macro_rules! each {
        ($($type:ty),* $(,)?) => {
            $(reads_as_its_text::<$type>(record);)*
        };
    }
    each!(
        Value, bool, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, f32, f64, char, String, (), Marker, Option<u8>,
        Option<Option<String>>, Vec<u8>, Vec<Value>, BTreeSet<String>, (u8, bool), [Value; 2], Small, Two, Bytes,
        Map<String, Value>, BTreeMap<String, u8>, BTreeMap<i8, IgnoredAny>, BTreeMap<u64, Value>, BTreeMap<i128, Value>,
        BTreeMap<bool, Value>, BTreeMap<char, Value>, BTreeMap<Key, Value>, BTreeMap<Small, Value>, Fields, Strict,
        Outside, Vec<Outside>, Inside, Beside, Either, Vec<Either>, Flat, Node, std::result::Result<u8, String>, IpAddr,
        Duration, SystemTime, IgnoredAny,
    );
}

/// Texts have floats as they are, so that they tell `-0` from `0`.
fn reads_as_its_text<T: DeserializeOwned + Debug>(record: &Record) {
    let text = record.to_json().expect("it was checked");
    let ours = record.deserialize::<Holder<T>>();
    // Not by `from_str`, which reads a flag in a key from its second byte on, even in the middle of a letter.
    let theirs = serde_json::from_slice::<Holder<T>>(text.as_bytes());
    let name = std::any::type_name::<T>();
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(
                format!("{ours:?}"),
                format!("{theirs:?}"),
                "{name} of {text}"
            );
        }
        (Err(_), Err(_)) => {}
        _ => panic!("{name} of {text}: {ours:?}, and serde_json: {theirs:?}"),
    }
}

/// A value without integers beyond 2^53 and without `-0`, of which text says less.
pub fn value(choices: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    const LARGEST: i64 = 1 << 53;
    if depth == 8 || choices.is_empty() {
        return Ok(Value::Null);
    }
    let deeper = depth + 1;
    Ok(match choices.int_in_range(0..=11)? {
        0 => Value::Null,
        1 => choices.arbitrary::<bool>()?.into(),
        2 => choices.int_in_range(-2_i64..=4)?.into(),
        3 => choices.int_in_range(-LARGEST..=LARGEST)?.into(),
        4 => (f64::from(choices.int_in_range(1..=10_000)?) / 8.0).into(),
        5 => choices
            .choose(&[
                json!(0.5),
                json!(1e300),
                json!(-1.5),
                json!(255.5),
                json!(1e40),
                json!(1e-7),
            ])?
            .clone(),
        6 | 7 => key(choices)?.into(),
        8 | 9 => {
            let count = choices.int_in_range(0..=3)?;
            (0..count)
                .map(|_| value(choices, deeper))
                .collect::<Result<Vec<_>>>()?
                .into()
        }
        _ => {
            let count = choices.int_in_range(0..=3)?;
            let entry = |_| Ok((key(choices)?, value(choices, deeper)?));
            Value::Object((0..count).map(entry).collect::<Result<_>>()?)
        }
    })
}

/// Names of fields and variants, and texts that read as numbers and flags, or nearly so.
fn key(choices: &mut Unstructured<'_>) -> Result<String> {
    const SOME: &[&str] = &[
        "a",
        "b",
        "c",
        "d",
        "A",
        "B",
        "C",
        "D",
        "kind",
        "content",
        "Ok",
        "Err",
        "0",
        "1",
        "-1",
        "+1",
        "01",
        "1.0",
        "-0",
        "1e2",
        " 1",
        "1 ",
        "",
        "true",
        "false",
        "256",
        "0x1",
        "NaN",
        "inf",
        "1_0",
        "18446744073709551616",
        "null",
        "secs",
        "nanos",
        "secs_since_epoch",
        "nanos_since_epoch",
        "::1",
        "Unit",
        "New",
        "Pair",
        "Fields",
        "first",
        "U8",
        "ByInteger",
        "ByBool",
        "Maybe",
        "Three",
        "F32",
    ];
    Ok(match choices.ratio(7, 8)? {
        true => (*choices.choose(SOME)?).to_owned(),
        false => choices.arbitrary()?,
    })
}
