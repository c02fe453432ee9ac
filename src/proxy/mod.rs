//! The data plane: every client byte, no decisions.
//!
//! ```text
//!  listener ─▶ connection ─▶ route ─▶ exchange ─▶ [rules] ─▶ pick ─▶ gate ─▶ [upstream] ─▶ worker
//!                │   ▲                    │                     ▲
//!             `front` (bytes)             └── counters, live    └── table (immutable, by epoch)
//! ```
//!
//! `front` turns a client's bytes into a [`head::RequestHead`] and a body, `connection` takes one request
//! after another through `handle`, and the answer goes back the same way. Both sides share `h1`, the
//! syntax of HTTP/1.1; neither passes on a byte of a head that it has not written itself.
//!
//! One event loop per core; a connection stays on its loop, and nothing shared is written per request.

mod accept;
mod access_log;
mod base64;
mod client;
mod confine;
mod connection;
mod counters;
mod digits;
mod drain;
mod ejection;
mod entrance;
mod event_loop;
mod exchange;
mod forward;
mod fresh;
mod front;
mod gate;
mod grpc;
mod h1;
mod h2;
mod handle;
pub mod head;
mod linger;
mod live;
mod names;
mod park;
mod pick;
mod plane;
mod queue;
mod reply;
mod respond;
mod retry;
mod route;
pub mod rules;
mod shown;
mod slack;
mod socket;
mod table;
pub(crate) mod tls;
mod tripwire;
mod tunnel;
mod upload;
pub mod upstream;
mod websocket;

pub(crate) use self::access_log::{
    FIELDS as LOG_FIELDS, Format as LogFormat, Unfit as UnfitLogFormat,
};
pub use self::confine::confine;
pub(crate) use self::plane::UNCONFINED;
pub use self::plane::{run_from_stdin, serve_here};
