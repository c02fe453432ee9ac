//! The real binary with real worker processes: rollouts under load, supervision, faults. Names of tests
//! bear the rows of the fault list they show.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::exit,
    clippy::panic,
    clippy::print_stderr,
    clippy::zombie_processes,
    dead_code,
    unsafe_code,
    unused_imports,
    reason = "one harness for two test programs: a scripted worker misbehaves like a C program, tests poll"
)]

mod access_log;
mod all_traffic;
mod bad_input;
mod certificates;
mod demo;
mod drains;
mod health;
mod inherited;
mod limits;
mod listeners;
mod manager;
mod planes;
mod programs;
mod protocols;
mod reloads;
mod routing;
mod sandbox;
mod steering;
mod stopping;
mod supervision;
mod support;
mod thread;
mod under_load;
