//! One transition, one record, and what comes of it: a log line and an event, in the same words.

use std::time::Duration;

use tracing::Level;

use super::clock::Clock;
use crate::feed::Feed;
use crate::rollout::{Event, InFlight, Moment, Record, RolloutState, Verdict, WorkerFailure};
use crate::wire;

/// Where records go.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    clock: Clock,
    events: Feed<wire::Event>,
    naming: Naming,
}

/// How a line of the log names its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// In a field, for machines.
    Field,
    /// Before the sentence, as there are several.
    First,
    /// Not at all: there is only one.
    Left,
}

impl Journal {
    /// A journal that feeds `events`.
    #[must_use]
    pub(super) fn new(clock: Clock, events: Feed<wire::Event>, naming: Naming) -> Self {
        Self {
            clock,
            events,
            naming,
        }
    }

    /// Logs a transition of the core and feeds it to the readers of events.
    pub(super) fn record(&self, now: Moment, record: &Record) {
        let message = sentence(&record.event);
        let service = &*record.service.0;
        match self.naming {
            Naming::Field => say(level(&record.event), Some(service), &message),
            Naming::First => say(level(&record.event), None, &format!("{service}: {message}")),
            Naming::Left => say(level(&record.event), None, &message),
        }
        let data = serde_json::to_value(&record.event).unwrap_or_default();
        let kind = data
            .get("type")
            .and_then(|kind| kind.as_str())
            .unwrap_or("event")
            .to_owned();
        self.events.push(wire::Event {
            at: self.clock.print(now),
            service: Some(record.service.to_string()),
            kind,
            message,
            data,
        });
    }

    /// Logs something the shell itself saw or did, and feeds it likewise.
    pub(super) fn note(
        &self,
        now: Moment,
        level: Level,
        kind: &str,
        message: &str,
        data: serde_json::Value,
    ) {
        say(level, None, message);
        self.events.push(wire::Event {
            at: self.clock.print(now),
            service: None,
            kind: kind.to_owned(),
            message: message.to_owned(),
            data,
        });
    }
}

fn say(level: Level, service: Option<&str>, message: &str) {
    // `tracing` wants levels as constants.
    match (level, service) {
        (Level::ERROR, Some(service)) => tracing::error!(service, "{message}"),
        (Level::WARN, Some(service)) => tracing::warn!(service, "{message}"),
        (Level::INFO, Some(service)) => tracing::info!(service, "{message}"),
        (_, Some(service)) => tracing::debug!(service, "{message}"),
        (Level::ERROR, None) => tracing::error!("{message}"),
        (Level::WARN, None) => tracing::warn!("{message}"),
        (Level::INFO, None) => tracing::info!("{message}"),
        (_, None) => tracing::debug!("{message}"),
    }
}

fn level(event: &Event) -> Level {
    match event {
        Event::WorkerFailed {
            failure: WorkerFailure::Ended,
            ..
        } => Level::INFO,
        Event::WorkerUnhealthy { .. }
        | Event::WorkerEjected { .. }
        | Event::WorkerReplaced { .. }
        | Event::WorkerFailed { .. }
        | Event::WorkerKilling { .. }
        | Event::NobodyReady { .. } => Level::WARN,
        Event::WorkerStuck { .. } => Level::ERROR,
        Event::WorkerDrained { left, .. } => {
            if left.total() > 0 {
                Level::WARN
            } else {
                Level::INFO
            }
        }
        Event::RolloutState { state, .. } => match state {
            RolloutState::Failed => Level::ERROR,
            RolloutState::RollingBack | RolloutState::RolledBack => Level::WARN,
            RolloutState::Pending
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Completed
            | RolloutState::Superseded => Level::INFO,
        },
        Event::RolloutVerdict { verdict, .. } => match verdict {
            Verdict::Fail => Level::WARN,
            Verdict::Pass | Verdict::NotEnough => Level::INFO,
        },
        // That it drained clean is said a moment later.
        Event::WorkerDraining { in_flight, .. } if in_flight.total() == 0 => Level::DEBUG,
        Event::WorkerTerminating { .. } => Level::DEBUG,
        Event::WorkerStarting { .. }
        | Event::WorkerReady { .. }
        | Event::WorkerHealthy { .. }
        | Event::WorkerReadmitted { .. }
        | Event::WorkerBackoff { .. }
        | Event::WorkerDraining { .. }
        | Event::WorkerRetired { .. }
        | Event::RolloutRequested { .. }
        | Event::RolloutBatch { .. }
        | Event::RolloutRamped { .. }
        | Event::Promoted { .. }
        | Event::Scaled { .. }
        | Event::Stopping { .. } => Level::INFO,
    }
}

