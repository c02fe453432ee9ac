//! What has happened. Facts are past tense, may come late or twice, and name what they are about; a
//! fact about something unknown changes nothing.

use serde::{Deserialize, Serialize};

use super::id::{Epoch, Generation, Moment, ServiceName, WorkerId};

/// One piece of news for the core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// The exec succeeded and the process has this pid.
    Spawned {
        /// The worker.
        worker: WorkerId,
        /// Its process id, for the view only.
        pid: u32,
    },
    /// There is no process: fork, the shim's set-up or exec failed (F37).
    SpawnFailed {
        /// The worker.
        worker: WorkerId,
        /// What failed, with the system's own words, such as
        /// `cannot execute "./server": No such file or directory`.
        error: String,
    },
    /// A probe was answered as the health settings ask.
    Answered {
        /// The worker.
        worker: WorkerId,
    },
    /// A probe failed: refused, timed out, or a wrong status.
    Unanswered {
        /// The worker.
        worker: WorkerId,
        /// What came instead, such as `GET /healthz answered 503`.
        problem: String,
        /// Nothing came in time: it may be busy.
        late: bool,
    },
    /// The main process ended and was reaped.
    Exited {
        /// The worker.
        worker: WorkerId,
        /// How.
        exit: Exit,
    },
    /// Nothing of the worker is left: group empty, socket and port free.
    Cleared {
        /// The worker.
        worker: WorkerId,
    },
    /// Every plane uses this table or a newer one, and every gate it shuts is shut.
    Acknowledged {
        /// The table's number.
        epoch: Epoch,
    },
    /// Requests counted in at a worker's gates, summed over all planes.
    Load {
        /// The worker.
        worker: WorkerId,
        /// By class.
        in_flight: InFlight,
        /// When the plane will have cut the last of them, if its gate is shut.
        deadline: Option<Moment>,
    },
    /// A plane gives it no requests for a while, because it fails and others do not.
    Ejected {
        /// The worker.
        worker: WorkerId,
    },
    /// No plane does so any more.
    Readmitted {
        /// The worker.
        worker: WorkerId,
    },
    /// We could not look for so long, until now: stopped, or starved. What only our looking can end (a
    /// worker's start, a rollout's progress) is not charged for it (F35, G16).
    Stalled {
        /// How long.
        by: std::time::Duration,
    },
    /// Whether a plane accepts clients and was heard lately, where that has changed; at first it is taken to be so. While
    /// there is none, nothing can be learnt of a candidate, and a rollout's ramp and soak stand still (F33, F57).
    Planes {
        /// One does.
        accept: bool,
    },
    /// Answers and failures of a generation since its first request, never decreasing.
    Traffic {
        /// The service.
        service: ServiceName,
        /// The generation.
        generation: Generation,
        /// Counts so far.
        total: Outcomes,
    },
}

/// How a process ended (wait status).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// `exit(code)`.
    Code(i32),
    /// Killed by a signal; `core` if it dumped.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal { signal, core } => {
                write!(f, "killed by {}", signal_name(*signal))?;
                if *core {
                    f.write_str(" (core dumped)")
                } else {
                    Ok(())
                }
            }
        }
    }
}

fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        3 => "SIGQUIT".into(),
        4 => "SIGILL".into(),
        6 => "SIGABRT".into(),
        7 => "SIGBUS".into(),
        8 => "SIGFPE".into(),
        9 => "SIGKILL".into(),
        11 => "SIGSEGV".into(),
        13 => "SIGPIPE".into(),
        14 => "SIGALRM".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

/// Requests in flight by class: what a drain waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Neither of the others: limit counted from the start of the drain.
    pub plain: u32,
    /// A request body still comes in: limit counted from its last byte.
    pub upload: u32,
    /// A response that streams (SSE, or long already): limit counted from its last byte.
    pub stream: u32,
    /// An upgraded connection: limit counted from its last byte.
    pub tunnel: u32,
}

impl InFlight {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u32 {
        // Planes are not believed: their numbers must not overflow ours.
        [self.upload, self.stream, self.tunnel]
            .into_iter()
            .fold(self.plain, u32::saturating_add)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            plain: self.plain.saturating_add(other.plain),
            upload: self.upload.saturating_add(other.upload),
            stream: self.stream.saturating_add(other.stream),
            tunnel: self.tunnel.saturating_add(other.tunnel),
        }
    }
}

impl std::fmt::Display for InFlight {
    /// `3 requests, 1 stream`; `nothing` if there is nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let classes = [
            (self.plain, "request"),
            (self.upload, "upload"),
            (self.stream, "stream"),
            (self.tunnel, "tunnel"),
        ];
        let mut comma = "";
        for (count, class) in classes.into_iter().filter(|(count, _)| *count > 0) {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{comma}{count} {class}{plural}")?;
            comma = ", ";
        }
        if comma.is_empty() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}

/// Requests of a generation that ended, for judgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// All that were given to its workers.
    pub requests: u64,
    /// Of these: answered 5xx, reset, failed as the proxy saw it, or left by their clients after a second
    /// without an answer. Other client aborts are not failures.
    pub failures: u64,
}
