//! One value is one record and has one CID, by whichever way it comes in, and comes back as it went in.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use agntcy_dir_stream::{Error, ErrorKind, Record};
use proptest::prelude::*;
use prost::Message as _;
use prost_types::Struct;
use serde::de::{EnumAccess, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json, value::RawValue};

use crate::support::properties::cases;
use crate::support::records::nested;
use crate::support::results::invalid;

/// A type with a field of each kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Typed {
    signed: i64,
    unsigned: u64,
    wide: i128,
    widest: u128,
    small: (i8, u8, i32, u32),
    float: f64,
    single: f32,
    text: String,
    letter: char,
    maybe: Option<bool>,
    unit: (),
    list: Vec<Kind>,
    beside: Vec<Beside>,
    inside: Vec<Inside>,
    untagged: Vec<Untagged>,
    #[serde(flatten)]
    flat: Flat,
    by_text: BTreeMap<String, f32>,
    by_number: BTreeMap<i64, u64>,
    by_flag: BTreeMap<bool, ()>,
    by_float: BTreeMap<Float, Single>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    Newtype(u64),
    Tuple(f32, String),
    Struct { a: i64, b: Option<char> },
}

// serde reads these into a buffer first, without asking for any type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "z", content = "c")]
enum Beside {
    Number(u64),
    Pair(i64, f32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "z")]
enum Inside {
    Numbers { a: u64, b: i64, c: f64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Unsigned(u64),
    Signed(i64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    flat_number: u64,
    flat_float: f64,
}

/// Floats as keys of a map.
macro_rules! key {
    ($name:ident: $type:ty) => {
        #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
        struct $name($type);

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.total_cmp(&other.0)
            }
        }
    };
}

key!(Float: f64);
key!(Single: f32);

impl Typed {
    fn integers(&self) -> Vec<i128> {
        let mut integers = vec![self.signed.into(), self.unsigned.into(), self.wide];
        integers.extend(self.by_number.values().map(|number| i128::from(*number)));
        integers.extend(self.list.iter().filter_map(|kind| match kind {
            Kind::Newtype(number) => Some(i128::from(*number)),
            Kind::Struct { a, .. } => Some(i128::from(*a)),
            _ => None,
        }));
        integers.extend(self.beside.iter().map(|kind| match kind {
            Beside::Number(number) => i128::from(*number),
            Beside::Pair(number, _) => i128::from(*number),
        }));
        for Inside::Numbers { a, b, .. } in &self.inside {
            integers.extend([i128::from(*a), i128::from(*b)]);
        }
        integers.extend(self.untagged.iter().filter_map(|kind| match kind {
            Untagged::Unsigned(number) => Some(i128::from(*number)),
            Untagged::Signed(number) => Some(i128::from(*number)),
            Untagged::Text(_) => None,
        }));
        integers.push(self.flat.flat_number.into());
        integers
    }

    /// Whether all of its integers are 64-bit floats.
    fn is_exact(&self) -> bool {
        // An odd number of up to 53 bits, and zeros.
        let fits =
            |number: u128| 128 - number.leading_zeros() - number.trailing_zeros().min(127) <= 53;
        let wide = self.integers();
        wide.iter()
            .all(|number| *number == 0 || fits(number.unsigned_abs()))
            && (self.widest == 0 || fits(self.widest))
    }
}

fn singles() -> impl Strategy<Value = f32> {
    prop_oneof![
        (-1000i32..1000).prop_map(|number| number as f32 / 10.0),
        any::<f32>().prop_filter("finite", |number| number.is_finite()),
    ]
}

fn floats() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |number| number.is_finite())
}

/// Integers about the places where floats have holes, and any; or only such as are floats.
fn integers() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..100,
        (53u32..64, 0u64..3, any::<bool>()).prop_map(|(bits, more, below)| match below {
            true => (1u64 << bits) - more,
            false => (1u64 << bits) + more,
        }),
        (any::<u64>(), 0u32..64).prop_map(|(number, bits)| number >> 11 << bits.min(11)),
        any::<u64>(),
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        integers().prop_map(Kind::Newtype),
        (singles(), any::<String>()).prop_map(|(a, b)| Kind::Tuple(a, b)),
        (integers(), any::<Option<char>>()).prop_map(|(a, b)| Kind::Struct {
            a: (a >> 1) as i64,
            b
        }),
    ]
}

