//! The error of reading or writing a value through serde: what, and where in the document.

use std::fmt::{self, Display, Write as _};

use super::{WireError, malformed};
use crate::error::Error;
use crate::escape::split_behind;

/// Boxed, since it is the unlikely side of many small `Result`s.
#[derive(Debug)]
pub(super) struct PathError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    what: What,
    /// From the value to the root.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum What {
    Said(String),
    Malformed(WireError),
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl PathError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            what: What::Said(what.into()),
            steps: Vec::new(),
        }))
    }

    pub(super) fn in_key(mut self, key: impl Into<String>) -> Self {
        self.0.steps.push(Step::Key(key.into()));
        self
    }

    pub(super) fn in_index(mut self, index: usize) -> Self {
        self.0.steps.push(Step::Index(index));
        self
    }

    /// `data` is what was read, for the offset of what is malformed in it.
    pub(super) fn to_error(&self, data: &[u8]) -> Error {
        match self.0.what {
            What::Malformed(error) => malformed(error, data),
            What::Said(_) => Error::invalid(self.to_string()),
        }
    }

    /// What was wrong, for a reader that tells where by itself.
    pub(super) fn what(&self) -> &str {
        match &self.0.what {
            What::Said(what) => what,
            What::Malformed(error) => error.what,
        }
    }
}

impl From<WireError> for PathError {
    fn from(error: WireError) -> Self {
        Self(Box::new(Inner {
            what: What::Malformed(error),
            steps: Vec::new(),
        }))
    }
}

impl Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('$')?;
        for step in self.0.steps.iter().rev() {
            match step {
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        write!(f, ": {}", self.what())
    }
}

impl std::error::Error for PathError {}

impl serde::ser::Error for PathError {
    fn custom<T: Display>(what: T) -> Self {
        Self::new(cut(&what))
    }
}

impl serde::de::Error for PathError {
    fn custom<T: Display>(what: T) -> Self {
        Self::new(cut(&what))
    }
}

/// A type's message, which may repeat a whole text, cut to 2 KiB.
fn cut(what: &impl Display) -> String {
    let mut cut = Cut::default();
    // If its `Display` fails, what it has written is kept.
    let _ = write!(cut, "{what}");
    match cut.more {
        0 => cut.text,
        more => format!("{}… ({more} bytes more)", cut.text),
    }
}

#[derive(Default)]
struct Cut {
    text: String,
    /// How many bytes were left out.
    more: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        /// In bytes.
        const MOST: usize = 2 << 10;
        let room = if self.more > 0 {
            0
        } else {
            MOST.saturating_sub(self.text.len())
        };
        let (taken, left) = split_behind(text, room);
        self.text.push_str(taken);
        self.more += left.len();
        Ok(())
    }
}
