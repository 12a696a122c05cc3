//! What a value stands for.

use std::collections::BTreeMap;

use agntcy_dir_stream::{Cid, Record, Referrer};
use serde::Deserialize;

pub(crate) fn record(text: &[u8]) -> Result<Record, String> {
    // Each value is a text of its own, so the line that the error knows is always 1.
    let cut = |error: String| error.replace(" at line 1 column ", " at column ");
    Record::from_json(text).map_err(|error| cut(error.to_string()))
}

/// A CID, as text of its own or in JSON, or an object with one: such as the lines that this tool prints.
pub(crate) fn cid(text: &[u8]) -> Result<Cid, String> {
    #[derive(Deserialize)]
    struct Line {
        cid: Option<String>,
    }
    let text = str::from_utf8(text)
        .map_err(|error| error.to_string())?
        .trim();
    let text = match text.as_bytes().first() {
        Some(b'{') => {
            let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
            line.cid.ok_or("the object has no `cid`")?
        }
        Some(b'"') => serde_json::from_str(text).map_err(|error| error.to_string())?,
        _ => text.to_owned(),
    };
    text.parse()
        .map_err(|error: agntcy_dir_stream::Error| error.to_string())
}

/// An object with `type`, `data`, and what else a referrer has; its `cid` is the record's, and may be left out where that
/// is known.
pub(crate) fn referrer(text: &[u8], record: Option<Cid>) -> Result<Referrer, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Text {
        cid: Option<String>,
        r#type: String,
        data: Option<Record>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
        #[serde(default)]
        created_at: String,
    }
    let text: Text = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let given = text.cid.map(|cid| cid.parse::<Cid>()).transpose();
    let given = given.map_err(|error| error.to_string())?;
    let record = match (given, record) {
        (Some(given), Some(record)) if given != record => {
            return Err(format!("it is of {given}, and {record} is meant"));
        }
        (given, record) => given
            .or(record)
            .ok_or("there is no `cid`: of which record is it?")?,
    };
    let data = match text.data {
        Some(data) => data,
        None => Record::from_wire("").map_err(|error| error.to_string())?,
    };
    let mut referrer = Referrer::new(record, text.r#type, data);
    referrer.annotations = text.annotations;
    referrer.created_at = text.created_at;
    Ok(referrer)
}
