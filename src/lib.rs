//! Remuda: a front proxy that owns a service's public socket, runs the service's worker processes
//! behind it, and replaces them with a fresh generation while traffic flows.
//!
//! This page is the architecture document. The words are fixed: **worker** one child process ·
//! **slot** its number · **generation** all workers of one spec · **release** the operator's name for
//! it · **rollout** one supervised change of generation · **weight** share of requests · **ramp** the
//! climb of the share · **soak** watching time · **drain** no new requests, finish those in flight ·
//! **retire** drain, terminate, reap · **gate** where a request is counted in or turned away ·
//! **parking** holding requests while nobody can answer · **plane** one running data plane.
//!
//! # Two roles of one binary
//!
//! ```text
//!                  public sockets (owned by the supervisor, shared by fd passing)
//!                           │ accept
//!  clients ───────────▶  remuda proxy          data plane: every client byte; no decisions, no rights
//!                        │        ▲ │
//!               requests │  table │ ▼ facts, counters (`link`)
//!                        ▼        │
//!                     workers   remuda run     supervisor: listeners, children, rollouts, admin API
//!                        ▲  spawn, signal, reap │
//!                        └──────────────────────┘
//! ```
//!
//! * The **supervisor** ([`supervisor`]) is one thread and one loop. It feeds facts (a worker exited,
//!   a probe passed, a table was acknowledged) and commands (roll, pause, scale) into the pure core
//!   ([`rollout`]) and carries out the actions the core asks for. It sees no client byte.
//! * The **data plane** ([`proxy`]) serves HTTP from an immutable routing table that the supervisor
//!   publishes. It counts, reports and obeys; it never changes which workers exist. It may lower a worker's
//!   share on its own (full, cold, failing), never raise one. Whoever takes it over finds a process that can open,
//!   start and signal nothing; a process beside it ([`supervisor::run_cleanup`]) tidies up if the supervisor is
//!   killed.
//! * A worker is started through the **exec shim** ([`shim`]), the same binary again, which makes the
//!   session, sets `LISTEN_PID`, closes every other descriptor and then becomes the worker.
//!
//! # The one idea
//!
//! A rollout changes only two numbers per generation: how many workers it should have and what share
//! of the traffic it gets. One reconciler makes reality match. Start, batch, canary, pause, abort,
//! rollback, crash replacement, scaling and shutdown are all "set other numbers".
//!
//! # The one retire order
//!
//! weight 0 and gate shut in a published table → every plane has acknowledged → in-flight 0, or its
//! class's deadline → pooled connections closed → SIGTERM to the main process → grace → what is left
//! of its group: TERM, then KILL → reaped → its socket, port and group are gone.
//!
//! # Where things live
//!
//! | module | job | must never |
//! |---|---|---|
//! | [`rollout`] | decide; pure: state in, facts in, actions out | touch tokio, a clock, a socket, a metric |
//! | [`supervisor`] | do: listeners, spawn and reap, probe, publish | hold a rule about rollouts; see a client byte |
//! | [`link`] | the messages between the two roles and their transport | trust what arrives |
//! | [`proxy`] | serve: accept, route, pick, pass the gate, forward | change which workers exist |
//! | [`shim`] | become a worker | do anything after the exec |
//! | [`admin`], [`cli`] | speak; [`wire`] is the one set of types for both | reach into the core but by `Command` and `View` |
//! | [`config`] | read: file shapes → checked [`config::Config`] | let an unchecked value out |
//! | [`metrics`] | names, buckets, exposition | be a global |
//! | [`sys`] | the few system calls that need `unsafe` | hold policy |
//! | [`demo`] | the built-in sample worker, load generator and score card | be needed by anything else |

/// Version of this build, as the hello of the link and the status say it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
pub mod feed;
#[cfg(test)]
pub(crate) mod fuzz;
pub mod link;
pub mod metrics;
pub mod proxy;
pub mod rollout;
pub mod shim;
pub mod supervisor;
pub mod sys;
pub mod wire;
