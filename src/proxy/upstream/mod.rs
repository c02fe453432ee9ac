//! Our HTTP/1.1 client: connections to workers, one exchange on each at a time, and the pool of those
//! that wait for the next. One instance per event loop; nothing here is `Send`.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::response;
use http_body::{Body, Frame};

use super::rules::Outgoing;
use crate::link::message::WorkerAddress;
use crate::rollout::WorkerId;

/// An open connection to a worker.
#[derive(Debug)]
pub struct Connection {}

/// Opens one.
///
/// # Errors
/// The system's, or `TimedOut`. Nothing was sent, so any request may be tried elsewhere (F40).
pub async fn connect(_address: &WorkerAddress, _timeout: Duration) -> io::Result<Connection> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Connections that wait for their next request, of one event loop, by worker; newest used first.
#[derive(Debug, Default)]
pub struct Pool {}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {})
    }

    /// The newest one that is not known to be closed, has no unasked byte waiting and is not over its
    /// idle limit. Costs no system call when nothing has happened on it.
    #[must_use]
    pub fn take(&self, _worker: WorkerId) -> Option<Connection> {
        None
    }

    /// Closes all of a worker's connections, and those that would come back later.
    pub fn close(&self, _worker: WorkerId) {}

    /// Closes what is over its idle limit; call it every few hundred milliseconds.
    pub fn sweep(&self) {}

    /// Unused connections of a worker.
    #[must_use]
    pub fn idle(&self, _worker: WorkerId) -> u32 {
        0
    }
}

/// Limits of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the end of the request to the head of the answer.
    pub response_head: Duration,
    /// Between two bytes of a body, either way.
    pub body_idle: Duration,
    /// How long the connection may wait in the pool afterwards, unless the worker says less.
    pub pool_idle: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct SendError {
    /// What went wrong.
    pub kind: SendErrorKind,
    /// Some byte of the request may have reached the worker. If not, any method may be tried elsewhere.
    pub sent: bool,
    /// Some byte of an answer has arrived. If so, it is never tried again.
    pub answered: bool,
    /// For the log.
    pub source: Option<io::Error>,
}

/// What went wrong between us and a worker, or with the client's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The worker closed or reset the connection.
    Reset,
    /// The answer breaks HTTP (both CL and TE, signed length, bare LF, too large a head, …).
    BadAnswer,
    /// No answer in time.
    Timeout,
    /// The client's body did not come in time.
    BodyTimeout,
    /// The client's body broke off: the client left or broke HTTP.
    ClientBody,
}

/// The head of an answer, and its body to come.
#[derive(Debug)]
pub struct Answer {
    /// Status and fields as the worker sent them, framing checked.
    pub head: response::Parts,
    /// Its body; for a 101 it is [`AnswerBody::into_tunnel`]'s.
    pub body: AnswerBody,
}

/// What is told while an exchange goes on. Called on the loop, must be quick.
pub trait Watch {
    /// So many body bytes went to the worker.
    fn uploaded(&self, bytes: u64);
    /// The request's body is complete.
    fn upload_ended(&self);
    /// So many body bytes came from the worker.
    fn downloaded(&self, bytes: u64);
    /// An informational answer (100, 103) came.
    fn informational(&self, head: &response::Parts);
    /// The exchange is over and the connection given back or closed; `whole` if the answer ended exactly
    /// at its framing. Called once, also when the body is dropped.
    fn ended(&self, whole: bool);
}

/// Sends one request on a connection and resolves with the head of the final answer (101 included).
///
/// The body is pumped while the answer is awaited and, if it comes early, while its body is read
/// ([`AnswerBody`] drives both). With `outgoing.expects_continue` the body is not polled before a 100
/// arrives or one second has passed; a final answer before that means it is never polled.
/// When the answer ended whole, no byte is left over and the request was sent whole, the connection goes
/// back to `pool`; otherwise it is closed.
///
/// # Errors
/// See [`SendError`].
pub async fn send<B>(
    _connection: Connection,
    _pool: &Rc<Pool>,
    _worker: WorkerId,
    _outgoing: &Outgoing,
    _body: B,
    _limits: Limits,
    _watch: Rc<dyn Watch>,
) -> Result<Answer, SendError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + 'static,
{
    Err(SendError {
        kind: SendErrorKind::BadAnswer,
        sent: false,
        answered: false,
        source: None,
    })
}

/// An answer's body, trailers included. An error means that it was cut short: the client's connection
/// must be closed without a last chunk (F42).
#[derive(Debug)]
pub struct AnswerBody {}

impl AnswerBody {
    /// After a 101: the connection as a byte stream, with the bytes that came behind the head.
    ///
    /// # Errors
    /// If the answer was no 101.
    pub fn into_tunnel(self) -> io::Result<Tunnel> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(None)
    }
}

/// A worker's side of an upgraded connection: implements tokio's `AsyncRead` and `AsyncWrite`.
#[derive(Debug)]
pub struct Tunnel {}
