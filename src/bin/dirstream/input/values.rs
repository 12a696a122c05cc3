//! Where one value of a text ends, and the next begins.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Cursor, Read};
use std::ops::ControlFlow;

use serde::Deserialize as _;
use serde::de::{self, Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The longest line or value that is read, in bytes. A record takes 4 MiB on the wire, and more as text.
const MAX_LINE: usize = 64 << 20;

/// What some programs put before a text in UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How values follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One value a line, where it is whole; else an array, or a value over several lines.
    #[default]
    Auto,
    /// One value a line: whatever is in a bad line, the next is read.
    Lines,
    /// Arrays, and values one after the other: what is no JSON ends the file.
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
    let mut again = Vec::new();
    reader
        .by_ref()
        .take(BOM.len() as u64)
        .read_to_end(&mut again)?;
    if again == BOM {
        again.clear();
    }
    let (number, left) = (&Cell::new(1), &Cell::new(MAX_LINE));
    let mut text = Text {
        reader,
        again: Cursor::new(again),
        number,
        left,
    };
    let mut elements = Elements {
        number,
        left,
        each,
        is_over: false,
    };
    while let Some(first) = text.peek()? {
        let begins = number.get();
        let line = match format {
            Format::Lines => Some(text.line()?),
            Format::Auto if first != b'[' => Some(text.line_or_value()?),
            // What is neither an object, an array nor a text ends with its line.
            Format::Json if !matches!(first, b'{' | b'[' | b'"') => Some(text.line()?),
            Format::Auto | Format::Json => None,
        };
        if let Some(line) = line {
            let value = match line.len() {
                MAX_LINE => Err(format!("the line is longer than {} MiB", MAX_LINE >> 20)),
                _ => Ok(line.trim_ascii()),
            };
            if (elements.each)(begins, value).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            continue;
        }
        left.set(MAX_LINE);
        // One for each value: it reads no further than to the bracket or quote that ends it.
        let mut value = serde_json::Deserializer::from_reader(&mut text);
        let read = match first {
            b'[' => value.deserialize_seq(&mut elements),
            _ => Box::<RawValue>::deserialize(&mut value).map(|value| elements.take(&value)),
        };
        if elements.is_over {
            return Ok(ControlFlow::Break(()));
        }
        if let Err(error) = read {
            if error.is_io() {
                return Err(error.into());
            }
            // Where the next value begins cannot be told any more: an object within this one is no record.
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            let words = format!("not JSON, so this file is read no further: {words}");
            return Ok((elements.each)(number.get(), Err(words)));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A text that counts its lines, and of which something can be read again.
struct Text<'a, R> {
    reader: R,
    /// It comes before what the reader has.
    again: Cursor<Vec<u8>>,
    number: &'a Cell<u64>,
    /// How many bytes the value may have still.
    left: &'a Cell<usize>,
}

impl<R: BufRead> Text<'_, R> {
    /// What comes behind the white space, if anything does.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let text = self.fill_buf()?;
            let is_white = |byte: &&u8| byte.is_ascii_whitespace();
            let white = text.iter().take_while(is_white).count();
            let next = text.get(white).copied();
            self.consume(white);
            if next.is_some() || white == 0 {
                return Ok(next);
            }
        }
    }

    /// The rest of this line, or the first part of one that is too long.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut bounded = self.by_ref().take(MAX_LINE as u64);
        bounded.read_until(b'\n', &mut line)?;
        if line.len() == MAX_LINE {
            self.skip_until(b'\n')?;
        }
        Ok(line)
    }

    /// The rest of this line; or the lines of a value that begins in it and ends in another.
    fn line_or_value(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line()?;
        if line.len() == MAX_LINE || line.first() != Some(&b'{') || !is_cut_short(&line) {
            return Ok(line);
        }
        let after = self.number.get();
        let mut text = line;
        let first = text.len();
        let mut lines = 1;
        // The lines are doubled each time, so that no more than twice as much is looked at.
        while text.len() < MAX_LINE {
            let before = text.len();
            for _ in 0..lines {
                text.extend(self.line()?);
            }
            lines *= 2;
            let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<IgnoredAny>();
            match values.next() {
                Some(Ok(_)) => {
                    let ends = values.byte_offset();
                    let rest = text.split_off(ends);
                    let ends = after + breaks(&text[first..]);
                    self.read_again(rest, ends);
                    return Ok(text);
                }
                Some(Err(error)) if error.is_eof() && text.len() > before => {}
                _ => break,
            }
        }
        // It was cut, and what comes next is of its own.
        let next = text.split_off(first);
        self.read_again(next, after);
        Ok(text)
    }

    fn read_again(&mut self, mut text: Vec<u8>, number: u64) {
        let at = self.again.position() as usize;
        text.extend_from_slice(&self.again.get_ref()[at..]);
        self.again = Cursor::new(text);
        self.number.set(number);
    }
}

