//! A Workload API of SPIFFE at a socket of its own, which gives what the test tells it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64URL_NOPAD;
use futures::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Code;

use super::clock::soon;
use super::messages::{framed, grpc_response, take_message, trailers};
use super::tls::{Ca, Signed};

/// What a workload is given.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) id: &'static str,
    pub(crate) svid: Signed,
    /// The trust domain's CAs, one behind the other.
    bundle: Vec<u8>,
    /// Those of other trust domains, by their IDs.
    others: HashMap<String, Vec<u8>>,
    /// How long JWT SVIDs are good.
    jwt_life: Duration,
}

impl Given {
    pub(crate) fn new(id: &'static str, svid: Signed, cas: &[&Ca]) -> Self {
        let bundle = cas.iter().flat_map(|ca| ca.der().to_vec()).collect();
        Self {
            id,
            svid,
            bundle,
            others: HashMap::new(),
            jwt_life: Duration::from_secs(3600),
        }
    }

    /// Trusts another trust domain, such as `spiffe://example.com`, too.
    pub(crate) fn trusts(mut self, domain: &str, ca: &Ca) -> Self {
        self.others.insert(domain.to_owned(), ca.der().to_vec());
        self
    }

    fn x509(&self) -> X509SvidResponse {
        X509SvidResponse {
            svids: vec![X509Svid {
                spiffe_id: self.id.to_owned(),
                chain: self.svid.certificate_der().to_vec(),
                key: self.svid.key_der().secret_der().to_vec(),
                bundle: self.bundle.clone(),
            }],
            federated_bundles: self.others.clone(),
        }
    }

    fn jwt(&self, number: usize, request: &JwtSvidRequest) -> JwtSvidResponse {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let header = serde_json::json!({"alg": "ES256", "kid": "key", "typ": "JWT"});
        let claims = serde_json::json!({
            "sub": self.id,
            "aud": request.audience,
            "exp": (now + self.jwt_life).as_secs(),
            "jti": number,
        });
        let part = |json: serde_json::Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
        let svid = format!("{}.{}.c2lnbmF0dXJl", part(header), part(claims));
        JwtSvidResponse {
            svids: vec![JwtSvid {
                spiffe_id: self.id.to_owned(),
                svid,
            }],
        }
    }
}

/// What it does when it is asked.
#[derive(Clone)]
pub(crate) enum Does {
    /// Boxed, since it is much larger than the others.
    Give(Box<Given>),
    Refuse(Code, &'static str),
    SayNothing,
}

impl From<Given> for Does {
    fn from(given: Given) -> Self {
        Self::Give(Box::new(given))
    }
}

/// What it was asked for so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// How often for X.509 SVIDs.
    pub(crate) x509: usize,
    /// How many of those who have asked for them still listen.
    pub(crate) listeners: usize,
    /// The audiences of each JWT SVID.
    pub(crate) jwt: Vec<Vec<String>>,
}

pub(crate) struct WorkloadApi {
    path: PathBuf,
    does: watch::Sender<Does>,
    asked: watch::Sender<Asked>,
    tasks: JoinSet<()>,
}

impl WorkloadApi {
    pub(crate) fn new(does: impl Into<Does>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Paths of sockets are short. This one has a character that would be another in a URL.
        let name = format!("workload api {} {number}", std::process::id());
        let mut api = Self {
            path: std::env::temp_dir().join(name),
            does: watch::Sender::new(does.into()),
            asked: watch::Sender::default(),
            tasks: JoinSet::new(),
        };
        api.come_back();
        api
    }

