//! A record from any bytes: whatever is taken has one CID by all ways, and nothing panics or takes more memory than is
//! promised, also where a server sends it unchecked.
#![no_main]

use agntcy_dir_stream::{Cid, ErrorKind, Record};
use agntcy_dir_stream_fuzz::memory::{bounded, of_reading};
use agntcy_dir_stream_fuzz::text;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::BTreeMap;

/// What types can read, in objects and arrays.
const DEEPEST: usize = 128;

fuzz_target!(|data: &[u8]| {
    let most = of_reading(data.len());
    let wire = bytes::Bytes::copy_from_slice(data);
    let unchecked = Record::decode(wire.clone());
    let checked = bounded("from_wire", most, || Record::from_wire(wire.clone()));
    match (unchecked, checked) {
        (Err(_), Err(error)) => is_invalid(&error),
        (Ok(record), Err(error)) => {
            is_invalid(&error);
            is_malformed(&record, most);
        }
        (Ok(unchecked), Ok(record)) => {
            assert_eq!(unchecked, record);
            match record.data() {
                Some(_) => is_one_record(&record, most),
                None => is_malformed(&record, most),
            }
        }
        (Err(error), Ok(_)) => panic!("checked, but {error}"),
    }
});

fn is_invalid(error: &agntcy_dir_stream::Error) {
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().len() < 4096, "a long error");
}

/// It came from a server, and has no CID.
fn is_malformed(record: &Record, most: usize) {
    is_invalid(&bounded("cid", most, || record.cid()).expect_err("it has no CID"));
    is_invalid(&bounded("to_json", most, || record.to_json()).expect_err("it has no JSON"));
    assert!(record.to_string().starts_with('<'));
    assert!(Value::try_from(record).is_err());
    assert!(prost_types::Struct::try_from(record).is_err());
    assert!(serde_json::to_string(record).is_err());
    // What these do not read, they do not look at.
    bounded("the names", most, || {
        let _ = (
            record.name(),
            record.version(),
            record.schema_version(),
            record.check_required(),
        );
    });
    let _ = record.deserialize::<BTreeMap<String, IgnoredAny>>();
    let _ = format!("{record:?}");
    assert_eq!(
        Record::decode(record.to_wire()).expect("it was a message"),
        *record
    );
}

fn is_one_record(record: &Record, most: usize) {
    let len = record.encoded_len();
    let cid = bounded("cid", most, || record.cid()).expect("what is taken has a CID");
    let is_same = |way: &str, other: Record| {
        assert_eq!(other.cid().expect(way), cid, "{way}");
    };
    record.verify(&cid).expect("it is its own");
    let other: Cid = "baeareihgnknlh2yitwkgyj4oyqrkb3byf5hctiuysrz7qwnr7r2pgfwzzy"
        .parse()
        .expect("a CID");
    assert_eq!(record.verify(&other).is_ok(), other == cid);
    assert_eq!(record.to_wire().len(), len);
    assert_eq!(Record::from_wire(record.to_wire()).expect("wire"), *record);
    is_same(
        "data",
        Record::from_data(record.data().expect("it has some").clone()).expect("data"),
    );

    // An escape takes six bytes for one, a number 24 for 8; and it grows.
    let json =
        bounded("to_json", most + 18 * len, || record.to_json()).expect("what has a CID has JSON");
    assert_eq!(record.to_string(), json);
    let _ = format!("{record:?}");
    if text::depth(json.as_bytes()) > DEEPEST {
        assert!(Record::from_json(&json).is_err() && Value::try_from(record).is_err());
        assert!(
            prost_types::Struct::try_from(record).is_err()
                && serde_json::to_string(record).is_err()
        );
        return;
    }
    let again = Record::from_json(&json).expect("JSON");
    assert_eq!(again.to_json().expect("JSON"), json);
    is_same("JSON", again);
    // A node of a map has room for eleven entries, and ten bytes of wire make one.
    let value =
        bounded("to a value", most + 100 * len, || Value::try_from(record)).expect("a value");
    is_same("a value", Record::try_from(&value).expect("of a value"));
    is_same(
        "a value, strictly",
        Record::from_serialize(&value).expect("of a value"),
    );
    let message = prost_types::Struct::try_from(record).expect("a Struct");
    is_same("a Struct", Record::try_from(&message).expect("of a Struct"));
    is_same(
        "itself as a part",
        Record::from_serialize(record).expect("of itself"),
    );
    let as_part = serde_json::to_value(record).expect("it serializes");
    assert_eq!(as_part, value);
    is_same(
        "a part of a value",
        serde_json::from_value(as_part).expect("it deserializes"),
    );
    is_same(
        "read as a record",
        record.deserialize().expect("it deserializes"),
    );

    let text_at = |key: &str| value.get(key).and_then(Value::as_str);
    let names = bounded("the names", most, || {
        (record.name(), record.version(), record.schema_version())
    });
    assert_eq!(
        names,
        (
            text_at("name"),
            text_at("version"),
            text_at("schema_version")
        )
    );
    let has = |key| text_at(key).is_some_and(|text| !text.is_empty());
    assert_eq!(
        record.check_required().is_ok(),
        has("name") && has("schema_version")
    );
    let keys: BTreeMap<String, IgnoredAny> = record.deserialize().expect("it is an object");
    assert!(
        keys.keys()
            .eq(value.as_object().expect("it is an object").keys())
    );
}
