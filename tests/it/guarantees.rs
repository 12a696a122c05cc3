//! The page of guarantees is about tests that there are, and about each promise of the README.

use std::fs;
use std::path::{Path, PathBuf};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The words, whatever lines they stand in.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands under a heading, up to the next.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, after) = text.split_once(heading).expect("the heading");
    after.split("\n## ").next().unwrap_or(after)
}

/// The items of a list, each in one line.
fn items(list: &str) -> Vec<String> {
    let list = list.trim_start().split("\n\n").next().unwrap_or_default();
    let items = list.split("\n- ").map(|item| item.trim_start_matches("- "));
    items.map(words).collect()
}

/// A row of a table: the test's name, where it stands, its kind and its cases.
struct Row<'a> {
    name: &'a str,
    path: &'a str,
    kind: &'a str,
    cases: &'a str,
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let lines = page.lines().filter(|line| line.starts_with("| [`"));
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [link, kind, cases] = cells[..] else {
            panic!("this row has no three cells: {line}")
        };
        let link = link
            .strip_prefix("[`")
            .and_then(|link| link.strip_suffix(')'));
        let (name, path) = link
            .and_then(|link| link.split_once("`]("))
            .unwrap_or_else(|| panic!("no link: {line}"));
        Row {
            name,
            path,
            kind,
            cases,
        }
    });
    rows.collect()
}

/// Whether the script has this target with so many runs.
fn is_fuzzed(script: &str, name: &str, runs: &str) -> bool {
    let runs = runs.replace(',', "");
    let mut lines = script.lines().map(|line| line.trim().trim_matches('"'));
    lines.any(|line| {
        line.split(' ').next() == Some(name) && line.split(' ').next_back() == Some(&runs)
    })
}

#[test]
fn each_promise_of_the_readme_is_on_the_page() {
    let readme = read(file("README.md"));
    let page = read(file("tests/GUARANTEES.md"));
    let promised = items(section(&readme, "## What is promised\n"));
    assert!(promised.len() >= 6, "{promised:?}");
    let quotes = page.split("\n\n").filter(|part| part.starts_with("> "));
    let quoted: Vec<_> = quotes
        .map(|quote| words(&quote.replace("\n> ", " ").replacen("> ", "", 1)))
        .collect();
    assert_eq!(quoted, promised);
    for section in page
        .split("\n## ")
        .filter(|section| section.contains("\n> "))
    {
        let title = section.lines().next().unwrap_or_default();
        assert!(!rows(section).is_empty(), "no test holds {title}");
    }
}

#[test]
fn each_test_of_the_page_is_there() {
    let page = read(file("tests/GUARANTEES.md"));
    let rows = rows(&page);
    assert!(rows.len() > 50, "{} rows", rows.len());
    for Row {
        name,
        path,
        kind,
        cases,
    } in rows
    {
        let source = file("tests").join(path);
        if kind == "fuzz" {
            // The package has no fuzz targets.
            if file("fuzz").exists() {
                assert!(source.exists(), "there is no {path}");
                let is_run = is_fuzzed(&read(file("fuzz/run")), name, cases);
                assert!(is_run, "{name} is not run {cases} times");
            }
            continue;
        }
        let text = read(&source);
        let Some((before, body)) = text.split_once(&format!("fn {name}(")) else {
            panic!("there is no {name} in {path}")
        };
        let attribute = before.rsplit("\n\n").next().unwrap_or_default();
        assert!(
            attribute.contains("#[test]") || attribute.contains("#[tokio::test"),
            "{name} in {path} is no test"
        );
        let number = cases.replace(',', "_");
        let is_so = match kind {
            "property" => before
                .rsplit_once("cases(")
                .is_some_and(|(_, behind)| behind.starts_with(&format!("{number})"))),
            "seed" => body
                .split_once("\n}")
                .is_some_and(|(body, _)| body.contains(&format!(", {number}, run)"))),
            _ => true,
        };
        assert!(is_so, "{name} in {path} has other than {cases} cases");
    }
}
