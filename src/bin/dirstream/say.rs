//! What is said on standard error.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

/// Says it in a line of its own. That nobody can hear it is no reason to end.
///
/// What would control a terminal is escaped: names of files and words of others are among it.
pub(crate) fn in_a_line(words: fmt::Arguments<'_>) {
    let mut line = String::new();
    for c in words.to_string().chars() {
        let _ = match c.is_control() {
            true => write!(line, "{}", c.escape_default()),
            false => write!(line, "{c}"),
        };
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}

/// [`in_a_line`] with a format.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::in_a_line(format_args!($($words)*))
    };
}
pub(crate) use say;
