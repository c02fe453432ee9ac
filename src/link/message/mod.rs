//! The messages of the seam. Each is one frame (postcard); descriptors travel beside the frame that
//! names their count. The order of fields and variants is the encoding.
//!
//! Here is the envelope, what each end says to the other. What is in it: the public listeners (`listener`) and how
//! requests are logged (`access_log`); the routing table (`table`), which has the limits towards clients (`front`)
//! and each service's rules (`rules`, and what they change about heads, `edits`); and, the other way, counters
//! (`sample`, by the closed sets of `labels`) and what is in flight (`exchange`).

mod access_log;
mod edits;
mod exchange;
mod front;
mod labels;
mod listener;
mod rules;
mod sample;
mod table;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::access_log::{AccessLog, LogFormat};
pub use self::edits::{Edits, FieldEdits, Page};
pub use self::exchange::{Class, Exchange, MAX_EXCHANGES};
pub use self::front::{Entrance, Front, Network};
pub use self::labels::{AcceptError, Limit, MethodLabel, ProxyReason};
pub use self::listener::{ClientAuthorities, Identity, PublicListener, Secret, TlsOffer};
pub use self::rules::{DrainLimits, Ejection, HostPattern, Parking, Retry, ServiceRules};
pub use self::sample::{
    DURATION_BOUNDS, EndedSample, Histogram, RoleSample, Sample, ServiceSample, WorkerSample,
};
pub use self::table::{GenerationEntry, Protocol, Service, Table, WorkerAddress, WorkerEntry};

use crate::rollout::Epoch;

/// First field of the hello: "RMDA".
pub const MAGIC: u32 = 0x524d_4441;
/// Version of these messages; both ends must agree.
pub const PROTOCOL: u32 = 1;
/// Longest frame, so that a confused peer cannot make us allocate without bound.
pub const MAX_FRAME: usize = 1 << 20;

/// Supervisor to plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToPlane {
    /// First message.
    Hello {
        /// [`MAGIC`].
        magic: u32,
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version and revision of the sender.
        build: String,
        /// Number of this plane's life, never reused.
        incarnation: u64,
        /// Event loops to run, at least 1.
        loops: u32,
    },
    /// The public listeners: this many descriptors follow with the frame, in this order, already
    /// listening and non-blocking (which nobody toggles, F05).
    Listeners(Vec<PublicListener>),
    /// A listener in place of the one at this place among them, whose path somebody removed: one descriptor
    /// follows. What waits at the old one is still served.
    Listener {
        /// Its place, from 0.
        place: u32,
        /// What it is.
        listener: PublicListener,
    },
    /// What listeners show to clients by TLS; the parts of one offer come in a row, and each offer replaces
    /// the one before in every listener. Comes before the first table.
    Tls {
        /// Certificates by listener; those of one may be spread over parts.
        offers: Vec<TlsOffer>,
        /// The last part.
        last: bool,
    },
    /// How requests are logged from now on, and to the one descriptor that follows with the frame; `None`,
    /// and no descriptor, is not at all. What was logged before goes where it went.
    AccessLog(Option<AccessLog>),
    /// A routing table; replaces the one before. Answered by `Ack` of its epoch.
    Table(Arc<Table>),
    /// Begin to accept. Sent after the first table was acknowledged.
    Accept,
    /// Are all your loops alive? Answered by `Pong` with the same number after every loop turned.
    Ping(u64),
    /// Send a `Sample` now. Answered with the same number.
    Sample(u64),
    /// Send what is in flight. Answered by `Exchanges` with the same number.
    Exchanges(u64),
    /// You will be told to drain in so long. Serve as before, but let those clients go, each with an answer, that
    /// are here already.
    Announce(Duration),
    /// Stop: accept until the queue is empty, stop accepting, finish what is in flight within the
    /// limits of the table, answer `Drained`, exit.
    Drain,
}

/// Plane to supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromPlane {
    /// First message.
    Hello {
        /// [`MAGIC`].
        magic: u32,
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version and revision of the sender.
        build: String,
        /// What it gave up before; `None` if it was told not to.
        confinement: Option<Confinement>,
    },
    /// This epoch is in use in every loop, and every gate it shuts is shut.
    Ack(Epoch),
    /// It accepts.
    Accepting,
    /// Answer to `Ping`.
    Pong(u64),
    /// Counters, absolute since the plane began. Sent at least every 100 ms while anything changes, at
    /// once when the last request leaves a shut gate, and in answer to `Sample` (`Some(number)`).
    Sample {
        /// The number of the question, if it was one.
        answers: Option<u64>,
        /// The counters.
        sample: Box<Sample>,
    },
    /// Answer to `Exchanges`; at most [`MAX_EXCHANGES`], oldest first.
    Exchanges {
        /// The number of the question.
        answers: u64,
        /// What is in flight.
        exchanges: Vec<Exchange>,
    },
    /// Nothing is in flight any more and no connection is open; it exits now.
    Drained,
    /// Somebody sent it SIGTERM: it stops accepting and finishes what it has, so that a successor is
    /// needed now.
    Leaving,
}

/// What keeps a plane from everything that is no business of its own (T16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// No new privileges, and no capability that it does not need.
    pub privileges: InForce,
    /// Landlock.
    pub landlock: InForce,
    /// The filter of system calls.
    pub seccomp: InForce,
}

/// How much of a restriction the kernel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InForce {
    /// All that was asked for.
    Whole,
    /// What a kernel of its age knows.
    Part,
    /// Nothing.
    Not,
}
