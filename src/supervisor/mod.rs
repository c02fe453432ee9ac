//! The supervisor: one thread, one loop around the pure core. It owns listeners, children and the
//! admin socket; it carries out actions and reports facts, and decides nothing about rollouts.
//!
//! ```text
//!  signals ─┐                                             ┌─▶ planes: tables, pings        [planes]
//!  asks ────┼─▶ control loop ─ facts, commands ─▶ core ───┼─▶ workers: spawn, signal       [workers]
//!  planes ──┤    [control]   ◀─ actions, view ─           ├─▶ log, events, metrics         [journal]
//!  workers ─┘                                             └─▶ status                       [status]
//! ```

mod access_log;
mod actions;
pub mod admin_socket;
pub mod allocator;
mod asks;
mod belonging;
mod certificates;
mod changed;
mod cleanup;
mod clock;
pub mod console;
mod control;
pub mod handle;
pub mod image;
pub mod inherited;
mod input;
mod journal;
mod ledgers;
pub mod listeners;
mod logging;
mod manager;
mod notices;
pub mod notify;
mod orphans;
pub mod output;
mod parked;
mod pid_file;
pub mod place;
mod plane_care;
mod planes;
pub mod ports;
mod premises;
pub mod probe;
pub mod program;
pub(crate) mod protect;
pub mod reaper;
mod reload;
pub mod remains;
pub mod runtime_dir;
mod sandbox;
mod shell;
mod signals;
pub mod spawn;
pub mod spec;
mod squatter;
mod standing;
mod start;
pub mod state;
mod status;
mod stopping;
mod table;
mod text;
mod told;
mod unix_socket;
mod views;
mod workers;

pub(crate) use self::cleanup::Cleanup;
pub use self::cleanup::run as run_cleanup;
pub use self::control::Reread;
pub(crate) use self::logging::install_here as install_log;
pub use self::start::run;
