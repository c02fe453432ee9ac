//! Our HTTP/1.1 server: a client's bytes become requests, answers become bytes. One instance per client
//! connection; nothing here is `Send`.
//!
//! ```text
//!  socket ─▶ Inlet::poll_head ─▶ Head ─▶ (handle) ─▶ Answering::poll ─▶ socket
//!                │                           ▲
//!                └──── Inlet::poll_piece ────┘  the body, as the worker takes it
//! ```
//!
//! A head is read once, strictly: what has two readings is refused ([`head`]), and nothing behind a request
//! is looked at before that request is over. This module must never choose a worker or decide which fields
//! go on: those are `pick`'s and [`super::rules`]' work.

mod answer;
#[cfg(test)]
mod differential;
mod head;
mod inlet;
mod proxy_protocol;

pub(super) use answer::{Answering, Wants};
pub(super) use head::{Head, Refused};
pub(super) use inlet::{Broken, Inlet, Next};
