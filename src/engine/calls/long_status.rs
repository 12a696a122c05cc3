//! A status as it is kept: results wait for each other, and each may have the longest that a server can send.

use std::borrow::Cow;

use bytes::Bytes;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::escape::split_behind;

/// The most that is kept of a status's words, of its details and of its metadata, in bytes each.
const KEPT: usize = 16 << 10;

/// The status, without what is longer than is kept. Of its words the middle is left out: their beginning and their end
/// say what has happened. Details are kept or left out as a whole, metadata from the first on.
pub(crate) fn shortened(status: Status) -> Status {
    use std::error::Error as _;

    let metadata_len: usize = status.metadata().as_ref().iter().map(len_of).sum();
    let is_short = [status.message().len(), status.details().len(), metadata_len]
        .iter()
        .all(|len| *len <= KEPT);
    // What the transport made up is short.
    if is_short || status.source().is_some() {
        return status;
    }
    let details = match status.details().len() <= KEPT {
        true => Bytes::copy_from_slice(status.details()),
        false => Bytes::new(),
    };
    let mut len = 0;
    let metadata = status.metadata().as_ref().iter();
    let kept = metadata.take_while(|entry| {
        len += len_of(*entry);
        len <= KEPT
    });
    let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
    let metadata = MetadataMap::from_headers(kept.collect());
    let words = without_the_middle(status.message());
    Status::with_details_and_metadata(status.code(), words, details, metadata)
}

fn len_of((name, value): (&http::HeaderName, &http::HeaderValue)) -> usize {
    name.as_str().len() + value.len()
}

/// The words, if they are no longer than that, or their beginning and their end.
pub(crate) fn without_the_middle(words: &str) -> Cow<'_, str> {
    if words.len() <= KEPT {
        return Cow::Borrowed(words);
    }
    let half = KEPT / 2;
    let (begin, _) = split_behind(words, half);
    let mut from = words.len() - half..words.len();
    let end = from.find(|at| words.is_char_boundary(*at));
    let end = &words[end.unwrap_or(words.len())..];
    let left_out = words.len() - begin.len() - end.len();
    Cow::Owned(format!("{begin} … ({left_out} bytes) … {end}"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn what_is_short_stays_as_it_is() {
        let mut status =
            Status::with_details(Code::Internal, "a".repeat(KEPT), vec![7; KEPT].into());
        let value = "b".repeat(KEPT / 2).parse().expect("ASCII");
        status.metadata_mut().insert("key", value);
        let kept = shortened(status.clone());
        assert_eq!(kept.message(), status.message());
        assert_eq!(kept.details(), status.details());
        assert_eq!(kept.metadata().len(), 1);
    }

    #[test]
    fn what_is_long_keeps_its_ends() {
        let words = format!("failed to push: {}é: already exists", "é".repeat(1 << 19));
        let mut status = Status::with_details(Code::Internal, &words, vec![7; KEPT + 1].into());
        let metadata = status.metadata_mut();
        metadata.insert("first", "short".parse().expect("ASCII"));
        metadata.insert("second", "b".repeat(KEPT).parse().expect("ASCII"));
        let kept = shortened(status);
        assert_eq!(kept.code(), Code::Internal);
        let words = kept.message();
        assert!(words.len() < KEPT + 40, "{} bytes", words.len());
        assert!(words.starts_with("failed to push: é") && words.ends_with("é: already exists"));
        assert!(kept.details().is_empty());
        let metadata = kept.metadata();
        assert!(metadata.contains_key("first") && !metadata.contains_key("second"));
    }
}
