//! The routing table: services, their generations, their workers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::front::Front;
use super::rules::ServiceRules;
use crate::rollout::{Epoch, GateState, Generation, Role, ServiceName, Slot, Weight, WorkerId};

/// Everything a plane knows of services: immutable, replaced whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its number.
    pub epoch: Epoch,
    /// The services.
    pub services: Vec<Service>,
    /// Limits towards clients.
    pub front: Front,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// How it is to be treated.
    pub rules: Arc<ServiceRules>,
    /// Its generations with a worker in the table.
    pub generations: Vec<GenerationEntry>,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationEntry {
    /// Its number.
    pub number: Generation,
    /// Its role, for counters.
    pub role: Role,
    /// Its share.
    pub weight: Weight,
    /// Its workers.
    pub workers: Vec<WorkerEntry>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerEntry {
    /// The worker.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: Slot,
    /// Where it listens.
    pub address: WorkerAddress,
    /// What it speaks: its generation's, which may be another than that of the one before.
    pub protocol: Protocol,
    /// Whether it takes new requests.
    pub gate: GateState,
}

/// Where a worker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WorkerAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket path.
    Unix(PathBuf),
}

impl std::fmt::Display for WorkerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a worker speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge: gRPC.
    H2c,
}
