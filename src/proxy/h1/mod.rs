//! HTTP/1.1 as both sides speak it: lines, chunks, bodies, reading what comes and what waits to be written.
//! Syntax only (RFC 9112): which fields go where is [`super::rules`]' affair, and the sockets are the callers'.

mod body;
mod chunked;
mod lines;
mod outbox;
mod read;
#[cfg(test)]
pub(super) mod script;
#[cfg(test)]
pub(super) mod tricks;

pub(super) use body::Decoder;
pub(super) use chunked::{Chunked, Piece};
pub(super) use lines::{MAX_TRAILER_FIELDS, section_end};
pub(super) use outbox::{Outbox, SizeLine};
pub(super) use read::{Buffers, LARGE, READ};
