//! What all clients push, pull and look up: the same real records, varied.

use agntcy_dir_stream::{Cid, Record};
use anyhow::Context as _;
use bytes::Bytes;
use serde_json::Value;

/// Distinct records; a run goes round them. No window is as large, so none has a record twice.
pub const DISTINCT: usize = 2_000;

/// The JSON texts of the distinct records.
pub fn texts() -> anyhow::Result<Vec<String>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/records");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).context(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in &paths {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        files.push(serde_json::from_slice::<Value>(&text)?);
    }
    // The examples are short beside most records of a directory. Three more of the longest for
    // each two rounds bring the mean to about 2.5 KB.
    let longest = files.iter().max_by_key(|file| file.to_string().len());
    let longest = longest.context("no examples")?.clone();
    files.extend(files.clone());
    files.extend(std::iter::repeat_n(longest, 3));
    let vary = |number: usize| {
        let mut value = files[number % files.len()].clone();
        value["version"] = format!("1.0.{number}").into();
        value.to_string()
    };
    Ok((0..DISTINCT).map(vary).collect())
}

/// The distinct records.
pub fn records() -> anyhow::Result<Vec<Record>> {
    let records = texts()?.into_iter().map(Record::from_json);
    Ok(records.collect::<Result<_, _>>()?)
}

/// Their CIDs.
pub fn cids(records: &[Record]) -> anyhow::Result<Vec<Cid>> {
    Ok(records.iter().map(Record::cid).collect::<Result<_, _>>()?)
}

/// The bytes of a record's `data`, in a buffer of their own: no two records of a run share one.
pub fn data(record: &Record) -> Bytes {
    Bytes::copy_from_slice(record.data().map_or(&[], |data| data))
}

/// Another copy of a record, in a buffer of its own.
pub fn copy(record: &Record) -> anyhow::Result<Record> {
    Ok(Record::from_data(data(record))?)
}

/// So many items, going round `items`, each made by `make`.
pub fn round<T, C>(
    items: &[T],
    count: usize,
    make: impl Fn(&T) -> anyhow::Result<C>,
) -> anyhow::Result<Vec<C>> {
    items.iter().cycle().take(count).map(make).collect()
}

/// The mean size of records in bytes, as they are on the wire.
pub fn mean_size(records: &[Record]) -> f64 {
    let sum: usize = records.iter().map(Record::encoded_len).sum();
    sum as f64 / records.len() as f64
}
