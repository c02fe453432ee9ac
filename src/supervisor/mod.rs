//! The supervisor: one thread, one loop around the pure core. It owns listeners, children and the
//! admin socket; it carries out actions and reports facts, and decides nothing about rollouts.

pub mod console;
pub mod handle;
pub mod image;
pub mod listeners;
pub mod notify;
pub mod output;
pub mod place;
pub mod ports;
pub mod probe;
pub mod procstat;
pub mod reaper;
pub mod remains;
pub mod runtime_dir;
pub mod spawn;
pub mod spec;
pub mod state;
mod text;
mod unix_socket;
