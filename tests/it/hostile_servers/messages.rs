//! Messages that say they are long, that are compressed without need, and that unpack to more than anybody has.

use std::pin::pin;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{ErrorKind, EventFilter, Heard};
use futures::StreamExt as _;

use super::attacker::{Cost, Wire, attacked, hasty};
use crate::support::frames::{DATA, END_HEADERS, HEADERS, frame, header, response_headers};
use crate::support::messages::{in_field, says};
use crate::support::records::cids;

/// A pull of five records from a server that answers each call with these bytes, behind these headers, and then with
/// `more` for ever: its cost, and the kind and words of each failure.
fn answered_with(
    headers: Vec<u8>,
    bytes: Vec<u8>,
    more: Option<Vec<u8>>,
    change: impl FnOnce(Client) -> Client,
) -> (Cost, Vec<(ErrorKind, String)>) {
    let headers = [response_headers(), headers].concat();
    let attack = async move |mut wire: Wire| {
        wire.greet().await?;
        loop {
            let call = wire.call().await?;
            wire.send(frame(HEADERS, END_HEADERS, call, &headers))
                .await?;
            for part in bytes.chunks(16 << 10) {
                wire.send(frame(DATA, 0, call, part)).await?;
            }
            if let Some(more) = &more {
                wire.flood(frame(DATA, 0, call, more)).await?;
            }
        }
    };
    attacked(attack, async |client| {
        let results = cids(5).pull_from_with(&change(client), &hasty());
        let results = results.take(5).map(|result| {
            let failed = result.expect_err("nothing was sent");
            (failed.kind(), failed.error.to_string())
        });
        results.collect().await
    })
}

#[test]
fn no_room_is_made_for_a_message_that_says_it_is_too_long() {
    for len in [1 << 30, u32::MAX] {
        for more in [None, Some(vec![7; 16 << 10])] {
            let what = format!("{len} bytes, some follow: {}", more.is_some());
            let (cost, failures) = answered_with(vec![], says(0, len, &[]), more, |client| client);
            assert!(cost.bytes < 1 << 20, "{what}: {cost:?}");
            assert_eq!(failures.len(), 5, "{what}");
            let (kind, words) = &failures[0];
            assert_eq!(*kind, ErrorKind::Mismatch, "{what}: {words}");
            assert!(words.contains("too large"), "{what}: {words}");
        }
    }
}

#[test]
fn a_message_in_an_encoding_that_was_not_asked_for_is_no_answer() {
    let encoding = |name: &str| header("grpc-encoding", name);
    let none = || vec![];
    for (what, headers, flag, words) in [
        ("no encoding is named", none(), 1, "compress"),
        ("one that nobody knows", encoding("snappy"), 1, "`snappy`"),
        (
            "one that is no text",
            header("grpc-encoding", b"\xff"),
            1,
            "[255]",
        ),
        ("one that was not asked for", encoding("gzip"), 1, "`gzip`"),
        ("a flag that nobody knows", none(), 2, "compression flag: 2"),
        (
            "all flags",
            encoding("identity"),
            255,
            "compression flag: 255",
        ),
    ] {
        let (cost, failures) =
            answered_with(headers, says(flag, 9, b"not a zip"), None, |client| client);
        assert!(cost.bytes < 1 << 20, "{what}: {cost:?}");
        assert_eq!(failures.len(), 5, "{what}");
        assert!(cost.calls <= 5, "{what}: {cost:?}");
        for (_, failure) in failures {
            assert!(failure.contains(words), "{what}: {failure}");
        }
    }
}

