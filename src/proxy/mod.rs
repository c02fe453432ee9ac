//! The data plane: every client byte, no decisions.
//!
//! ```text
//!  listener ─▶ connection ─▶ exchange ─▶ [rules] ─▶ pick ─▶ gate ─▶ [upstream] ─▶ worker
//!                               │                     ▲
//!                               └── counters, live    └── table (immutable, by epoch)
//! ```
//!
//! One event loop per core; a connection stays on its loop, and nothing shared is written per request.

mod accept;
mod connection;
mod counters;
mod drain;
mod event_loop;
mod exchange;
mod forward;
mod gate;
mod handle;
mod inlet;
mod live;
mod park;
mod pick;
mod plane;
mod reply;
mod respond;
mod retry;
pub mod rules;
mod socket;
mod table;
mod tunnel;
mod upload;
pub mod upstream;

pub use self::plane::{run, run_from_stdin, serve_here};
