//! Which program file a worker runs: the one its generation began with, or what is under its name by now (F62).
//! Learns from each start whether a held file runs without its name.

use super::Workers;
use crate::rollout::{Generation, ServiceName, Slot, WorkerId};
use crate::shim::{Bytes, Change};

/// A worker whose program's file has changed since its generation began.
#[derive(Debug)]
pub(in crate::supervisor) struct Runs {
    pub(in crate::supervisor) service: ServiceName,
    pub(in crate::supervisor) slot: Slot,
    pub(in crate::supervisor) generation: Generation,
    /// As the operator wrote it.
    pub(in crate::supervisor) program: String,
    pub(in crate::supervisor) bytes: Bytes,
}

impl Workers {
    /// A worker runs something else than what is under its program's name, as its generation began with it.
    pub(in crate::supervisor) fn executed(&mut self, worker: WorkerId, bytes: Bytes) {
        if let Some(process) = self.process_mut(worker) {
            process.runs = Some(bytes);
        }
    }

    /// What a worker runs, if its program's file has changed since its generation began.
    pub(in crate::supervisor) fn runs(&self, worker: WorkerId) -> Option<Runs> {
        let known = self.live.get(&worker)?;
        let bytes = known.process.as_ref()?.runs?;
        let spec = self.specs.get(&(known.service.clone(), known.generation))?;
        Some(Runs {
            service: known.service.clone(),
            slot: known.slot,
            generation: known.generation,
            program: spec.recipe().command.first().cloned().unwrap_or_default(),
            bytes,
        })
    }

    /// All that run other bytes than their generations began with.
    pub(in crate::supervisor) fn strayed(&self) -> Vec<(Runs, Change)> {
        let all = self.live.keys().filter_map(|worker| self.runs(*worker));
        all.filter_map(|runs| match runs.bytes {
            Bytes::Changed(change) => Some((runs, change)),
            Bytes::Kept => None,
        })
        .collect()
    }

    /// A worker that runs a file without a name may fail for just that.
    pub(super) fn learn_from_failure(&self, worker: WorkerId) {
        let Some(known) = self.live.get(&worker) else {
            return;
        };
        let process = known.process.as_ref();
        let by_itself = process.is_some_and(|of| of.runs == Some(Bytes::Kept) && !of.asked);
        if known.answered || !by_itself {
            return;
        }
        let spec = self.specs.get(&(known.service.clone(), known.generation));
        let held = spec.and_then(|spec| spec.program());
        if held.is_some_and(|held| held.failed()) {
            tracing::warn!(
                "the program of generation {} of `{}` was replaced on disk, and its former file does not run without \
                 its name; what starts from now on runs the new one",
                known.generation,
                known.service
            );
        }
    }
}
