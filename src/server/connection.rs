//! One HTTP/2 connection: its limits, its calls, and what can be done to it from within.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;

use super::body::{AnswerBody, RequestBody};
use super::call::{End, Method};
use super::control::Control;
use super::encoding;
use super::gate::{Gate, Pace};
use super::identity;
use super::inner::Inner;
use super::live::Live;
use super::service::Service;
use super::unary::Unary;

/// What a client may send ahead in one call, in bytes. A Go server begins with 64 KiB and widens it
/// up to 16 MiB as it finds the line to be long; this one is fixed, at about a thousand records.
const STREAM_WINDOW: u32 = 4 << 20;

/// And on the whole connection: what its calls have not read is at most this. h2 charges each small
/// frame that is not yet read up to 256 bytes against half of it, and cuts the connection when that
/// is used up; Go clients send each small message as a frame of its own. A full stream window of
/// such frames is charged 2.6 times its size, so this is enough for 12 of them.
const CONNECTION_WINDOW: u32 = 256 << 20;

/// Calls that are reset before the store has looked at them, in what is read [at
/// once](super::gate::AT_ONCE): more than fit in there, so that no number of resets cuts a connection.
const RESETS_AT_ONCE: usize = 16 << 10;

/// How long a client has to say that it speaks HTTP/2.
const GREETING: Duration = Duration::from_secs(10);

/// How long a client that was told to go has to do so, once it has no call.
const GOING: Duration = Duration::from_secs(10);

/// How long nothing may come before the client is asked whether it is there. It has hyper's 20
/// seconds to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Serves a connection to its end. When `stop` turns true, the calls that run are finished, and
/// no other is taken. With `idle`, the same where there was no call for so long, and what says
/// nothing, or is not there any more, is left.
pub(super) async fn serve(
    store: Arc<Inner>,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Option<SocketAddr>,
    mut stop: watch::Receiver<bool>,
    idle: Option<Duration>,
) {
    if store.faults.fire_on_connect() {
        return;
    }
    let control = Arc::new(Control::of(peer, &store.warnings));
    let pace = Arc::new(Pace::default());
    let log = Arc::clone(&store.log);
    let budget = Arc::clone(&store.budget);
    let max_calls = store.max_calls;
    let compresses = store.compresses;
    let shared = Arc::clone(&store);
    let unary = Unary::over(Arc::clone(&store), Arc::clone(&control));
    let service = Service::over(store, Arc::clone(&control));
    let opened = Arc::clone(&control);
    let calls = service_fn(move |mut request: http::Request<Incoming>| {
        let call = Method::of(request.uri().path()).map(|method| log.open(method));
        let live = Arc::new(Live::new(&opened, &budget, call.clone()));
        if let Some(call) = &call {
            request.extensions_mut().insert(Arc::clone(call));
            request.extensions_mut().insert(Arc::clone(&live));
        }
        if call.is_none() {
            let path = request.uri().path();
            opened
                .misuse
                .refused_for(&format!("there is no method {path}"));
        }
        let late = call
            .as_ref()
            .and_then(|call| shared.faults.fire_on_open(call.method, call.number));
        let refuse = {
            let (shared, live, call) = (Arc::clone(&shared), Arc::clone(&live), call.clone());
            move |headers: &HeaderMap| {
                let misuse = || {
                    let status = encoding::refusal(headers).or_else(|| live.admit().err())?;
                    live.refused(&status);
                    Some(status)
                };
                let refusal =
                    identity::refusal(shared.authorize.as_deref(), headers).or_else(misuse);
                if let (Some(status), Some(call)) = (&refusal, &call) {
                    // No handler will.
                    call.end(End::Status(status.code()));
                }
                refusal
            }
        };
        let at_once = late.is_none().then(|| refuse(request.headers()));
        let mut service = service.clone();
        let method = call.map(|call| call.method);
        if compresses && method == Some(Method::Pull) {
            service = encoding::answer(service);
        }
        let request = request.map(|body| RequestBody::new(body, &live));
        let unary = unary.clone();
        async move {
            let refusal = match at_once {
                Some(refusal) => refusal,
                None => {
                    sleep(late.unwrap_or_default()).await;
                    refuse(request.headers())
                }
            };
            let response = match refusal {
                Some(status) => status.into_http(),
                None => unary.call(method, request, service).await,
            };
            Ok::<_, Infallible>(response.map(|body| AnswerBody::new(body, live)))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(max_calls)
        .keep_alive_interval(idle.map(|_| KEEP_ALIVE))
        .max_pending_accept_reset_streams(RESETS_AT_ONCE)
        // A client of bad records has its calls ended early one after the other, and each frame
        // that was on its way then is counted, for as long as the connection lives. The gate bounds
        // what waits of them.
        .max_local_error_reset_streams(None)
        .serve_connection(TokioIo::new(Gate::new(io, Arc::clone(&pace))), calls);
    let mut connection = pin!(connection);
    let mut silent = pin!(silent(&pace, idle));
    let mut idling = pin!(control.idle(idle));
    let mut stopping = false;
    let mut going = false;
    // Those that are open by the rules are half of this at most.
    let crowd = 2 * max_calls as usize;
    loop {
        let served = poll_fn(|cx| {
            pace.begin(control.calls() > crowd);
            connection.as_mut().poll(cx)
        });
        tokio::select! {
            // The connection first: a cut comes after what could be written before it.
            biased;
            // An error is a client that is gone, or one that breaks the rules, which the log is told of.
            end = served => {
                if let Err(error) = end {
                    control.misuse.ended(&error, pace.instead());
                }
                return;
            }
            () = control.was_cut() => return,
            () = control.was_told_to_go() => connection.as_mut().graceful_shutdown(),
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                going = true;
                connection.as_mut().graceful_shutdown();
                control.stop();
                idling.set(control.idle(Some(GOING)));
            }
            () = silent.as_mut() => {
                control.misuse.cut("nothing of HTTP/2 has come");
                return;
            }
            () = idling.as_mut() => {
                if going {
                    return;
                }
                going = true;
                connection.as_mut().graceful_shutdown();
                idling.set(control.idle(Some(GOING)));
            }
        }
    }
}

/// Waits until the client has had its time to say something, and has not.
async fn silent(pace: &Pace, idle: Option<Duration>) {
    if idle.is_some() {
        sleep(GREETING).await;
    }
    if idle.is_none() || pace.is_greeted() {
        std::future::pending::<()>().await;
    }
}

/// Where nobody is left to stop it, it never ends.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
