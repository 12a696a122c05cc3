//! Which parts of the library may use which: the lines that begin with `use` tell.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The paths that each file under `folder` imports, by the file's path within `src`.
fn imports(folder: &str) -> BTreeMap<String, Vec<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut folders = vec![src.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the library") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&src).expect("it is in src");
            let text = fs::read_to_string(&path).expect("a source file");
            // Tests may use what they like.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
            let name = name.display().to_string().replace('\\', "/");
            files.insert(name, statements(text));
        }
    }
    assert!(!files.is_empty(), "{folder} has no files");
    files
}

/// The `use` statements of a file, each in one line and as a path from the crate's root if it begins there.
fn statements(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(at) = line.find("use ").filter(|at| {
            let before = line[..*at].trim();
            before.is_empty() || before.starts_with("pub")
        }) else {
            continue;
        };
        let mut statement = line[at + 4..].trim().to_owned();
        while !statement.ends_with(';') {
            statement += lines.next().expect("a statement ends").trim();
        }
        found.push(statement);
    }
    found
}

#[track_caller]
fn forbid(folder: &str, is_forbidden: impl Fn(&str) -> bool, rule: &str) {
    for (file, statements) in imports(folder) {
        for statement in statements {
            assert!(
                !is_forbidden(&statement),
                "{file} uses {statement} but {rule}"
            );
        }
    }
}

#[test]
fn the_window_knows_neither_calls_nor_nodes_nor_the_driver() {
    let others = ["calls", "nodes", "driver"];
    forbid(
        "engine/window",
        |statement| {
            others.iter().any(|other| {
                statement.contains(&format!("engine::{other}"))
                    || statement.contains(&format!("super::super::{other}"))
                    || statement.starts_with(&format!("super::{other}"))
            }) || statement.starts_with("crate::client")
        },
        "the window has no I/O",
    );
}

#[test]
fn calls_know_only_the_flight_of_the_window() {
    forbid(
        "engine/calls",
        |statement| {
            statement.contains("engine::driver")
                || statement.contains("engine::window")
                    && !statement.starts_with("crate::engine::window::flight::")
        },
        "a call knows what it carries, and nothing else of the window",
    );
}

#[test]
fn nodes_know_neither_calls_nor_the_window() {
    let others = ["engine::calls", "engine::driver", "engine::window"];
    forbid(
        "engine/nodes",
        |statement| others.iter().any(|other| statement.contains(other)),
        "where a call may go does not depend on what it carries",
    );
}

#[test]
fn errors_know_no_client() {
    for folder in ["client", "engine", "server"] {
        let name = format!("crate::{folder}");
        let statements = statements(include_str!("../../src/error.rs"));
        assert!(
            !statements
                .iter()
                .any(|statement| statement.starts_with(&name))
        );
    }
}

#[test]
fn the_client_knows_of_the_engine_what_adapters_know_of_a_node() {
    forbid(
        "client",
        |statement| {
            statement.contains("crate::engine") && statement != "crate::engine::Methods;"
                || ["push", "pull", "lookup", "delete"]
                    .iter()
                    .any(|name| statement.starts_with(&format!("crate::{name}::")))
        },
        "each operation brings its own method of the client",
    );
}

#[test]
fn the_engine_knows_no_operation() {
    let operations = ["push", "pull", "lookup", "delete"];
    forbid(
        "engine",
        |statement| {
            let path = statement.strip_prefix("crate::");
            path.is_some_and(|path| operations.iter().any(|name| path.starts_with(name)))
        },
        "it serves whatever is an `Operation`",
    );
}

#[test]
fn records_and_cids_know_nothing_of_the_rest() {
    let rest = ["engine", "client", "server", "options", "retry", "stats"];
    for folder in ["record", "cid"] {
        forbid(
            folder,
            |statement| {
                let path = statement.strip_prefix("crate::");
                path.is_some_and(|path| rest.iter().any(|name| path.starts_with(name)))
            },
            "a record is bytes",
        );
    }
}
