//! What people order. Commands are imperative and answered at once: accepted, or refused with a reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{Generation, Moment, ServiceName, Slot, WorkerId};
use super::settings::Settings;

/// One order to the core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Bring a service up: its first generation is `first`, all workers at once.
    Start {
        /// The service.
        service: ServiceName,
        /// Its settings.
        settings: Settings,
        /// Number of the first generation (continues a persisted count).
        first: Generation,
        /// The operator's name for the release, or an empty string.
        release: String,
    },
    /// Take new settings without a rollout (`wanted` included).
    Configure {
        /// The service.
        service: ServiceName,
        /// Its new settings.
        settings: Settings,
    },
    /// Workers that somebody else runs are at other addresses now, one for each wanted one. Those that are
    /// named leave, and for each address without a worker one begins.
    Readdress {
        /// The service.
        service: ServiceName,
        /// The new settings.
        settings: Settings,
        /// Workers whose address is none of it any more.
        gone: Vec<WorkerId>,
    },
    /// Roll to a new generation.
    Rollout {
        /// The service.
        service: ServiceName,
        /// What to roll to and why.
        order: RolloutOrder,
    },
    /// Steer the running rollout, or no-op if it is there already.
    Steer {
        /// The service.
        service: ServiceName,
        /// Where to.
        steer: Steer,
        /// The rollout that is meant, by the generation it makes; `None` for whichever is the current one.
        /// Refused if another one took over meanwhile.
        rollout: Option<Generation>,
    },
    /// Go back to the generation (or release) before: abort a running rollout, take back a parked
    /// generation, or roll to the previous release.
    Rollback {
        /// The service.
        service: ServiceName,
    },
    /// Another count of workers.
    Scale {
        /// The service.
        service: ServiceName,
        /// The new count, at least 1.
        wanted: u32,
    },
    /// One worker.
    Worker {
        /// The service.
        service: ServiceName,
        /// The slot.
        slot: Slot,
        /// What to do with it.
        order: WorkerOrder,
    },
    /// A stop has begun: no order is taken any more, and no rollout goes further. Workers go on as before, as
    /// requests are still served, until `Stop`.
    Halt(Halt),
    /// Stop everything. `Graceful` drains; `Now` shortens every deadline to nothing.
    Stop(Stop),
}

/// A rollout as ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutOrder {
    /// The operator's name for the release; `None` means a restart of the stable one's release.
    pub release: Option<String>,
    /// Who asked.
    pub trigger: Trigger,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Roll even if `release` is stable already.
    pub force: bool,
    /// Refuse unless this is the stable generation.
    pub expected: Option<Generation>,
}

/// Who asked for a rollout. The metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// SIGUSR2.
    Signal,
    /// The admin API.
    Api,
    /// The command line.
    Cli,
    /// A changed config.
    Reload,
    /// `remuda rollback` to an earlier release.
    Rollback,
}

/// What may be done to a running rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Steer {
    /// Hold where it is.
    Pause,
    /// Go on.
    Resume,
    /// Skip what is left of the soak and the ramps and finish.
    Promote,
    /// Go back.
    Abort,
}

/// What may be done to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerOrder {
    /// Shut its gate and keep the process.
    Drain,
    /// Open its gate again.
    Undrain,
    /// Replace it, the new one first.
    Restart,
}

/// The times of a stop that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// When it began.
    pub since: Moment,
    /// Until then new requests are served like before.
    pub serves_until: Moment,
    /// When what is left is cut.
    pub deadline: Moment,
}

/// From the order to end now to the end of remuda, whatever still lives then: SIGTERM and its grace of a second,
/// and two seconds in which the system can take away what SIGKILL has ended. A process that it does not end, which
/// hangs in the kernel or is held by a debugger, must not hold up the machine's shutdown (F25).
pub const LAST_GRACE: Duration = Duration::from_secs(3);

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// Drain, terminate, reap.
    Graceful,
    /// SIGTERM without a drain, then SIGKILL at once after a short grace.
    Now,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accepted {
    /// Done, or already so.
    Done,
    /// A rollout: a new one, the pending one, or one that was joined.
    Rollout {
        /// `SERVICE-NUMBER` is its id: the number of the generation it makes, if it makes one.
        number: Generation,
        /// How the order met what was there.
        how: Joined,
    },
    /// The release is stable already; nothing to do.
    AlreadyStable {
        /// The stable generation.
        generation: Generation,
    },
}

/// How an order for a rollout met what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// A new rollout began.
    Began,
    /// It joined one that had spawned nothing yet, or that rolls the same release.
    Joined,
    /// It waits for the running one's batch to end.
    Pending,
}

/// Longest name of a release, in characters: it is in every status, and in lines for people.
pub const LONGEST_RELEASE: usize = 128;

/// Longest reason of an order, in characters: a sentence with a link, in every list of rollouts.
pub const LONGEST_REASON: usize = 500;

/// What is wrong with the name of a release, if anything is.
#[must_use]
pub fn unfit_release(name: &str) -> Option<String> {
    unfit_line("the name of a release", name, LONGEST_RELEASE)
}

/// What is wrong with the reason that a person gives for an order, if anything is.
#[must_use]
pub fn unfit_reason(reason: &str) -> Option<String> {
    unfit_line("the reason", reason, LONGEST_REASON)
}

fn unfit_line(what: &str, text: &str, longest: usize) -> Option<String> {
    let length = text.chars().count();
    if length > longest {
        return Some(format!(
            "{what} has at most {longest} characters, not {length}"
        ));
    }
    let unfit = text.chars().any(|c| c.is_control() || turns_lines(c));
    unfit.then(|| format!("{what} is one line, without control characters"))
}

/// Characters that end a line or turn the direction of what follows: whoever reads a list sees another one.
fn turns_lines(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Why a command was refused. Maps to HTTP 404, 409 or 422.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No such service.
    NoService(ServiceName),
    /// No worker in that slot.
    NoSlot(Slot),
    /// There is no rollout to steer.
    NoRollout,
    /// There is nothing to go back to.
    NothingToRollBackTo,
    /// The stable generation is another than expected.
    Unexpected {
        /// The stable generation.
        stable: Generation,
    },
    /// We do not run these workers.
    Unmanaged,
    /// Not in this state; the text says why.
    Conflict(String),
    /// We are stopping.
    Stopping,
    /// The value makes no sense; the text says why.
    Invalid(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoService(name) => write!(f, "there is no service `{name}`"),
            Self::NoSlot(slot) => write!(f, "there is no worker in slot {slot}"),
            Self::NoRollout => f.write_str("no rollout is running"),
            Self::NothingToRollBackTo => f.write_str("there is no earlier generation to go back to"),
            Self::Unexpected { stable } => {
                write!(f, "the stable generation is {stable}, not the expected one")
            }
            Self::Unmanaged => f.write_str(
                "these workers are run by somebody else (`upstream`), so they cannot be started or replaced here",
            ),
            Self::Conflict(why) | Self::Invalid(why) => f.write_str(why),
            Self::Stopping => f.write_str("remuda is stopping"),
        }
    }
}
