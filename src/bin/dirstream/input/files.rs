//! Which files are read.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use agntcy_dir_stream::Cid;
use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};
use walkdir::{DirEntry, WalkDir};

/// What the names of files in a folder end with.
const ENDS: [&str; 3] = ["json", "jsonl", "ndjson"];

#[derive(Debug)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Self::Stdin => "-".into(),
            Self::File(path) => path.to_string_lossy().into(),
        }
    }
}

/// The files that these inputs stand for.
pub(crate) fn find(inputs: &[OsString]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if input == "-" {
            let is_there = sources.iter().any(|source| matches!(source, Source::Stdin));
            ensure!(!is_there, "standard input can be read once");
            sources.push(Source::Stdin);
            continue;
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => sources.extend(in_folder(path)?),
            Ok(_) => sources.push(Source::File(path.to_owned())),
            Err(error) => match input.to_str().filter(|text| text.contains(['*', '?', '['])) {
                Some(pattern) => sources.extend(that_match(pattern)?),
                None => return Err(error).with_context(|| path.display().to_string()),
            },
        }
    }
    Ok(sources)
}

fn in_folder(folder: &Path) -> anyhow::Result<Vec<Source>> {
    let is_hidden = |entry: &DirEntry| {
        entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
    };
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    let mut files = Vec::new();
    for entry in walk.into_iter().filter_entry(|entry| !is_hidden(entry)) {
        let entry = entry?;
        if entry.file_type().is_file() && is_of_records(entry.path()) {
            files.push(Source::File(entry.into_path()));
        }
    }
    ensure!(
        !files.is_empty(),
        "{}: there is no .json, .jsonl or .ndjson in this folder",
        folder.display()
    );
    Ok(files)
}

fn is_of_records(path: &Path) -> bool {
    let ends_with = |path: &Path, ends: &[&str]| {
        path.extension()
            .is_some_and(|end| ends.iter().any(|known| end.eq_ignore_ascii_case(known)))
    };
    match ends_with(path, &["gz", "zst"]) {
        true => ends_with(&path.with_extension(""), &ENDS),
        false => ends_with(path, &ENDS),
    }
}

fn that_match(pattern: &str) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in glob::glob(pattern).with_context(|| pattern.to_owned())? {
        let path = path?;
        match path.is_dir() {
            true => sources.extend(in_folder(&path)?),
            false => sources.push(Source::File(path)),
        }
    }
    if sources.is_empty() {
        bail!("{pattern}: no file matches");
    }
    Ok(sources)
}

/// The length of all together, in bytes; 0 if that is not known.
pub(crate) fn len(sources: &[Source]) -> u64 {
    let len = |source: &Source| match source {
        Source::Stdin => None,
        Source::File(path) => {
            let found = fs::metadata(path).ok()?;
            found.is_file().then(|| found.len())
        }
    };
    sources.iter().map(len).sum::<Option<u64>>().unwrap_or(0)
}

/// What tells these inputs from others: a checkpoint is of one of them.
pub(crate) fn identity(cids: &[Cid], sources: &[Source]) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for cid in cids {
        hash.update(cid.to_string());
        hash.update([0]);
    }
    for source in sources {
        hash.update(source.name().as_bytes());
        hash.update([0]);
        let Source::File(path) = source else {
            continue;
        };
        let found = fs::metadata(path).with_context(|| path.display().to_string())?;
        let modified = found
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        hash.update(found.len().to_be_bytes());
        hash.update(modified.as_nanos().to_be_bytes());
    }
    let hash = hash.finalize();
    let hash: String = hash
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let first = match sources.first() {
        Some(source) => source.name(),
        None => "CIDs".into(),
    };
    let name: String = first.chars().filter(|c| !c.is_control()).take(40).collect();
    Ok(format!(
        "{name}, {} inputs, {hash}",
        cids.len() + sources.len()
    ))
}