/// Those that serde buffers.
fn buffered() -> impl Strategy<Value = (Vec<Beside>, Vec<Inside>, Vec<Untagged>, Flat)> {
    let signed = || {
        (integers(), any::<bool>()).prop_map(|(number, minus)| {
            let number = (number >> 1) as i64;
            if minus { -number } else { number }
        })
    };
    let beside = prop_oneof![
        integers().prop_map(Beside::Number),
        (signed(), singles()).prop_map(|(a, b)| Beside::Pair(a, b)),
    ];
    let inside = (integers(), signed(), floats()).prop_map(|(a, b, c)| Inside::Numbers { a, b, c });
    let untagged = prop_oneof![
        integers().prop_map(Untagged::Unsigned),
        signed()
            .prop_filter("negative", |number| *number < 0)
            .prop_map(Untagged::Signed),
        any::<String>().prop_map(Untagged::Text),
    ];
    let flat = (integers(), floats()).prop_map(|(flat_number, flat_float)| Flat {
        flat_number,
        flat_float,
    });
    (
        prop::collection::vec(beside, 0..2),
        prop::collection::vec(inside, 0..2),
        prop::collection::vec(untagged, 0..2),
        flat,
    )
}

fn typed() -> impl Strategy<Value = Typed> {
    let maps = (
        prop::collection::btree_map(any::<String>(), singles(), 0..3),
        prop::collection::btree_map(any::<i64>(), integers(), 0..3),
        prop::collection::btree_map(any::<bool>(), Just(()), 0..3),
        prop::collection::btree_map(floats().prop_map(Float), singles().prop_map(Single), 0..3),
    );
    let numbers = (
        integers(),
        integers(),
        any::<bool>(),
        0u32..60,
        any::<(i8, u8, i32, u32)>(),
    );
    let rest = (
        any::<String>(),
        any::<char>(),
        any::<Option<bool>>(),
        buffered(),
    );
    (
        numbers,
        floats(),
        singles(),
        rest,
        prop::collection::vec(kinds(), 0..4),
        maps,
    )
        .prop_map(
            |(
                (a, b, minus, shift, small),
                float,
                single,
                (text, letter, maybe, buffered),
                list,
                maps,
            )| {
                let sign = if minus { -1 } else { 1 };
                Typed {
                    signed: (a >> 1) as i64 * sign,
                    unsigned: b,
                    wide: (i128::from(a) * i128::from(sign)) << shift,
                    widest: u128::from(b) << (shift / 2),
                    small,
                    float,
                    single,
                    text,
                    letter,
                    maybe,
                    unit: (),
                    list,
                    beside: buffered.0,
                    inside: buffered.1,
                    untagged: buffered.2,
                    flat: buffered.3,
                    by_text: maps.0,
                    by_number: maps.1,
                    by_flag: maps.2,
                    by_float: maps.3,
                }
            },
        )
}

/// The record as a store gives it back.
#[cfg(feature = "server")]
fn pulled(record: &Record) -> Record {
    let store = agntcy_dir_stream::server::Store::new();
    let cid = store.insert(record.clone()).unwrap();
    crate::support::clock::runtime()
        .block_on(store.client().pull(cid))
        .unwrap()
        .record
}

