//! Compressed messages: which are, that they come through, and a server that takes none.

use std::io::Read;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Code, Compression, ErrorKind};
use bytes::Bytes;
use futures::stream;
use prost::Message;

use crate::support::clock::soon;
use crate::support::http2::{RequestEnd, WINDOW, raw_server};
use crate::support::peer::{PeerCall, scripted};
use crate::support::polling::{assert_pending, next, poll_until};
use crate::support::records::{cid, example_records, record, sized};

/// All that are built in, and their names in gRPC's headers.
const ALL: &[(Compression, &str)] = &[
    #[cfg(feature = "gzip")]
    (Compression::Gzip, "gzip"),
    #[cfg(feature = "zstd")]
    (Compression::Zstd, "zstd"),
];

fn decompressed(encoding: &str, message: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match encoding {
        #[cfg(feature = "gzip")]
        "gzip" => flate2::read::GzDecoder::new(message)
            .read_to_end(&mut plain)
            .unwrap(),
        #[cfg(feature = "zstd")]
        "zstd" => zstd::stream::read::Decoder::new(message)
            .unwrap()
            .read_to_end(&mut plain)
            .unwrap(),
        other => panic!("{other}"),
    };
    plain
}

/// A record of random ASCII text of this length. Each byte has seven random bits, so compression can save an
/// eighth at most, less what the compressed form adds.
fn random(len: usize) -> Record {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let fill: String = std::iter::repeat_with(|| char::from(random.u8(..128)))
        .take(len)
        .collect();
    serde_json::json!({"name": "random", "schema_version": "1.0.0", "fill": fill})
        .try_into()
        .unwrap()
}

fn header<'a>(call: &'a PeerCall, name: &str) -> Option<&'a str> {
    call.sent_headers
        .get(name)
        .map(|value| value.to_str().unwrap())
}

/// The messages that have come: the flag of each, and its bytes without compression.
fn read(call: &mut PeerCall, encoding: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let messages = call.messages().into_iter();
    let read = |(flag, message): (u8, Bytes)| match flag {
        0 => (0, message.to_vec()),
        flag => (flag, decompressed(encoding, &message)),
    };
    messages.map(read).unzip()
}

#[tokio::test]
async fn what_pays_is_compressed_and_the_rest_is_sent_as_it_is() {
    for (compression, name) in ALL {
        let (client, peer) = scripted();
        let client = client.with_compression(*compression);
        let mut records = example_records();
        let mut flags = vec![1; records.len()];
        // Short ones, also such that would be shorter; and what does not shrink.
        for (at, record, flag) in [
            (0, record(0), 0),
            (3, random(4_000), 0),
            (4, sized(255), 0),
            (5, sized(256), 1),
            (9, random(100_000), 0),
            (9, sized(100_000), 1),
            (9, random(1), 0),
        ] {
            records.insert(at, record);
            flags.insert(at, flag);
        }
        let mut results = Box::pin(stream::iter(records.clone()).push_to(&client));
        assert_pending(&mut results);
        let mut call = peer.call();
        assert_eq!(header(&call, "grpc-encoding"), Some(*name));
        let (mut sent_flags, mut sent) = (Vec::new(), Vec::new());
        while sent.len() < records.len() {
            let (flags, messages) = read(&mut call, name);
            sent_flags.extend(flags);
            sent.extend(messages);
            assert_pending(&mut results);
        }
        let plain: Vec<_> = records.iter().map(Message::encode_to_vec).collect();
        assert!(sent == plain, "{name}: what is sent is what was put in");
        assert_eq!(sent_flags, flags, "{name}");
        for record in &records {
            call.answer_cid(cid(record));
        }
        call.end(Code::Ok, "");
        for _ in &records {
            next(&mut results).unwrap();
        }
    }
}

