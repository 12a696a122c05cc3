//! Sockets on this machine.

use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpListener;

/// A listener at a free port, and its URL.
pub(crate) async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    (listener, url)
}

/// An address below the ports that the system gives to outgoing connections: nobody takes it while its server
/// is away. Each process begins elsewhere, so that two runs of the tests side by side do not take each other's.
pub(crate) fn free_address() -> String {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let place = process::id() % 400 * 30;
        AtomicU16::new(20_000 + u16::try_from(place).expect("below 12,000"))
    });
    std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
        .take(1_000)
        .map(|port| format!("127.0.0.1:{port}"))
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .expect("a free port")
}

/// The URL of a server that reads something on each connection, answers with these words, and closes it.
#[cfg(feature = "server")]
pub(crate) async fn server_that_says(words: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let (listener, url) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 1 << 10]).await;
            let _ = socket.write_all(words).await;
        }
    });
    url
}