    /// Its socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The same as text.
    pub(crate) fn address(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Does this from now on, and tells those who listen.
    pub(crate) fn change(&self, does: impl Into<Does>) {
        self.does.send_replace(does.into());
    }

    /// Has JWT SVIDs be good for so long from now on.
    pub(crate) fn jwts_live(&self, life: Duration) {
        self.does.send_modify(|does| {
            if let Does::Give(given) = does {
                given.jwt_life = life;
            }
        });
    }

    pub(crate) fn asked(&self) -> Asked {
        self.asked.borrow().clone()
    }

    /// Waits until this is so.
    pub(crate) async fn until(&self, holds: impl FnMut(&Asked) -> bool) {
        let mut asked = self.asked.subscribe();
        drop(soon(asked.wait_for(holds)).await.unwrap());
    }

    /// Is no more, and neither is its socket.
    pub(crate) async fn go_away(&mut self) {
        self.tasks.shutdown().await;
        std::fs::remove_file(&self.path).unwrap();
    }

    pub(crate) fn come_back(&mut self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let (does, asked) = (self.does.clone(), self.asked.clone());
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((io, _)) = listener.accept().await {
                let (does, asked) = (does.clone(), asked.clone());
                let answer = service_fn(move |request| {
                    let (does, asked) = (does.clone(), asked.clone());
                    async move {
                        let body = StreamBody::new(answers(request, does, asked).await);
                        let response = grpc_response().body(body).unwrap();
                        Ok::<_, Infallible>(response)
                    }
                });
                let serving = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(io), answer);
                connections.spawn(async move {
                    let _ = serving.await;
                });
            }
        });
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

async fn answers(
    request: http::Request<Incoming>,
    does: watch::Sender<Does>,
    asked: watch::Sender<Asked>,
) -> Answers {
    let (head, body) = request.into_parts();
    let is_marked = head
        .headers
        .get("workload.spiffe.io")
        .is_some_and(|value| value == "true");
    if !is_marked {
        return refusal(
            Code::InvalidArgument,
            "security header missing from request",
        );
    }
    match head.uri.path() {
        "/SpiffeWorkloadAPI/FetchX509SVID" => x509(does, asked),
        "/SpiffeWorkloadAPI/FetchJWTSVID" => {
            let body = body.collect().await.unwrap().to_bytes();
            let (_, request) = take_message(&mut BytesMut::from(&*body)).unwrap();
            let request = JwtSvidRequest::decode(request).unwrap();
            asked.send_modify(|asked| asked.jwt.push(request.audience.clone()));
            let number = asked.borrow().jwt.len();
            let does = does.borrow().clone();
            match does {
                Does::Give(given) => {
                    let answer = message(&given.jwt(number, &request));
                    stream::iter([answer, end()]).boxed()
                }
                Does::Refuse(code, words) => refusal(code, words),
                Does::SayNothing => stream::pending().boxed(),
            }
        }
        _ => refusal(Code::Unimplemented, "this is not served here"),
    }
}

/// What it does now, and each change, until nobody listens.
fn x509(does: watch::Sender<Does>, asked: watch::Sender<Asked>) -> Answers {
    asked.send_modify(|asked| {
        asked.x509 += 1;
        asked.listeners += 1;
    });
    let listener = Listener(asked);
    let mut changes = does.subscribe();
    Box::pin(async_stream::stream! {
        let _listener = listener;
        loop {
            let now = changes.borrow_and_update().clone();
            match now {
                Does::Give(given) => yield message(&given.x509()),
                Does::Refuse(code, words) => {
                    yield Ok(Frame::trailers(trailers(code, words)));
                    return;
                }
                Does::SayNothing => {}
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    })
}

struct Listener(watch::Sender<Asked>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.send_modify(|asked| asked.listeners -= 1);
    }
}

fn message(message: &impl Message) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(framed(&message.encode_to_vec())))
}

fn end() -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::trailers(trailers(Code::Ok, "")))
}

fn refusal(code: Code, words: &str) -> Answers {
    let end = Ok(Frame::trailers(trailers(code, words)));
    stream::iter([end]).boxed()
}

// The messages of SPIFFE's workload.proto, as far as they are used.

#[derive(Clone, PartialEq, Message)]
struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<X509Svid>,
    #[prost(map = "string, bytes", tag = "3")]
    federated_bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct X509Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct JwtSvidRequest {
    #[prost(string, repeated, tag = "1")]
    audience: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct JwtSvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<JwtSvid>,
}

#[derive(Clone, PartialEq, Message)]
struct JwtSvid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(string, tag = "2")]
    svid: String,
}
