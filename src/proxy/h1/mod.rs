//! HTTP/1.1 as both sides speak it: lines, chunks, bodies, and what waits to be written. Syntax only
//! (RFC 9112): which fields go where is [`super::rules`]' affair, sockets are the callers'.

mod body;
mod chunked;
mod lines;
mod outbox;

pub(super) use body::Decoder;
pub(super) use chunked::{Chunked, Piece};
pub(super) use lines::section_end;
pub(super) use outbox::{Outbox, SizeLine};
