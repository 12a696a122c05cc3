//! The example that asks GitHub Actions for ID tokens, beside an issuer of a test's own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::clock::soon;
use crate::support::records::record;
use crate::support::sockets::listener;

#[allow(dead_code)]
#[path = "../../examples/github_actions.rs"]
mod example;

/// An issuer that gives `id-token-1`, `id-token-2` and so on, and notes what it was asked.
async fn issuer() -> (String, Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) {
    let (listener, url) = listener().await;
    let (given, asked) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::<Mutex<Vec<String>>>::default(),
    );
    tokio::spawn({
        let (given, asked) = (Arc::clone(&given), Arc::clone(&asked));
        async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut socket = BufReader::new(socket);
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    socket.read_line(&mut request).await.unwrap();
                }
                asked.lock().unwrap().push(request);
                let number = given.fetch_add(1, Ordering::Relaxed) + 1;
                let body = format!(r#"{{"value": "id-token-{number}"}}"#);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}",
                    body.len()
                );
                let answer = format!("{head}\r\n\r\n{body}");
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (format!("{url}/token?api-version=2.0"), given, asked)
}

#[tokio::test]
async fn id_tokens_are_asked_for_and_the_last_one_is_shown() {
    let (issuer, given, asked) = issuer().await;
    let revoked = Arc::new(AtomicUsize::new(0));
    let store = {
        let (given, revoked) = (Arc::clone(&given), Arc::clone(&revoked));
        let accepts = move |token: &str| {
            let number = token
                .strip_prefix("id-token-")
                .and_then(|number| number.parse().ok());
            number.is_some_and(|number: usize| {
                number <= given.load(Ordering::Relaxed) && number > revoked.load(Ordering::Relaxed)
            })
        };
        Store::builder().authorize(accepts).build()
    };
    let token = example::id_token(issuer, "of-this-job".to_owned());
    let client = store.client().with_token(token).unwrap();
    let texts: Vec<_> = (0..100).map(|number| record(number).to_string()).collect();
    let summary = soon(example::push(&client, &texts[..50].join("\n")))
        .await
        .unwrap();
    assert_eq!(
        (summary.stats.succeeded, given.load(Ordering::Relaxed)),
        (50, 1)
    );
    revoked.store(1, Ordering::Relaxed);
    let summary = soon(example::push(&client, &texts[50..].join("\n")))
        .await
        .unwrap();
    assert_eq!(
        (summary.stats.succeeded, given.load(Ordering::Relaxed)),
        (50, 2)
    );
    assert_eq!(store.len(), 100);
    for request in &*asked.lock().unwrap() {
        assert!(
            request.starts_with("GET /token?api-version=2.0&audience=dir HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("authorization: bearer of-this-job\r\n"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn an_issuer_that_refuses_is_the_reason_that_is_given() {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let serving = Store::new().listen("127.0.0.1:0").await.unwrap();
    let token = example::id_token(url, "SECRET".to_owned());
    let connecting = Client::builder(serving.url())
        .token_without_tls(token)
        .connect();
    let error = format!(
        "{:#}",
        anyhow::Error::from(soon(connecting).await.unwrap_err())
    );
    let begin = "access denied: no token from the function that was given: ";
    assert!(error.starts_with(begin) && error.contains("403"), "{error}");
    assert!(!error.contains("SECRET"), "{error}");
}
