//! Floods of frames that mean nothing, and windows that let nothing through.

use super::attacker::{fails, fails_with};
use crate::support::frames::{
    ACK, DATA, END_HEADERS, HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, PING,
    PRIORITY, PUSH_PROMISE, RESET, SETTINGS, WINDOW_UPDATE, frame, frame_that_says, settings,
};

const NO_ANSWER: &str = "no answer in 0.4 s";

/// The stream of the first call.
const FIRST: u32 = 1;

#[test]
fn a_flood_of_frames_that_mean_nothing_ends_with_the_items_time() {
    for (what, flood) in [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("answers to pings", frame(PING, ACK, 0, &[7; 8])),
        ("settings", settings(&[])),
        ("windows", settings(&[(INITIAL_WINDOW_SIZE, 17)])),
        (
            "window updates",
            frame(WINDOW_UPDATE, 0, FIRST, &[0, 0, 0, 1]),
        ),
        ("priorities", frame(PRIORITY, 0, FIRST, &[0, 0, 0, 0, 1])),
        ("unknown frames", frame(0xfa, 0xff, FIRST, &[0; 16])),
        ("empty unknown frames", frame(0xfa, 0, 0, &[])),
        (
            "resets of what is over",
            frame(RESET, 0, FIRST, &[0, 0, 0, 8]),
        ),
    ] {
        fails_with(NO_ANSWER, what, async move |mut wire| {
            wire.greeted_call().await?;
            wire.flood(&flood).await
        });
    }
}

/// Nobody reads what the client says to it, so what it says must not pile up.
#[test]
fn a_flood_that_wants_answers_and_reads_none_takes_no_memory() {
    for (what, flood) in [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", settings(&[])),
    ] {
        let cost = fails_with(NO_ANSWER, what, async move |mut wire| {
            wire.greeted_call().await?;
            wire.stop_reading();
            wire.flood(&flood).await
        });
        assert!(cost.bytes < 1 << 20, "{what}: {cost:?}");
    }
}

#[test]
fn a_frame_that_breaks_the_rules_ends_the_connection_and_it_is_said() {
    let detected = "connection error detected";
    for (what, broken) in [
        ("an answer to no settings", frame(SETTINGS, ACK, 0, &[])),
        ("settings of a stream", frame(SETTINGS, 0, FIRST, &[])),
        ("five bytes of settings", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a ping of a stream", frame(PING, 0, FIRST, &[0; 8])),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7])),
        ("a reset of everything", frame(RESET, 0, 0, &[0; 4])),
        ("a reset of a stream to come", frame(RESET, 0, 99, &[0; 4])),
        ("a stream of the server's", frame(DATA, 0, 2, b"what?")),
        (
            "a promise",
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                FIRST,
                &[0, 0, 0, 2, 0x82, 0x86, 0x84],
            ),
        ),
        (
            "a window of all",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "a frame of 16 MiB",
            frame_that_says((1 << 24) - 1, DATA, 0, FIRST, &[]),
        ),
    ] {
        fails_with(detected, what, async move |mut wire| {
            wire.greeted_call().await?;
            wire.send(&broken).await?;
            wire.hold().await
        });
    }
}

#[test]
fn empty_frames_of_an_answer_end_the_connection_where_they_do_not_end() {
    let load = "too_many_data_frames";
    fails_with(load, "without anything", async |mut wire| {
        let call = wire.answered_call().await?;
        wire.flood(frame(DATA, 0, call, &[])).await
    });
    const PADDED: u8 = 8;
    fails("with nothing but padding", async |mut wire| {
        let call = wire.answered_call().await?;
        wire.flood(frame(DATA, PADDED, call, &[255; 256])).await
    });
}

/// They arrive faster than they are put together.
#[test]
fn an_answer_in_frames_of_a_byte_takes_no_more_than_is_read_at_once() {
    fails("a byte a frame", async |mut wire| {
        let call = wire.answered_call().await?;
        wire.send(frame(DATA, 0, call, &[0, 0, 0xff, 0, 0])).await?;
        wire.flood(frame(DATA, 0, call, &[0])).await
    });
}

#[test]
fn windows_that_let_nothing_through_end_with_the_items_time() {
    for (what, name, value) in [
        ("no window", INITIAL_WINDOW_SIZE, 0),
        ("a window of 17 bytes", INITIAL_WINDOW_SIZE, 17),
        ("no stream", MAX_CONCURRENT_STREAMS, 0),
        ("no table", HEADER_TABLE_SIZE, 0),
        ("a table of 4 GiB", HEADER_TABLE_SIZE, u32::MAX),
    ] {
        let cost = fails_with(NO_ANSWER, what, async move |mut wire| {
            wire.greet_with(&[(name, value)]).await?;
            wire.hold().await
        });
        assert!(cost.frames < 20, "{what}: {cost:?}");
    }
    fails_with(NO_ANSWER, "a window below nothing", async |mut wire| {
        wire.greeted_call().await?;
        wire.send(settings(&[(INITIAL_WINDOW_SIZE, 0)])).await?;
        wire.hold().await
    });
}
