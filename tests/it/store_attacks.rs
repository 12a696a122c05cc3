//! Clients that break the rules of HTTP/2 and gRPC: the embedded store lives, what they take of it is bounded, and the
//! log says who it was.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use agntcy_dir_stream::server::{Builder, Call, Method, Store};
use agntcy_dir_stream::{Client, Record};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use tracing::instrument::WithSubscriber as _;
use tracing::{Instrument as _, Level, info_span};

use crate::support::clock::{SECOND, in_a_week, on_paused_clock, runtime, soon};
use crate::support::foreign::ForeignClient;
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE, PING, PREFACE, PRIORITY, PUSH_PROMISE, RESET, SETTINGS, WINDOW_UPDATE,
    call_headers, frame, frame_that_says, header, request_headers, settings,
};
use crate::support::listening::{Heard, Listen};
use crate::support::log_lines::log;
use crate::support::messages::{LOOKUP, PUSH, RecordRef, framed, in_field, says};
use crate::support::records::{cid, from_json, record};
use crate::support::referrers::{PullReferrer, PulledReferrer, PushReferrer, PushedReferrer};

/// What an attack has cost the store.
struct Cost {
    /// The most that it had allocated at once, in bytes.
    bytes: u64,
    /// What it has told the log.
    log: Vec<String>,
}

/// Has a store of its own attacked, which must serve a good client afterwards. It has a thread of its own, so what is
/// allocated there is the store's.
fn attack(builder: Builder, attack: impl AsyncFnOnce(&str)) -> Cost {
    let (tell, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let (subscriber, lines) = log(Level::DEBUG);
    let store = thread::spawn(move || {
        let serving = async {
            let store = builder.build();
            let serving = store.listen("127.0.0.1:0").await.unwrap();
            tell.send(serving.address().to_string()).unwrap();
            let _ = stopped.await;
        };
        let used = allocation_counter::measure(|| {
            tracing::dispatcher::with_default(&subscriber, || runtime().block_on(serving));
        });
        used.bytes_max
    });
    let address = address.blocking_recv().unwrap();
    runtime().block_on(async {
        soon(attack(&address)).await;
        let url = format!("http://{address}");
        let client = soon(Client::connect(url)).await.unwrap();
        let pushed = soon(client.push(record(1))).await.unwrap();
        assert_eq!(
            soon(client.pull(&pushed.cid)).await.unwrap().record,
            record(1)
        );
    });
    drop(stop);
    let bytes = store.join().unwrap();
    let log = lines.ours();
    Cost { bytes, log }
}

/// A connection of a client that means harm.
struct Wire {
    reads: OwnedReadHalf,
    writes: OwnedWriteHalf,
    /// As the store sees it.
    address: String,
}

impl Wire {
    async fn to(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let (reads, writes) = socket.into_split();
        Self {
            reads,
            writes,
            address,
        }
    }

    /// One that has said what HTTP/2 begins with, and has the store's windows: before that they are small.
    async fn greeted(address: &str) -> Self {
        let mut wire = Self::to(address).await;
        let accepted = frame(SETTINGS, ACK, 0, &[]);
        wire.send([PREFACE, &settings(&[]), &accepted].concat())
            .await;
        while wire.read().await.0 != WINDOW_UPDATE {}
        wire
    }

    /// Sends this, or as much of it as the store takes before it cuts the connection.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.writes.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends this over and over, until the store has had enough.
    async fn flood(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let block = bytes.repeat((64 << 10) / bytes.len() + 1);
        while self.send(&block).await {}
    }

    /// Opens a call with these headers.
    async fn call(&mut self, stream: u32, headers: &[u8]) {
        self.send(frame(HEADERS, END_HEADERS, stream, headers))
            .await;
    }

    /// Reads until the connection has ended.
    async fn is_cut(&mut self) {
        let mut read = vec![0; 64 << 10];
        while let Ok(1..) = self.reads.read(&mut read).await {}
    }

    /// Reads the next frame: its type, its flags and its stream.
    async fn read(&mut self) -> (u8, u8, u32) {
        let mut head = [0; HEAD];
        self.reads.read_exact(&mut head).await.unwrap();
        let [long, middle, short, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, long, middle, short]) as usize];
        self.reads.read_exact(&mut payload).await.unwrap();
        (kind, flags, u32::from_be_bytes(stream))
    }

    /// Reads up to the end of this stream. Returns whether it was reset.
    async fn is_over(&mut self, stream: u32) -> bool {
        loop {
            let (kind, flags, of) = self.read().await;
            let is_end = kind == RESET || kind == HEADERS && flags & END_STREAM > 0;
            if of == stream && is_end {
                return kind == RESET;
            }
        }
    }
}

