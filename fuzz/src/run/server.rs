//! The server of a run. Each thing that it does is chosen when it comes to it; where nothing is chosen any more, it
//! does its work.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agntcy_dir_stream::{Code, Record};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::time::sleep;
use tonic::body::Body;

use super::case::{Case, Operation};
use crate::known::{KNOWN, Known, MOST_ITEMS};
use crate::service::Serve;
use crate::support::call_count::{Bounds, CallCount};
use crate::support::messages::{
    DELETE, LOOKUP, PULL, PUSH, RecordRef, framed, take_message, trailers,
};
use crate::support::records::{cid, number_with_cid};
use crate::support::reply::{Replied, Reply, reply};

pub(super) struct Server {
    pub(super) case: Arc<Case>,
    method: &'static str,
    state: Mutex<State>,
}

pub(super) struct State {
    choices: VecDeque<u8>,
    /// The numbers of the records that are there.
    pub(super) stored: BTreeSet<usize>,
    /// The numbers of those that were taken for the method.
    pub(super) taken: BTreeSet<usize>,
    /// The numbers of those to which the right answer was given.
    pub(super) answered: BTreeSet<usize>,
    /// With which codes calls have ended.
    pub(super) codes: Vec<Code>,
    /// Whether something was said that no server says that keeps to the protocol.
    pub(super) is_odd: bool,
    /// Nobody reads any more, so nothing may come.
    pub(super) is_over: bool,
    pub(super) calls: CallCount,
}

impl State {
    /// Zero, where nothing is chosen any more.
    pub(super) fn choose(&mut self) -> u8 {
        self.choices.pop_front().unwrap_or(0)
    }

    /// A call is opened. The calls of all lanes are tried together, with one that looks up, and one that looks up what
    /// need not be sent.
    fn opened(&mut self, case: &Case) {
        assert!(!self.is_over, "a call is opened, and nobody reads");
        self.calls.opened(&Bounds {
            together: case.lanes as u32 + 2,
            first_wait: case.waits.0,
            opens_after: case.opens_after,
            items: case.numbers.len(),
            tries: case.tries,
        });
    }
}

