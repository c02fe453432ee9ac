//! What an operator should know of the instance until it is mended: the sentences of its status that belong
//! to no rollout. Each is true as long as it is shown.

use std::time::Duration;

use serde_json::json;
use tracing::Level;

use super::control::Supervisor;
use super::standing;
use crate::config::{Config, Workers};
use crate::rollout::{Moment, RolloutState, ServiceView, View, WorkerState};

/// Between two tries to keep the state: a disk that is sick holds up the loop each time.
const STATE_EVERY: Duration = Duration::from_secs(5);

/// The sentences, by what ends them.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// What the last config that was read has changed and only a restart takes into use.
    pub(super) restart: Vec<String>,
    /// The last config could not be used.
    pub(super) config: Option<String>,
    /// Certificates that changed could not be used.
    pub(super) certificates: Option<String>,
    /// The state cannot be kept (F65).
    pub(super) state: Option<String>,
    /// What the kernel does not forbid the planes.
    pub(super) sandbox: Option<String>,
}

impl Notices {
    /// Whether everything that was last read is in use, as far as it can be without a restart.
    pub(super) fn all_read(&self) -> bool {
        self.config.is_none() && self.certificates.is_none()
    }
}

impl Supervisor {
    /// All of them, the worst first.
    pub(super) fn notices(&self, view: &View) -> Vec<String> {
        let Notices {
            restart,
            config,
            certificates,
            state,
            sandbox,
        } = &self.notices;
        let read = certificates.iter().chain(config).chain(state);
        let read = read.chain(sandbox);
        let mut all: Vec<String> = read.chain(restart).cloned().collect();
        all.extend(self.closed());
        all.extend(self.behind(view));
        all.extend(self.lingering(view));
        all.extend(self.strayed());
        all
    }

    /// Services whose clients get nothing but their page.
    fn closed(&self) -> impl Iterator<Item = String> {
        let closed = self
            .config
            .services
            .iter()
            .filter(|of| of.rules.maintenance);
        closed.map(|service| {
            format!(
                "service {}: `maintenance` is on, and every request is answered 503",
                service.name
            )
        })
    }

    /// Services that do not run what the config in use says, because its rollout ended otherwise. They are
    /// not rolled again by every reload: one that renews a certificate would try a release that was found
    /// bad over and over.
    fn behind(&self, view: &View) -> Vec<String> {
        let services = view.services.iter();
        services
            .filter_map(|of| self.behind_in(&self.config, of))
            .collect()
    }

    /// Workers of addresses that a reload took away, which serve until those that came have answered.
    fn lingering(&self, view: &View) -> Vec<String> {
        let services = view.services.iter();
        let all = services.flat_map(|service| {
            let generations = service.generations.iter();
            let workers = generations.flat_map(|generation| &generation.workers);
            let serving = workers.filter(|worker| worker.state == WorkerState::Ready);
            serving.filter_map(|worker| {
                let address = self.workers.unnamed(worker.worker)?;
                Some(format!(
                    "service {}: {address} is not in `upstream` any more, and serves until the new ones have answered",
                    service.service
                ))
            })
        });
        all.collect()
    }

    /// The same of one service, were this the config in use.
    pub(super) fn behind_in(&self, config: &Config, view: &ServiceView) -> Option<String> {
        let name = &view.service;
        let rollout = view.rollout.as_ref();
        if is_moving(view) {
            return None;
        }
        let config = config.services.iter().find(|of| of.name == *name)?;
        let Workers::Managed(wanted) = &config.workers else {
            return None;
        };
        let runs = self.workers.recipe(name, view.stable)?;
        if runs == wanted {
            return None;
        }
        let release = config.release.as_ref().filter(|of| **of != view.release);
        let option = release.map_or_else(String::new, |of| format!(" --release {of}"));
        // It stands in the history as long as it is the last one.
        let why = rollout.filter(|rollout| rollout.state != RolloutState::Completed);
        let why = why.map_or_else(String::new, |rollout| {
            format!(", as `remuda history {name}-{}` shows", rollout.to)
        });
        Some(format!(
            "service {name}: generation {} runs the command and environment of an earlier config{why}; \
             `remuda rollout {name}{option}` rolls what the config says",
            view.stable
        ))
    }
}

