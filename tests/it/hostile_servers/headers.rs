//! Headers that do not end, or are too many.

use super::attacker::{fails, fails_with};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, frame, header, response_headers,
};

#[test]
fn headers_that_do_not_end_end_the_connection() {
    for (what, words, more) in [
        ("nothing", "too_many_continuations", vec![]),
        ("a short header", "too_many_continuations", header("a", "b")),
        (
            "a long header",
            "too_many_continuations",
            header("a", [b'x'; 16_000]),
        ),
        // A name that is never over.
        (
            "half a header",
            "too_many_continuations",
            vec![b'x'; 16_000],
        ),
    ] {
        fails_with(words, what, async move |mut wire| {
            let call = wire.greeted_call().await?;
            wire.send(frame(HEADERS, 0, call, &response_headers()))
                .await?;
            wire.flood(frame(CONTINUATION, 0, call, &more)).await
        });
    }
}

/// A header that stands in the table, named a million times in a few bytes each.
#[test]
fn headers_that_unpack_to_more_than_is_taken_are_refused() {
    let cost = fails_with("error detected", "a bomb", async |mut wire| {
        const WITH_INDEX: u8 = 0x40;
        const FIRST_OF_THE_TABLE: u8 = 0x80 | 62;
        let call = wire.greeted_call().await?;
        let mut long = header("a", [b'x'; 4_000]);
        long[0] = WITH_INDEX;
        wire.send(frame(
            HEADERS,
            0,
            call,
            &[response_headers(), long].concat(),
        ))
        .await?;
        wire.flood(frame(CONTINUATION, 0, call, &[FIRST_OF_THE_TABLE; 16_000]))
            .await
    });
    assert!(cost.bytes < 16 << 20, "{cost:?}");
}

#[test]
fn a_list_above_the_limit_fails_its_call() {
    for (what, flags) in [("headers", 0), ("trailers", END_STREAM)] {
        // What a server says in too many words may be its end all the same: they are cut.
        let words = match flags {
            END_STREAM => "the server ended the call with answers missing",
            _ => "error detected",
        };
        fails_with(words, what, async move |mut wire| {
            let call = match flags {
                END_STREAM => wire.answered_call().await?,
                _ => wire.greeted_call().await?,
            };
            let begin = match flags {
                END_STREAM => header("grpc-status", "0"),
                _ => response_headers(),
            };
            wire.send(frame(HEADERS, flags, call, &begin)).await?;
            for _ in 0..66 {
                let long = header("grpc-message", [b'x'; 16_000]);
                wire.send(frame(CONTINUATION, 0, call, &long)).await?;
            }
            wire.send(frame(CONTINUATION, END_HEADERS, call, &[]))
                .await?;
            wire.hold().await
        });
    }
}

#[test]
fn headers_that_come_byte_by_byte_and_never_end_are_waited_for_no_longer_than_an_item() {
    fails_with("no answer in 0.4 s", "slow headers", async |mut wire| {
        let call = wire.greeted_call().await?;
        let headers = response_headers().repeat(1_000);
        for byte in frame(HEADERS, 0, call, &headers[..16_000]) {
            wire.send([byte]).await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        wire.hold().await
    });
}

#[test]
fn responses_that_only_announce_another_do_not_pile_up() {
    fails_with("no answer in 0.4 s", "for ever", async |mut wire| {
        let call = wire.greeted_call().await?;
        let hints = header(":status", "103");
        wire.flood(frame(HEADERS, END_HEADERS, call, &hints)).await
    });
    fails_with(
        "stream error detected",
        "after the response",
        async |mut wire| {
            let call = wire.answered_call().await?;
            let hints = header(":status", "103");
            wire.flood(frame(HEADERS, END_HEADERS, call, &hints)).await
        },
    );
    fails_with("error detected", "a second response", async |mut wire| {
        let call = wire.answered_call().await?;
        wire.flood(frame(HEADERS, END_HEADERS, call, &response_headers()))
            .await
    });
}

#[test]
fn what_comes_after_the_trailers_is_not_read() {
    fails("an answer after the end", async |mut wire| {
        wire.greet().await?;
        loop {
            let call = wire.call().await?;
            wire.respond(call).await?;
            let end = header("grpc-status", "0");
            wire.send(frame(HEADERS, END_HEADERS | END_STREAM, call, &end))
                .await?;
            for _ in 0..1_000 {
                wire.send(frame(DATA, 0, call, &[0; 5])).await?;
            }
        }
    });
}
