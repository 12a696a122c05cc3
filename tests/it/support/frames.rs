//! HTTP/2 frames as bytes, for a peer that sends what no library would.

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of the head of a frame.
pub(crate) const HEAD: usize = 9;

// Types of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

// Flags.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

// Settings.
pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;

/// A frame: its type, its flags, its stream and what is in it.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame_that_says(payload.len(), kind, flags, stream, payload)
}

/// A frame whose head says that so many bytes follow.
pub(crate) fn frame_that_says(
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = u32::try_from(len).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A SETTINGS frame of these settings.
pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// A length in HPACK, in an octet of which `prefix` bits are free.
fn len(len: usize, prefix: u32) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if len < most {
        return vec![u8::try_from(len).unwrap()];
    }
    let mut bytes = vec![u8::try_from(most).unwrap()];
    prost::encoding::encode_varint((len - most) as u64, &mut bytes);
    bytes
}

/// A header in HPACK, with no index.
pub(crate) fn header(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let name = [&len(name.len(), 7), name.as_bytes()].concat();
    [&[0][..], &name, &len(value.len(), 7), value].concat()
}

/// `:status: 200`, by its index in HPACK.
pub(crate) const STATUS_200: u8 = 0x88;

/// The headers that a gRPC response begins with.
pub(crate) fn response_headers() -> Vec<u8> {
    [vec![STATUS_200], header("content-type", "application/grpc")].concat()
}

/// The headers of a gRPC call.
#[cfg(feature = "server")]
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    request_headers("POST", path, "application/grpc")
}

/// The headers of a request, whatever they are.
#[cfg(feature = "server")]
pub(crate) fn request_headers(method: &str, path: &str, content_type: &str) -> Vec<u8> {
    [
        header(":method", method),
        header(":scheme", "http"),
        header(":path", path),
        header(":authority", "store"),
        header("content-type", content_type),
        header("te", "trailers"),
    ]
    .concat()
}
