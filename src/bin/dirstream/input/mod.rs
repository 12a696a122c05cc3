//! What goes in: values from files, folders, patterns, standard input and the command line, each with where it came from.

mod files;
mod parse;
mod values;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use agntcy_dir_stream::{Checkpoint, Cid, ErrorKind, Record, Referrer};
use anyhow::{Context as _, ensure};
use futures_util::stream::{self, Stream};
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
    /// 0: it is the file itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) line: u64,
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A value that cannot be used.
#[derive(Debug)]
pub(crate) struct Unread {
    /// None: it is from the command line.
    pub(crate) origin: Option<Origin>,
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// A value, or why it is none.
pub(crate) type Value<T> = Result<(T, Option<Origin>), Unread>;

/// What is read, and from where.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Files, folders, quoted patterns (`'*.json'`), or `-` for standard input.
    ///
    /// Files have one value a line (NDJSON), an array, or values over several lines; compressed by gzip or zstd, or not. Of
    /// a folder and those in it, these are read in order of their names: .json, .jsonl, .ndjson, also with .gz or .zst; what
    /// begins with a dot is not. Where CIDs are wanted, they may stand here themselves; in files there is one a line, or
    /// objects with a `cid`, such as the lines that this tool prints.
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<OsString>,

    /// How files are laid out, where that cannot be told.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A file that remembers what is done, for the next run.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Resume {
    /// Note in this file what is done, and go on there in the next run, also after `kill -9`.
    ///
    /// It is for the same command with the same server, target and inputs, which are told by their paths, sizes and times. With
    /// it, --results is gone on with. When all is done, the file is removed. After a power failure, results and pulled files of the
    /// last seconds may be missing.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Inputs that are there, before anything is read.
pub(crate) struct Input {
    sources: Vec<Source>,
    format: Format,
    checkpoint: Option<PathBuf>,
}

/// How far the reading has come.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Bytes of files, as they are on the disk.
    pub(crate) bytes: AtomicU64,
    /// Of how many; 0: it is not known.
    pub(crate) of: u64,
    /// Values that were read.
    pub(crate) values: AtomicU64,
    /// Why it ended before its time.
    pub(crate) broke: OnceLock<String>,
    has_ended: AtomicBool,
}

/// Values, and how far the reading has come.
pub(crate) struct Values<S> {
    pub(crate) values: S,
    pub(crate) reached: Arc<Reached>,
}

impl Arguments {
    /// Finds the files. What is not there is an error at once. What this run writes, `outputs`, is not read.
    pub(crate) fn find(&self, resume: &Resume, outputs: &[&PathBuf]) -> anyhow::Result<Input> {
        self.found(resume, outputs, false)
    }

    /// The same, where inputs may be CIDs.
    pub(crate) fn find_cids(&self, resume: &Resume, outputs: &[&PathBuf]) -> anyhow::Result<Input> {
        self.found(resume, outputs, true)
    }

    fn found(
        &self,
        resume: &Resume,
        outputs: &[&PathBuf],
        may_be_cids: bool,
    ) -> anyhow::Result<Input> {
        let checkpoint = resume.checkpoint.as_ref();
        let mut outputs = outputs.to_vec();
        outputs.extend(checkpoint);
        let sources = files::find(&self.inputs, &outputs, may_be_cids)?;
        Ok(Input {
            sources,
            format: self.format,
            checkpoint: checkpoint.cloned(),
        })
    }
}

impl Input {
    /// Opens the checkpoint, if there is to be one. `what` is done with these inputs, and where.
    pub(crate) fn checkpoint(&self, what: &[&str]) -> anyhow::Result<Option<Checkpoint>> {
        let Some(path) = &self.checkpoint else {
            return Ok(None);
        };
        ensure!(
            !self
                .sources
                .iter()
                .any(|source| matches!(source, Source::Stdin)),
            "a checkpoint needs inputs that are the same in the next run, and standard input is not"
        );
        let format = format!("{:?}", self.format);
        let what = [what, &[&format]].concat();
        let opened = Checkpoint::open(path, &files::identity(&what, &self.sources)?);
        let opened = opened.context(
            "cannot use the checkpoint; if it is of another command, server, target or input, or these have changed, \
             remove it to begin anew",
        );
        opened.map(Some)
    }

    pub(crate) fn records(self, is_strict: bool) -> Values<impl Stream<Item = Value<Record>>> {
        self.read(match is_strict {
            true => parse::strict_record,
            false => parse::record,
        })
    }

