//! What stays known of workers that failed: their last lines and what their probes said, for as many as are likely
//! to be asked for. Kept when a failure is told, read by the status.

use std::rc::Rc;

use super::{Worker, Workers};
use crate::rollout::WorkerId;
use crate::supervisor::output::Output;
use crate::supervisor::status::Evidence;

/// Lines of a failed worker that are shown with its failure.
const EVIDENCE_LINES: usize = 20;
/// Failed workers whose evidence is kept.
const EVIDENCE_KEPT: usize = 64;

/// What stays known of a worker that failed.
#[derive(Debug)]
pub(super) struct Kept {
    output: Option<Rc<Output>>,
    probe: Option<String>,
}

impl Workers {
    /// Keeps what is known of a worker that failed.
    pub(in crate::supervisor) fn keep_evidence(&mut self, worker: WorkerId) {
        if let Some(known) = self.live.remove(&worker) {
            self.keep(worker, &known);
            self.live.insert(worker, known);
        }
    }

    /// The same when it goes.
    pub(super) fn keep(&mut self, worker: WorkerId, known: &Worker) {
        self.evidence.entry(worker).or_insert_with(|| Kept {
            output: known
                .process
                .as_ref()
                .map(|process| Rc::clone(&process.output)),
            probe: known.last_probe.clone(),
        });
        while self.evidence.len() > EVIDENCE_KEPT {
            self.evidence.pop_first();
        }
    }

    /// What is known of a worker that failed.
    #[must_use]
    pub(in crate::supervisor) fn evidence(&self, worker: WorkerId) -> Evidence {
        let Some(kept) = self.evidence.get(&worker) else {
            return Evidence::default();
        };
        Evidence {
            output: kept
                .output
                .as_ref()
                .map(|output| last_lines(output))
                .unwrap_or_default(),
            probe: kept.probe.clone(),
        }
    }
}

fn last_lines(output: &Output) -> Vec<String> {
    let mut lines = output.tail();
    let surplus = lines.len().saturating_sub(EVIDENCE_LINES);
    lines.drain(..surplus);
    lines
}
