//! One HTTP/2 connection: its limits, its calls, and what can be done to it from within.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tonic::codegen::Service as _;

use super::call::{End, Method, Running};
use super::encoding;
use super::service::Service;
use super::store::Inner;

/// What a client may send ahead in one call, in bytes. A Go server begins with 64 KiB and widens it
/// up to 16 MiB as it finds the line to be long; this one is fixed, at about a thousand records.
const STREAM_WINDOW: u32 = 4 << 20;

/// And on the whole connection. h2 charges each small frame that is not yet read up to 256 bytes
/// against half of this, and cuts the connection when it is used up; Go clients send each small
/// message as a frame of its own. A full stream window of such frames is charged 2.6 times its
/// size, so this is enough for 50 of them. The memory is bounded by the stream windows.
const CONNECTION_WINDOW: u32 = (1 << 30) - 1;

/// A client of bad records has its calls ended early one after the other: no sign of an attack.
const MAX_RESETS: usize = 1 << 20;

/// What a call can do to its connection.
#[derive(Default)]
pub(super) struct Control {
    cut: Notify,
    go_away: Notify,
}

impl Control {
    /// Breaks it, once what was handed to it before has been written.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Takes no further call.
    pub(super) fn go_away(&self) {
        self.go_away.notify_one();
    }
}

/// Serves a connection to its end. When `stop` turns true, the calls that run are finished, and
/// no other is taken.
pub(super) async fn serve(
    store: Arc<Inner>,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut stop: watch::Receiver<bool>,
) {
    if store.faults.fire_on_connect() {
        return;
    }
    let control = Arc::new(Control::default());
    let log = Arc::clone(&store.log);
    let max_calls = store.max_calls.get();
    let compresses = store.compresses;
    let service = Service::over(store, Arc::clone(&control));
    let calls = service_fn(move |mut request: http::Request<Incoming>| {
        let call = Method::of(request.uri().path()).map(|method| log.open(method));
        if let Some(call) = &call {
            request.extensions_mut().insert(Arc::clone(call));
        }
        let refusal = encoding::refusal(request.headers());
        let mut service = service.clone();
        if let Some(call) = &call {
            if let Some(status) = &refusal {
                // No handler will.
                call.end(End::Status(status.code()));
            } else if compresses && call.method == Method::Pull {
                service = encoding::answer(service);
            }
        }
        let request = request.map(|body| RequestBody { body, call });
        async move {
            Ok::<_, Infallible>(match refusal {
                Some(status) => status.into_http(),
                None => service.call(request).await.expect("infallible"),
            })
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(max_calls)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .serve_connection(TokioIo::new(io), calls);
    let mut connection = pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            // The connection first: a cut comes after what could be written before it.
            biased;
            // An error here is a client that is gone or speaks something else.
            _ = connection.as_mut() => return,
            () = control.cut.notified() => return,
            () = control.go_away.notified() => connection.as_mut().graceful_shutdown(),
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Where nobody is left to stop it, it never ends.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The requests of a call as they come in. It notes how they end, which the layers above do not
/// tell apart: a reset reaches a tonic handler as a mere end.
#[pin_project]
struct RequestBody {
    #[pin]
    body: Incoming,
    call: Option<Arc<Running>>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if let Some(call) = this.call {
            match &frame {
                Some(Err(_)) => call.reset(),
                None => call.half_close(),
                Some(Ok(_)) if this.body.is_end_stream() => call.half_close(),
                Some(Ok(_)) => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
