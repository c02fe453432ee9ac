//! What is said of programs whose files change on disk while their generations live (F62).
//!
//! A generation that goes on with its old bytes is no more than a line in the log. One whose workers run
//! different bytes is a promise that could not be kept: it is said at each start, in the status as long as such a
//! worker lives, and with the outcome of the rollout that it was part of.

use std::collections::BTreeMap;

use serde_json::json;
use tracing::Level;

use super::control::Supervisor;
use super::status::rollout_id;
use super::workers::Runs;
use crate::rollout::{Generation, ServiceName, WorkerId};
use crate::shim::{Bytes, Change};

/// A rollout starts few workers that differ in what is said of them; this is for a program that is replaced over
/// and over.
const MOST_REMARKS: usize = 8;

impl Supervisor {
    /// A worker has started.
    pub(super) fn tell_program(&mut self, worker: WorkerId) {
        let Some(runs) = self.workers.runs(worker) else {
            return;
        };
        let (slot, program) = (runs.slot, &runs.program);
        let (level, kind, message) = match runs.bytes {
            Bytes::Kept => (
                Level::INFO,
                "program_kept",
                format!(
                    "worker {slot} runs the program that generation {} began with; `{program}` was replaced on disk \
                     since, which only a new rollout takes up",
                    runs.generation
                ),
            ),
            Bytes::Changed(change) => {
                let message = sentence(runs.generation, program, change);
                self.remark(&runs, &message);
                (
                    Level::WARN,
                    "program_changed",
                    format!("worker {slot} is not like its siblings: {message}"),
                )
            }
        };
        let data = json!({
            "service": runs.service.to_string(),
            "slot": slot.0,
            "generation": runs.generation.0,
            "program": program,
        });
        self.journal
            .note(self.clock.now(), level, kind, &message, data);
    }

    /// Keeps it with the rollout that goes on.
    fn remark(&mut self, runs: &Runs, message: &str) {
        let view = self.view();
        let of_service = view.services.iter().find(|of| of.service == runs.service);
        let rollout = of_service.and_then(|of| of.rollout.as_ref());
        let Some(rollout) = rollout.filter(|rollout| !rollout.state.is_final()) else {
            return;
        };
        let id = rollout_id(&runs.service, rollout.number.0);
        if let Some(kept) = self.ledgers.get_mut(&id)
            && kept.remarks.len() < MOST_REMARKS
            && kept.remarks.iter().all(|of| of != message)
        {
            kept.remarks.push(message.to_owned());
        }
    }

    /// The generations that are not of one kind now.
    pub(super) fn strayed(&self) -> Vec<String> {
        let mut all: BTreeMap<(ServiceName, Generation), (String, Change)> = BTreeMap::new();
        for (runs, change) in self.workers.strayed() {
            all.insert((runs.service, runs.generation), (runs.program, change));
        }
        all.into_iter()
            .map(|((service, generation), (program, change))| {
                format!(
                    "service {service}: {}; `remuda rollout {service}` makes all of them alike",
                    sentence(generation, &program, change)
                )
            })
            .collect()
    }
}

fn sentence(generation: Generation, program: &str, change: Change) -> String {
    format!(
        "the program of generation {generation}, `{program}`, was {change} on disk after its first start; what started \
         since runs the new file"
    )
}