#[tokio::test]
async fn only_calls_with_records_say_that_they_are_compressed() {
    for (compression, name) in ALL {
        let (client, peer) = scripted();
        let client = client.with_compression(*compression);
        let refs = || stream::iter([cid(&record(1))]);
        let accepted = format!("{name},identity");
        let see = |encoding: Option<&str>| {
            let mut call = peer.call();
            assert_eq!(header(&call, "grpc-encoding"), encoding, "{}", call.path);
            assert_eq!(header(&call, "grpc-accept-encoding"), Some(&*accepted));
            let flags: Vec<_> = call.messages().into_iter().map(|(flag, _)| flag).collect();
            assert_eq!(flags, [0], "{}", call.path);
        };
        let mut pull = Box::pin(refs().pull_from(&client));
        assert_pending(&mut pull);
        see(Some(name));
        let mut lookup = Box::pin(refs().lookup_in(&client));
        assert_pending(&mut lookup);
        see(None);
        let mut delete = Box::pin(refs().delete_from(&client));
        assert_pending(&mut delete);
        see(None);
        let mut push = Box::pin(stream::iter([record(1)]).push_to(&client));
        assert_pending(&mut push);
        see(Some(name));
    }
}

/// Here the code `Unimplemented` is about no method, and it is no fault. Each record's error has the server's
/// words.
#[tokio::test]
async fn a_server_that_does_not_know_the_encoding_is_quoted() {
    for (compression, name) in ALL {
        let (client, peer) = scripted();
        let client = client.with_compression(*compression);
        let mut results = Box::pin(stream::iter(example_records()).push_to(&client));
        assert_pending(&mut results);
        let words = format!("grpc: Decompressor is not installed for grpc-encoding \"{name}\"");
        peer.call().end(Code::Unimplemented, &words);
        for index in 0..example_records().len() {
            let failed = next(&mut results).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Unsupported);
            assert!(!failed.error.is_of_item());
            assert_eq!(
                failed.to_string(),
                format!("push of item {index}: not supported by the server: {words}")
            );
        }
        assert!(peer.try_call().is_none(), "it is not asked again");
    }
}

#[cfg(feature = "gzip")]
#[tokio::test]
async fn an_answer_that_cannot_be_decompressed_fails_its_item_alone() {
    let (client, peer) = scripted();
    let client = client.with_compression(Compression::Gzip);
    let cids = [1, 2].map(|number| cid(&record(number)));
    let mut results = Box::pin(stream::iter(cids).pull_from(&client));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 2);
    call.answer_compressed("gzip", b"no gzip");
    let failed = next(&mut results).unwrap_err();
    assert_eq!((failed.index, failed.kind()), (0, ErrorKind::Mismatch));
    assert_pending(&mut results);
    let mut call = peer.call();
    assert_eq!(call.refs(), [cids[1].to_string()]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &record(2).encode_to_vec()).unwrap();
    call.answer_compressed("gzip", &gzip.finish().unwrap());
    assert_eq!(next(&mut results).unwrap().record, record(2));
}

/// A compression bomb: more than 16 MiB of zeros in less than 32 KiB.
#[cfg(feature = "gzip")]
#[tokio::test]
async fn an_answer_that_is_too_long_when_it_is_decompressed_fails_its_item_alone() {
    let (client, peer) = scripted();
    let client = client.with_compression(Compression::Gzip);
    let mut results = Box::pin(stream::iter([cid(&record(1))]).pull_from(&client));
    assert_pending(&mut results);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &vec![0; (16 << 20) + 1]).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 32 << 10);
    let mut call = peer.call();
    assert_eq!(call.refs().len(), 1);
    call.answer_compressed("gzip", &bomb);
    let failed = next(&mut results).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Mismatch);
}

/// The server reads nothing, so the transport holds requests back. It must see a drop all the same.
#[tokio::test]
async fn a_drop_with_a_full_flow_control_window_is_a_reset() {
    for (compression, _) in ALL {
        let (client, mut calls) = raw_server().await;
        let client = client.with_compression(*compression);
        let examples = example_records();
        let input = stream::iter(examples.iter().cycle().cloned());
        let mut results = Box::pin(input.push_to_with(&client, &Options::new().dedup(false)));
        let mut call = poll_until(&mut results, calls.recv()).await.unwrap();
        let mut received = 0;
        while received < WINDOW {
            let data = poll_until(&mut results, call.body.data()).await;
            received += data.unwrap().unwrap().len();
        }
        drop(results);
        let end = soon(call.end(true)).await;
        assert_eq!(end, RequestEnd::Reset(h2::Reason::CANCEL));
    }
}

