//! Servers that close each connection, or reset each call: they are tried again with waits, and it is said why.

use super::attacker::{fails, fails_with, side_by_side};
use crate::support::frames::{DATA, GOAWAY, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, RESET, frame};

/// The reasons of HTTP/2, and some that nobody knows.
const REASONS: [u32; 17] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    99,
    u32::MAX,
];

#[test]
fn a_server_that_closes_each_connection_is_tried_with_waits() {
    let closed = "the server closed the connection before it said anything";
    fails_with(closed, "at once", async |_| Ok(()));
    // It is a race which of the two ends notices first.
    let ended = [
        "the connection ended as soon as it was made",
        "connection error: stream closed because of a broken pipe",
    ];
    let (_, failures) = fails("after its settings", async |mut wire| wire.greet().await);
    for failure in failures {
        assert!(
            ended.iter().any(|words| failure.contains(words)),
            "{failure}"
        );
    }
    fails_with(
        "connection error",
        "after the head of a call",
        async |mut wire| wire.greeted_call().await.map(drop),
    );
    fails_with(
        "connection",
        "after the head of a response",
        async |mut wire| wire.answered_call().await.map(drop),
    );
    fails_with(
        "connection",
        "in the midst of an answer",
        async |mut wire| {
            let call = wire.answered_call().await?;
            wire.send(frame(DATA, 0, call, &[0, 0, 0, 1, 0, 7])).await
        },
    );
}

#[test]
fn a_server_that_resets_each_connection_is_tried_with_waits() {
    let cannot = "cannot connect to http://127.0.0.1";
    fails_with(cannot, "at once", async |wire| wire.reset());
    fails_with(
        "connection",
        "after the head of a call",
        async |mut wire| {
            wire.greeted_call().await?;
            wire.reset()
        },
    );
}

#[test]
fn a_server_that_resets_each_call_is_asked_with_waits_whatever_reason_it_gives() {
    side_by_side(REASONS, |reason| {
        let what = format!("reason {reason}");
        let cost = fails_with("stream error received", &what, async move |mut wire| {
            wire.greet().await?;
            loop {
                let call = wire.call().await?;
                wire.send(frame(RESET, 0, call, &reason.to_be_bytes()))
                    .await?;
            }
        });
        assert_eq!(cost.connections, 1, "{what}");
    });
}

#[test]
fn a_server_that_says_goodbye_to_each_call_is_asked_with_waits() {
    side_by_side(REASONS, |reason| {
        let what = format!("reason {reason}, none was seen");
        let farewell = [[0; 4], reason.to_be_bytes()].concat();
        fails_with("connection error received", &what, async move |mut wire| {
            wire.greeted_call().await?;
            wire.send(frame(GOAWAY, 0, 0, &farewell)).await?;
            wire.hold().await
        });
    });
    // Before any call, again and again, and though the call was seen.
    for last in [0, 1, (1 << 31) - 1_u32] {
        let farewell = [last.to_be_bytes(), [0; 4]].concat();
        let at_once = farewell.clone();
        fails(&format!("at once, up to {last}"), async move |mut wire| {
            wire.greet().await?;
            wire.send(frame(GOAWAY, 0, 0, &at_once)).await?;
            wire.hold().await
        });
        fails(&format!("for ever, up to {last}"), async move |mut wire| {
            wire.greeted_call().await?;
            wire.flood(frame(GOAWAY, 0, 0, &farewell)).await
        });
    }
}

#[test]
fn the_words_of_a_goodbye_are_escaped() {
    let farewell = [&[0, 0, 0, 0, 0, 0, 0, 11][..], b"calm\x1b[2J\n\xff"].concat();
    let (_, failures) = fails("words", async move |mut wire| {
        wire.greeted_call().await?;
        wire.send(frame(GOAWAY, 0, 0, &farewell)).await?;
        wire.hold().await
    });
    for failure in failures {
        assert!(failure.contains(r"calm\x1b[2J\n\xff"), "{failure}");
        assert!(!failure.contains(char::is_control), "{failure:?}");
    }
}

#[test]
fn settings_that_do_not_make_sense_end_the_connection_and_it_is_said() {
    let ended = "the connection ended as soon as it was made";
    for (what, name, value) in [
        ("frames of 1 byte", MAX_FRAME_SIZE, 1),
        ("frames of 16 MiB", MAX_FRAME_SIZE, 1 << 24),
        ("windows of 2 GiB", INITIAL_WINDOW_SIZE, 1 << 31),
    ] {
        fails_with(ended, what, async move |mut wire| {
            wire.greet_with(&[(name, value)]).await?;
            wire.hold().await
        });
    }
}