/// The record of `text` by each lenient way to read it, with the name of the way.
fn lenient(text: &str) -> Vec<(&'static str, Result<Record, Error>)> {
    let record = Record::from_json(text);
    let mut ways = vec![
        ("str", text.parse()),
        ("bytes", Record::from_json(text.as_bytes())),
        (
            "after a byte order mark",
            Record::from_json(format!("\u{feff}{text}")),
        ),
        (
            "Value",
            Record::try_from(serde_json::from_str::<Value>(text).unwrap()),
        ),
    ];
    if let Ok(record) = &record {
        let message = Struct::try_from(record).unwrap();
        let data = record.data().unwrap().clone();
        ways.extend([
            ("canonical text", record.to_json().unwrap().parse()),
            (
                "strict, its own text",
                Record::from_json_strict(record.to_json().unwrap()),
            ),
            (
                "Value of its own",
                Record::try_from(Value::try_from(record).unwrap()),
            ),
            (
                "strict, Value of its own",
                Record::from_serialize(&Value::try_from(record).unwrap()),
            ),
            ("prost's bytes", Record::from_data(message.encode_to_vec())),
            ("Struct", Record::try_from(message)),
            ("data", Record::from_data(data)),
            ("wire", Record::from_wire(record.to_wire())),
            ("displayed", record.to_string().parse()),
            ("serde, text", Ok(serde_json::from_str(text).unwrap())),
            (
                "serde, its own text",
                Ok(serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()),
            ),
            (
                "serde, its own Value",
                Ok(serde_json::from_value(serde_json::to_value(record).unwrap()).unwrap()),
            ),
            ("strict, itself", Record::from_serialize(record)),
            ("itself", Ok(record.deserialize().unwrap())),
        ]);
        #[cfg(feature = "server")]
        ways.push(("push and pull", Ok(pulled(record))));
    }
    ways.push(("text", record));
    ways
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_value_has_one_cid_by_every_way(value in typed()) {
        let text = serde_json::to_string(&value).unwrap();
        let ways = lenient(&text);
        let first = ways[0].1.as_ref().unwrap().cid().unwrap();
        for (way, record) in &ways {
            let record = record.as_ref().unwrap();
            prop_assert_eq!(record.cid().unwrap(), first, "{}", way);
        }
        // The typed way takes what it can give back, and nothing else.
        match Record::from_serialize(&value) {
            Ok(record) => {
                prop_assert!(value.is_exact());
                prop_assert_eq!(record.cid().unwrap(), first);
                for (way, record) in ways {
                    prop_assert_eq!(&record.unwrap().deserialize::<Typed>().unwrap(), &value, "{}", way);
                }
            }
            Err(error) => {
                prop_assert!(!value.is_exact(), "{}", error);
                prop_assert!(error.to_string().contains("is not a 64-bit float"), "{}", error);
            }
        }
    }

    #[test]
    fn what_is_taken_strictly_comes_back_digit_by_digit(number in integers()) {
        let text = format!(r#"{{"n":{number}}}"#);
        let lenient = Record::from_json(&text).unwrap();
        let n = lenient.deserialize::<BTreeMap<String, f64>>().unwrap()["n"];
        prop_assert_eq!(n, number as f64, "the nearest float");
        let printed = lenient.to_json().unwrap() == text;
        let exact = n as u128 == u128::from(number);
        match Record::from_json_strict(&text) {
            Ok(strict) => {
                prop_assert!(printed || exact);
                prop_assert_eq!(strict, lenient);
            }
            Err(_) => prop_assert!(!printed && !exact),
        }
        let typed = BTreeMap::from([("n", number)]);
        match Record::from_serialize(&typed) {
            Ok(record) => {
                prop_assert_eq!(record.deserialize::<BTreeMap<&str, u64>>().unwrap(), typed);
            }
            Err(_) => prop_assert!(!exact),
        }
    }

    #[test]
    fn a_32_bit_float_is_what_its_text_is(
        // That one is as near to -3619994.2 as to -3619994.3.
        number in prop_oneof![9 => singles(), 1 => Just(-3_619_994.2_f32)],
    ) {
        let typed = BTreeMap::from([("n", number)]);
        let record = Record::from_serialize(&typed).unwrap();
        let text = serde_json::to_string(&typed).unwrap();
        prop_assert_eq!(Record::from_json(text).unwrap(), record.clone());
        let back: BTreeMap<&str, f32> = record.deserialize().unwrap();
        prop_assert_eq!(back["n"].to_bits(), number.to_bits());
    }
}

/// `cid` is what DIR's own client for Go makes of the text, and empty where it refuses it.
#[derive(Deserialize)]
struct Reference {
    note: String,
    text: String,
    cid: String,
}

#[test]
fn a_text_has_the_cid_that_go_gives_it() {
    let lines = include_str!("data/json_texts.jsonl").lines();
    let references = lines.map(|line| serde_json::from_str::<Reference>(line).unwrap());
    let mut agreed = 0;
    for Reference { note, text, cid } in references {
        let record = Record::from_json(&text);
        if !cid.is_empty() {
            assert_eq!(record.unwrap().cid().unwrap().to_string(), cid, "{note}");
        } else if note.starts_with("equal keys") {
            record.unwrap();
            assert!(invalid(Record::from_json_strict(&text)).contains("comes twice"));
        } else if note == "a byte order mark" {
            record.unwrap();
        } else {
            invalid(record);
        }
        agreed += 1;
    }
    assert_eq!(agreed, 43);
}

/// A tool's schema has such a number, and each client of a directory takes it.
#[test]
fn the_largest_integer_is_the_nearest_float() {
    let text = r#"{"maximum": 9223372036854775807, "minimum": -9223372036854775808}"#;
    for (way, record) in lenient(text) {
        assert_eq!(
            record.unwrap().to_json().unwrap(),
            r#"{"maximum":9223372036854775807,"minimum":-9223372036854775808}"#
                .replace("775807", "776000")
                .replace("775808", "776000"),
            "{way}"
        );
    }
    let error = "9223372036854775807 is not a 64-bit float, the nearest is 9223372036854775808";
    assert_eq!(
        invalid(Record::from_json_strict(text)),
        format!("invalid: {error} at line 1 column 31")
    );
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        invalid(Record::from_serialize(&value)),
        format!("invalid: $.maximum: {error}")
    );
    // Too large for any float.
    for text in [
        r#"{"a": 1e309}"#,
        &format!(r#"{{"a": {}}}"#, "9".repeat(400)),
    ] {
        assert!(invalid(Record::from_json(text)).contains("number out of range"));
    }
}

#[test]
fn the_last_of_equal_keys_counts_and_a_strict_reader_refuses_them() {
    let text = "{\"a\": {\"b\": 1, \"c\": 2, \"\\u0062\": 3},\n \"a2\": 0}";
    for (way, record) in lenient(text) {
        assert_eq!(
            record.unwrap().to_json().unwrap(),
            r#"{"a":{"b":3,"c":2},"a2":0}"#,
            "{way}"
        );
    }
    assert_eq!(
        invalid(Record::from_json_strict(text)),
        "invalid: the key `b` comes twice in one object at line 1 column 31"
    );
    // Equal keys of different objects are none.
    let text = r#"{"a": {"a": [{"a": 1}, {"a": 2}]}}"#;
    assert_eq!(
        Record::from_json_strict(text).unwrap(),
        Record::from_json(text).unwrap()
    );
}

/// Objects and arrays in each other, `depth` in all.
fn deep(depth: usize, is_list: bool) -> String {
    let (open, close) = if is_list {
        ("[", "]")
    } else {
        (r#"{"b":"#, "}")
    };
    let inner = depth - 1;
    format!(r#"{{"a":{}1{}}}"#, open.repeat(inner), close.repeat(inner))
}

#[test]
fn what_one_way_writes_the_others_read_128_deep() {
    for is_list in [true, false] {
        let text = deep(128, is_list);
        // serde_json has a limit of its own, which is lower by one.
        let mut value = json!(1);
        for _ in 1..128 {
            value = if is_list {
                json!([value])
            } else {
                json!({"b": value})
            };
        }
        let value = json!({"a": value});
        let record = Record::from_json(&text).unwrap();
        assert_eq!(record.to_json().unwrap(), text);
        assert_eq!(Value::try_from(&record).unwrap(), value);
        let message = Struct::try_from(&record).unwrap();
        for again in [
            Record::from_json_strict(record.to_json().unwrap()),
            Record::try_from(&value),
            Record::from_serialize(&value),
            Record::try_from(message.clone()),
            Record::from_data(message.encode_to_vec()),
            Record::from_wire(record.to_wire()),
        ] {
            assert_eq!(again.unwrap(), record);
        }

        let text = deep(129, is_list);
        let error = "objects and arrays nested deeper than 128";
        assert!(invalid(Record::from_json(&text)).contains(error));
        assert!(invalid(Record::from_json_strict(&text)).contains(error));
        let value = if is_list {
            json!([value])
        } else {
            json!({"b": value})
        };
        assert!(invalid(Record::try_from(json!({"c": value}))).contains(error));
    }
    // As a part of something else, it is its own document.
    let record: Record = deep(128, true).parse().unwrap();
    assert_eq!(record.to_string(), serde_json::to_string(&record).unwrap());
    // The wire goes deeper, and so does canonical JSON, which is what a CID is made of.
    let record = Record::from_wire(nested(128)).unwrap();
    let error = "nested deeper than 128";
    assert!(record.to_json().is_ok() && record.cid().is_ok());
    assert!(invalid(Value::try_from(&record)).contains(error));
    assert!(invalid(Struct::try_from(&record)).contains(error));
    assert!(
        serde_json::to_string(&record)
            .unwrap_err()
            .to_string()
            .contains(error)
    );
    assert!(Value::try_from(&Record::from_wire(nested(127)).unwrap()).is_ok());
    assert!(Struct::try_from(&Record::from_wire(nested(127)).unwrap()).is_ok());
}

#[test]
fn a_byte_order_mark_stands_before_a_text_and_nowhere_else() {
    let marked = Record::from_json("\u{feff}{\"a\": 1}").unwrap();
    assert_eq!(marked, Record::from_json(r#"{"a": 1}"#).unwrap());
    assert!(Record::from_json_strict("\u{feff}{}").is_ok());
    for text in [
        "\u{feff}\u{feff}{}",
        " \u{feff}{}",
        "{\u{feff}}",
        "\u{feff}",
    ] {
        assert!(invalid(Record::from_json(text)).contains("line 1 column"));
    }
    // In a string it is a character.
    let text = "{\"a\":\"\u{feff}\"}";
    assert_eq!(Record::from_json(text).unwrap().to_json().unwrap(), text);
}

#[test]
fn a_text_in_utf_16_is_named_so() {
    let text = r#"{"a": 1}"#;
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (mark, text) in [(b"\xff\xfe", &little), (b"\xfe\xff", &big)] {
        let marked = [mark.as_slice(), text].concat();
        for text in [text, &marked] {
            assert!(invalid(Record::from_json(text)).contains("UTF-16"));
        }
    }
}

/// JSON text within a typed value comes back as text, in canonical form.
#[test]
fn raw_json_goes_in_and_comes_out() {
    #[derive(Serialize, Deserialize)]
    struct Outer {
        raw: Box<RawValue>,
        more: Vec<Box<RawValue>>,
    }
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    let outer = Outer {
        raw: raw(r#"{ "b": [1, "c<"], "a": null }"#),
        more: vec![raw("1.50"), raw("\"d\"")],
    };
    let record = Record::from_serialize(&outer).unwrap();
    let back: Outer = record.deserialize().unwrap();
    assert_eq!(back.raw.get(), r#"{"a":null,"b":[1,"c\u003c"]}"#);
    assert_eq!(back.more[0].get(), "1.5");
    assert_eq!(
        Record::from_serialize(&back).unwrap().cid().unwrap(),
        record.cid().unwrap()
    );
    for (text, error) in [
        (r#"{"a": 9007199254740993}"#, "is not a 64-bit float"),
        (r#"{"a": 1, "a": 1}"#, "the key `a` comes twice"),
    ] {
        let error_of = invalid(Record::from_serialize(&BTreeMap::from([(
            "raw",
            raw(text),
        )])));
        assert!(error_of.contains(error), "{error_of}");
    }
}

/// The words of a text, a key or a type are printed so that they do nothing to a terminal.
#[test]
fn what_is_refused_is_printed_without_control_characters() {
    let nasty = "\u{1b}[2J\n\0\u{202e}";
    let escaped = r"\u{1b}[2J\n\u{0}\u{202e}";
    let typed = BTreeMap::from([(nasty, f64::NAN)]);
    let record = Record::try_from(json!({nasty: {"kind": nasty}})).unwrap();
    #[derive(Debug, Deserialize)]
    enum Kind {}
    for error in [
        invalid(nasty.parse::<agntcy_dir_stream::Cid>()),
        invalid(Record::from_serialize(&typed)),
        invalid(record.deserialize::<BTreeMap<String, BTreeMap<String, Kind>>>()),
        Error::invalid(nasty).to_string(),
    ] {
        assert!(error.contains(escaped), "{error}");
        assert!(!error.contains(|char: char| char.is_control()), "{error:?}");
    }
}

/// How much memory `read` takes at its peak, for each byte of the record.
fn memory(record: &Record, read: impl FnOnce(&Record)) -> f64 {
    let used = allocation_counter::measure(|| read(record));
    used.bytes_max as f64 / record.encoded_len() as f64
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// Read as a 64-bit float, the digits of such a number lie in the middle between two 32-bit floats. It is not
/// the even one of them.
#[test]
fn each_32_bit_float_comes_back() {
    for bits in [0x15ae_43fd, 0x95ae_43fd] {
        let typed = BTreeMap::from([("n", f32::from_bits(bits))]);
        let record = Record::from_serialize(&typed).unwrap();
        let back: BTreeMap<&str, f32> = record.deserialize().unwrap();
        assert_eq!(back["n"].to_bits(), bits);
    }
}

#[test]
fn a_number_reads_as_a_32_bit_float_as_its_text_does() {
    for number in [
        "1.0000000596046448",
        "1.0000001788139343",
        "3.4028235677973366e38",
    ] {
        let record = Record::from_json(format!(r#"{{"n":{number}}}"#)).unwrap();
        let text = record.to_json().unwrap();
        let theirs: BTreeMap<String, f32> = serde_json::from_str(&text).unwrap();
        let ours = record.deserialize::<BTreeMap<String, f32>>();
        assert_eq!(ours.unwrap(), theirs, "{text}");
    }
}

/// Small pieces on the wire must not become large tables: a server could send records of nothing else.
#[test]
fn a_record_is_read_in_sixteen_times_its_length() {
    const LEN: usize = 1 << 20;
    let fill = |piece: &[u8]| piece.repeat(LEN / piece.len());
    // All short keys there are, in random order, each without a value.
    let keys = {
        let mut random = fastrand::Rng::with_seed(1);
        let letters: Vec<char> = ('\0'..'\u{80}').collect();
        let mut keys = Vec::new();
        for len in 1..=3 {
            for number in 0..letters.len().pow(len) {
                let digits = (0..len)
                    .map(|place| letters[number / letters.len().pow(place) % letters.len()]);
                keys.push(digits.collect::<String>());
            }
        }
        keys.truncate(LEN / 7);
        random.shuffle(&mut keys);
        keys
    };
    let distinct: Vec<u8> = keys
        .iter()
        .flat_map(|key| field(0x0a, &field(0x0a, key.as_bytes())))
        .collect();
    let parts_of_value = {
        let value = [field(0x2a, &[0x10, 1]).repeat(LEN / 4), vec![]].concat();
        field(0x0a, &[field(0x0a, b"a"), field(0x12, &value)].concat())
    };
    let parts_of_entry = {
        let parts = field(0x12, &[0x10, 1]).repeat(LEN / 4);
        field(0x0a, &[field(0x0a, b"a"), parts].concat())
    };
    // A large value, and another of the same key which replaces it.
    let replaced = {
        let entries = field(0x2a, &fill(b"\x0a\x00"));
        let large = field(0x0a, &[field(0x0a, b"a"), field(0x12, &entries)].concat());
        let small = field(0x0a, &[field(0x0a, b"a"), field(0x12, &[0x08, 0])].concat());
        [large, small].concat()
    };
    for (what, data) in [
        ("empty entries", fill(b"\x0a\x00")),
        ("entries with an empty key", fill(b"\x0a\x02\x0a\x00")),
        ("keys without values", distinct),
        ("a value of parts", parts_of_value),
        ("an entry of parts", parts_of_entry),
        ("a value that is replaced", replaced),
    ] {
        let wire = field(0x0a, &data);
        let record = Record::decode(wire.as_slice()).unwrap();
        for (how, times) in [
            ("cid", memory(&record, |record| drop(record.cid()))),
            ("to_json", memory(&record, |record| drop(record.to_json()))),
            (
                "deserialize",
                memory(&record, |record| {
                    drop(record.deserialize::<BTreeMap<&str, serde::de::IgnoredAny>>());
                }),
            ),
        ] {
            assert!(
                times <= 16.0,
                "{what}: {how} takes {times:.1} bytes for each byte"
            );
        }
    }
}

#[test]
fn a_typed_number_that_would_change_is_refused() {
    #[derive(Debug, Serialize)]
    struct One<T> {
        n: T,
    }
    fn refused<T: Serialize + std::fmt::Debug>(n: T) {
        let error = Record::from_serialize(&One { n }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with("invalid: $.n: "), "{error}");
    }
    // The shortest digits of a float, and not its value.
    refused(90_701_992_554_799_070u64);
    refused(1_152_921_504_606_847_000i64);
    // A time in nanoseconds.
    refused(1_700_000_000_123_456_789u64);
    refused(u64::MAX);
    refused(i64::MAX);
    refused(i128::MAX);
    refused(u128::MAX);
    refused(f32::NAN);
    refused(f64::INFINITY);
    refused(BTreeMap::from([(Float(f64::INFINITY), 1)]));
    let kept = Record::from_serialize(&One { n: i64::MIN }).unwrap();
    assert_eq!(
        kept.deserialize::<BTreeMap<&str, i64>>().unwrap()["n"],
        i64::MIN
    );
}

/// Untagged and flattened types buffer what they read, and give it on in other ways than a reader of text.
#[test]
fn a_record_stands_within_other_documents() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Row {
        Number(u8),
        Record(Record),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u64,
        #[serde(flatten)]
        record: Record,
    }
    let text = r#"[1,{"a":[null,true,-1,0.5,"é"],"b":{}}]"#;
    let rows: Vec<Row> = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&rows).unwrap(), text);
    let text = r#"{"id":7,"a":1,"b":null}"#;
    let flat: Flat = serde_json::from_str(text).unwrap();
    assert_eq!(flat.record.to_json().unwrap(), r#"{"a":1,"b":null}"#);
    assert_eq!(serde_json::to_string(&flat).unwrap(), text);

    for (record, error) in [
        (Record::default(), "the record has no data"),
        (
            Record::decode(&b"\x0a\x02\x0a\x09"[..]).unwrap(),
            "a length that passes the end at byte 1 of the data",
        ),
        (
            Record::decode(&b"\x0a\x09\x0a\x07\x0a\x01a\x12\x02\x1a\x05"[..]).unwrap(),
            "a length that passes the end at byte 8 of the data",
        ),
    ] {
        let serialized = serde_json::to_string(&record).unwrap_err();
        assert_eq!(serialized.to_string(), format!("invalid: {error}"));
        assert_eq!(record.to_string(), format!("<invalid: {error}>"));
    }
    assert!(serde_json::from_str::<Record>("[1]").is_err());
}

fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    field(0x0a, &[field(0x0a, key), field(0x12, value)].concat())
}

#[derive(Deserialize)]
struct Nest {
    #[serde(rename = "a")]
    inner: Option<Box<Nest>>,
}

/// Each object has 2,050 entries of an empty key, of which the last counts.
#[test]
fn objects_in_each_other_are_read_in_sixteen_times_their_length() {
    let mut data = entry(b"", &[0x08, 0]);
    for _ in 0..126 {
        let replaced = b"\x0a\x00".repeat(2049);
        let last = entry(b"", &[0x08, 0]);
        data = [replaced, last, entry(b"a", &field(0x2a, &data))].concat();
    }
    let record = Record::decode(field(0x0a, &data).as_slice()).unwrap();
    record.cid().unwrap();
    let len = record.encoded_len();
    within_sixteen_times(len, || {
        let nest: Nest = record.deserialize().unwrap();
        assert!(nest.inner.is_some());
    });
    within_sixteen_times(len, || {
        serde_json::to_writer(std::io::sink(), &record).unwrap();
    });
}

/// Reading a record takes 16 bytes of memory for each of its bytes, and 1 MiB, at most.
#[track_caller]
fn within_sixteen_times(len: usize, read: impl FnOnce()) {
    let used = allocation_counter::measure(read).bytes_max;
    let bound = 16 * len as u64 + (1 << 20);
    assert!(used <= bound, "{used} bytes for {len}");
}

/// Each object has a table of which half is empty, and a value that is none: the reading fails, after it has
/// opened them all.
#[test]
fn objects_that_are_open_together_keep_no_room_to_spare() {
    let mut data = Vec::new();
    for _ in 0..126 {
        let before = b"\x0a\x00".repeat(1025);
        let next = entry(b"a", &field(0x2a, &data));
        let keys = (0..1023u16).map(|key| {
            let key = [
                b"bcdefghijklmnopqrstuvwxyzABCDEFG"[usize::from(key / 32)],
                b'a' + (key % 32) as u8 % 26,
            ];
            field(0x0a, &field(0x0a, &key))
        });
        data = [before, next, keys.collect::<Vec<_>>().concat()].concat();
    }
    let record = Record::decode(field(0x0a, &data).as_slice()).unwrap();
    within_sixteen_times(record.encoded_len(), || {
        assert!(record.deserialize::<Nest>().is_err());
    });
}

#[test]
fn an_error_repeats_no_more_of_a_text_than_anybody_reads() {
    let text = "\u{7f}".repeat(2 << 20);
    let record = Record::from_serialize(&BTreeMap::from([("a", &text)])).unwrap();
    let len = record.encoded_len();
    within_sixteen_times(len, || {
        let error = record.deserialize::<BTreeMap<String, u64>>().unwrap_err();
        assert!(format!("{error:?}").len() < 16 << 10);
        assert!(error.to_string().contains("bytes more)"));
    });
}

/// Reads a key, and leaves its value.
struct LeavesValue;

impl<'de> Deserialize<'de> for LeavesValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Leaves;

        impl<'de> Visitor<'de> for Leaves {
            type Value = LeavesValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LeavesValue, A::Error> {
                map.next_key::<String>()?;
                Ok(LeavesValue)
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<LeavesValue, A::Error> {
                data.variant::<String>()?;
                Ok(LeavesValue)
            }
        }

        if deserializer.is_human_readable() && IS_ENUM.get() {
            deserializer.deserialize_enum("Leaves", &["a"], Leaves)
        } else {
            deserializer.deserialize_any(Leaves)
        }
    }
}

thread_local! {
    static IS_ENUM: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn a_value_that_a_type_leaves_unread_is_an_error_as_in_text() {
    let text = r#"{"a":1}"#;
    let record: Record = text.parse().unwrap();
    for is_enum in [false, true] {
        IS_ENUM.set(is_enum);
        assert!(serde_json::from_str::<LeavesValue>(text).is_err());
        let error = record.deserialize::<LeavesValue>().map(drop).unwrap_err();
        assert!(error.to_string().contains("was not read"), "{error}");
    }
}

#[test]
fn a_value_that_goes_on_behind_an_error_is_no_record() {
    struct GoesOn;

    impl Serialize for GoesOn {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            assert!(map.serialize_entry("a", &u64::MAX).is_err());
            map.serialize_entry("b", &1)?;
            map.end()
        }
    }

    let error = Record::from_serialize(&GoesOn).unwrap_err();
    assert!(error.to_string().contains("went on"), "{error}");
}

/// Whole numbers beyond 2^53, where the digits of the canonical text are not those of the float.
#[test]
fn a_whole_number_is_read_as_an_f32_as_its_text_is() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..20_000 {
        let single = f32::from_bits(random.u32(0x5a00_0000..0x5f80_0000));
        let next = f32::from_bits(single.to_bits() + 1);
        // In the middle, and beside it.
        let middle = f64::midpoint(single.into(), next.into());
        let number = f64::from_bits(
            middle
                .to_bits()
                .wrapping_add(random.u64(..3))
                .wrapping_sub(1),
        );
        let record = Record::from_serialize(&BTreeMap::from([("n", number)])).unwrap();
        let text = record.to_json().unwrap();
        let theirs: BTreeMap<String, f32> = serde_json::from_str(&text).unwrap();
        assert_eq!(
            record.deserialize::<BTreeMap<String, f32>>().unwrap(),
            theirs,
            "{text}"
        );
    }
}