#[cfg(feature = "server")]
mod over_tcp {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use agntcy_dir_stream::MAX_RECORD_LEN;
    use agntcy_dir_stream::server::{End, Method, Store};
    use futures::StreamExt;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tonic::client::Grpc;
    use tonic_prost::ProstCodec;

    use super::*;

    use crate::support::foreign::{ForeignClient, assert_status};
    use crate::support::messages::{PUSH, RecordRef};
    use crate::support::records::example_texts;
    use crate::support::sockets::listener;
    use crate::support::stores::{listen, serve};

    /// How many bytes have gone to a server and have come from it.
    #[derive(Clone, Default)]
    struct Counts {
        to: Arc<AtomicUsize>,
        from: Arc<AtomicUsize>,
    }

    impl Counts {
        /// What has gone by since the last time.
        fn take(&self) -> (usize, usize) {
            let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
            (take(&self.to), take(&self.from))
        }
    }

    async fn copy(
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        count: Arc<AtomicUsize>,
    ) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            count.fetch_add(len, Ordering::Relaxed);
            if to.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
    }

    async fn counting_proxy(server: SocketAddr) -> (String, Counts) {
        let (listener, url) = listener().await;
        let counts = Counts::default();
        let both = counts.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = server.into_split();
                tokio::spawn(copy(client_reads, server_writes, both.to.clone()));
                tokio::spawn(copy(server_reads, client_writes, both.from.clone()));
            }
        });
        (url, counts)
    }

    /// The real ones, a few times each.
    fn variations() -> Vec<Record> {
        let texts = example_texts().into_iter().cycle().enumerate().take(100);
        let vary = |(number, (_, text)): (usize, (_, String))| {
            let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value["version"] = format!("1.0.{number}").into();
            value.try_into().unwrap()
        };
        texts.map(vary).collect()
    }

    /// Pushes and pulls; returns how many bytes of records were sent and received.
    async fn there_and_back(compression: Option<Compression>, pulled: bool) -> (usize, usize) {
        let store = Store::builder().compress_pulled(pulled).build();
        let serving = listen(&store).await;
        let (url, counts) = counting_proxy(serving.address()).await;
        let mut client = Client::connect(url).await.unwrap();
        if let Some(compression) = compression {
            client = client.with_compression(compression);
        }
        let records = variations();
        let pushed = stream::iter(records.clone()).push_to(&client);
        let pushed: Vec<_> = soon(pushed.collect()).await;
        let cids: Vec<Cid> = pushed
            .into_iter()
            .map(|pushed| pushed.unwrap().cid)
            .collect();
        let (sent, _) = counts.take();
        assert_eq!(store.len(), records.len());
        let back: Vec<_> = soon(stream::iter(cids).pull_from(&client).collect()).await;
        let back: Vec<Record> = back
            .into_iter()
            .map(|pulled| pulled.unwrap().record)
            .collect();
        assert!(back == records, "what comes back is what was put in");
        let (_, received) = counts.take();
        for call in store.calls() {
            assert_eq!(
                (call.end, call.half_closed),
                (Some(End::Ok), true),
                "{call:?}"
            );
        }
        (sent, received)
    }

    #[tokio::test]
    async fn real_records_go_and_come_back_in_fewer_bytes() {
        let plain = there_and_back(None, true).await;
        let bytes: usize = variations().iter().map(Message::encoded_len).sum();
        assert!(plain.0 > bytes && plain.1 > bytes, "{plain:?}");
        for (compression, name) in ALL {
            let (sent, received) = there_and_back(Some(*compression), true).await;
            assert!(sent * 4 < plain.0 * 3, "{name}: {sent} of {}", plain.0);
            assert!(
                received * 4 < plain.1 * 3,
                "{name}: {received} of {}",
                plain.1
            );
            let (_, received) = there_and_back(Some(*compression), false).await;
            assert!(received > bytes, "{name}: only if asked");
        }
    }

    #[tokio::test]
    async fn a_further_connection_is_compressed_too() {
        let store = Store::new();
        let serving = listen(&store).await;
        let (url, counts) = counting_proxy(serving.address()).await;
        let client = Client::connect(url).await.unwrap();
        let client = client.with_compression(ALL[0].0).with_connections(2);
        let mut pushes: Vec<_> = (0..2)
            .map(|_| {
                Box::pin(
                    stream::iter([sized(100_000)])
                        .chain(stream::pending())
                        .push_to(&client),
                )
            })
            .collect();
        for push in &mut pushes {
            soon(push.next()).await.unwrap().unwrap();
        }
        assert!(counts.take().0 < 20_000);
    }

    #[tokio::test]
    async fn the_limit_of_a_record_is_that_of_its_own_size() {
        for (compression, name) in ALL {
            let store = Store::new();
            let (serving, client) = serve(&store).await;
            let client = client.with_compression(*compression);
            client.push(sized(MAX_RECORD_LEN)).await.unwrap();
            let failed = client.push(sized(MAX_RECORD_LEN + 1)).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Invalid);

            let foreign = ForeignClient::connect(&serving.url()).await;
            let (_, end) = compressed(&foreign, name, vec![sized(MAX_RECORD_LEN + 1)]).await;
            let words = "received message after decompression larger than max 4194304";
            assert_status("one byte more", end, Code::ResourceExhausted, words);
        }
    }

    /// A push of a client that compresses all messages.
    async fn compressed(
        foreign: &ForeignClient,
        encoding: &str,
        records: Vec<Record>,
    ) -> (usize, Result<(), tonic::Status>) {
        let mut grpc = Grpc::new(foreign.channel.clone());
        match encoding {
            #[cfg(feature = "gzip")]
            "gzip" => grpc = grpc.send_compressed(tonic::codec::CompressionEncoding::Gzip),
            #[cfg(feature = "zstd")]
            "zstd" => grpc = grpc.send_compressed(tonic::codec::CompressionEncoding::Zstd),
            _ => {}
        }
        grpc.ready().await.unwrap();
        let mut request = tonic::Request::new(stream::iter(records));
        if !ALL.iter().any(|(_, name)| *name == encoding) {
            let encoding = encoding.parse().unwrap();
            request.metadata_mut().insert("grpc-encoding", encoding);
        }
        let codec = ProstCodec::<Record, RecordRef>::default();
        let call = async {
            let mut count = 0;
            let mut answers = match grpc.streaming(request, PUSH.parse().unwrap(), codec).await {
                Ok(answers) => answers.into_inner(),
                Err(status) => return (0, Err(status)),
            };
            loop {
                match answers.message().await {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => return (count, Ok(())),
                    Err(status) => return (count, Err(status)),
                }
            }
        };
        soon(call).await
    }

    #[tokio::test]
    async fn the_store_takes_what_others_compress_and_refuses_what_it_does_not_know() {
        let store = Store::new();
        let serving = listen(&store).await;
        let foreign = ForeignClient::connect(&serving.url()).await;
        for (place, (_, name)) in ALL.iter().enumerate() {
            let records = (0..10).map(|number| record(10 * place + number)).collect();
            let (answers, end) = compressed(&foreign, name, records).await;
            end.unwrap();
            assert_eq!((answers, store.len()), (10, 10 * (place + 1)));
        }
        let before = store.calls().len();
        let (_, end) = compressed(&foreign, "snappy", vec![record(1_000)]).await;
        let words = r#"grpc: Decompressor is not installed for grpc-encoding "snappy""#;
        assert_status("snappy", end, Code::Unimplemented, words);
        let call = &store.calls()[before];
        assert_eq!((call.method, call.requests), (Method::Push, 0));
        assert_eq!(call.end, Some(End::Status(Code::Unimplemented)));
        // The connection is as good as before.
        foreign.push(vec![record(1_001)]).await.1.unwrap();
    }
}