const MIB: u64 = 1 << 20;

/// A request of HTTP/1.
const HTTP_1: &[u8] = b"GET / HTTP/1.1\r\nhost: store\r\n\r\n";

/// What the log says of HTTP/2 that breaks the rules.
const BROKEN: &str = "connection error detected";

/// The log has one line of this level about this connection, with these words, and no other.
#[track_caller]
fn assert_told(what: &str, cost: &Cost, level: &str, address: &str, words: &str) {
    let lines: Vec<_> = cost
        .log
        .iter()
        .filter(|line| line.contains(address))
        .collect();
    assert_eq!(lines.len(), 1, "{what}: {:#?}", cost.log);
    for part in [level, words, "the store"] {
        assert!(lines[0].contains(part), "{what}: {part}: {}", lines[0]);
    }
}

/// These bytes have their connection cut, and the log says so in these words.
#[track_caller]
fn assert_cut(what: &str, sent: &[u8], words: &str) {
    let mut from = String::new();
    let cost = attack(Store::builder(), async |address| {
        let mut wire = Wire::to(address).await;
        wire.send(sent).await;
        wire.is_cut().await;
        from = wire.address;
    });
    assert_told(what, &cost, "WARN", &from, words);
    assert!(cost.bytes < MIB, "{what}: {} bytes", cost.bytes);
}

#[test]
fn what_is_no_http2_has_its_connection_cut() {
    let noise: Vec<u8> = (0..100_u8)
        .map(|byte| byte.wrapping_mul(151) ^ 0xa5)
        .collect();
    let after_the_preface = [PREFACE, &noise].concat();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more, as many as it takes";
    for (what, sent, words) in [
        ("noise", &noise[..], "what came is no HTTP/2"),
        ("HTTP/1", HTTP_1, "the client speaks HTTP/1"),
        ("TLS", hello, "the client speaks TLS"),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n", "the client speaks SSH"),
        ("noise after the preface", &after_the_preface, BROKEN),
    ] {
        assert_cut(what, sent, words);
    }
}

/// As of a health check that speaks something else.
#[test]
fn misuse_that_does_not_end_is_a_warning_once_in_ten_seconds() {
    let (subscriber, lines) = log(Level::DEBUG);
    let checks = async {
        let store = Store::new();
        for _ in 0..25 {
            let (mut ours, theirs) = tokio::io::duplex(1 << 10);
            let serving = store
                .serve(theirs)
                .instrument(info_span!(target: "agntcy_dir_stream", "check"));
            ours.write_all(HTTP_1).await.unwrap();
            serving.await;
            sleep(SECOND).await;
        }
    };
    on_paused_clock(async { in_a_week(checks).with_subscriber(subscriber).await });
    let lines = lines.ours();
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("a connection of the store ends"))
        .collect();
    assert_eq!(lines.len(), 25);
    for (check, line) in lines.into_iter().enumerate() {
        assert_eq!(line.contains("WARN"), check % 10 == 0, "{check}: {line}");
        let says_more = line.contains("left_out=9");
        assert_eq!(says_more, [10, 20].contains(&check), "{check}: {line}");
        assert_eq!(line.contains("left_out"), says_more, "{check}: {line}");
        assert!(line.contains("speaks HTTP/1"), "{check}: {line}");
        assert!(
            line.contains("check:"),
            "{check}: the span is missing: {line}"
        );
        assert!(!line.contains("peer"), "{check}: there is none: {line}");
    }
}