/// The transition in one sentence, without a final period.
#[must_use]
pub(super) fn sentence(event: &Event) -> String {
    match event {
        Event::WorkerStarting {
            slot, generation, ..
        } => {
            format!("worker {slot} of generation {generation} is starting")
        }
        Event::WorkerReady {
            slot,
            generation,
            after,
            ..
        } => {
            format!(
                "worker {slot} of generation {generation} is ready after {}",
                seconds(*after)
            )
        }
        Event::WorkerUnhealthy {
            slot,
            generation,
            problem,
            ..
        } => {
            format!("worker {slot} of generation {generation} fails its health check: {problem}")
        }
        Event::WorkerHealthy {
            slot, generation, ..
        } => {
            format!("worker {slot} of generation {generation} passes its health check again")
        }
        Event::WorkerEjected {
            slot, generation, ..
        } => format!(
            "worker {slot} of generation {generation} gets no requests for a while: it fails far more than the others"
        ),
        Event::WorkerReadmitted {
            slot,
            generation,
            after,
            ..
        } => format!(
            "worker {slot} of generation {generation} gets requests again after {}",
            seconds(*after)
        ),
        Event::WorkerFailed {
            slot,
            generation,
            failure,
            ..
        } => {
            format!("worker {slot} of generation {generation} {failure}")
        }
        Event::WorkerReplaced {
            slot,
            generation,
            failing,
            problem,
            ..
        } => format!(
            "worker {slot} of generation {generation} has failed its health check for {} and is replaced: {problem}",
            seconds(*failing)
        ),
        Event::WorkerBackoff {
            slot,
            generation,
            failures,
            delay,
        } => {
            let failed = match failures {
                0 => ":".to_owned(),
                1 => " failed 1 time;".to_owned(),
                _ => format!(" failed {failures} times in a row;"),
            };
            let next = seconds(*delay);
            format!("worker {slot} of generation {generation}{failed} next start in {next}")
        }
        Event::WorkerDraining {
            slot,
            generation,
            in_flight,
            ..
        } => {
            format!(
                "worker {slot} of generation {generation} drains: {}",
                count(*in_flight)
            )
        }
        Event::WorkerDrained {
            slot,
            generation,
            took,
            left,
            ..
        } => {
            if left.total() == 0 {
                format!(
                    "worker {slot} of generation {generation} drained clean in {}",
                    seconds(*took)
                )
            } else {
                format!(
                    "worker {slot} of generation {generation} reached its drain limit after {}; cut: {}",
                    seconds(*took),
                    count(*left)
                )
            }
        }
        Event::WorkerTerminating {
            slot, generation, ..
        } => {
            format!("worker {slot} of generation {generation} was sent SIGTERM")
        }
        Event::WorkerKilling {
            slot, generation, ..
        } => {
            format!(
                "worker {slot} of generation {generation} did not end in time and was sent SIGKILL"
            )
        }
        Event::WorkerStuck {
            slot, generation, ..
        } => format!(
            "worker {slot} of generation {generation} does not end although it was sent SIGKILL; its slot stays taken"
        ),
        Event::WorkerRetired {
            slot,
            generation,
            exit,
            ..
        } => match exit {
            Some(exit) => format!("worker {slot} of generation {generation} is gone: {exit}"),
            None => format!("worker {slot} of generation {generation} is gone"),
        },
        Event::RolloutRequested {
            to,
            trigger,
            reason,
            ..
        } => {
            let why = reason
                .as_deref()
                .map(|why| format!(": {why}"))
                .unwrap_or_default();
            format!(
                "rollout to generation {to} was asked for by {}{why}",
                trigger_word(*trigger)
            )
        }
        // Its reason alone would say again what was just said of the worker.
        Event::RolloutState {
            state: RolloutState::RollingBack,
            to,
            message,
            ..
        } => format!("the rollout to generation {to} is undone: {message}"),
        Event::RolloutState {
            state: RolloutState::RolledBack,
            to,
            message,
            ..
        } => format!("the rollout to generation {to} was rolled back: {message}"),
        Event::RolloutState { message, .. }
        | Event::RolloutVerdict { message, .. }
        | Event::NobodyReady { message }
        | Event::Stopping { message } => message.clone(),
        Event::RolloutBatch {
            to,
            batch,
            of,
            size,
        } => format!(
            "batch {batch} of {of}: {size} {} of generation {to}",
            if *size == 1 { "worker" } else { "workers" }
        ),
        Event::RolloutRamped { to, weight } => {
            format!(
                "generation {to} has {:.0} % of the requests",
                weight.ratio() * 100.0
            )
        }
        Event::Promoted {
            generation,
            previous,
            ..
        } => match previous {
            Some(previous) => {
                format!("generation {generation} is stable now in place of generation {previous}")
            }
            None => format!("generation {generation} is stable"),
        },
        Event::Scaled { from, to } => format!("scaled from {from} to {to} workers"),
    }
}

fn trigger_word(trigger: crate::rollout::Trigger) -> &'static str {
    use crate::rollout::Trigger;
    match trigger {
        Trigger::Signal => "SIGUSR2",
        Trigger::Api => "the admin API",
        Trigger::Cli => "the command line",
        Trigger::Reload => "a changed config",
        Trigger::Rollback => "a rollback",
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn count(in_flight: InFlight) -> String {
    if in_flight == InFlight::default() {
        return "nothing in flight".to_owned();
    }
    in_flight.to_string()
}

#[cfg(test)]
mod tests {
    use super::count;
    use crate::rollout::InFlight;

    #[test]
    fn counts_read_as_people_speak() {
        assert_eq!(count(InFlight::default()), "nothing in flight");
        let some = InFlight {
            plain: 1,
            upload: 0,
            stream: 2,
            tunnel: 0,
        };
        assert_eq!(count(some), "1 request, 2 streams");
    }
}
