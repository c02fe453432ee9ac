//! What the supervisor tells the shim, and what the shim answers if it fails.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::program::{Bytes, Program};

/// What to become. One frame; its descriptors are stdout, stderr, the listeners, then the program if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Our pid as the supervisor knows itself: whose end is to end the worker.
    pub parent: u32,
    /// The file to execute; a name without a slash is looked for in the `PATH` of `env`.
    pub program: OsString,
    /// The file that the worker's generation began with, if it is held.
    pub begun: Option<Program>,
    /// The arguments, the first is the program's name as the operator wrote it.
    pub argv: Vec<OsString>,
    /// The whole environment but for `LISTEN_*`.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub cwd: Option<OsString>,
    /// Who to become.
    pub identity: Option<Identity>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Soft and hard limit of open files, if ours are not to be handed down.
    pub open_files: Option<(u64, u64)>,
    /// Names of the listeners, for `LISTEN_FDNAMES`; they get the descriptors from 3 on.
    pub listeners: Vec<String>,
}

/// A user to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// What the shim has to say. Success is the end of the channel, closed by the exec itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is about to execute other bytes than those under the program's name when its generation began. Of
    /// several the last is true.
    Executes(Bytes),
    /// There is no worker.
    Failed(Failure),
}

/// Why there is no worker: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure(pub String);
