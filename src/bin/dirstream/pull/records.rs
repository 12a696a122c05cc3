//! Where pulled records are written.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agntcy_dir_stream::{Cid, Record};
use anyhow::{Context as _, bail};

pub(crate) enum Records {
    Folder(PathBuf),
    Lines(Box<dyn Write + Send>),
}

impl Records {
    /// `goes_on`: what an earlier run has written stays.
    pub(crate) fn open(to: &OsStr, goes_on: bool) -> anyhow::Result<Self> {
        let path = Path::new(to);
        let shown = || path.display().to_string();
        if to == "-" {
            return Ok(Self::Lines(Box::new(io::stdout())));
        }
        match path.extension().and_then(OsStr::to_str) {
            Some("ndjson" | "jsonl") if !path.is_dir() => {
                let mut file = File::options();
                file.create(true)
                    .write(true)
                    .append(goes_on)
                    .truncate(!goes_on);
                Ok(Self::Lines(Box::new(file.open(path).with_context(shown)?)))
            }
            _ if path.is_file() => {
                bail!(
                    "{}: it is a file, and neither .ndjson nor .jsonl",
                    path.display()
                )
            }
            _ => {
                fs::create_dir_all(path).with_context(shown)?;
                Ok(Self::Folder(path.to_owned()))
            }
        }
    }

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
