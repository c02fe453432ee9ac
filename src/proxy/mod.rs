//! The data plane: every client byte, no decisions.
//!
//! ```text
//!  listener ─▶ connection ─▶ exchange ─▶ [rules] ─▶ pick ─▶ gate ─▶ [upstream] ─▶ worker
//!                               │                     ▲
//!                               └── counters, live    └── table (immutable, by epoch)
//! ```
//!
//! One event loop per core; a connection stays on its loop, and nothing shared is written per request.

pub mod rules;
pub mod upstream;
