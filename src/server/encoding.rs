//! Which compressed messages the store reads and writes.

use http::HeaderMap;
use tonic::Status;
use tonic::codec::{Codec, CompressionEncoding};
use tonic::metadata::MetadataMap;
use tonic::server::Grpc;

use crate::proto::store::store_service_server::StoreServiceServer;

/// Those that it knows.
const KNOWN: &[(&str, CompressionEncoding)] = &[
    #[cfg(feature = "gzip")]
    ("gzip", CompressionEncoding::Gzip),
    #[cfg(feature = "zstd")]
    ("zstd", CompressionEncoding::Zstd),
];

/// In the words of a Go server, if the requests of a call are in an encoding that it does not know.
pub(super) fn refusal(headers: &HeaderMap) -> Option<Status> {
    let encoding = headers.get("grpc-encoding")?;
    let is_known = encoding == "identity" || KNOWN.iter().any(|(name, _)| encoding == name);
    (!is_known).then(|| {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        Status::unimplemented(format!(
            "grpc: Decompressor is not installed for grpc-encoding {encoding:?}"
        ))
    })
}

/// Whether the requests of a call may be compressed.
pub(super) fn is_compressed(metadata: &MetadataMap) -> bool {
    let encoding = metadata.get("grpc-encoding");
    encoding.is_some_and(|encoding| encoding != "identity")
}

pub(super) fn accept<S>(service: StoreServiceServer<S>) -> StoreServiceServer<S> {
    let known = KNOWN.iter().map(|(_, encoding)| *encoding);
    known.fold(service, StoreServiceServer::accept_compressed)
}

/// The same for a method that no generated service has.
pub(super) fn accept_in<C: Codec>(grpc: Grpc<C>) -> Grpc<C> {
    let known = KNOWN.iter().map(|(_, encoding)| *encoding);
    known.fold(grpc, Grpc::accept_compressed)
}

/// tonic chooses by what the client accepts, for all answers of a call.
pub(super) fn answer<S>(service: StoreServiceServer<S>) -> StoreServiceServer<S> {
    let known = KNOWN.iter().map(|(_, encoding)| *encoding);
    known.fold(service, StoreServiceServer::send_compressed)
}
