//! Where pulled records are written.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agntcy_dir_stream::{Cid, Record};
use anyhow::{Context as _, bail};

/// A place for records.
#[derive(Debug)]
pub(crate) enum Target {
    /// Standard output.
    Output,
    /// A file, a line each.
    Lines(PathBuf),
    /// A folder, a file each.
    Folder(PathBuf),
}

impl Target {
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        let end = path.extension().and_then(OsStr::to_str);
        let is_lines = |end: &str| {
            ["ndjson", "jsonl"]
                .iter()
                .any(|known| end.eq_ignore_ascii_case(known))
        };
        Ok(match end {
            _ if path.as_os_str() == "-" => Self::Output,
            _ if path.is_dir() => Self::Folder(path.to_owned()),
            Some(end) if is_lines(end) => Self::Lines(path.to_owned()),
            None if !path.exists() => Self::Folder(path.to_owned()),
            _ => bail!(
                "{}: it is no folder, and its name does not end with .ndjson or .jsonl",
                path.display()
            ),
        })
    }

    pub(crate) fn open(self) -> anyhow::Result<Records> {
        Ok(match self {
            Self::Output => Records::Lines(Box::new(io::stdout())),
            Self::Lines(path) => {
                let file = File::create(&path).with_context(|| path.display().to_string())?;
                Records::Lines(Box::new(file))
            }
            Self::Folder(path) => {
                fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
                Records::Folder(path)
            }
        })
    }
}

/// Takes records.
pub(crate) enum Records {
    Folder(PathBuf),
    Lines(Box<dyn Write + Send>),
}

impl Records {
    /// Gives the path, if the record has a file of its own.
    pub(crate) fn write(&mut self, cid: Cid, record: &Record) -> anyhow::Result<Option<String>> {
        let mut text = record
            .to_json()
            .context("a record cannot be written as JSON")?;
        text.push('\n');
        match self {
            Self::Lines(to) => {
                to.write_all(text.as_bytes())
                    .context("cannot write the records")?;
                Ok(None)
            }
            Self::Folder(folder) => {
                let path = folder.join(format!("{cid}.json"));
                let shown = || path.display().to_string();
                // A file that was left behind by `kill -9` begins with a dot, and is not read by a push.
                let mut file = tempfile::Builder::new();
                file.prefix(".").suffix(".part");
                #[cfg(unix)]
                {
                    use std::os::unix::fs::PermissionsExt as _;
                    file.permissions(fs::Permissions::from_mode(0o666));
                }
                let mut file = file.tempfile_in(&*folder).with_context(shown)?;
                file.write_all(text.as_bytes()).with_context(shown)?;
                file.persist(&path).with_context(shown)?;
                Ok(Some(path.to_string_lossy().into_owned()))
            }
        }
    }
}
