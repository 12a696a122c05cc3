//! Records: what they are made of, what is refused, and that nothing panics.

use std::collections::BTreeMap;

use agntcy_dir_stream::Record;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::properties::cases;
use crate::support::records::{example_texts, nested};
use crate::support::results::invalid;

#[test]
fn real_records_survive_every_form() {
    for (name, text) in example_texts() {
        let value: Value = serde_json::from_str(&text).unwrap();
        let record = Record::from_json(&text).expect(&name);
        assert_eq!(Value::try_from(&record).expect(&name), value, "{name}");
        assert_eq!(
            serde_json::from_str::<Value>(&record.to_json().unwrap()).unwrap(),
            value,
            "{name}"
        );
        let message = Struct::try_from(&record).expect(&name);
        let forms = [
            ("Value", Record::try_from(&value)),
            ("Struct", Record::try_from(&message)),
            ("prost's bytes", Record::from_data(message.encode_to_vec())),
            ("own bytes", Record::from_wire(record.to_wire())),
            ("canonical", record.to_json().unwrap().parse()),
        ];
        for (form, again) in forms {
            let again = again.expect(&name);
            assert_eq!(
                again.cid().unwrap(),
                record.cid().unwrap(),
                "{name}: {form}"
            );
            assert_eq!(again.encoded_len(), record.encoded_len(), "{name}: {form}");
        }
        assert_eq!(record.name(), value["name"].as_str(), "{name}");
        assert_eq!(record.version(), value["version"].as_str(), "{name}");
        assert_eq!(
            record.schema_version(),
            value["schema_version"].as_str(),
            "{name}"
        );
        assert_eq!(record.to_wire().len(), record.encoded_len(), "{name}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything<'a> {
    text: &'a str,
    letter: char,
    yes: bool,
    small: i8,
    large: u64,
    wide: i128,
    float: f64,
    single: f32,
    nothing: Option<u8>,
    something: Option<u8>,
    unit: (),
    pair: (u8, &'a str),
    wrapped: Wrapped,
    list: Vec<Variant>,
    by_number: BTreeMap<u16, bool>,
    by_flag: BTreeMap<bool, i64>,
    nested: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Variant {
    Unit,
    Newtype(String),
    Tuple(u8, bool),
    Struct { a: u8, b: Option<String> },
}

fn everything() -> Everything<'static> {
    Everything {
        text: "a\"\u{2028}<ü>\n",
        letter: '€',
        yes: true,
        small: -128,
        large: 1 << 63,
        wide: -(1 << 100),
        float: -1.5e-9,
        single: 0.25,
        nothing: None,
        something: Some(7),
        unit: (),
        pair: (1, "b"),
        wrapped: Wrapped(4_000_000_000),
        list: vec![
            Variant::Unit,
            Variant::Newtype("x".repeat(1000)),
            Variant::Tuple(3, false),
            Variant::Struct { a: 1, b: None },
        ],
        by_number: [(1, true), (65_535, false)].into(),
        by_flag: [(true, -1), (false, 0)].into(),
        nested: [("a".into(), [("b".into(), vec![0.5, 1.0])].into())].into(),
        rest: [("extra".into(), json!({"k": [1, null, "v"]}))].into(),
    }
}

#[test]
fn any_type_comes_back_as_it_went_in() {
    let record = Record::from_serialize(&everything()).unwrap();
    assert_eq!(
        record.deserialize::<Everything<'_>>().unwrap(),
        everything()
    );
    // And it is what serde_json makes of it.
    let text = serde_json::to_string(&everything()).unwrap();
    let through_text = Record::from_json(text).unwrap();
    assert_eq!(record.cid().unwrap(), through_text.cid().unwrap());
}

#[test]
fn text_is_borrowed_from_the_record() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        text: &'a str,
    }
    let record = Record::from_serialize(&everything()).unwrap();
    let borrowed: Borrowed<'_> = record.deserialize().unwrap();
    let data = record.data().unwrap().as_ptr_range();
    assert!(data.contains(&borrowed.text.as_ptr()));
}

#[test]
fn json_text_within_a_value_is_read() {
    #[derive(Serialize)]
    struct Outer<'a> {
        #[serde(rename = "$serde_json::private::RawValue")]
        text: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename = "$serde_json::private::RawValue")]
    struct Raw<'a> {
        #[serde(rename = "$serde_json::private::RawValue")]
        text: &'a str,
    }
    let raw = |text| Record::from_serialize(&BTreeMap::from([("a", Raw { text })]));
    let record = raw(r#"{"b": [1, "c"]}"#).unwrap();
    assert_eq!(record.to_json().unwrap(), r#"{"a":{"b":[1,"c"]}}"#);
    assert_eq!(
        invalid(raw("[1,")),
        "invalid: $.a: EOF while parsing a value at line 1 column 3"
    );
    // A key of that name is a key like any other.
    let record = Record::from_serialize(&Outer { text: "1" }).unwrap();
    assert_eq!(
        record.to_json().unwrap(),
        r#"{"$serde_json::private::RawValue":"1"}"#
    );
}

#[test]
fn json_text_that_is_refused_says_where() {
    for (text, error) in [
        (
            "[1]",
            "a record is a JSON object, and this is not at line 1 column 1",
        ),
        (
            "\"a\"",
            "a record is a JSON object, and this is not at line 1 column 3",
        ),
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{} {}", "trailing characters at line 1 column 4"),
        (
            "{\n \"a\": 9007199254740993}",
            "9007199254740993 is not a 64-bit float, the nearest is 9007199254740992 at line 2 column 22",
        ),
        (
            "{\"a\":[\n18446744073709551617]}",
            "18446744073709551617 is not a 64-bit float, the nearest is 18446744073709551616 at line 2 column 20",
        ),
        (
            "{\"a\": -9223372036854775809}",
            "-9223372036854775809 is not a 64-bit float, the nearest is -9223372036854775808 at line 1 column 26",
        ),
        ("{\"a\": 1e999}", "number out of range at line 1 column 11"),
        ("{\"a\": NaN}", "expected value at line 1 column 7"),
    ] {
        assert_eq!(
            invalid(Record::from_json_strict(text)),
            format!("invalid: {error}"),
            "{text}"
        );
    }
    assert!(invalid(Record::from_json(b"{\"a\": \"\xff\"}")).contains("line 1 column"));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    assert!(invalid(Record::from_json(deep)).contains("nested deeper than 128 at line 1"));
}

#[test]
fn numbers_that_a_float_holds_are_taken_strictly_too() {
    for number in [
        "9007199254740992",
        "-9007199254740994",
        "18446744073709551616",
        "36893488147419103232",
        "1e21",
        "1e20",
        "0.1",
        "-0",
        "-0.0",
        "123456789012345678901234567890e0",
    ] {
        let text = format!("{{\"\\\"9007199254740993\": 1, \"a\": {number}}}");
        let record = Record::from_json_strict(&text).expect(number);
        assert_eq!(Record::from_json(&text).unwrap(), record);
        let value: f64 = number.parse().unwrap();
        assert_eq!(
            record.deserialize::<BTreeMap<String, f64>>().unwrap()["a"].to_bits(),
            value.to_bits(),
            "{number}"
        );
    }
}

#[test]
fn values_that_are_refused_say_where() {
    #[derive(Serialize)]
    struct Outer<T> {
        list: Vec<T>,
    }
    fn list<T: Serialize>(item: T) -> String {
        invalid(Record::from_serialize(&Outer { list: vec![item] }))
    }
    assert_eq!(
        list(f64::NAN),
        "invalid: $.list[0]: NaN is not a JSON number"
    );
    assert_eq!(
        list(BTreeMap::from([("k", f32::INFINITY)])),
        "invalid: $.list[0].k: inf is not a JSON number"
    );
    for (number, exact) in [
        (i64::MAX, false),
        (i64::MIN, true),
        ((1 << 53) + 1, false),
        // 2^60, and how it is printed, which is no float.
        (1 << 60, true),
        (1_152_921_504_606_847_000, false),
        (1_152_921_504_606_847_001, false),
        (1 << 53, true),
        (-(1 << 53) - 1, false),
        (-1, true),
        (0, true),
    ] {
        let result = Record::from_serialize(&Outer { list: vec![number] });
        assert_eq!(result.is_ok(), exact, "{number}");
    }
    assert!(list(u64::MAX).contains("$.list[0]: 18446744073709551615 is not a 64-bit float"));
    assert!(list(i128::MAX).contains("not a 64-bit float"));
    assert!(list(u128::MAX).contains("not a 64-bit float"));
    assert_eq!(
        list(BTreeMap::from([((1, 2), 3)])),
        "invalid: $.list[0]: a key is text, a number or a bool, and this is not"
    );
    assert_eq!(
        invalid(Record::from_serialize(&[1, 2])),
        "invalid: $: a record is a JSON object, and this is not"
    );
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    assert!(list(deep).ends_with("objects and arrays nested deeper than 128"));
    let mut message = Struct::default();
    let list = ListValue {
        values: vec![prost_types::Value { kind: None }],
    };
    let value = prost_types::Value {
        kind: Some(Kind::ListValue(list)),
    };
    message.fields.insert("a".into(), value);
    assert_eq!(
        invalid(Record::try_from(message)),
        "invalid: $.a[0]: a value of no kind"
    );
}

#[test]
fn a_type_that_does_not_fit_says_where() {
    #[derive(Debug, Deserialize)]
    struct Agent {
        #[allow(dead_code)]
        skills: Vec<BTreeMap<String, u8>>,
    }
    let record: Record = r#"{"skills": [{"a": 1}, {"a": 1, "b": 256}]}"#.parse().unwrap();
    assert_eq!(
        invalid(record.deserialize::<Agent>()),
        "invalid: $.skills[1].b: invalid value: integer `256`, expected u8"
    );
    let record: Record = r#"{"skills": 1.5}"#.parse().unwrap();
    assert_eq!(
        invalid(record.deserialize::<Agent>()),
        "invalid: $.skills: invalid type: floating point `1.5`, expected a sequence"
    );
    let record: Record = "{}".parse().unwrap();
    assert_eq!(
        invalid(record.deserialize::<Agent>()),
        "invalid: $: missing field `skills`"
    );
    assert_eq!(
        invalid(Record::default().deserialize::<Agent>()),
        "invalid: the record has no data"
    );
}

#[test]
fn wire_bytes_that_are_refused_say_where() {
    for (data, error) in [
        (&b"\x0a\x09"[..], "a length that passes the end at byte 1"),
        (b"\x0a\x05\x0a\x01a\x12\x00", "a value of no kind at byte 7"),
        (
            b"\x0a\x05\x0a\x01\xff\x12\x00",
            "text that is not UTF-8 at byte 4",
        ),
        (
            b"\x0a\x0e\x0a\x01a\x12\x09\x11\0\0\0\0\0\0\xf8\x7f",
            "a number that is not finite at byte 7",
        ),
        (b"\x0a", "a varint that does not end at byte 1"),
        (b"\x0f", "an unknown wire type at byte 0"),
        (b"\x00", "a field number out of range at byte 0"),
        (b"\x0c", "an end of a group that did not start at byte 0"),
        (b"\x13\x0c", "an end of another group at byte 1"),
    ] {
        assert_eq!(
            invalid(Record::from_data(data)),
            format!("invalid: {error} of the data"),
            "{data:?}"
        );
    }
    assert!(invalid(Record::from_wire(&b"\x0a\x09"[..])).starts_with("invalid: these bytes"));
    // An unknown field, even a group of unknown fields, is no fault.
    let record = Record::from_data(&b"\x10\x01\x1b\x08\x01\x1c"[..]).unwrap();
    assert_eq!(record.to_json().unwrap(), "{}");
    // Nor is a record without data, which has no CID.
    let record = Record::from_wire(&b""[..]).unwrap();
    assert!(record.data().is_none());
    assert_eq!(invalid(record.cid()), "invalid: the record has no data");
}

#[test]
fn what_comes_twice_merges_as_protobuf_says() {
    let first: Record = r#"{"a": {"x": 1}, "b": 1}"#.parse().unwrap();
    let second: Record = r#"{"a": {"y": 2}}"#.parse().unwrap();
    let mut wire = first.to_wire().to_vec();
    wire.extend_from_slice(&second.to_wire());
    let record = Record::from_wire(wire).unwrap();
    assert_eq!(record.to_json().unwrap(), r#"{"a":{"y":2},"b":1}"#);
    let record: Record = r#"{"a": 1, "a": 2}"#.parse().unwrap();
    assert_eq!(record.to_json().unwrap(), r#"{"a":2}"#);
}

/// A server refuses a message of which one part ends within a field, though the next begins with the rest.
#[test]
fn each_part_of_a_record_is_a_message_by_itself() {
    let record: Record = r#"{"a": {"x": 1}, "b": [1, "c"]}"#.parse().unwrap();
    let data = record.data().unwrap();
    let first_entry = 2 + usize::from(data[1]);
    let message = |parts: &[&[u8]]| {
        let part = |part: &&[u8]| [&[0x0a, u8::try_from(part.len()).unwrap()], *part].concat();
        parts.iter().flat_map(part).collect::<Vec<u8>>()
    };
    for at in 0..=data.len() {
        let (one, other) = data.split_at(at);
        for parts in [
            vec![one, other],
            vec![&[], one, other],
            vec![one, &[], other, &[]],
        ] {
            let checked = Record::from_wire(message(&parts));
            let unchecked = Record::decode(message(&parts).as_slice()).unwrap();
            if [0, first_entry, data.len()].contains(&at) {
                assert_eq!(
                    checked.unwrap().cid().unwrap(),
                    record.cid().unwrap(),
                    "at {at}"
                );
                assert_eq!(unchecked, record, "at {at}");
            } else {
                assert!(invalid(checked).ends_with("of the data"), "at {at}");
                invalid(unchecked.cid());
            }
        }
    }
}

#[test]
fn a_message_of_a_million_parts_is_read_in_time() {
    // An unknown field in each, so that there is nothing but the parts. To copy what came before
    // for each of them would be a terabyte.
    let wire = b"\x0a\x02\x10\x01".repeat(1 << 20);
    assert_eq!(wire.len(), 4 << 20);
    let record = Record::from_wire(wire).unwrap();
    assert_eq!(record.data().unwrap().len(), 2 << 20);
    assert_eq!(record.to_json().unwrap(), "{}");
}

/// Everything that reads, on whatever bytes.
fn read(record: &Record) {
    let json = record.to_json();
    assert_eq!(record.cid().is_ok(), json.is_ok());
    let _ = (record.name(), record.version(), record.schema_version());
    let _ = format!("{record:?}");
    let value = Value::try_from(record);
    if let (Ok(json), Ok(value)) = (json, value) {
        assert_eq!(Record::from_json(json).unwrap().cid().unwrap(), {
            Record::try_from(&value).unwrap().cid().unwrap()
        });
    }
    let _ = Struct::try_from(record);
}

#[test]
fn deep_nesting_needs_no_stack() {
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| {
            // A list is two messages with the Value it is in; Record and Struct are two more.
            // Go's protobuf draws the line at the same list.
            for (lists, fits) in [(100, true), (4_999, true), (5_000, false), (100_000, false)] {
                let record = Record::from_wire(nested(lists));
                assert_eq!(record.is_ok(), fits, "{lists}");
                if let Err(error) = record {
                    assert!(error.to_string().contains("deeper than 10000"), "{error}");
                }
            }
        })
        .unwrap()
        .join()
        .unwrap();
    // Reading as a type recurses, so it stops early; what is not read does not.
    let record = Record::from_wire(nested(4_999)).unwrap();
    #[derive(Deserialize)]
    struct Nothing {}
    let _: Nothing = record.deserialize().unwrap();
    assert!(invalid(Value::try_from(&record)).contains("nested deeper than 128"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1i64 << 53)..=1 << 53).prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| {
            serde_json::Number::from_f64(number).map(Value::Number)
        }),
        any::<String>().prop_map(Value::from),
        "[\u{2020}-\u{2030}<>&\\x00-\\x20\"\\\\]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(any::<String>(), value, 0..8)
        .prop_map(|entries| Value::Object(entries.into_iter().collect()))
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn every_json_object_survives_every_form(value in object(any_json())) {
        let record = Record::try_from(&value).unwrap();
        let again: Record = record.to_json().unwrap().parse().unwrap();
        prop_assert_eq!(again.cid().unwrap(), record.cid().unwrap());
        prop_assert_eq!(&again.to_json().unwrap(), &record.to_json().unwrap());
        let message = Struct::decode(record.data().unwrap().clone()).unwrap();
        prop_assert_eq!(Record::try_from(message).unwrap().cid().unwrap(), record.cid().unwrap());
        let same: Value = record.deserialize().unwrap();
        prop_assert_eq!(Record::try_from(&same).unwrap(), record);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(record) = Record::decode(bytes.as_slice()) {
            read(&record);
        }
        let mut wire = Vec::new();
        prost::encoding::bytes::encode(1, &bytes, &mut wire);
        read(&Record::decode(wire.as_slice()).unwrap());
        let _ = Record::from_data(bytes.clone());
        let _ = Record::from_json(&bytes);
    }

    #[test]
    fn no_damage_panics(
        value in object(any_json()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut data = Record::try_from(&value).unwrap().data().unwrap().to_vec();
        prop_assume!(!data.is_empty());
        for (place, byte) in damage {
            let place = place.index(data.len());
            data[place] = byte;
        }
        let mut wire = Vec::new();
        prost::encoding::bytes::encode(1, &data, &mut wire);
        let record = Record::decode(wire.as_slice()).unwrap();
        read(&record);
        // Where prost reads it, so do we, except for what JSON has not.
        if let Ok(message) = Struct::decode(data.as_slice())
            && Record::try_from(&message).is_ok()
        {
            prop_assert!(record.cid().is_ok(), "{:?}", record.cid());
            prop_assert_eq!(
                Record::try_from(&message).unwrap().cid().unwrap(),
                record.cid().unwrap()
            );
        }
    }
}