#[test]
fn a_frame_that_breaks_the_rules_has_its_connection_cut() {
    let headers = call_headers(LOOKUP);
    for (what, broken) in [
        ("data of no stream", frame(DATA, 0, 0, b"what?")),
        (
            "data of a stream that is not open",
            frame(DATA, 0, 1, b"what?"),
        ),
        (
            "headers of no stream",
            frame(HEADERS, END_HEADERS, 0, &headers),
        ),
        (
            "headers of a stream of the store's",
            frame(HEADERS, END_HEADERS, 2, &headers),
        ),
        (
            "headers of no HPACK",
            frame(HEADERS, END_HEADERS, 1, &[0xff; 20]),
        ),
        (
            "headers of nothing but padding",
            frame(HEADERS, END_HEADERS | 8, 1, &[9, 0]),
        ),
        ("a priority of no stream", frame(PRIORITY, 0, 0, &[0; 5])),
        ("a reset of no stream", frame(RESET, 0, 0, &[0; 4])),
        (
            "a reset of a stream that is not open",
            frame(RESET, 0, 1, &[0; 4]),
        ),
        ("a reset of three bytes", frame(RESET, 0, 1, &[0; 3])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        (
            "an answer to settings, with some",
            frame(SETTINGS, ACK, 0, &[0; 6]),
        ),
        (
            "a window of 2 GiB",
            settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]),
        ),
        ("frames of a byte", settings(&[(MAX_FRAME_SIZE, 1)])),
        (
            "a promise",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        ),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8])),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7])),
        ("a goodbye of three bytes", frame(GOAWAY, 0, 0, &[0; 3])),
        ("no window update", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window of all",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "the rest of no headers",
            frame(CONTINUATION, END_HEADERS, 1, &headers),
        ),
        (
            "a frame of 16 MiB",
            frame_that_says((1 << 24) - 1, DATA, 0, 1, &[]),
        ),
    ] {
        assert_cut(what, &[PREFACE, &settings(&[]), &broken].concat(), BROKEN);
    }
}

/// What is to be published, or listened to, is kept. In memory an empty text takes 24 bytes, on the wire two.
#[test]
fn requests_that_are_kept_take_a_bounded_amount_of_memory() {
    let in_refs = in_field(1, &in_field(1, &[]).repeat(MIB as usize / 2));
    let long = |field| in_field(field, &vec![b'x'; MIB as usize]);
    for (method, request) in [
        ("routing.v1.PublicationService/CreatePublication", &in_refs),
        ("routing.v1.RoutingService/Publish", &in_refs),
        ("events.v1.EventService/Listen", &long(2)),
        ("events.v1.EventService/Listen", &long(3)),
    ] {
        let builder = Store::builder().max_buffered(16 << 20);
        let cost = attack(builder, async |address| {
            let headers = call_headers(&format!("/agntcy.dir.{method}"));
            let mut wire = Wire::greeted(address).await;
            for stream in (1..24).step_by(2) {
                wire.call(stream, &headers).await;
                for part in framed(request).chunks(16 << 10) {
                    wire.send(frame(DATA, 0, stream, part)).await;
                }
                wire.send(frame(DATA, END_STREAM, stream, &[])).await;
            }
            // That is refused. Twelve of 12 MB are more than may be kept, and twelve of 1 MB, with as much that they
            // came in, are more than all calls may take.
            assert!(!wire.is_over(23).await, "{method}");
        });
        assert!(cost.bytes < 128 * MIB, "{method}: {} bytes", cost.bytes);
    }
}

