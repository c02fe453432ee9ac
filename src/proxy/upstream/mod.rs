//! Our HTTP/1.1 client: connections to workers, one exchange on each at a time, and the pool of those
//! that wait for the next. One instance per event loop; nothing here is `Send`.
//!
//! ```text
//!  connect ─▶ Connection ─▶ send ─▶ Answer { head, AnswerBody } ─▶ Pool, if all ended at its framing
//!                ▲                                    └─▶ Tunnel, after a 101        │
//!                └───────────────────── Pool::take ◀──────────────────────────────────┘
//! ```
//!
//! One state machine (`exchange`) polls both directions in the task of the request: no task, no
//! channel. The head of an answer is parsed (`head`) and its framing decided once; what breaks a rule is
//! refused, never mended. A connection is used again only if the answer ended exactly at its framing,
//! nothing is left over and the request was sent whole. This module must never choose a worker, try
//! again, or rewrite a field: those are `pick`'s, the front's and [`super::rules`]' work.

mod answer;
mod connection;
mod download;
mod exchange;
mod h2c;
mod head;
mod pool;
mod tunnel;
mod upload;

#[cfg(test)]
mod tests;

use std::io;
use std::time::{Duration, Instant};

use super::head::AnswerHead;

pub use answer::AnswerBody;
pub use connection::{Connection, connect};
pub use exchange::send;
pub(in crate::proxy) use h2c::{To, send as send_h2c};
pub use pool::Pool;
pub use tunnel::Tunnel;

/// Limits of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the end of the request to the head of the answer.
    pub response_head: Duration,
    /// When the request was at its end, if that is known because it has no body and no connection had to be made;
    /// by HTTP/1.1 alone.
    pub since: Option<Instant>,
    /// Between two bytes of a body, either way; `Duration::MAX` is no limit. An answer of type
    /// `text/event-stream` has none (an event stream is silent for as long as nothing happens).
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

impl SendError {
    /// There was no connection to send it on.
    pub(super) fn unconnected(error: io::Error) -> Self {
        Self {
            kind: SendErrorKind::Unconnected,
            sent: false,
            answered: false,
            source: Some(error),
        }
    }
}

/// What went wrong between us and a worker, or with the client's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// There was no connection.
    Unconnected,
    /// The worker closed or reset the connection.
    Reset,
    /// The worker refused the stream before it looked at it (RFC 9113 §8.7): whoever it is, somebody else may
    /// take the request.
    Refused,
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
    pub head: AnswerHead,
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
    fn informational(&self, head: &AnswerHead);
    /// The exchange is over and the connection given back or closed; `whole` if the answer ended exactly
    /// at its framing. Called once, also when [`send`] fails or is dropped, and when the body is dropped.
    /// For a tunnel: when it is dropped; `whole` if the worker had closed its side.
    fn ended(&self, whole: bool);
}