impl Supervisor {
    /// Tries again what could not be written: room on a disk is made by somebody else (F65).
    pub(super) fn keep_state(&mut self, now: Moment) {
        if self.state.is_behind() && now >= self.state_due {
            self.state_due = now + STATE_EVERY;
            let kept = self.state.save();
            self.tell_state(now, kept);
        }
    }

    /// Says it when it begins, when it is another mistake, and when it is over; shows it all the while.
    pub(super) fn tell_state(&mut self, now: Moment, kept: Result<(), String>) {
        let before = self.notices.state.take();
        match kept {
            Ok(()) => {
                if before.is_some() {
                    self.journal.note(
                        now,
                        Level::INFO,
                        "state_kept",
                        "the numbers of generations are kept again",
                        json!({}),
                    );
                }
            }
            Err(error) => {
                if before.as_ref() != Some(&error) {
                    self.journal
                        .note(now, Level::ERROR, "state_failed", &error, json!({}));
                }
                self.notices.state = Some(error);
            }
        }
    }
}

/// Whether a rollout changes what the service runs, or waits to.
pub(super) fn is_moving(view: &ServiceView) -> bool {
    let state = view.rollout.as_ref().map(|rollout| rollout.state);
    let runs = matches!(
        state,
        Some(
            RolloutState::Pending
                | RolloutState::Running
                | RolloutState::Paused
                | RolloutState::RollingBack
        )
    );
    runs || view.pending.is_some()
}

/// Keys outside of all tables that only the start takes. Put back they change nothing, either.
pub(super) const OF_THE_START: [&str; 7] = [
    "runtime_dir",
    "threads",
    "sandbox",
    "state_dir",
    "ports",
    "pid_file",
    "exit_on_failed_start",
];

/// What has changed and cannot be taken into use while we run.
pub(super) fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut differs = |name: &str, differs: bool| {
        if differs {
            sentences.push(format!("`{name}` changed, which needs a restart of remuda"));
        }
    };
    let (was, is) = (&old.admin, &new.admin);
    differs("admin.address", was.address != is.address);
    differs("admin.token_file", was.token_file != is.token_file);
    let moved = was.runtime_dir != is.runtime_dir;
    differs("runtime_dir", moved);
    // Its default is in there.
    let follows = moved && is.socket.starts_with(&is.runtime_dir);
    differs("admin.socket", was.socket != is.socket && !follows);
    differs("metrics", old.metrics != new.metrics);
    differs("threads", old.loops != new.loops);
    differs("sandbox", old.sandbox != new.sandbox);
    differs("state_dir", old.state_dir != new.state_dir);
    differs("ports", old.ports != new.ports);
    differs("pid_file", old.pid_file != new.pid_file);
    let (was, is) = (old.exit_on_failed_start, new.exit_on_failed_start);
    differs("exit_on_failed_start", was != is);
    if let Some(which) = standing::others(&old.listen, &new.listen) {
        sentences.insert(
            0,
            format!("`listen` changed, which needs a restart of remuda ({which})"),
        );
    }
    sentences
}

/// Services whose workers are somebody else's in one of them and ours in the other; `None` if there is none.
pub(super) fn other_owners(old: &Config, new: &Config) -> Option<String> {
    let changed = new.services.iter().find(|service| {
        let before = old.services.iter().find(|of| of.name == service.name);
        before.is_some_and(|of| of.settings.ownership != service.settings.ownership)
    })?;
    Some(format!(
        "service {}: `command` and `upstream` cannot be exchanged while remuda runs; the config is good, and a restart \
         of remuda takes it",
        changed.name
    ))
}

/// Which services one of them has and the other not; `None` if they have the same.
pub(super) fn other_services(old: &Config, new: &Config) -> Option<String> {
    let only_in = |one: &Config, other: &Config, word: &str| {
        let others = || other.services.iter().map(|of| &of.name);
        let names = one.services.iter().map(|of| &of.name);
        let names = names.filter(|name| others().all(|other| other != *name));
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        (!names.is_empty()).then(|| format!("{} {verb} {word}", names.join(", ")))
    };
    let parts = [only_in(new, old, "new"), only_in(old, new, "gone")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        format!(
            "services cannot be added or removed while remuda runs ({}); the config is good, and a restart of \
             remuda takes it",
            parts.join(", ")
        )
    })
}