/// Each of these calls is given what is its turn, and not a copy of all that is stored.
#[test]
fn pulls_of_referrers_that_nobody_reads_take_no_memory() {
    const CALLS: usize = 60;
    const REFERRERS: usize = 64;
    let cost = attack(Store::builder(), async |address| {
        let client = ForeignClient::connect(&format!("http://{address}")).await;
        client.push(vec![record(1)]).await.1.unwrap();
        let record = RecordRef::new(cid(&record(1)));
        let long = |number: usize| PushReferrer {
            annotations: [("a".to_owned(), "x".repeat(32 << 10))].into(),
            ..PushReferrer::signature(&record.cid, number)
        };
        let (pushed, end) = client
            .call::<_, PushedReferrer>(Method::PushReferrer, (0..REFERRERS).map(long).collect())
            .await;
        end.unwrap();
        assert!(pushed.iter().all(|one| one.success), "{pushed:?}");
        let mut open = Vec::new();
        for _ in 0..CALLS {
            let asked = PullReferrer {
                record: Some(record.clone()),
                ..PullReferrer::default()
            };
            let answers = client
                .open::<_, PulledReferrer>(Method::PullReferrer, futures::stream::iter([asked]));
            open.push(soon(answers).await.unwrap());
        }
    });
    // What is stored takes 2 MiB.

    assert!(cost.bytes < 24 * MIB, "{} bytes", cost.bytes);
}

/// A hundred such events wait for it, at most, as of a real server, and each of them takes a megabyte.
#[test]
fn events_of_many_labels_that_nobody_reads_take_a_bounded_amount_of_memory() {
    const PULLS: usize = 100;
    let skills = vec![serde_json::json!({}); 20_000];
    let wide = from_json(serde_json::json!({
        "name": "wide", "schema_version": "1.0.0", "skills": skills,
    }));
    let cost = attack(Store::builder(), async |address| {
        let url = format!("http://{address}");
        let [deaf, other] = [
            ForeignClient::connect(&url).await,
            ForeignClient::connect(&url).await,
        ];
        other.push(vec![wide.clone()]).await.1.unwrap();
        let own = cid(&wide).to_string();
        let pull = async |count| {
            let (pulled, end) = other
                .refs::<Record>(Method::Pull, &vec![own.as_str(); count])
                .await;
            end.unwrap();
            assert_eq!(pulled.len(), count);
        };
        let listening = deaf.open_listing::<_, Heard>(Method::Listen, Listen::default());
        let mut listening = pin!(listening);
        let heard = loop {
            tokio::select! {
                heard = &mut listening => break heard.unwrap(),
                () = pull(1) => {}
            }
        };
        pull(PULLS).await;
        drop(heard);
    });
    assert!(cost.bytes < 32 * MIB, "{} bytes", cost.bytes);
}

/// That may be the store's own fault, and is worth a line.
#[test]
fn a_client_that_goes_for_an_error_is_told_as_such() {
    const ENHANCE_YOUR_CALM: u8 = 11;
    let goodbye = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM]);
    let sent = [PREFACE, &settings(&[]), &goodbye].concat();
    assert_cut("goodbye", &sent, "connection error received");
}

/// A call of one of the store's methods, with these bytes as its requests, is refused in these words.
#[track_caller]
fn assert_refused(what: &str, headers: &[u8], sent: &[u8], words: &str) -> Cost {
    let mut from = String::new();
    let cost = attack(Store::builder(), async |address| {
        let mut wire = Wire::greeted(address).await;
        // More than once, which is told once.
        for stream in [1, 3, 5] {
            wire.call(stream, headers).await;
            for part in sent.chunks(16 << 10) {
                wire.send(frame(DATA, 0, stream, part)).await;
            }
            wire.send(frame(DATA, END_STREAM, stream, &[])).await;
            wire.is_over(stream).await;
        }
        from = wire.address;
    });
    assert_told(what, &cost, "DEBUG", &from, words);
    cost
}

#[test]
fn messages_that_cannot_be_are_refused_by_their_first_bytes() {
    let headers = call_headers(LOOKUP);
    let many = vec![7; 100 << 10];
    for (what, sent, words) in [
        (
            "a gigabyte",
            says(0, 1 << 30, &[]),
            "larger than max (1073741824",
        ),
        (
            "four gigabytes",
            says(0, u32::MAX, &many),
            "larger than max (4294967295",
        ),
        (
            "a flag that nobody knows",
            says(2, 3, b"abc"),
            "compression flag: 2",
        ),
        ("compressed by nothing", says(1, 3, b"abc"), "compress"),
        ("no message", says(0, 3, &[0xff; 3]), "unmarshalling"),
    ] {
        let cost = assert_refused(what, &headers, &sent, words);
        assert!(cost.bytes < 2 * MIB, "{what}: {} bytes", cost.bytes);
    }
}

