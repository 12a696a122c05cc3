//! Records as lines.

use agntcy_dir_stream::{Cid, Record};

pub(crate) fn good(number: usize) -> String {
    format!(r#"{{"name": "agent-{number}", "version": "1", "schema_version": "1.0.0"}}"#)
}

/// A line that no directory stores: no JSON, a record of no schema, or one without a name.
pub(crate) fn bad(number: usize) -> String {
    match number % 3 {
        0 => format!("agent {number}"),
        1 => format!(r#"{{"name": "agent-{number}", "version": "1"}}"#),
        _ => format!(r#"{{"version": "{number}", "schema_version": "1.0.0"}}"#),
    }
}

pub(crate) fn cid(line: &str) -> Cid {
    let record: Record = line.parse().expect("a record");
    record.cid().expect("its CID")
}
