//! Records for the tests, and their CIDs. Most have a number, and each number gives another record.

use std::collections::HashMap;
use std::sync::LazyLock;

use agntcy_dir_stream::{Cid, Record};
use futures::{Stream, stream};

/// The valid record of this number.
pub(crate) fn record(number: usize) -> Record {
    serde_json::json!({
        "name": format!("agent-{number}"),
        "version": "1.0.0",
        "schema_version": "1.0.0",
        "number": number,
    })
    .try_into()
    .expect("a JSON object of names and small numbers is a record")
}

/// The records of the first numbers.
pub(crate) fn records(count: usize) -> impl Stream<Item = Record> + Unpin + Send {
    stream::iter((0..count).map(record))
}

/// The CIDs of the records of the first numbers.
pub(crate) fn cids(count: usize) -> impl Stream<Item = Cid> + Unpin + Send {
    stream::iter((0..count).map(|number| cid(&record(number))))
}

pub(crate) fn cid(record: &Record) -> Cid {
    record.cid().expect("test records have CIDs")
}

/// The number that a record was made with.
pub(crate) fn number_of(record: &Record) -> usize {
    let name = record.name().expect("a record with a number has a name");
    let number = name
        .strip_prefix("agent-")
        .expect("its name has the number");
    number.parse().expect("it is a number")
}

/// The number below 200 whose record has this CID.
pub(crate) fn number_with_cid(text: &str) -> usize {
    static NUMBERS: LazyLock<HashMap<String, usize>> = LazyLock::new(|| {
        let number = |number| (cid(&record(number)).to_string(), number);
        (0..200).map(number).collect()
    });
    NUMBERS[text]
}

/// A record that the embedded store refuses: it has no name.
#[cfg(feature = "server")]
pub(crate) fn nameless(number: usize) -> Record {
    from_json(serde_json::json!({"schema_version": "1.0.0", "number": number}))
}

#[cfg(feature = "server")]
pub(crate) fn from_json(value: serde_json::Value) -> Record {
    value.try_into().expect("the JSON of a record")
}

/// A record of this many bytes on the wire.
pub(crate) fn sized(len: usize) -> Record {
    let text = |fill: usize| -> Record {
        let fill = "x".repeat(fill);
        let text = format!(r#"{{"name":"long","schema_version":"1.0.0","fill":"{fill}"}}"#);
        text.parse().expect("JSON")
    };
    let around = text(len).encoded_len() - len;
    let record = text(len - around);
    assert_eq!(record.encoded_len(), len);
    record
}

/// The real records that the examples use: file name and text.
pub(crate) fn example_texts() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/records");
    let mut records: Vec<_> = std::fs::read_dir(folder)
        .expect(folder)
        .map(|entry| entry.expect(folder).path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).expect(&name);
            (name, text)
        })
        .collect();
    records.sort();
    assert!(records.len() >= 10, "the examples are there");
    records
}

/// The real records that the examples use.
pub(crate) fn example_records() -> Vec<Record> {
    let parse = |(name, text): (String, String)| text.parse().expect(&name);
    example_texts().into_iter().map(parse).collect()
}

/// The bytes of a record with `lists` lists in each other, at the key `a`.
pub(crate) fn nested(lists: usize) -> Vec<u8> {
    // It is written backwards, from the inside out: then the length of each part is known when it is wrapped.
    let mut reversed = Vec::new();
    let wrap = |reversed: &mut Vec<u8>, tag: u8| {
        let mut head = vec![tag];
        prost::encoding::encode_varint(reversed.len() as u64, &mut head);
        reversed.extend(head.into_iter().rev());
    };
    for list in 0..lists {
        if list > 0 {
            wrap(&mut reversed, 0x0a);
        }
        wrap(&mut reversed, 0x32);
    }
    wrap(&mut reversed, 0x12);
    reversed.extend_from_slice(b"a\x01\x0a");
    for tag in [0x0a, 0x0a] {
        wrap(&mut reversed, tag);
    }
    reversed.reverse();
    reversed
}