#[cfg(feature = "gzip")]
#[test]
fn a_bomb_is_unpacked_as_far_as_a_record_may_be_long() {
    // A megabyte that opens to a gigabyte: the same block over and over.
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut block = Vec::with_capacity(1 << 16);
    deflate
        .compress_vec(&vec![0; 1 << 20], &mut block, flate2::FlushCompress::Full)
        .unwrap();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let bomb = [head.to_vec(), block.repeat(1 << 10)].concat();
    let sent = says(1, bomb.len().try_into().unwrap(), &bomb);
    let headers = [call_headers(PUSH), header("grpc-encoding", "gzip")].concat();
    let cost = assert_refused("a bomb", &headers, &sent, "after decompression larger");
    assert!(cost.bytes < 32 * MIB, "{} bytes", cost.bytes);
}

#[test]
fn a_call_of_what_is_not_there_is_refused() {
    const LONG: &str = "/agntcy.dir.store.v1.StoreService/\u{1b}[2J";
    let lookup = framed(&[]);
    for (what, headers, words) in [
        (
            "no method",
            call_headers("/agntcy.dir.store.v1.StoreService/Steal"),
            "no method /agntcy",
        ),
        (
            "no service",
            call_headers("/evil.Service/Push"),
            "no method /evil",
        ),
        (
            "a path with more",
            call_headers(&format!("{PUSH}/more")),
            "no method",
        ),
        (
            "an encoding that nobody knows",
            [call_headers(PUSH), header("grpc-encoding", "snappy")].concat(),
            "snappy",
        ),
        (
            "a GET",
            request_headers("GET", "/", "text/html"),
            "no method /",
        ),
    ] {
        assert_refused(what, &headers, &lookup, words);
    }
    // What is no path is none to HTTP/2.
    attack(Store::builder(), async |address| {
        let mut wire = Wire::greeted(address).await;
        wire.call(1, &call_headers(LONG)).await;
        wire.is_over(1).await;
    });
}

/// What a store does with requests that are no gRPC, or too few or many of them, is its own matter, but each call ends.
#[test]
fn odd_calls_end() {
    let count = "/agntcy.dir.search.v1.SearchService/CountRecords";
    let publish = "/agntcy.dir.routing.v1.RoutingService/Publish";
    let listen = "/agntcy.dir.search.v1.SearchService/SearchCIDs";
    attack(Store::builder(), async |address| {
        let mut wire = Wire::greeted(address).await;
        let mut stream = 1;
        for path in [LOOKUP, PUSH, count, publish, listen] {
            for headers in [
                call_headers(path),
                request_headers("GET", path, "application/grpc"),
                request_headers("CONNECT", path, "application/grpc"),
                request_headers("POST", path, "text/html"),
                request_headers("POST", path, ""),
            ] {
                for messages in [0, 1, 3] {
                    wire.call(stream, &headers).await;
                    let sent = framed(&[]).repeat(messages);
                    wire.send(frame(DATA, END_STREAM, stream, &sent)).await;
                    wire.is_over(stream).await;
                    stream += 2;
                }
            }
        }
    });
}

#[test]
fn headers_that_do_not_end_or_are_too_many_take_no_memory() {
    let headers = call_headers(LOOKUP);
    for (what, more) in [
        ("nothing", vec![]),
        ("short ones", header("a", "b")),
        ("long ones", header("a", [b'x'; 16_000])),
    ] {
        let mut from = String::new();
        let cost = attack(Store::builder(), async |address| {
            let mut wire = Wire::greeted(address).await;
            wire.send(frame(HEADERS, 0, 1, &headers)).await;
            wire.flood(frame(CONTINUATION, 0, 1, &more)).await;
            from = wire.address;
        });
        assert!(cost.bytes < 2 * MIB, "{what}: {} bytes", cost.bytes);
        assert_told(what, &cost, "WARN", &from, "excessive load");
    }
    // A header that stands in the table, named many times in a byte each.
    let cost = attack(Store::builder(), async |address| {
        const WITH_INDEX: u8 = 0x40;
        const FIRST_OF_THE_TABLE: u8 = 0x80 | 62;
        let mut wire = Wire::greeted(address).await;
        let mut long = header("a", [b'x'; 3_000]);
        long[0] = WITH_INDEX;
        wire.send(frame(HEADERS, 0, 1, &[headers.clone(), long].concat()))
            .await;
        for _ in 0..3 {
            wire.send(frame(CONTINUATION, 0, 1, &[FIRST_OF_THE_TABLE; 16_000]))
                .await;
        }
        wire.is_cut().await;
    });
    assert!(cost.bytes < 2 * MIB, "{} bytes", cost.bytes);
}