/// A message whose parts are all empty, which take 12 to 16 times as much in memory as on the wire, is the answer to
/// each call of this job.
fn answered_with_empty_parts<T>(
    len: usize,
    field: u8,
    is_in_field: bool,
    job: impl AsyncFnOnce(Client) -> T,
) -> (Cost, T) {
    let mut message = [field << 3 | 2, 0].repeat(len / 2);
    if is_in_field {
        message = in_field(1, &message);
    }
    let answer = says(0, message.len().try_into().unwrap(), &message);
    let attack = async move |mut wire: Wire| {
        let call = wire.answered_call().await?;
        for part in answer.chunks(16 << 10) {
            wire.send(frame(DATA, 0, call, part)).await?;
        }
        wire.hold().await
    };
    attacked(attack, job)
}

#[test]
fn a_delete_that_names_nothing_a_million_times_fails() {
    for (len, words) in [(1_000_000, "no CID"), (4_000_000, "too large")] {
        let (cost, failure) = answered_with_empty_parts(len, 1, false, async |client| {
            let mut results = pin!(cids(1).delete_referrers_from_with(&client, &hasty()));
            results.next().await.unwrap().unwrap_err().to_string()
        });
        assert!(cost.bytes < 46 << 20, "{len}: {cost:?}");
        assert!(failure.contains(words), "{len}: {failure}");
    }
}

/// As long as the labels of a record may be.
#[test]
fn an_event_of_two_million_labels_takes_no_more_than_they_do() {
    let (cost, labels) = answered_with_empty_parts(4_000_000, 5, true, async |client| {
        let mut heard = pin!(client.listen_with(EventFilter::new(), &hasty()));
        loop {
            if let Heard::Event(event) = heard.next().await.unwrap().unwrap() {
                return event.labels.len();
            }
        }
    });
    assert_eq!(labels, 2_000_000);
    assert!(cost.bytes < 100 << 20, "{cost:?}");
}

/// A megabyte of gzip that opens to a gigabyte: the same block over and over.
#[cfg(feature = "gzip")]
fn gzip_bomb() -> Vec<u8> {
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let zeros = vec![0; 1 << 20];
    let mut block = Vec::with_capacity(1 << 16);
    deflate
        .compress_vec(&zeros, &mut block, flate2::FlushCompress::Full)
        .unwrap();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    [head.to_vec(), block.repeat(1 << 10)].concat()
}

/// A megabyte of zstd that opens to 32 gigabytes: blocks that each say, in four bytes, 128 KiB of zeros.
#[cfg(feature = "zstd")]
fn zstd_bomb() -> Vec<u8> {
    const MAGIC_AND_WINDOW: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
    const RUN_OF_128_KIB: u32 = (128 << 10) << 3 | 1 << 1;
    let [low, middle, high, _] = RUN_OF_128_KIB.to_le_bytes();
    [
        &MAGIC_AND_WINDOW[..],
        &[low, middle, high, 0].repeat(1 << 18),
    ]
    .concat()
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
#[test]
fn a_bomb_is_unpacked_as_far_as_an_answer_may_be_long_and_fails_its_item() {
    use agntcy_dir_stream::Compression;

    for (name, compression, bomb) in [
        #[cfg(feature = "gzip")]
        ("gzip", Compression::Gzip, gzip_bomb()),
        #[cfg(feature = "zstd")]
        ("zstd", Compression::Zstd, zstd_bomb()),
    ] {
        assert!((1 << 19..2 << 20).contains(&bomb.len()), "{}", bomb.len());
        let message = says(1, bomb.len().try_into().unwrap(), &bomb);
        let headers = header("grpc-encoding", name);
        let (cost, failures) = answered_with(headers.clone(), message.clone(), None, |client| {
            client.with_compression(compression)
        });
        assert!(cost.bytes < 46 << 20, "{name}: {cost:?}");
        assert_eq!(failures.len(), 5, "{name}");
        for (kind, words) in failures {
            assert_eq!(kind, ErrorKind::Mismatch, "{name}: {words}");
        }
        // It is not unpacked where nobody asked for it.
        let (cost, failures) = answered_with(headers, message, None, |client| client);
        assert!(cost.bytes < 4 << 20, "{name}: {cost:?}");
        assert_eq!(failures.len(), 5, "{name}");
    }
}
