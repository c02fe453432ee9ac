//! The supervisor: one thread, one loop around the pure core. It owns listeners, children and the
//! admin socket; it carries out actions and reports facts, and decides nothing about rollouts.

pub mod handle;
pub mod image;
pub mod place;
pub mod ports;
pub mod reaper;
pub mod spawn;
pub mod spec;