/// It is slow, and breaks no rule.
#[test]
fn a_client_that_sends_a_byte_at_a_time_is_served() {
    let cost = attack(Store::builder(), async |address| {
        let mut wire = Wire::to(address).await;
        let asked = framed(&prost::Message::encode_to_vec(&RecordRef::new(cid(
            &record(9),
        ))));
        let sent = [
            PREFACE,
            &settings(&[]),
            &frame(HEADERS, END_HEADERS, 1, &call_headers(LOOKUP)),
            &frame(DATA, END_STREAM, 1, &asked),
        ]
        .concat();
        for byte in sent {
            assert!(wire.send([byte]).await);
            tokio::task::yield_now().await;
        }
        assert!(!wire.is_over(1).await);
    });
    assert_eq!(
        cost.log
            .iter()
            .filter(|line| line.contains("the store"))
            .count(),
        0
    );
}

/// Who floods and reads nothing is not read either, so that nothing piles up.
#[test]
fn a_flood_that_wants_answers_and_reads_none_takes_no_memory() {
    let headers = call_headers("/");
    let call = |number: usize| {
        let stream = 2 * u32::try_from(number).unwrap() + 1;
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers)
    };
    for (what, flood) in [
        ("pings", frame(PING, 0, 0, &[7; 8]).repeat(2_000_000)),
        ("settings", settings(&[]).repeat(4_000_000)),
        ("calls of nothing", (0..500_000).flat_map(call).collect()),
    ] {
        let cost = attack(Store::builder(), async |address| {
            let mut wire = Wire::greeted(address).await;
            let mut flooding = Box::pin(wire.send(&flood));
            let good = async {
                let client = Client::connect(format!("http://{address}")).await.unwrap();
                for number in 10..25 {
                    client.push(record(number)).await.unwrap();
                }
            };
            tokio::select! {
                is_taken = &mut flooding => panic!("{what}: all was taken, or the connection cut: {is_taken}"),
                () = good => {}
            }
        });
        assert!(cost.bytes < 4 * MIB, "{what}: {} bytes", cost.bytes);
    }
}

/// On one connection, whose client never reads, which is no excuse either.
#[test]
fn calls_that_are_reset_at_once_end_and_take_no_memory() {
    // In a debug build they would take twenty seconds.
    const CALLS: usize = if cfg!(debug_assertions) {
        20_000
    } else {
        100_000
    };
    let ended = Arc::new((AtomicUsize::new(0), Notify::new()));
    let count = Arc::clone(&ended);
    let builder = Store::builder().on_call_end(move |_: &Call| {
        count.0.fetch_add(1, Ordering::AcqRel);
        count.1.notify_one();
    });
    let cost = attack(builder, async |address| {
        let headers = call_headers(LOOKUP);
        let mut wire = Wire::greeted(address).await;
        let mut block = Vec::new();
        for call in 0..CALLS {
            let stream = 2 * u32::try_from(call).unwrap() + 1;
            block.extend(frame(HEADERS, END_HEADERS, stream, &headers));
            block.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
            if block.len() > 64 << 10 {
                assert!(wire.send(&block).await);
                block.clear();
            }
        }
        assert!(wire.send(&block).await);
        while ended.0.load(Ordering::Acquire) < CALLS {
            soon(ended.1.notified()).await;
        }
    });
    assert!(cost.bytes < 8 * MIB, "{} bytes", cost.bytes);
}
