//! What a peer says first: an HTTP/2 server says its settings, and whatever else answers at the
//! port gives itself away.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Uri;
use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// The head of an HTTP/2 frame, in bytes: length, type, flags, stream.
const HEAD: usize = 9;

/// How many bytes tell what else it is.
const TELLING: usize = b"HTTP/1".len();

/// The type of a SETTINGS frame.
const SETTINGS: u8 = 4;

/// What the peer says first, once it is known.
pub(super) struct Greeting(oneshot::Receiver<Result<(), NoSettings>>);

/// What a peer is that does not begin its settings, as far as it has shown that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    Silent,
    Tls,
    Http1,
    Ssh,
    /// It has begun its settings, and no more.
    CutShort,
    Other,
}

/// What a peer did in place of beginning its settings.
#[derive(Debug)]
pub(super) struct NoSettings {
    pub(super) instead: Instead,
    /// How reading failed, if it did.
    pub(super) cause: Option<io::Error>,
}

impl NoSettings {
    fn after(said: &[u8], cause: Option<io::Error>) -> Self {
        Self {
            instead: Instead::of(said),
            cause,
        }
    }
}

impl Greeting {
    /// Listens to what is read from `io`, until it is known.
    pub(super) fn of<IO>(io: IO) -> (Heard<IO>, Self) {
        let (tell, told) = oneshot::channel();
        let said = Vec::new();
        let listening = Some(Listening { tell, said });
        (Heard { io, listening }, Self(told))
    }

    /// Waits until the peer has begun its settings.
    ///
    /// # Errors
    ///
    /// What it did instead.
    pub(super) async fn settings(self) -> Result<(), NoSettings> {
        let is_closed = |_| Err(NoSettings::after(&[], None));
        self.0.await.unwrap_or_else(is_closed)
    }
}

/// An `io` that is listened to. Where the peer does not speak HTTP/2, reading fails.
pub(super) struct Heard<IO> {
    io: IO,
    /// Until it is known.
    listening: Option<Listening>,
}

struct Listening {
    tell: oneshot::Sender<Result<(), NoSettings>>,
    /// No more than a head of it.
    said: Vec<u8>,
}

impl Listening {
    /// Hears what was read, or that there is no more. Returns what is known then.
    fn hear(&mut self, more: &[u8]) -> Option<Result<(), NoSettings>> {
        let missing = HEAD - self.said.len();
        self.said.extend(more.iter().take(missing));
        if begins_settings(&self.said) && !more.is_empty() {
            return (self.said.len() == HEAD).then_some(Ok(()));
        }
        // Some more of it says what it is.
        let is_over = self.said.len() >= TELLING || more.is_empty();
        is_over.then(|| Err(NoSettings::after(&self.said, None)))
    }
}

/// Whether this may be the beginning of a SETTINGS frame. None is so long that its length takes
/// three bytes.
fn begins_settings(said: &[u8]) -> bool {
    let is_of_connection = |byte: &u8| *byte == 0;
    said.first().is_none_or(|byte| *byte == 0)
        && said.get(3).is_none_or(|byte| *byte == SETTINGS)
        && said.iter().skip(5).all(is_of_connection)
}

impl Instead {
    /// What it was that came and then ended.
    fn of(said: &[u8]) -> Self {
        // A server of HTTP/1 that cannot read a request's version answers without a head.
        let is_page = |page: &&str| {
            let begin = said.get(..page.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(page.as_bytes()))
        };
        match said {
            [] => Self::Silent,
            [0x15, 0x03, ..] => Self::Tls,
            _ if said.starts_with(b"HTTP/1") || ["<!DOCT", "<HTML"].iter().any(is_page) => {
                Self::Http1
            }
            _ if said.starts_with(b"SSH-") => Self::Ssh,
            _ if begins_settings(said) => Self::CutShort,
            _ => Self::Other,
        }
    }

    /// In words, of a server at `origin`.
    pub(super) fn in_words(self, origin: &Uri) -> &'static str {
        let is_plain = origin.scheme() != Some(&Scheme::HTTPS);
        match self {
            Self::Silent if is_plain => {
                "the server closed the connection before it said anything: \
                 it may expect TLS or another protocol, or be a proxy with no server behind it"
            }
            Self::Silent => {
                "the server closed the connection before it said anything: \
                 it may expect a client certificate or another protocol, or be a proxy with no server behind it"
            }
            Self::Tls => "the server expects TLS: its URL has to begin with https://",
            Self::Http1 => "the server answers with HTTP/1, not HTTP/2",
            Self::Ssh => "the server speaks SSH, not HTTP/2",
            Self::CutShort => "the server closed the connection before its HTTP/2 settings",
            Self::Other => "the server does not speak HTTP/2",
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.io).poll_read(cx, buf));
        let Some(mut listening) = this.listening.take() else {
            return Poll::Ready(read);
        };
        let known = match read {
            Ok(()) => listening.hear(&buf.filled()[before..]),
            Err(error) => Some(Err(NoSettings::after(&listening.said, Some(error)))),
        };
        let Some(known) = known else {
            this.listening = Some(listening);
            return Poll::Ready(Ok(()));
        };
        let read = known.as_ref().copied().map_err(|NoSettings { cause, .. }| {
            let kind = cause.as_ref().map(io::Error::kind);
            kind.unwrap_or(io::ErrorKind::Other).into()
        });
        // An error here is one who waits no more.
        let _ = listening.tell.send(known);
        Poll::Ready(read)
    }
}

/// What could not be written before the peer is known is taken as written: reading tells what the
/// peer said before it closed, and h2 would not read any more.
impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(match self.listening {
            Some(_) => written.or(Ok(buf.len())),
            None => written,
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        Poll::Ready(match self.listening {
            Some(_) => Ok(()),
            None => flushed,
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        Poll::Ready(match self.listening {
            Some(_) => written.or_else(|_| Ok(bufs.iter().map(|buf| buf.len()).sum())),
            None => written,
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
