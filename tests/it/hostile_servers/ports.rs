//! What else may listen at the port, and does not close the connection.

use std::io;

use super::attacker::{Wire, fails_with};

const OTHER: &str = "the server does not speak HTTP/2";
const HTTP1: &str = "the server answers with HTTP/1, not HTTP/2";

#[test]
fn what_speaks_another_protocol_without_end_is_left_at_its_first_words() {
    let noise: Vec<u8> = (0..4096_u64)
        .map(|number| (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 | 1)
        .collect();
    for (what, words, said) in [
        ("mail", OTHER, &b"220 mail.example.org ESMTP\r\n"[..]),
        (
            "SSH",
            "the server speaks SSH, not HTTP/2",
            b"SSH-2.0-OpenSSH_9.6\r\n",
        ),
        (
            "TLS",
            "the server expects TLS",
            b"\x15\x03\x01\x00\x02\x02\x46",
        ),
        ("HTTP/1", HTTP1, b"HTTP/1.1 200 OK\r\nx: y\r\n"),
        ("noise", OTHER, &noise),
    ] {
        let said = said.to_vec();
        let again = said.clone();
        let cost = fails_with(words, what, async move |mut wire| wire.flood(&said).await);
        assert!(cost.bytes < 1 << 20, "{what}: {cost:?}");
        // It says it once, and waits.
        fails_with(words, what, async move |mut wire| {
            wire.send(&again).await?;
            wire.hold().await
        });
    }
}

async fn half_a_greeting(mut wire: Wire) -> io::Result<()> {
    wire.send([0, 0, 6, 4, 0]).await?;
    wire.hold().await
}

#[test]
fn what_does_not_begin_is_waited_for_no_longer_than_an_item() {
    let silent = "the server said nothing within 0.4 s";
    fails_with(silent, "nothing", async |mut wire| wire.hold().await);
    fails_with(silent, "half a frame", half_a_greeting);
    fails_with(
        "no answer in 0.4 s",
        "settings and no more",
        async |mut wire| {
            wire.greet().await?;
            wire.hold().await
        },
    );
    fails_with(
        "no answer in 0.4 s",
        "a head without its settings",
        async |mut wire| {
            wire.send([0, 0, 6, 4, 0, 0, 0, 0, 0, 0]).await?;
            wire.hold().await
        },
    );
}
