//! Canonical JSON and CID of the real records, against going through a tree.
//!
//! ```text
//! cargo bench --bench cid
//! ```
//!
//! The trees are written by `serde_json`, which sorts the keys but knows nothing of Go's escapes
//! and number forms: what they make is not canonical, and the full work would cost them more.
//! Throughput counts the records' wire bytes. `cid_text` is of one CID.

#![allow(missing_docs)]

mod records;

use std::hint::black_box;

use agntcy_dir_stream::{Cid, Record};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn read_all() -> Vec<Record> {
    let read = |text| Record::from_json(text).expect("the examples are records");
    records::texts().into_iter().map(read).collect()
}

fn object(message: Struct) -> Value {
    let entries = message.fields.into_iter();
    Value::Object(entries.map(|(key, value)| (key, tree(value))).collect())
}

fn tree(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StructValue(message)) => object(message),
        Some(Kind::ListValue(ListValue { values })) => values.into_iter().map(tree).collect(),
    }
}

fn cids(c: &mut Criterion) {
    let records = read_all();
    let bytes: usize = records.iter().map(Record::encoded_len).sum();
    let mut group = c.benchmark_group("cid");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("record", |b| {
        b.iter(|| {
            for record in &records {
                black_box(record.cid().expect("the examples are records"));
            }
        });
    });
    group.bench_function("canonical_json", |b| {
        b.iter(|| {
            for record in &records {
                black_box(record.to_json().expect("the examples are records"));
            }
        });
    });
    group.bench_function("through_struct", |b| {
        b.iter(|| {
            for record in &records {
                let data = record.data().expect("the examples are records").clone();
                let message = Struct::decode(data).expect("a record is a Struct");
                let json = serde_json::to_vec(&object(message)).expect("a tree is JSON");
                black_box(Sha256::digest(json));
            }
        });
    });
    group.bench_function("through_value", |b| {
        b.iter(|| {
            for record in &records {
                let value: Value = record.deserialize().expect("a record is an object");
                let json = serde_json::to_vec(&value).expect("a tree is JSON");
                black_box(Sha256::digest(json));
            }
        });
    });
    group.finish();

    let cid = records[0].cid().expect("the examples are records");
    let text = cid.to_string();
    let mut group = c.benchmark_group("cid_text");
    group.bench_function("parse", |b| {
        b.iter(|| black_box(text.as_str()).parse::<Cid>().expect("it is one"));
    });
    group.bench_function("to_string", |b| b.iter(|| black_box(&cid).to_string()));
    group.finish();
}

criterion_group!(benches, cids);
criterion_main!(benches);
