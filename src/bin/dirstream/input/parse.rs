//! What a value stands for.

use std::collections::BTreeMap;

use agntcy_dir_stream::{Cid, Record, Referrer};
use serde::Deserialize;

pub(crate) fn record(text: &[u8]) -> Result<Record, String> {
    Record::from_json(text).map_err(|error| error.to_string())
}

pub(crate) fn strict_record(text: &[u8]) -> Result<Record, String> {
    Record::from_json_strict(text).map_err(|error| error.to_string())
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

/// A message about a value that begins in this line of its file: the place that it names is one in the file.
pub(crate) fn placed(message: &str, begins: u64) -> String {
    let Some((words, place)) = message.rsplit_once(" at line ") else {
        return message.to_owned();
    };
    // Where it ends is no news, if it is not an object.
    if words.ends_with("a record is a JSON object, and this is not") {
        return words.to_owned();
    }
    let place = place.split_once(" column ");
    match place.and_then(|(line, column)| Some((line.parse::<u64>().ok()?, column))) {
        Some((1, column)) => format!("{words} at column {column}"),
        Some((line, column)) => format!("{words} at line {} column {column}", begins + line - 1),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_in_the_file() {
        for (message, begins, placed_message) in [
            ("invalid: x at line 1 column 7", 9, "invalid: x at column 7"),
            (
                "invalid: x at line 3 column 7",
                9,
                "invalid: x at line 11 column 7",
            ),
            ("x at line one", 9, "x at line one"),
            ("x", 9, "x"),
            (
                "invalid: a record is a JSON object, and this is not at line 1 column 2",
                9,
                "invalid: a record is a JSON object, and this is not",
            ),
        ] {
            assert_eq!(placed(message, begins), placed_message);
        }
    }
}
