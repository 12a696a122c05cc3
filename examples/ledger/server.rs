//! The ledger's server, without a network and with faults: a `tower` service that [`Client::from_service`] takes.
//!
//! [`Client::from_service`]: agntcy_dir_stream::Client::from_service

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http_body::Frame;
use prost::Message;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::messages::{Account, Accounts, Booking, BookingId, Cancelled, Closed, Receipt};

/// What goes wrong at a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The line breaks before it is carried out.
    Cut,
    /// It is carried out, and then the line breaks.
    CutAfter,
    /// The call ends with this status in place of its answer.
    Status(Code),
    /// The call ends OK in place of its answer.
    End,
    /// Nothing happens any more in the call.
    Stall,
    /// It is carried out after this time.
    Late(Duration),
}

/// The server, and what it has booked. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    bookings: Vec<Booking>,
    closed: BTreeSet<String>,
    /// How many requests have come.
    requests: u64,
    /// By the number of the request.
    faults: BTreeMap<u64, Fault>,
    /// How many calls there were.
    calls: u64,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nothing panics while it is locked")
    }

    /// Lets this happen at the request of this number, counted from 0 over all calls.
    pub(crate) fn inject(&self, request: u64, fault: Fault) {
        self.book().faults.insert(request, fault);
    }

    /// All that is booked.
    pub(crate) fn bookings(&self) -> Vec<Booking> {
        self.book().bookings.clone()
    }

    /// Books this, past all faults.
    pub(crate) fn insert(&self, booking: Booking) {
        self.book().bookings.push(booking);
    }

    pub(crate) fn is_closed(&self, account: &str) -> bool {
        self.book().closed.contains(account)
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> u64 {
        self.book().calls
    }
}

impl Book {
    fn add(&mut self, booking: Booking) -> Result<Receipt, Status> {
        if booking.amount == 0 {
            return Err(Status::invalid_argument("nothing to book"));
        }
        let id = booking.id.clone();
        self.bookings.push(booking);
        Ok(Receipt { id })
    }

    fn find(&mut self, BookingId { id }: BookingId) -> Result<Receipt, Status> {
        match self.bookings.iter().any(|booking| booking.id == id) {
            true => Ok(Receipt { id }),
            false => Err(Status::not_found("it is not booked")),
        }
    }

    fn cancel(&mut self, asked: &BookingId) -> Result<(), Status> {
        self.bookings.retain(|booking| booking.id != asked.id);
        Ok(())
    }

    fn close(&mut self, accounts: Accounts) -> Result<Closed, Status> {
        for name in accounts.names {
            self.must_have(&name)?;
            self.closed.insert(name);
        }
        Ok(Closed {})
    }

    fn history(&self, Account { name }: &Account) -> Result<Vec<Booking>, Status> {
        self.must_have(name)?;
        let of_it = self.bookings.iter().filter(|one| one.account == *name);
        Ok(of_it.cloned().collect())
    }

    fn must_have(&self, name: &str) -> Result<(), Status> {
        match self.bookings.iter().any(|booking| booking.account == name) {
            true => Ok(()),
            false => Err(Status::not_found("no such account")),
        }
    }
}

/// The way of one call.
#[derive(Clone, Default)]
struct Line(Arc<AtomicBool>);

impl Line {
    async fn cut<T>(&self) -> T {
        self.0.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// Whoever polls what runs on the line sees that it is cut.
    fn check(&self) -> Result<(), std::io::Error> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("the line is cut")),
            false => Ok(()),
        }
    }
}

/// A call, as its handler sees it.
#[derive(Clone)]
struct Call {
    ledger: Ledger,
    line: Line,
}

