//! Words of others, as they are printed.

use std::fmt::{self, Write as _};

/// Text that came from a server, a file or a user, for a terminal or a line of a log: what would start
/// another line, control a terminal, or change the direction of the text is written as in a Rust string
/// (`\n`, `\u{1b}`). All else stands as it is, a backslash too.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((place, char)) = rest.char_indices().find(|(_, char)| acts(*char)) {
            f.write_str(&rest[..place])?;
            for escape in char.escape_default() {
                f.write_char(escape)?;
            }
            rest = &rest[place + char.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// The first bytes of a text, at most so many and no part of a character, and the rest.
pub(crate) fn split_behind(text: &str, bytes: usize) -> (&str, &str) {
    let end = bytes.min(text.len());
    let boundary = (0..=end).rfind(|at| text.is_char_boundary(*at));
    text.split_at(boundary.unwrap_or(0))
}

/// Whether a character does something where it is printed, other than to be seen.
fn acts(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            // Line and paragraph separators.
            '\u{2028}' | '\u{2029}'
            // Marks, embeddings, overrides and isolates of direction.
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Annotations and tags, which are not seen.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_escaped_and_what_is_seen_is_not() {
        let seen = "a \\n \"é e\u{301} 👩\u{200d}🚀 日本 עברית <>&'";
        assert_eq!(Escaped(seen).to_string(), seen);
        for (acts, escaped) in [
            ("a\nb\r\n\t", r"a\nb\r\n\t"),
            (
                "\u{1b}[31mred\u{9b}0m\0\u{7f}",
                r"\u{1b}[31mred\u{9b}0m\u{0}\u{7f}",
            ),
            (
                "\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}",
                r"\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}",
            ),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            ("\u{e0041}x", r"\u{e0041}x"),
        ] {
            assert_eq!(Escaped(acts).to_string(), escaped);
        }
    }
}