impl<R: BufRead> Read for Text<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        let Some(left) = self.left.get().checked_sub(read) else {
            let words = format!("a value is longer than {} MiB", MAX_LINE >> 20);
            return Err(io::Error::other(words));
        };
        self.left.set(left);
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Text<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let at = self.again.position() as usize;
        match self.again.get_ref().get(at..) {
            None | Some([]) => self.reader.fill_buf(),
            Some(_) => self.again.fill_buf(),
        }
    }

    fn consume(&mut self, bytes: usize) {
        // What is in the buffer has been looked for before.
        let text = self.fill_buf().unwrap_or_default();
        let breaks = breaks(&text[..bytes]);
        self.number.set(self.number.get() + breaks);
        let at = self.again.position() as usize;
        match at < self.again.get_ref().len() {
            true => self.again.consume(bytes),
            false => self.reader.consume(bytes),
        }
    }
}

fn breaks(text: &[u8]) -> u64 {
    count(text, b'\n') as u64
}

fn count(text: &[u8], byte: u8) -> usize {
    text.iter().filter(|other| **other == byte).count()
}

/// Whether an object begins, and does not end.
fn is_cut_short(text: &[u8]) -> bool {
    // With as many brackets it ends, or is no JSON; with others, they may stand in texts. To count is much less than to
    // read.
    let is_even = text.trim_ascii_end().ends_with(b"}") && count(text, b'{') == count(text, b'}');
    !is_even && {
        let read = serde_json::from_slice::<IgnoredAny>(text);
        read.is_err_and(|error| error.is_eof())
    }
}

/// The values of an array, one after the other.
struct Elements<'a> {
    number: &'a Cell<u64>,
    left: &'a Cell<usize>,
    each: Each<'a>,
    is_over: bool,
}