impl Call {
    /// Carries a request out, if nothing goes wrong. `None`: the call is to end OK.
    async fn carry_out<A>(
        &self,
        work: impl FnOnce(&mut Book) -> Result<A, Status>,
    ) -> Result<Option<A>, Status> {
        let fault = {
            let mut book = self.ledger.book();
            book.requests += 1;
            let number = book.requests - 1;
            book.faults.remove(&number)
        };
        match fault {
            Some(Fault::Cut) => self.line.cut().await,
            Some(Fault::Status(code)) => Err(Status::new(code, "a fault")),
            Some(Fault::End) => Ok(None),
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Late(by)) => {
                tokio::time::sleep(by).await;
                work(&mut self.ledger.book()).map(Some)
            }
            Some(Fault::CutAfter) => {
                work(&mut self.ledger.book())?;
                self.line.cut().await
            }
            None => work(&mut self.ledger.book()).map(Some),
        }
    }

    /// Answers each request.
    fn each<Q, A>(
        self,
        mut requests: Streaming<Q>,
        work: fn(&mut Book, Q) -> Result<A, Status>,
    ) -> Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        Box::pin(async_stream::try_stream! {
            while let Some(request) = requests.message().await? {
                match self.carry_out(|book| work(book, request)).await? {
                    Some(answer) => yield answer,
                    None => break,
                }
            }
        })
    }

    async fn serve(self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        match path.rsplit('/').next() {
            Some("Book") => self.stream(request, Book::add).await,
            Some("Find") => self.stream(request, Book::find).await,
            Some("Cancel") => {
                let cancel = service_fn(move |request: Request<Streaming<BookingId>>| {
                    let call = self.clone();
                    async move {
                        let mut requests = request.into_inner();
                        while let Some(asked) = requests.message().await? {
                            let work = |book: &mut Book| book.cancel(&asked);
                            if call.carry_out(work).await?.is_none() {
                                return Err(Status::unavailable("the server goes away"));
                            }
                        }
                        Ok(Response::new(Cancelled {}))
                    }
                });
                grpc().client_streaming(cancel, request).await
            }
            Some("Close") => {
                let close = service_fn(move |request: Request<Accounts>| {
                    let call = self.clone();
                    async move {
                        let accounts = request.into_inner();
                        let closed = call.carry_out(|book| book.close(accounts)).await?;
                        let closed = closed.ok_or_else(|| Status::unavailable("it goes away"));
                        closed.map(Response::new)
                    }
                });
                grpc().unary(close, request).await
            }
            Some("History") => {
                let history = service_fn(move |request: Request<Account>| {
                    let call = self.clone();
                    async move {
                        let account = request.into_inner();
                        let found = call.carry_out(|book| book.history(&account)).await?;
                        let found = found.ok_or_else(|| Status::unavailable("it goes away"))?;
                        let found = found.into_iter().map(Ok::<_, Status>);
                        Ok::<_, Status>(Response::new(futures::stream::iter(found)))
                    }
                });
                grpc().server_streaming(history, request).await
            }
            _ => Status::unimplemented("no such method").into_http(),
        }
    }

    async fn stream<Q, A>(
        self,
        request: http::Request<Body>,
        work: fn(&mut Book, Q) -> Result<A, Status>,
    ) -> http::Response<Body>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let handler = service_fn(move |request: Request<Streaming<Q>>| {
            let answers = self.clone().each(request.into_inner(), work);
            std::future::ready(Ok::<_, Status>(Response::new(answers)))
        });
        grpc().streaming(handler, request).await
    }
}

fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
}

impl tower::Service<http::Request<Body>> for Ledger {
    type Response = http::Response<Body>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.book().calls += 1;
        let line = Line::default();
        let call = Call {
            ledger: self.clone(),
            line: line.clone(),
        };
        Box::pin(async move {
            let mut response = Box::pin(call.serve(request));
            let response = poll_fn(|cx| {
                let polled = response.as_mut().poll(cx);
                line.check()?;
                polled.map(Ok::<_, std::io::Error>)
            });
            let response = response.await?;
            Ok(response.map(|body| Body::new(OnLine { body, line })))
        })
    }
}

/// A response body that breaks with its line.
struct OnLine {
    body: Body,
    line: Line,
}

impl http_body::Body for OnLine {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Err(cut) = self.line.check() {
            return Poll::Ready(Some(Err(cut.into())));
        }
        polled.map_err(Into::into)
    }
}