    pub(crate) fn referrers(self) -> Values<impl Stream<Item = Value<Referrer>>> {
        self.read(|text| parse::referrer(text, None))
    }

    pub(crate) fn cids(self) -> Values<impl Stream<Item = Value<Cid>>> {
        self.read(parse::cid)
    }

    /// Reads and parses in a thread of its own, some values ahead of who takes them.
    fn read<T: Send + 'static>(
        self,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Values<impl Stream<Item = Value<T>>> {
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
        let of_thread = Arc::clone(&reached);
        let values = stream::poll_fn(move |cx| {
            let value = receiver.poll_recv(cx);
            if matches!(value, std::task::Poll::Ready(None))
                && !of_thread.has_ended.load(Ordering::Acquire)
            {
                let _ = of_thread
                    .broke
                    .set("the inputs are read no further".to_owned());
            }
            value
        });
        Values { values, reached }
    }
}

struct Reading<T, P> {
    parse: P,
    sender: mpsc::Sender<Value<T>>,
    reached: Arc<Reached>,
    format: Format,
    is_strict: bool,
}

impl<T, P: Fn(&[u8]) -> Result<T, String>> Reading<T, P> {
    fn run(self, sources: Vec<Source>) {
        for source in sources {
            let name = source.name();
            let mut line = 0;
            let read = match source {
                Source::Cid(cid) => Ok(self.pass_on(None, Ok(cid.as_bytes()))),
                Source::Unreadable(_, error) => Err(io::Error::other(error)),
                Source::Stdin => self.read(&name, &mut line, io::stdin()),
                Source::File(path) => {
                    File::open(path).and_then(|file| self.read(&name, &mut line, file))
                }
            };
            let broke = match read {
                Ok(ControlFlow::Continue(())) => continue,
                // Nobody wants more.
                Ok(ControlFlow::Break(())) => break,
                Err(error) => error,
            };
            let message = format!("cannot be read: {broke}");
            let is_of_disk = broke.raw_os_error().is_some();
            if self.is_strict && is_of_disk {
                let _ = self.reached.broke.set(format!("{name} {message}"));
                break;
            }
            let unread = Unread {
                origin: Some(Origin { file: name, line }),
                kind: ErrorKind::Input,
                message,
            };
            if self.sender.blocking_send(Err(unread)).is_err() {
                break;
            }
        }
        self.reached.has_ended.store(true, Ordering::Release);
    }

    fn read(
        &self,
        name: &Arc<str>,
        line: &mut u64,
        reader: impl Read,
    ) -> io::Result<ControlFlow<()>> {
        let reader = Counted {
            reader,
            reached: &self.reached,
        };
        let mut reader = decompressed(reader)?;
        if reader.fill_buf()?.contains(&0) {
            return Err(io::Error::other("it is no text"));
        }
        values(reader, self.format, &mut |number, value| {
            *line = number;
            let origin = Origin {
                file: Arc::clone(name),
                line: number,
            };
            self.pass_on(Some(origin), value)
        })
    }

    fn pass_on(&self, origin: Option<Origin>, value: Result<&[u8], String>) -> ControlFlow<()> {
        let value = match value.and_then(&self.parse) {
            Ok(value) => Ok((value, origin)),
            Err(message) => {
                let line = origin.as_ref().map_or(1, |origin| origin.line);
                Err(Unread {
                    message: parse::placed(&message, line),
                    origin,
                    kind: ErrorKind::Invalid,
                })
            }
        };
        self.reached.values.fetch_add(1, Ordering::Relaxed);
        match self.sender.blocking_send(value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// What is in it, by how it begins.
fn decompressed<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut begins = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut begins)?;
    let is_gzip = begins.starts_with(&[0x1f, 0x8b]);
    let is_zstd = begins == [0x28, 0xb5, 0x2f, 0xfd];
    let reader = BufReader::with_capacity(PIECE, Cursor::new(begins).chain(reader));
    Ok(if is_gzip {
        let decoder = flate2::bufread::MultiGzDecoder::new(reader);
        Box::new(BufReader::with_capacity(PIECE, decoder))
    } else if is_zstd {
        let decoder = zstd::Decoder::with_buffer(reader)?;
        Box::new(BufReader::with_capacity(PIECE, decoder))
    } else {
        Box::new(reader)
    })
}

struct Counted<'a, R> {
    reader: R,
    reached: &'a Reached,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.reached
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}
