//! A request in flight.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout::{ServiceName, WorkerId};

/// A request in flight, for `remuda requests`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// The service.
    pub service: ServiceName,
    /// The worker that has it, if any has.
    pub worker: Option<WorkerId>,
    /// Its id.
    pub request_id: String,
    /// What it is.
    pub class: Class,
    /// The method.
    pub method: String,
    /// The path without its query, at most 256 bytes.
    pub path: String,
    /// The client's address.
    pub client: String,
    /// Since the head was complete.
    pub age: Duration,
    /// Since the last byte in either direction.
    pub idle: Duration,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Time until it is cut, if its gate is shut.
    pub cut_in: Option<Duration>,
    /// Tries so far, from 1.
    pub attempt: u32,
}

/// What a request is, for drain limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// None of the others.
    Plain,
    /// Its body still comes in.
    Upload,
    /// The answer streams.
    Stream,
    /// An upgraded connection.
    Tunnel,
    /// Waits for a worker.
    Parked,
}

/// Most exchanges one answer lists.
pub const MAX_EXCHANGES: usize = 500;
