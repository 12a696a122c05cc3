//! Text with wildcards, as a DIR server compares it: by SQL's LIKE, whatever the case.

use super::steps::Steps;

/// What a value in a query finds.
#[derive(Debug)]
pub(super) enum Pattern {
    /// This text.
    Exact(Vec<char>),
    /// Text of this shape.
    Like(Vec<Part>),
    Nothing,
}

#[derive(Debug, PartialEq)]
pub(super) enum Part {
    One(char),
    AnyOne,
    Any,
}

impl Pattern {
    /// `*` is any text, `?` any character.
    pub(super) fn new(value: &str) -> Self {
        if !value.contains(['*', '?']) {
            return Self::Exact(value.chars().map(lower).collect());
        }
        let mut parts = Vec::with_capacity(value.len());
        let mut letters = value.chars().map(lower);
        while let Some(letter) = letters.next() {
            match letter {
                // The server makes `%` and `_` of them, and escapes those that are there, but no backslash: so that
                // takes the meaning of what is behind it.
                '\\' => match letters.next() {
                    Some('*') => parts.push(Part::One('%')),
                    Some('?') => parts.push(Part::One('_')),
                    // It escapes the backslash that escapes them.
                    Some('%') => parts.extend([Part::One('\\'), Part::Any]),
                    Some('_') => parts.extend([Part::One('\\'), Part::AnyOne]),
                    Some(other) => parts.push(Part::One(other)),
                    // SQL has it escape something.
                    None => return Self::Nothing,
                },
                '*' => parts.push(Part::Any),
                '?' => parts.push(Part::AnyOne),
                other => parts.push(Part::One(other)),
            }
        }
        parts.dedup_by(|next, before| *next == Part::Any && *before == Part::Any);
        Self::Like(parts)
    }

    /// Where the steps are spent it matches, so that who looks for a match looks no further.
    pub(super) fn matches(&self, text: &str, steps: &Steps) -> bool {
        match self {
            Self::Exact(letters) => {
                !steps.take(1 + letters.len().min(text.len()))
                    || text.chars().map(lower).eq(letters.iter().copied())
            }
            Self::Like(parts) => is_like(text, parts, steps),
            Self::Nothing => !steps.take(1),
        }
    }
}

/// Where it has a single character of its own for that.
fn lower(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    let mut lower = letter.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => one,
        _ => letter,
    }
}

/// Goes back to the last `Any` alone, so its time is the product of both lengths at most.
fn is_like(text: &str, parts: &[Part], steps: &Steps) -> bool {
    let mut rest = text.chars();
    let mut at = 0;
    let mut back = None;
    while steps.take(1) {
        let mut ahead = rest.clone();
        let letter = ahead.next().map(lower);
        let fits = match (parts.get(at), letter) {
            (Some(Part::Any), _) => {
                at += 1;
                back = Some((at, rest.clone()));
                continue;
            }
            (None, None) => return true,
            (Some(Part::AnyOne), Some(_)) => true,
            (Some(Part::One(one)), Some(letter)) => *one == letter,
            (_, None) => return false,
            (None, Some(_)) => false,
        };
        if fits {
            at += 1;
            rest = ahead;
            continue;
        }
        let Some((after, from)) = &mut back else {
            return false;
        };
        from.next();
        at = *after;
        rest = from.clone();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_find_what_they_should() {
        for (pattern, text, expected) in [
            ("agent", "agent", true),
            ("Agent", "aGENT", true),
            ("agent", "agents", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
            ("?", "é", true),
            ("??", "é", false),
            ("É*", "école", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("*b*", "abc", true),
            ("*b", "abc", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**a**", "a", true),
            ("*ab*ab", "ab ab", true),
            ("*ab?ab", "aab ab", true),
            ("*aab", "aaab", true),
            ("a%", "ab", false),
            ("a_*", "ab", false),
            ("a_*", "a_b", true),
            ("%*", "%", true),
            (r"\*", "%", true),
            (r"\*", r"\a", false),
            (r"a\b*", "abc", true),
            (r"a\b", r"a\b", true),
            (r"*\", r"a\", false),
        ] {
            let pattern_is = Pattern::new(pattern);
            let steps = Steps::new(100);
            let matches = pattern_is.matches(text, &steps);
            assert_eq!(matches, expected, "{pattern} {text}");
            assert!(!steps.are_spent(), "{pattern} {text}");
        }
    }

    #[test]
    fn many_wildcards_take_no_exponential_time() {
        let pattern = Pattern::new(&"*a".repeat(1_000));
        let text = format!("{}b", "a".repeat(10_000));
        assert!(!pattern.matches(&text, &Steps::new(100_000)));
    }

    #[test]
    fn what_takes_too_many_steps_is_left() {
        let text = "a".repeat(10_000);
        let long = format!("{}b", "a".repeat(5_000));
        for pattern in [long.clone(), format!("*{long}"), format!("*?{long}*")] {
            let steps = Steps::new(1_000);
            assert!(Pattern::new(&pattern).matches(&text, &steps));
            assert!(steps.are_spent());
        }
    }
}
