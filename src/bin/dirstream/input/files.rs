//! Which files are read.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use agntcy_dir_stream::Cid;
use anyhow::{Context as _, bail, ensure};
use same_file::Handle;
use sha2::{Digest as _, Sha256};
use walkdir::{DirEntry, WalkDir};

/// What the names of files in a folder end with.
const ENDS: [&str; 3] = ["json", "jsonl", "ndjson"];

#[derive(Debug)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    /// What is in a folder, and cannot be looked at.
    Unreadable(PathBuf, String),
    /// A CID of the command line.
    Cid(String),
}

impl Source {
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Self::Stdin => "-".into(),
            Self::File(path) | Self::Unreadable(path, _) => path.to_string_lossy().into(),
            Self::Cid(cid) => cid.as_str().into(),
        }
    }
}

/// The files that these inputs stand for, without what is written.
pub(crate) fn find(
    inputs: &[OsString],
    outputs: &[&PathBuf],
    may_be_cids: bool,
) -> anyhow::Result<Vec<Source>> {
    are_apart(outputs)?;
    let mut written: Vec<Handle> = outputs.iter().filter_map(|path| file_at(path)).collect();
    written.extend(Handle::stdout().ok().filter(is_file));
    let mut sources = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let text = input.to_str();
        if let Some(cid) = text.filter(|text| may_be_cids && text.parse::<Cid>().is_ok()) {
            sources.push(Source::Cid(cid.to_owned()));
        } else if input == "-" {
            let is_there = sources.iter().any(|source| matches!(source, Source::Stdin));
            ensure!(!is_there, "standard input can be read once");
            let stdin = Handle::stdin().ok().filter(is_file);
            ensure!(
                !stdin.is_some_and(|stdin| written.contains(&stdin)),
                "standard input is read and written"
            );
            sources.push(Source::Stdin);
        } else {
            match fs::metadata(path) {
                Ok(found) if found.is_dir() => sources.extend(in_folder(path, &written)?),
                Ok(_) => {
                    ensure!(
                        !is_one_of(path, &written),
                        "{} is read and written",
                        path.display()
                    );
                    sources.push(Source::File(path.to_owned()));
                }
                Err(error) => match text.filter(|text| text.contains(['*', '?', '['])) {
                    Some(pattern) => sources.extend(that_match(pattern, &written)?),
                    None => return Err(error).with_context(|| path.display().to_string()),
                },
            }
        }
    }
    Ok(sources)
}

/// What is written twice would be neither.
fn are_apart(outputs: &[&PathBuf]) -> anyhow::Result<()> {
    let place = |path: &Path| {
        fs::canonicalize(path).or_else(|_| {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")))?;
            std::io::Result::Ok(folder.join(path.file_name().unwrap_or_default()))
        })
    };
    for (index, path) in outputs.iter().enumerate() {
        // Such as /dev/null.
        let is_special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        let before = &outputs[..index];
        ensure!(
            is_special
                || before
                    .iter()
                    .all(|other| place(other).ok() != place(path).ok()),
            "{} is written twice",
            path.display()
        );
    }
    Ok(())
}

/// A file with a content: what is written to another kind cannot be read again.
fn is_file(handle: &Handle) -> bool {
    handle
        .as_file()
        .metadata()
        .is_ok_and(|found| found.is_file())
}

fn file_at(path: &Path) -> Option<Handle> {
    // To open a pipe would wait for who writes to it.
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file.then(|| Handle::from_path(path).ok()).flatten()
}

fn is_one_of(path: &Path, written: &[Handle]) -> bool {
    file_at(path).is_some_and(|file| written.contains(&file))
}

fn in_folder(folder: &Path, written: &[Handle]) -> anyhow::Result<Vec<Source>> {
    let is_hidden = |entry: &DirEntry| {
        entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
    };
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    let mut files = Vec::new();
    for entry in walk.into_iter().filter_entry(|entry| !is_hidden(entry)) {
        match entry {
            Ok(entry) => {
                let is_file = entry.file_type().is_file() && is_of_records(entry.path());
                if is_file && !is_one_of(entry.path(), written) {
                    files.push(Source::File(entry.into_path()));
                }
            }
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                // Other files that are not there are no matter; folders are.
                let is_gone = error.io_error().is_some_and(|_| path.is_symlink());
                if !is_gone || is_of_records(&path) {
                    files.push(Source::Unreadable(path, error.to_string()));
                }
            }
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

fn that_match(pattern: &str, written: &[Handle]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in glob::glob(pattern).with_context(|| pattern.to_owned())? {
        let path = path?;
        match path.is_dir() {
            true => sources.extend(in_folder(&path, written)?),
            false if is_one_of(&path, written) => {}
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
        Source::Stdin | Source::Cid(_) => None,
        Source::Unreadable(..) => Some(0),
        Source::File(path) => {
            let found = fs::metadata(path).ok()?;
            found.is_file().then_some(found.len())
        }
    };
    sources.iter().map(len).sum::<Option<u64>>().unwrap_or(0)
}

/// What tells this run from others: a checkpoint is of one. `what` is done, and where; the first is a word for it.
pub(crate) fn identity(what: &[&str], sources: &[Source]) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut note = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for what in what {
        note(what.as_bytes());
    }
    for source in sources {
        let Source::File(path) = source else {
            note(source.name().as_bytes());
            continue;
        };
        let shown = || path.display().to_string();
        let found = fs::metadata(path).with_context(shown)?;
        let path = fs::canonicalize(path).with_context(shown)?;
        note(path.as_os_str().as_encoded_bytes());
        let modified = found.modified()?.duration_since(UNIX_EPOCH);
        note(&found.len().to_be_bytes());
        note(&modified.unwrap_or_default().as_nanos().to_be_bytes());
    }
    let hash = hash.finalize();
    let hash: String = hash
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let word = what.first().copied().unwrap_or_default();
    Ok(format!("{word} of {} inputs, {hash}", sources.len()))
}
