//! How messages are made smaller on the wire.

/// How the messages of a client's calls are compressed:
/// [`Client::with_compression`](crate::Client::with_compression).
///
/// It has the variants of the cargo features `gzip` and `zstd`.
///
/// A real record (1.7 KB on average) is 660 bytes shorter on the line with gzip and 635 with zstd,
/// for 22 to 29 and 17 (push) or 33 (pull) µs of CPU, both ends together: worth it up to about 200
/// Mbit/s with gzip, and up to 290 (push) or 155 (pull) with zstd. (`cargo bench --features
/// gzip,server,zstd --bench compression`, against the embedded store, two cores of an AMD EPYC,
/// November 2026.)
///
/// What goes out compressed are the records of a push, each by itself: one of at least 256 bytes
/// whose compressed form is smaller by an eighth or more. All else goes as it is, which gRPC
/// allows for each message. The limit of a record's size is that of the record as it is. What comes
/// back may be compressed too: the headers of a pull ask for it.
///
/// **The server has to know the encoding.** One that does not refuses the whole push or pull, and all
/// items say so ([`Unsupported`](crate::ErrorKind::Unsupported)) in the server's words. A DIR
/// server 1.2.0 as it is published is one of these: it knows none. A Go server knows gzip once it
/// imports `google.golang.org/grpc/encoding/gzip`, and zstd by a package of others.
///
/// ```
/// use agntcy_dir_stream::prelude::*;
/// use agntcy_dir_stream::Compression;
/// use futures::{StreamExt, stream};
///
/// # #[cfg(all(feature = "gzip", feature = "server"))]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let serving = agntcy_dir_stream::server::Store::new().listen("127.0.0.1:0").await?;
/// # let url = serving.url();
/// let client = Client::connect(url).await?.with_compression(Compression::Gzip);
///
/// let text = r#"{"name": "a", "version": "1", "schema_version": "1.0.0"}"#;
/// let records = stream::iter([text.parse::<Record>()?]);
/// let results: Vec<_> = records.push_to(&client).collect().await;
/// assert!(results[0].is_ok());
/// # Ok(())
/// # }
/// # #[cfg(all(feature = "gzip", feature = "server"))]
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// gzip: what a server is most likely to know. Written in Rust.
    ///
    /// ```
    /// use agntcy_dir_stream::{Client, Compression};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), agntcy_dir_stream::Error> {
    /// let client = Client::connect_lazy("http://127.0.0.1:8888")?.with_compression(Compression::Gzip);
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "gzip")]
    Gzip,
    /// Zstandard: about as small for less CPU. It is a C library.
    ///
    /// ```
    /// use agntcy_dir_stream::{Client, Compression};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), agntcy_dir_stream::Error> {
    /// let client = Client::connect_lazy("http://127.0.0.1:8888")?.with_compression(Compression::Zstd);
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Compression {
    /// The name in gRPC's headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "gzip")]
            Self::Gzip => "gzip",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        }
    }

    /// What tonic calls it, which reads the answers.
    pub(crate) fn encoding(self) -> tonic::codec::CompressionEncoding {
        match self {
            #[cfg(feature = "gzip")]
            Self::Gzip => tonic::codec::CompressionEncoding::Gzip,
            #[cfg(feature = "zstd")]
            Self::Zstd => tonic::codec::CompressionEncoding::Zstd,
        }
    }

    pub(crate) fn compressor(self) -> Compressor {
        match self {
            #[cfg(feature = "gzip")]
            Self::Gzip => Compressor::Gzip(gzip::Compressor::new()),
            #[cfg(feature = "zstd")]
            Self::Zstd => Compressor::Zstd(
                zstd::bulk::Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL)
                    .expect("zstd has its default level"),
            ),
        }
    }
}

/// A compression at work. Its state is used again for each message: to make it anew costs more than
/// to compress a record. Both go at the level that their libraries and tonic choose; of records, a
/// lower one saves CPU where the line is faster than 100 Mbit/s, and costs time where it is slower.
pub(crate) enum Compressor {
    #[cfg(feature = "gzip")]
    Gzip(gzip::Compressor),
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// Compresses `message` into `out`. How long it is then; `None` if it does not fit.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "zstd")),
        allow(unused_variables, clippy::unused_self)
    )]
    pub(crate) fn compress(&mut self, message: &[u8], out: &mut [u8]) -> Option<usize> {
        match *self {
            #[cfg(feature = "gzip")]
            Self::Gzip(ref mut gzip) => gzip.compress(message, out),
            #[cfg(feature = "zstd")]
            Self::Zstd(ref mut zstd) => zstd.compress_to_buffer(message, out).ok(),
        }
    }
}

#[cfg(feature = "gzip")]
mod gzip {
    use flate2::{Compress, Compression, Crc, FlushCompress, Status};

    /// Deflate, no flags, no time, no hints, no word about the operating system.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

    /// CRC-32 and length.
    const TRAILER: usize = 8;

    /// flate2's own writer of this format makes its state anew for each message.
    pub(crate) struct Compressor(Compress);

    impl Compressor {
        pub(super) fn new() -> Self {
            Self(Compress::new(Compression::default(), false))
        }

        pub(super) fn compress(&mut self, message: &[u8], out: &mut [u8]) -> Option<usize> {
            let room = out.len().checked_sub(TRAILER)?;
            let deflated = out.get_mut(HEADER.len()..room)?;
            self.0.reset();
            let status = self.0.compress(message, deflated, FlushCompress::Finish);
            if !matches!(status, Ok(Status::StreamEnd)) {
                return None;
            }
            let deflated = usize::try_from(self.0.total_out()).ok()?;
            let mut crc = Crc::new();
            crc.update(message);
            let (header, rest) = out.split_at_mut(HEADER.len());
            header.copy_from_slice(&HEADER);
            let (sum, len) = rest[deflated..][..TRAILER].split_at_mut(4);
            sum.copy_from_slice(&crc.sum().to_le_bytes());
            len.copy_from_slice(&crc.amount().to_le_bytes());
            Some(HEADER.len() + deflated + TRAILER)
        }
    }
}