impl Elements<'_> {
    fn take(&mut self, value: &RawValue) {
        let text = value.get().as_bytes();
        self.left.set(MAX_LINE);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What is read of a text, however it comes: the line, and the value or how what is said of it begins.
    fn read(text: &str, format: Format) -> Vec<(u64, Result<String, String>)> {
        let with = |capacity| {
            let reader = io::BufReader::with_capacity(capacity, text.as_bytes());
            let mut read = Vec::new();
            let ended = values(reader, format, &mut |line, value| {
                let value = value.map(|text| str::from_utf8(text).unwrap().to_owned());
                read.push((line, value));
                ControlFlow::Continue(())
            });
            assert!(ended.unwrap().is_continue());
            read
        };
        let read = with(1 << 10);
        for capacity in [1, 2, 7] {
            assert_eq!(
                with(capacity),
                read,
                "a piece of {capacity} bytes at a time"
            );
        }
        read
    }

    fn ok(line: u64, text: &str) -> (u64, Result<String, String>) {
        (line, Ok(text.to_owned()))
    }

    #[test]
    fn lines_are_values_whatever_is_in_them() {
        let text = "{\"a\": 1}\r\n\n  {\"b\"\n12\nnonsense\n{\"c\": 3}";
        let lines = [
            ok(1, "{\"a\": 1}"),
            ok(3, "{\"b\""),
            ok(4, "12"),
            ok(5, "nonsense"),
            ok(6, "{\"c\": 3}"),
        ];
        assert_eq!(read(text, Format::Auto), lines);
    }

    #[test]
    fn a_line_that_is_cut_at_the_beginning_fails_alone() {
        let text = "{\"a\": \n{\"b\": 2}\n";
        assert_eq!(
            read(text, Format::Auto),
            [ok(1, "{\"a\":"), ok(2, "{\"b\": 2}")]
        );
        let text = "{}\n{\"a\": \nnonsense\n{\"b\": 2}\n{\"c\": ";
        let lines = [
            ok(1, "{}"),
            ok(2, "{\"a\":"),
            ok(3, "nonsense"),
            ok(4, "{\"b\": 2}"),
            ok(5, "{\"c\":"),
        ];
        assert_eq!(read(text, Format::Auto), lines);
        assert_eq!(read(text, Format::Lines), lines);
    }

    #[test]
    fn values_over_several_lines_follow_each_other() {
        let text = "\u{feff}\n{\n  \"a\": [\n1]}\n {\"b\": 2}\n{\n}\n";
        let values = [
            ok(2, "{\n  \"a\": [\n1]}"),
            ok(5, "{\"b\": 2}"),
            ok(6, "{\n}"),
        ];
        assert_eq!(read(text, Format::Auto), values);
        assert_eq!(read(text, Format::Json), values);
        let text = "{ \"a\": 1,\n  \"b\": 2 }";
        assert_eq!(read(text, Format::Auto), [ok(1, text)]);
        let text = "{\"a\": [\n {\"b\": 1}],\n\n\"c\": 2}";
        assert_eq!(read(text, Format::Auto), [ok(1, text)]);
        let text = "{\"a\": 1\n\n, \"c\": 2}";
        assert_eq!(read(text, Format::Auto), [ok(1, text)]);
        // Brackets at the beginnings of lines are no records.
        let text = "{\"a\":\n[\n{\"b\": 1}\n]\n}";
        assert_eq!(
            read(&format!("{text}\n{{}}"), Format::Auto),
            [ok(1, text), ok(6, "{}")]
        );
        let text = "7 8\n\"x\"{}";
        assert_eq!(
            read(text, Format::Json),
            [ok(1, "7 8"), ok(2, "\"x\""), ok(2, "{}")]
        );
    }

    #[test]
    fn a_line_that_is_cut_to_its_bracket_fails_alone() {
        let text = "{\n{\"b\": 2}\n";
        assert_eq!(read(text, Format::Auto), [ok(1, "{"), ok(2, "{\"b\": 2}")]);
        let text = "{\"a\":1,\n  {\"b\":2}\n{\"c\":3}\n";
        let lines = [ok(1, "{\"a\":1,"), ok(2, "{\"b\":2}"), ok(3, "{\"c\":3}")];
        assert_eq!(read(text, Format::Auto), lines);
    }

    #[test]
    fn a_value_that_does_not_end_does_not_fill_the_memory() {
        let text = io::repeat(b'x').take(2 * MAX_LINE as u64);
        let text = io::BufReader::new(io::Cursor::new(b"[\"").chain(text));
        let ended = values(text, Format::Auto, &mut |_, _| ControlFlow::Continue(()));
        assert_eq!(
            ended.unwrap_err().to_string(),
            "a value is longer than 64 MiB"
        );
    }

    #[test]
    fn elements_of_arrays_are_values() {
        let text = "[{\"a\": 1},\n{\"b\":\n2}, [3],\n\n4]\n[]\n[{}]";
        let values = [
            ok(1, "{\"a\": 1}"),
            ok(2, "{\"b\":\n2}"),
            ok(3, "[3]"),
            ok(5, "4"),
            ok(7, "{}"),
        ];
        assert_eq!(read(text, Format::Auto), values);
    }

    #[test]
    fn a_text_without_values_has_none() {
        for text in ["", "\n\n", " \t\r\n", "\u{feff}", "[]", "[\n]\n"] {
            assert_eq!(read(text, Format::Auto), [], "{text:?}");
        }
    }

    #[test]
    fn what_is_no_json_ends_an_array_with_words() {
        let mut read = read("[{\"a\": 1},\n{\"b\" 2}, {}]", Format::Auto);
        let (line, error) = read.pop().unwrap();
        let words = "not JSON, so this file is read no further: expected `:`";
        assert_eq!((line, error.unwrap_err().as_str()), (2, words));
        assert_eq!(read, [ok(1, "{\"a\": 1}")]);
    }

    #[test]
    fn a_line_that_is_too_long_fails_alone() {
        let mut text = vec![b'x'; MAX_LINE + 100];
        text.extend_from_slice(b"\n{}\n");
        let mut read = Vec::new();
        let ended = values(&text[..], Format::Auto, &mut |line, value| {
            read.push((line, value.map(<[u8]>::len)));
            ControlFlow::Continue(())
        });
        assert!(ended.unwrap().is_continue());
        assert_eq!(
            read,
            [
                (1, Err("the line is longer than 64 MiB".to_owned())),
                (2, Ok(2))
            ]
        );
    }

    #[test]
    fn reading_ends_when_nobody_wants_more() {
        for text in ["{}\n{}", "[{},{}]", "{\n}\n{}"] {
            let mut count = 0;
            let ended = values(text.as_bytes(), Format::Auto, &mut |_, _| {
                count += 1;
                ControlFlow::Break(())
            });
            assert!(ended.unwrap().is_break());
            assert_eq!(count, 1, "{text:?}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let object = |values| Value::Object(serde_json::Map::from_iter(values));
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            "[a\\\\\"\\]\\}\n é]{0,6}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 12, 3, move |value| {
            prop_oneof![
                proptest::collection::vec(value.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec(("[a-c]", value), 0..3).prop_map(object),
            ]
        });
        proptest::collection::vec(("[a-c]", value), 0..3).prop_map(object)
    }

    proptest! {
        #[test]
        fn objects_are_read_in_each_form(objects in proptest::collection::vec(json(), 1..8)) {
            let each = |write: fn(&Value) -> String| objects.iter().map(write).collect::<Vec<_>>();
            let compact = each(Value::to_string);
            let pretty = each(|object| format!("{object:#}"));
            for text in [
                compact.join("\n"),
                format!("[{}]", compact.join(",")),
                pretty.join("\n"),
                format!("[\n{}\n]\n", pretty.join(",\n")),
            ] {
                let read = read(&text, Format::Auto);
                let read: Vec<Value> = read
                    .into_iter()
                    .map(|(_, value)| serde_json::from_str(&value.unwrap()).unwrap())
                    .collect();
                prop_assert_eq!(&read, &objects, "{}", text);
            }
        }
    }
}
