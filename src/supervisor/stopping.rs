//! A stop in its order: readiness fails → `shutdown_delay` → planes accept what waits in the queue,
//! finish and leave → workers, with nothing in flight any more, are terminated → end (F39).
//!
//! One deadline bounds all of it; after it, or at the second signal, everything is ended now, and what SIGKILL
//! does not end within a short grace is named and left behind (F25).

use std::time::Duration;

use serde_json::json;
use tracing::Level;

use super::control::Supervisor;
use super::remains;
use crate::rollout::{Command, Halt, LAST_GRACE, Moment, Stop};

/// After an order to stop now: how long planes may take to end by themselves.
const NOW_GRACE: Duration = Duration::from_millis(500);

/// Where a stop is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    phase: Phase,
    deadline: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Readiness fails, everything still serves, until then.
    Announced(Moment),
    /// Planes finish.
    Planes,
    /// Workers end.
    Workers,
    /// Everything ends now; planes are killed then.
    Now(Moment),
    /// Something lives on after SIGKILL, and is not waited for any more.
    GivenUp,
}

impl Stopping {
    /// When [`Supervisor::tick_stopping`] has something to do by the clock.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Moment {
        match self.phase {
            Phase::Announced(until) | Phase::Now(until) => until.min(self.deadline),
            Phase::Planes | Phase::Workers | Phase::GivenUp => self.deadline,
        }
    }
}

impl Supervisor {
    /// Begins to stop, or hurries a stop that goes on.
    pub(super) fn stop(&mut self, at_once: bool) {
        let now = self.clock.now();
        let config = &self.config;
        self.manager
            .stops(config.shutdown_delay + config.stop_timeout);
        match (&self.stopping, at_once) {
            (None, false) => {
                let serves_until = now + self.config.shutdown_delay;
                let deadline = serves_until + self.config.stop_timeout;
                if now < serves_until {
                    self.planes.announce(self.config.shutdown_delay);
                }
                // Neither this nor a stop is ever refused.
                let _ = self.command(Command::Halt(Halt {
                    since: now,
                    serves_until,
                    deadline,
                }));
                self.stopping = Some(Stopping {
                    phase: Phase::Announced(serves_until),
                    deadline,
                });
                self.journal.note(
                    now,
                    Level::INFO,
                    "stopping",
                    "stopping: requests in flight finish first; a second signal stops at once",
                    json!({}),
                );
            }
            (
                Some(Stopping {
                    phase: Phase::Now(_) | Phase::GivenUp,
                    ..
                }),
                _,
            ) => {}
            (_, true) => {
                self.journal
                    .note(now, Level::WARN, "stopping", "stopping at once", json!({}));
                self.stop_now(now);
            }
            (Some(_), false) => {}
        }
    }

    fn stop_now(&mut self, now: Moment) {
        self.stopping = Some(Stopping {
            phase: Phase::Now(now + NOW_GRACE),
            deadline: now + LAST_GRACE,
        });
        self.close_listeners();
        let pids: Vec<u32> = self.planes.iter().map(|(_, plane)| plane.pid).collect();
        for pid in pids {
            self.workers.reaper().terminate(pid);
        }
        let _ = self.command(Command::Stop(Stop::Now));
    }

    /// No client is accepted any more once planes have emptied the queues.
    fn close_listeners(&mut self) {
        self.planes.drain();
        self.manager.forgets();
    }

    /// Moves the stop on.
    pub(super) fn tick_stopping(&mut self, now: Moment) {
        let Some(stopping) = self.stopping else {
            return;
        };
        match stopping.phase {
            Phase::Announced(until) if now >= until => {
                self.close_listeners();
                self.stopping = Some(Stopping {
                    phase: Phase::Planes,
                    ..stopping
                });
                self.tick_stopping(now);
            }
            Phase::Planes if self.planes.is_empty() => {
                self.stopping = Some(Stopping {
                    phase: Phase::Workers,
                    ..stopping
                });
                let _ = self.command(Command::Stop(Stop::Graceful));
            }
            Phase::Now(_) if now >= stopping.deadline => {
                self.stopping = Some(Stopping {
                    phase: Phase::GivenUp,
                    ..stopping
                });
            }
            Phase::Now(until) if now >= until => {
                let left: Vec<u64> = self
                    .planes
                    .iter()
                    .map(|(incarnation, _)| incarnation)
                    .collect();
                for incarnation in left {
                    if let Some(pid) = self.planes.kill(incarnation) {
                        self.workers.reaper().kill(pid);
                    }
                }
                self.stopping = Some(Stopping {
                    phase: Phase::Now(stopping.deadline),
                    deadline: stopping.deadline,
                });
            }
            Phase::Announced(_) | Phase::Planes | Phase::Workers if now >= stopping.deadline => {
                self.journal.note(
                    now,
                    Level::WARN,
                    "stopping",
                    "`stop_timeout` is over; what is left is cut",
                    json!({}),
                );
                self.stop_now(now);
            }
            Phase::Announced(_)
            | Phase::Planes
            | Phase::Workers
            | Phase::Now(_)
            | Phase::GivenUp => {}
        }
    }

    /// Whether everything that was ours is gone, or is not waited for any more.
    pub(super) fn over(&self) -> bool {
        self.stopping.is_some_and(|stopping| {
            stopping.phase == Phase::GivenUp || self.finished && self.planes.is_empty()
        })
    }

    /// The outcome of the whole run.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let left = self.left_behind();
        // Whatever is still below us has shed session and environment, so nothing tells whose it was.
        let killed = remains::kill_everything_but(&self.strangers);
        if killed > 0 && left.is_none() {
            self.journal.note(
                self.clock.now(),
                Level::WARN,
                "killed_strays",
                &format!("killed what workers had left without a mark: {killed} processes"),
                json!({ "processes": killed }),
            );
        }
        if let Some(left) = &left {
            let now = self.clock.now();
            self.journal
                .note(now, Level::ERROR, "left_behind", left, json!({}));
        }
        match self.failed_start.take().or(left) {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }

    /// What SIGKILL has not ended, if that is how the stop ends.
    fn left_behind(&self) -> Option<String> {
        if self.stopping?.phase != Phase::GivenUp {
            return None;
        }
        let planes = self.planes.iter();
        let planes = planes.map(|(_, plane)| format!("the data plane (pid {})", plane.pid));
        let left: Vec<String> = self.workers.left().chain(planes).collect();
        Some(format!(
            "stopped, but SIGKILL has not ended all; left behind: {}",
            left.join(", ")
        ))
    }
}
