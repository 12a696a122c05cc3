//! What goes in: values from files, folders, patterns and standard input, each with where it came from.

mod files;
mod parse;
mod values;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use agntcy_dir_stream::{Checkpoint, Cid, ErrorKind, Record, Referrer};
use anyhow::Context as _;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;

use self::files::Source;
pub(crate) use self::parse::referrer;
pub(crate) use self::values::{Format, values};

/// How many values wait for their turn at most. The largest records are some MiB each.
const READ_AHEAD: usize = 32;

const PIECE: usize = 256 << 10;

/// Where a value came from.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Origin {
    #[serde(serialize_with = "text")]
    pub(crate) file: Arc<str>,
    pub(crate) line: u64,
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// A value that cannot be used.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) origin: Option<Origin>,
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// What is read, and from where.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Files, folders, quoted patterns (`'*.json'`), or `-` for standard input.
    ///
    /// Files have one value a line (NDJSON), an array, or values one after the other; compressed by gzip or zstd, or not.
    /// Of a folder and those in it, these are read in order of their names: .json, .jsonl, .ndjson, also with .gz or .zst.
    /// Where CIDs are wanted, they may stand here themselves; in files there is one a line, or objects with a `cid`, such as
    /// the lines that this tool prints.
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<OsString>,

    /// How files are laid out, where it cannot be told by their beginning.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A file that remembers what is done, for the next run.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Resume {
    /// Note in this file what is done, and go on there in the next run, also after `kill -9`.
    ///
    /// The inputs must be the same then: files are told by their paths, sizes and times. When all is done, the file is
    /// removed.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Inputs that are there, before anything is read.
pub(crate) struct Input {
    /// CIDs of the command line.
    cids: Vec<Cid>,
    sources: Vec<Source>,
    format: Format,
    checkpoint: Option<Checkpoint>,
}

/// How far the reading has come.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Bytes of files, as they are on the disk.
    pub(crate) bytes: AtomicU64,
    /// Of how many; 0: it is not known.
    pub(crate) of: u64,
    /// Why it ended before its time.
    pub(crate) broke: OnceLock<String>,
}

/// Values, and how far the reading has come.
pub(crate) struct Values<S> {
    pub(crate) values: S,
    pub(crate) reached: Arc<Reached>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Arguments {
    /// Finds the files. What is not there is an error at once.
    pub(crate) fn find(&self, resume: Option<&Resume>) -> anyhow::Result<Input> {
        self.found(Vec::new(), &self.inputs, resume)
    }

    /// The same, where inputs may be CIDs.
    pub(crate) fn find_cids(&self, resume: Option<&Resume>) -> anyhow::Result<Input> {
        let (mut cids, mut others) = (Vec::new(), Vec::new());
        for input in &self.inputs {
            match input.to_str().map(str::parse) {
                Some(Ok(cid)) => cids.push(cid),
                _ => others.push(input.clone()),
            }
        }
        self.found(cids, &others, resume)
    }

    fn found(
        &self,
        cids: Vec<Cid>,
        others: &[OsString],
        resume: Option<&Resume>,
    ) -> anyhow::Result<Input> {
        let sources = files::find(others)?;
        let checkpoint = resume.and_then(|resume| resume.checkpoint.as_ref());
        let checkpoint = checkpoint.map(|path| {
            let identity = files::identity(&cids, &sources)?;
            Checkpoint::open(path, &identity).context("cannot use the checkpoint")
        });
        Ok(Input {
            cids,
            sources,
            format: self.format,
            checkpoint: checkpoint.transpose()?,
        })
    }
}

impl Input {
    pub(crate) fn records(self) -> Values<impl Stream<Item = Result<(Record, Origin), Unread>>> {
        self.read(parse::record)
    }

    pub(crate) fn referrers(
        self,
    ) -> Values<impl Stream<Item = Result<(Referrer, Origin), Unread>>> {
        self.read(|text| parse::referrer(text, None))
    }