impl Server {
    pub(super) fn new(case: &Arc<Case>, choices: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            case: Arc::clone(case),
            method: match case.operation {
                Operation::Push => PUSH,
                Operation::Pull => PULL,
                Operation::Lookup => LOOKUP,
                Operation::Delete => DELETE,
            },
            state: Mutex::new(State {
                choices: choices.into(),
                stored: (0..MOST_ITEMS)
                    .filter(|number| case.is_there(*number))
                    .collect(),
                taken: BTreeSet::new(),
                answered: BTreeSet::new(),
                codes: Vec::new(),
                is_odd: false,
                is_over: false,
                calls: CallCount::new(),
            }),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

impl Serve for Server {
    fn call(self: &Arc<Self>, request: http::Request<Body>) -> Replied {
        let server = Arc::clone(self);
        server
            .state
            .lock()
            .expect("no call was too many")
            .opened(&server.case);
        let (reply, replied) = reply();
        let path = request.uri().path();
        let call = Call {
            method: if path == server.method {
                server.method
            } else {
                LOOKUP
            },
            is_of_items: path == server.method,
            server,
            requests: request.into_body(),
            bytes: BytesMut::new(),
            taken: VecDeque::new(),
            carried_out: Vec::new(),
            reply,
        };
        // As a transport does, it works on while the client looks away, until that lets go of it.
        tokio::spawn(call.run());
        replied
    }
}

/// The client has reset the call.
struct IsReset;

/// One call, as the server sees it.
struct Call {
    server: Arc<Server>,
    method: &'static str,
    /// Whether the call carries the items. Else it looks up what became of them.
    is_of_items: bool,
    requests: Body,
    bytes: BytesMut,
    /// What was taken and is not yet worked on.
    taken: VecDeque<usize>,
    carried_out: Vec<usize>,
    reply: Reply,
}

impl Call {
    async fn run(mut self) {
        let frames = self.reply.frames.clone();
        tokio::select! {
            biased;
            () = frames.closed() => {}
            // A client that has reset the call wants nothing any more.
            _ = self.behave() => {}
        }
    }

    fn choose(&self) -> u8 {
        self.server.state().choose()
    }

    /// Up to 256 seconds, mostly less.
    fn time(&self) -> Duration {
        let byte = u64::from(self.choose());
        Duration::from_millis(byte * byte * 4)
    }

    async fn behave(&mut self) -> Result<(), IsReset> {
        let opens_after = self.server.case.opens_after;
        if !opens_after.is_zero() {
            sleep(opens_after).await;
        }
        match self.choose() % 16 {
            // The sender of the head is dropped.
            12 => return Ok(()),
            13 => sleep(self.time()).await,
            14 => {
                self.end_somehow();
                return Ok(());
            }
            15 => std::future::pending().await,
            _ => {}
        }
        loop {
            match self.choose() % 32 {
                16 => {
                    sleep(self.time()).await;
                    if !self.serve().await? {
                        return Ok(());
                    }
                }
                // Carried out, and not answered: the next answer is out of step.
                17 => {
                    self.is_odd();
                    if let Some(number) = self.next().await? {
                        self.carry_out(number);
                    }
                }
                // The answer to what nobody has asked for, in place of the right one, or before any.
                18 => {
                    self.is_odd();
                    self.next().await?;
                    self.send_to_nobody();
                }
                20 => {
                    self.is_odd();
                    self.send_to_nobody();
                }
                19 => {
                    self.is_odd();
                    if let Some(number) = self.next().await?
                        && (!self.answer(number) || !self.answer(number))
                    {
                        return Ok(());
                    }
                }
                21 => {
                    self.next().await?;
                    self.end_somehow();
                    return Ok(());
                }
                22 => {
                    self.end_somehow();
                    return Ok(());
                }
                // Carried out, and the answer is lost.
                23 => {
                    if let Some(number) = self.next().await? {
                        self.carry_out(number);
                    }
                    match self.choose() % 2 {
                        0 => self.end(Code::Unavailable),
                        _ => self.reply.send(Err(io::Error::other("reset"))),
                    }
                    return Ok(());
                }
                24 => {
                    self.end(Code::Ok);
                    return Ok(());
                }
                25 => {
                    self.reply.send(Err(io::Error::other("reset")));
                    return Ok(());
                }
                26 => std::future::pending().await,
                27 => {
                    while let Some(number) = self.next().await? {
                        self.carry_out(number);
                    }
                    std::future::pending().await
                }
                // No frame of gRPC.
                28 => {
                    self.is_odd();
                    self.server.state().codes.push(Code::Internal);
                    self.reply
                        .send(Ok(Frame::data(Bytes::from_static(b"\x07\0\0\0\0"))));
                }
                // The end of the body, without a status.
                29 => return Ok(()),
                _ => {
                    if !self.serve().await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn is_odd(&self) {
        self.server.state().is_odd = true;
    }

    /// Answers a request, as a good server does. Returns whether the call goes on.
    async fn serve(&mut self) -> Result<bool, IsReset> {
        let Some(number) = self.next().await? else {
            self.acknowledge();
            self.end(Code::Ok);
            return Ok(false);
        };
        Ok(self.answer(number))
    }

    /// The next request. `None`: there are no more.
    async fn next(&mut self) -> Result<Option<usize>, IsReset> {
        loop {
            if let Some(number) = self.taken.pop_front() {
                return Ok(Some(number));
            }
            let Some(frame) = self.requests.frame().await else {
                return Ok(None);
            };
            let data = frame.map_err(|_| IsReset)?.into_data();
            self.bytes
                .extend_from_slice(&data.expect("a client sends no trailers"));
            while let Some((_, message)) = take_message(&mut self.bytes) {
                self.take(message);
            }
        }
    }

    fn take(&mut self, message: Bytes) {
        let cid = match self.method {
            PUSH => cid(&Record::decode(message).expect("a record")).to_string(),
            _ => RecordRef::decode(message).expect("a ref").cid,
        };
        let number = number_with_cid(&cid);
        self.taken.push_back(number);
        let mut state = self.server.state();
        state.calls.progress();
        if self.is_of_items {
            state.taken.insert(number);
        }
    }

    fn carry_out(&mut self, number: usize) {
        let mut state = self.server.state();
        match self.method {
            PUSH if !self.server.case.is_bad(number) => {
                state.stored.insert(number);
            }
            DELETE => {
                state.stored.remove(&number);
                self.carried_out.push(number);
            }
            _ => {}
        }
    }

    /// Carries a request out and answers it. What is refused ends the call: `false`.
    fn answer(&mut self, number: usize) -> bool {
        self.carry_out(number);
        let is_there = self.server.state().stored.contains(&number);
        let Known { record, cid } = &KNOWN[number];
        let message = match self.method {
            DELETE => return true,
            _ if !is_there => {
                self.end(if self.method == PUSH {
                    Code::InvalidArgument
                } else {
                    Code::NotFound
                });
                return false;
            }
            PULL => record.encode_to_vec(),
            _ => RecordRef::new(cid).encode_to_vec(),
        };
        self.server.state().answered.insert(number);
        self.send_message(&message);
        true
    }

    /// All requests have come: a delete has its answer now.
    fn acknowledge(&mut self) {
        if self.method == DELETE {
            let carried_out = std::mem::take(&mut self.carried_out);
            self.server.state().answered.extend(carried_out);
            self.send_message(&[]);
        }
    }

    fn send_to_nobody(&mut self) {
        let nobody = &KNOWN[MOST_ITEMS];
        self.send_message(&match self.method {
            PULL => nobody.record.encode_to_vec(),
            DELETE => Vec::new(),
            _ => RecordRef::new(nobody.cid).encode_to_vec(),
        });
    }

    fn send_message(&mut self, message: &[u8]) {
        self.server.state().calls.progress();
        self.reply.send(Ok(Frame::data(framed(message))));
    }

    fn end_somehow(&mut self) {
        const CODES: [Code; 8] = [
            Code::Unavailable,
            Code::Internal,
            Code::Ok,
            Code::NotFound,
            Code::InvalidArgument,
            Code::ResourceExhausted,
            Code::Unauthenticated,
            Code::Unavailable,
        ];
        let code = CODES[usize::from(self.choose() % 8)];
        self.end(code);
    }

    fn end(&mut self, code: Code) {
        self.server.state().codes.push(code);
        self.reply
            .send(Ok(Frame::trailers(trailers(code, "fault"))));
    }
}
