//! The pure decision core: `(state, now, command | fact) → actions, deadlines, view`.
//!
//! It owns every decision about workers, generations and rollouts. The supervisor's loop calls it; it
//! never touches tokio, a clock, a socket or a metric.

#![deny(clippy::wildcard_enum_match_arm)]

mod action;
mod backoff;
mod command;
mod core;
mod explain;
mod fact;
mod id;
mod invariants;
mod judge;
mod lifecycle;
mod orders;
mod plan;
mod reconcile;
mod record;
mod routes;
mod service;
mod settings;
mod show;
mod steps;
mod triggers;
mod view;
mod worker;

pub use self::action::{
    Action, GateState, GenerationRoutes, Role, Routes, ServiceRoutes, WorkerRoute,
};
pub use self::command::{
    Accepted, Command, Joined, Refusal, RolloutOrder, Steer, Stop, Trigger, WorkerOrder,
};
pub use self::core::Core;
pub use self::fact::{Exit, Fact, InFlight, Outcomes};
pub use self::id::{Epoch, Generation, Moment, ServiceName, Slot, Weight, WorkerId};
pub use self::record::{Event, Record, WorkerFailure};
pub use self::settings::{Amount, NotEnough, OnFailure, Ownership, Settings};
pub use self::view::{
    FailedWorker, FailureReason, FailureView, GenerationView, Health, RolloutState, RolloutView,
    ServiceView, Step, Verdict, VerdictView, View, WaitingKind, WaitingOn, WorkerState, WorkerView,
};
