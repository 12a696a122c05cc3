//! Looks at a text before it is written: eight bytes at a time, since nearly all text is short, and plain.

/// Whether all of `text` stands for itself: ASCII, without a control character and without `"&<>\`. It nearly always
/// does, so it is copied on the way, into `to`, which has the same length.
#[inline]
pub(super) fn copy_plain(text: &[u8], to: &mut [u8]) -> bool {
    let mut scan = Scan::new();
    // What is left of the last word is read with bytes that were read before.
    if let (Some(last), Some(end)) = (text.last_chunk(), to.last_chunk_mut()) {
        *end = scan.word(*last);
        let ((words, _), (places, _)) = (text.as_chunks(), to.as_chunks_mut());
        for (word, place) in words.iter().zip(places) {
            *place = scan.word(*word);
        }
    } else if let (Some([a, b, c, d]), Some([e, f, g, h])) = (text.first_chunk(), text.last_chunk())
    {
        scan.word([*a, *b, *c, *d, *e, *f, *g, *h]);
        to.copy_from_slice(text);
    } else {
        match *text {
            [] => {}
            [a] => drop(scan.word([a; 8])),
            [a, b] => drop(scan.word([a, b, a, b, a, b, a, b])),
            [a, b, c, ..] => drop(scan.word([a, b, c, a, b, c, a, b])),
        }
        to.copy_from_slice(text);
    }
    scan.is_plain()
}

/// Whether a text of any length, and in any script, may have a byte that is to be escaped.
pub(super) fn may_be_escaped(text: &[u8]) -> bool {
    // Without a table and without branches, so that the compiler looks at many bytes at once.
    let is_special = |byte: u8| {
        (byte < b' ')
            | (byte | (b'"' ^ b'&') == b'"' | b'&')
            | (byte | (b'<' ^ b'>') == b'<' | b'>')
            | (byte == b'\\')
            | (byte == SEPARATOR)
    };
    let is_any = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(false, |any, byte| any | is_special(*byte))
    };
    text.chunks(256).any(is_any)
}

struct Scan {
    /// The high bit of each byte is set as long as no byte in its place was special.
    plain: u64,
    /// All words, put together by OR.
    words: u64,
}

/// The first byte of U+2028 and U+2029, and of others that stand for themselves.
pub(super) const SEPARATOR: u8 = 0xe2;

const EACH: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = 0x80 * EACH;

impl Scan {
    #[inline]
    fn new() -> Self {
        Self {
            plain: HIGH,
            words: 0,
        }
    }

    #[inline]
    fn word(&mut self, bytes: [u8; 8]) -> [u8; 8] {
        let word = u64::from_le_bytes(bytes);
        self.plain &= plain(word);
        self.words |= word;
        bytes
    }

    #[inline]
    fn is_plain(&self) -> bool {
        (self.plain & !self.words) & HIGH == HIGH
    }
}

/// The high bit of a byte is set where it needs no escape, if all are ASCII.
#[inline]
fn plain(word: u64) -> u64 {
    let each = |byte: u8| u64::from(byte) * EACH;
    // 0x80 and more, if it is this or more, or if it is not 0: no sum passes a byte, since both parts are ASCII.
    let at_least = |word: u64, least: u8| word.wrapping_add(each(0x80 - least));
    let is_not = |word: u64, byte: u8| at_least(word ^ each(byte), 1);
    // Pairs that differ in one bit are looked for together.
    at_least(word, b' ')
        & is_not(word | each(b'"' ^ b'&'), b'"' | b'&')
        & is_not(word | each(b'<' ^ b'>'), b'<' | b'>')
        & is_not(word, b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let is_plain = (0x20..0x80).contains(&byte) && !br#""&<>\"#.contains(&byte);
            for before in 0..20 {
                for behind in 0..20 {
                    for other in [b'~', b' ', 0xc3] {
                        let mut text = vec![other; before + 1 + behind];
                        text[before] = byte;
                        let mut copy = vec![0; text.len()];
                        let are_plain = is_plain && (other.is_ascii() || text.len() == 1);
                        assert_eq!(copy_plain(&text, &mut copy), are_plain, "{text:x?}");
                        assert_eq!(copy, text);
                    }
                }
            }
        }
        assert!(copy_plain(b"", &mut []));
    }
}
