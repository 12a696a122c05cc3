//! What a client says first: one of HTTP/2 begins with its preface, and another gives itself away.

/// What the first bytes of HTTP/2 are.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a request of HTTP/1 begins with.
const METHODS: [&str; 9] = [
    "GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "CONNECT ", "TRACE ",
];

/// What a client speaks that does not speak HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    Tls,
    Http1,
    Ssh,
    Other,
}

impl Instead {
    /// What it is of which so many bytes were the preface, and then these came. `None`: it may be HTTP/2.
    pub(super) fn of(before: usize, came: &[u8]) -> Option<Self> {
        let (before, rest) = PREFACE.split_at(before.min(PREFACE.len()));
        if came.iter().zip(rest).all(|(came, preface)| came == preface) {
            return None;
        }
        let said = [before, came].concat();
        Some(match said.as_slice() {
            [0x16, 0x03, ..] => Self::Tls,
            _ if METHODS
                .iter()
                .any(|method| said.starts_with(method.as_bytes())) =>
            {
                Self::Http1
            }
            _ if said.starts_with(b"SSH-") => Self::Ssh,
            _ => Self::Other,
        })
    }

    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Tls => "the client speaks TLS, and the store does not",
            Self::Http1 => "the client speaks HTTP/1, not HTTP/2",
            Self::Ssh => "the client speaks SSH, not HTTP/2",
            Self::Other => "what came is no HTTP/2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_speaks_is_told_by_its_first_bytes() {
        for (said, expected) in [
            (PREFACE, None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more", None),
            (b"PRI * HTTP/1.0\r\n", Some(Instead::Other)),
            (b"GET /health HTTP/1.1\r\n", Some(Instead::Http1)),
            (b"POST / HTTP/1.1\r\n", Some(Instead::Http1)),
            (b"GETTING ", Some(Instead::Other)),
            (b"\x16\x03\x01\x02\x00", Some(Instead::Tls)),
            (b"\x16\x04\x01\x02\x00", Some(Instead::Other)),
            (b"SSH-2.0-OpenSSH\r\n", Some(Instead::Ssh)),
            (&[0; 20], Some(Instead::Other)),
        ] {
            assert_eq!(Instead::of(0, said), expected, "{said:?}");
            // Where it begins as the preface does, the rest tells the same.
            let same = said
                .iter()
                .zip(PREFACE)
                .take_while(|(said, preface)| said == preface);
            let same = same.count();
            assert_eq!(Instead::of(same, &said[same..]), expected, "{said:?}");
        }
    }
}
