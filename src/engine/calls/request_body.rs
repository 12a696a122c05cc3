//! Compression of what goes out, for each message where it pays. (tonic compresses all messages of
//! a call or none, each with a state of its own.)

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use pin_project::pin_project;

use super::queue::HEAD;
use crate::client::{Compression, Compressor};

/// The shortest message in bytes that is tried. Below it, less than a tenth of a record goes away,
/// for as much CPU; and refs, of 61 bytes, grow.
const SHORTEST: usize = 256;

/// What has to go away: an eighth, since the receiver has its work with it too.
const fn worth(len: usize) -> usize {
    len - len / 8
}

/// A request body whose messages are compressed. It has to be inside of the
/// [gate](super::queue): what it reads it lets go at once.
#[pin_project]
pub(super) struct Compressed<B> {
    #[pin]
    body: B,
    messages: Option<Messages>,
}

struct Messages {
    compression: Compression,
    /// Made for the first message that is long enough.
    compressor: Option<Compressor>,
    /// Free again by the time it is needed, since one chunk is out at a time.
    buffer: BytesMut,
}

impl<B> Compressed<B> {
    /// `None`: all stays as it is.
    pub(super) fn new(body: B, compression: Option<Compression>) -> Self {
        let messages = compression.map(|compression| Messages {
            compression,
            compressor: None,
            buffer: BytesMut::new(),
        });
        Self { body, messages }
    }
}

impl<B: Body<Data = Bytes>> Body for Compressed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        let Some(messages) = this.messages else {
            return Poll::Ready(frame);
        };
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(|chunk| messages.compress(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Messages {
    /// `chunk` is whole messages, as tonic encodes them.
    fn compress(&mut self, chunk: Bytes) -> Bytes {
        if chunk.len() < HEAD + SHORTEST {
            return chunk;
        }
        let out = &mut self.buffer;
        out.reserve(chunk.len());
        let mut rest = &chunk[..];
        while rest.len() >= HEAD {
            let len = (&rest[1..HEAD]).get_u32() as usize;
            let (whole, after) = rest.split_at(HEAD + len);
            rest = after;
            if len >= SHORTEST {
                let compressor = self
                    .compressor
                    .get_or_insert_with(|| self.compression.compressor());
                let at = out.len();
                out.put_bytes(0, HEAD + worth(len));
                if let Some(len) = compressor.compress(&whole[HEAD..], &mut out[at + HEAD..]) {
                    let mut head = &mut out[at..];
                    head.put_u8(1);
                    head.put_u32(len as u32);
                    out.truncate(at + HEAD + len);
                    continue;
                }
                out.truncate(at);
            }
            out.put_slice(whole);
        }
        assert!(rest.is_empty(), "a chunk is whole messages");
        out.split().freeze()
    }
}