    pub(crate) fn cids(
        mut self,
    ) -> Values<impl Stream<Item = Result<(Cid, Option<Origin>), Unread>>> {
        let given = std::mem::take(&mut self.cids);
        let Values {
            values,
            reached,
            checkpoint,
        } = self.read(parse::cid);
        let given = stream::iter(given.into_iter().map(|cid| Ok((cid, None))));
        let values = values.map(|value| value.map(|(cid, origin)| (cid, Some(origin))));
        Values {
            values: given.chain(values),
            reached,
            checkpoint,
        }
    }

    /// Reads and parses in a thread of its own, some values ahead of who takes them.
    fn read<T: Send + 'static>(
        self,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Values<impl Stream<Item = Result<(T, Origin), Unread>>> {
        let reached = Arc::new(Reached {
            of: files::len(&self.sources),
            ..Reached::default()
        });
        let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
        let thread = Reading {
            parse,
            sender,
            reached: Arc::clone(&reached),
            format: self.format,
            // What the disk fails at may be there the next time, and a checkpoint would leave it out.
            is_strict: self.checkpoint.is_some(),
        };
        std::thread::spawn(move || thread.run(self.sources));
        Values {
            values: stream::poll_fn(move |cx| receiver.poll_recv(cx)),
            reached,
            checkpoint: self.checkpoint,
        }
    }
}

struct Reading<T, P> {
    parse: P,
    sender: mpsc::Sender<Result<(T, Origin), Unread>>,
    reached: Arc<Reached>,
    format: Format,
    is_strict: bool,
}

impl<T, P: Fn(&[u8]) -> Result<T, String>> Reading<T, P> {
    fn run(self, sources: Vec<Source>) {
        for source in sources {
            let file = source.name();
            let mut line = 0;
            let read = self.open(&source).and_then(|reader| {
                values(reader, self.format, &mut |number, value| {
                    line = number;
                    self.pass_on(&file, number, value)
                })
            });
            let broke = match read {
                Ok(ControlFlow::Continue(())) => continue,
                // Nobody wants more.
                Ok(ControlFlow::Break(())) => return,
                Err(error) => error,
            };
            let message = format!("cannot be read: {broke}");
            if self.is_strict {
                let _ = self.reached.broke.set(format!("{file} {message}"));
                return;
            }
            let unread = Unread {
                origin: Some(Origin { file, line }),
                kind: ErrorKind::Input,
                message,
            };
            if self.sender.blocking_send(Err(unread)).is_err() {
                return;
            }
        }
    }

    fn open(&self, source: &Source) -> io::Result<Box<dyn BufRead>> {
        let reader: Box<dyn Read> = match source {
            Source::Stdin => Box::new(io::stdin()),
            Source::File(path) => Box::new(File::open(path)?),
        };
        let counted = Counted {
            reader,
            reached: Arc::clone(&self.reached),
        };
        decompressed(BufReader::with_capacity(PIECE, counted))
    }

    fn pass_on(&self, file: &Arc<str>, line: u64, value: Result<&[u8], String>) -> ControlFlow<()> {
        let origin = Origin {
            file: Arc::clone(file),
            line,
        };
        let value = match value.and_then(&self.parse) {
            Ok(value) => Ok((value, origin)),
            Err(message) => Err(Unread {
                origin: Some(origin),
                kind: ErrorKind::Invalid,
                message,
            }),
        };
        match self.sender.blocking_send(value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// What is in it, by how it begins.
fn decompressed(mut reader: BufReader<Counted>) -> io::Result<Box<dyn BufRead>> {
    let begins = reader.fill_buf()?;
    Ok(if begins.starts_with(&[0x1f, 0x8b]) {
        let decoder = flate2::bufread::MultiGzDecoder::new(reader);
        Box::new(BufReader::with_capacity(PIECE, decoder))
    } else if begins.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::Decoder::with_buffer(reader)?;
        Box::new(BufReader::with_capacity(PIECE, decoder))
    } else {
        Box::new(reader)
    })
}

struct Counted {
    reader: Box<dyn Read>,
    reached: Arc<Reached>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.reached
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}
