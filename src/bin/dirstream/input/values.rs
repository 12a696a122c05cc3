//! Where one value of a text ends, and the next begins.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;

use serde::Deserialize as _;
use serde::de::{self, Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The longest line that is read, in bytes. A record takes 4 MiB on the wire, and more as text.
const MAX_LINE: usize = 64 << 20;

/// How values follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// As the first lines look.
    #[default]
    Auto,
    /// One value a line: a bad line fails alone.
    Lines,
    /// An array, or values over any number of lines: what cannot be read ends the file.
    Json,
}

/// Takes a value, or why it is none, with the number of the line in which it begins, counted from 1.
type Each<'a> = &'a mut dyn FnMut(u64, Result<&[u8], String>) -> ControlFlow<()>;

/// Reads values until the end, or as long as `each` wants more.
pub(crate) fn values(
    mut reader: impl BufRead,
    format: Format,
    each: Each<'_>,
) -> io::Result<ControlFlow<()>> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    if reader.fill_buf()?.starts_with(BOM) {
        reader.consume(BOM.len());
    }
    let (format, begins) = match format {
        Format::Auto => guess(&mut reader)?,
        format => (format, Vec::new()),
    };
    let reader = io::BufReader::with_capacity(64 << 10, io::Cursor::new(begins)).chain(reader);
    match format {
        Format::Json => in_json(reader, each),
        Format::Auto | Format::Lines => in_lines(reader, each),
    }
}

/// How a text is laid out, and what was read of it for that.
fn guess(reader: &mut impl BufRead) -> io::Result<(Format, Vec<u8>)> {
    let mut begins = Vec::new();
    let mut line = 0..0;
    while begins[line.clone()].trim_ascii().is_empty() {
        if !append_line(reader, &mut begins)? {
            return Ok((Format::Lines, begins));
        }
        line = line.end..begins.len();
    }
    let first = begins[line.clone()].trim_ascii();
    let is_cut_short = |text: &[u8]| {
        let read = serde_json::from_slice::<IgnoredAny>(text);
        read.is_err_and(|error| error.is_eof())
    };
    let format = match first[0] {
        b'[' => Format::Json,
        b'{' if is_cut_short(first) => {
            let is_alone = first == b"{";
            append_line(reader, &mut begins)?;
            // A value over several lines; or a line that was cut, and the next begins anew.
            let next = begins[line.end..].trim_ascii().first();
            let goes_on = is_alone || matches!(next, Some(b'"' | b'}'));
            match goes_on {
                true => Format::Json,
                false => Format::Lines,
            }
        }
        _ => Format::Lines,
    };
    Ok((format, begins))
}

/// Whether there was one more line, or a part of a very long one.
fn append_line(reader: &mut impl BufRead, to: &mut Vec<u8>) -> io::Result<bool> {
    let read = reader
        .by_ref()
        .take(MAX_LINE as u64)
        .read_until(b'\n', to)?;
    Ok(read > 0)
}

fn in_lines(mut reader: impl BufRead, each: Each<'_>) -> io::Result<ControlFlow<()>> {
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        if !append_line(&mut reader, &mut line)? {
            return Ok(ControlFlow::Continue(()));
        }
        number += 1;
        let value = if line.len() == MAX_LINE && line.last() != Some(&b'\n') {
            reader.skip_until(b'\n')?;
            Err(format!("the line is longer than {} MiB", MAX_LINE >> 20))
        } else {
            Ok(line.trim_ascii())
        };
        if !matches!(value, Ok([])) && each(number, value).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// Counts the lines of what it gives.
struct Lines<'a, R> {
    reader: R,
    number: &'a Cell<u64>,
}

impl<R: BufRead> Read for Lines<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count(&buffer[..read]);
        Ok(read)
    }
}

impl<R: BufRead> Lines<'_, R> {
    fn count(&self, text: &[u8]) {
        self.number.set(self.number.get() + breaks(text));
    }

    /// What comes behind the white space, if anything does.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let text = self.reader.fill_buf()?;
            let Some(first) = text.first().copied() else {
                return Ok(None);
            };
            if !first.is_ascii_whitespace() {
                return Ok(Some(first));
            }
            self.number.set(self.number.get() + breaks(&[first]));
            self.reader.consume(1);
        }
    }
}

fn breaks(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn in_json(reader: impl BufRead, each: Each<'_>) -> io::Result<ControlFlow<()>> {
    let number = &Cell::new(1);
    let mut lines = Lines { reader, number };
    let mut elements = Elements {
        number,
        each,
        is_over: false,
    };
    while let Some(first) = lines.peek()? {
        // One for each value: it reads no further than to a bracket that ends it.
        let mut text = serde_json::Deserializer::from_reader(&mut lines);
        let read = match first {
            b'[' => text.deserialize_seq(&mut elements),
            _ => Box::<RawValue>::deserialize(&mut text).map(|value| elements.take(&value)),
        };
        if elements.is_over {
            return Ok(ControlFlow::Break(()));
        }
        if let Err(error) = read {
            if error.is_io() {
                return Err(error.into());
            }
            // Where the next value begins cannot be told any more.
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            let words = format!("not JSON, so this file is read no further: {words}");
            return Ok((elements.each)(number.get(), Err(words)));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The values of an array, one after the other.
struct Elements<'a> {
    number: &'a Cell<u64>,
    each: Each<'a>,
    is_over: bool,
}

impl Elements<'_> {
    fn take(&mut self, value: &RawValue) {
        let text = value.get().as_bytes();
        let begins = self.number.get() - breaks(text);
        self.is_over = (self.each)(begins, Ok(text)).is_break();
    }
}

impl<'de> Visitor<'de> for &mut Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while let Some(value) = values.next_element::<Box<RawValue>>()? {
            self.take(&value);
            if self.is_over {
                return Err(de::Error::custom("nobody wants more"));
            }
        }
        Ok(())
    }
}
