//! The pure decision core: `(state, now, command | fact) → actions, deadlines, view`.
//!
//! It owns every decision about workers, generations and rollouts. The supervisor's loop calls it; it
//! never touches tokio, a clock, a socket or a metric.
//!
//! # Theory of operation
//!
//! A **generation** has two numbers: how many workers it should have (`wanted`) and what share of the
//! requests it gets. [`Core`] does the same after every order, fact and tick, until nothing changes:
//!
//! ```text
//!   steps ──▶ numbers ──▶ workers ──▶ reconcile ──▶ routes
//!   the rollout's         each one    spawn what    publish if the
//!   step machine moves    moves as    lacks, retire table differs
//!   goal and share        far as it   what is too
//!                         can         much
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `core` | the one entry; which facts and orders go where |
//! | `service`, `worker`, `plan` | the state: a service, a worker's life, a rollout |
//! | `processes`, `probes`, `counts` | what facts do: of processes, of their health, of their requests |
//! | `retire` | the retire order |
//! | `reconcile` | wanted counts from the rollout; spawning and retiring |
//! | `cure` | which worker is to be replaced for its health, and when one that is may go |
//! | `steps` | the rolling strategy, batch by batch |
//! | `watching`, `judge` | a batch's ramp and soak; the judgement |
//! | `turns`, `rollback` | how a rollout begins and ends; how one that failed goes back |
//! | `triggers`, `orders` | what orders for a rollout meet; all other orders |
//! | `routes`, `publish` | weights and gates; when the table is published, and who waits for it |
//! | `deadline` | when something is due next |
//! | `flat` | the small map that workers and generations live in |
//! | `show`, `explain` | the view; what is being waited for |
//! | `invariants` | what must hold after every call (debug builds) |
//!
//! **A worker's life**, the one retire order from `Shutting` on:
//!
//! ```text
//! Starting ─rise─▶ Ready ◀─person─▶ Held (at once in a slot that a person drained)
//!    │               └──────┬────────┘ retire
//!    │ retire, timeout   Shutting ─ack─▶ Emptying ─0 or deadline─▶ Unlisting ─ack─┐
//!    └─────────────────────────────────────────────────────▶ Terminating ◀────────┘
//!                                    exited ◀─┤ └─grace─▶ Killing ─grace─▶ (stuck)
//!  exited unasked, from anywhere ─▶ Sweeping ─cleared─▶ gone
//! ```
//!
//! A worker that ends unasked leaves the table at once. Only the stable generation restarts workers: the
//! slot is a *vacancy* until its delay is over and nothing of the last worker is left. A candidate's
//! failure ends the rollout; a superseded or parked worker's place goes back to the stable generation.
//! A worker that has served for a while and ends with exit status 0 (it has its number of requests behind it)
//! has not failed: its vacancy is due at once, also in a rollout that goes forward, whose batch then passes
//! with the new one.
//!
//! **A rollout** forward: `Waiting → Starting → Watching → Retiring`, the last three once per batch;
//! back: `Refilling`. It only sets `goal` and `share`. Going back, the others' wanted count falls as
//! the stable generation gets ready (in the first batch to 0 at once), so no place is given up before it
//! is made good (I1) and no more than the surge is alive beside (I2).
//!
//! **Superseding**: what the superseded rollout has made serves on with the stable generation, shares its
//! part of the requests by open workers, and is replaced first. If the newer rollout goes back, the
//! stable generation is refilled and takes over from both. A rollout that failed is not superseded in
//! the middle of going back: the newer one begins at full strength, or when that is given up.
//!
//! **Time**: stamps use `now`; deadlines count as passed only up to the last `tick`. So facts that waited
//! through a leap of the clock are taken first (F35), and nothing fires inside `fact` or `command`: a
//! deadline of zero length fires at the next tick, which `next_deadline` then asks for at once.
//!
//! **What a person may do that a rollout may not**: a hand-drained worker counts as lacking by order, so
//! it may take the service below its wanted count. The order is for the slot: what is started there after
//! a crash is held as well, until somebody undrains it. It ends with the slot, or where a rollout or a person
//! replaces the worker.

#![deny(clippy::wildcard_enum_match_arm)]

mod action;
mod backoff;
mod command;
mod core;
mod counts;
mod cure;
mod deadline;
mod explain;
mod fact;
mod flat;
mod id;
mod invariants;
mod judge;
mod orders;
mod plan;
mod probes;
mod processes;
mod publish;
mod reconcile;
mod record;
mod retire;
mod rollback;
mod routes;
mod service;
mod settings;
mod show;
mod steps;
mod triggers;
mod turns;
mod view;
mod watching;
mod words;
mod worker;

pub use self::action::{
    Action, GateState, GenerationRoutes, Role, Routes, ServiceRoutes, WorkerRoute,
};
pub use self::command::{
    Accepted, Command, Halt, Joined, LAST_GRACE, LONGEST_REASON, LONGEST_RELEASE, Refusal,
    RolloutOrder, Steer, Stop, Trigger, WorkerOrder, unfit_reason, unfit_release,
};
pub use self::core::Core;
pub use self::fact::{Exit, Fact, InFlight, Outcomes};
pub use self::id::{Epoch, Generation, Moment, ServiceName, Slot, Weight, WorkerId};
pub use self::record::{Event, Record, WorkerFailure};
pub use self::settings::{Amount, MAX_WORKERS, NotEnough, OnFailure, Ownership, Settings};
pub use self::view::{
    FailedWorker, FailureReason, FailureView, GenerationView, Health, RolloutState, RolloutView,
    ServiceView, Step, Verdict, VerdictView, View, WaitingKind, WaitingOn, WorkerState, WorkerView,
};
