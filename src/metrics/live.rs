//! Live gauges: the last view, with its moments as wall-clock times, and what workers' processes use.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ledger::Place;
use crate::rollout::{Moment, ServiceName, Slot, View, WorkerId};

/// The newest state of things.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) view: View,
    pub(super) rollouts: BTreeMap<ServiceName, Times>,
    processes: BTreeMap<WorkerId, Process>,
    /// Processor seconds of workers that are gone, by slot.
    past_cpu: BTreeMap<(ServiceName, Slot), f64>,
    deadlines: BTreeMap<WorkerId, Fixed>,
}

/// Moments of the last rollout, each translated once: a wall clock that is set does not move them.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) start: Fixed,
    pub(super) end: Fixed,
    pub(super) progress: Fixed,
}

/// A moment and its wall-clock time in seconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fixed {
    moment: Option<Moment>,
    pub(super) seconds: f64,
}

#[derive(Debug)]
struct Process {
    place: Place,
    resident_bytes: u64,
    cpu_seconds: f64,
}

impl Live {
    pub(super) fn view(&mut self, view: &View, now: Moment, wall: SystemTime) {
        self.view.clone_from(view);
        let mut deadlines = BTreeMap::new();
        for service in &view.services {
            let times = self.rollouts.entry(service.service.clone()).or_default();
            if let Some(rollout) = &service.rollout {
                times.start.set(rollout.started_at, now, wall);
                times.end.set(rollout.ended_at, now, wall);
                times.progress.set(Some(rollout.progressed_at), now, wall);
            }
            for worker in service
                .generations
                .iter()
                .flat_map(|generation| &generation.workers)
            {
                if worker.drain_deadline.is_some() {
                    let mut deadline = self.deadlines.remove(&worker.worker).unwrap_or_default();
                    deadline.set(worker.drain_deadline, now, wall);
                    deadlines.insert(worker.worker, deadline);
                }
            }
        }
        self.deadlines = deadlines;
        self.forget_processes();
    }

    pub(super) fn worker_process(
        &mut self,
        worker: WorkerId,
        place: Place,
        resident_bytes: u64,
        cpu_seconds: f64,
    ) {
        let process = Process {
            place,
            resident_bytes,
            cpu_seconds,
        };
        self.processes.insert(worker, process);
    }

    pub(super) fn drain_deadline(&self, worker: WorkerId) -> Option<f64> {
        self.deadlines.get(&worker).map(|deadline| deadline.seconds)
    }

    pub(super) fn resident_bytes(&self, worker: WorkerId) -> Option<u64> {
        self.processes
            .get(&worker)
            .map(|process| process.resident_bytes)
    }

    /// Processor seconds of the slot: of this worker and of those before it.
    pub(super) fn cpu_seconds(
        &self,
        worker: WorkerId,
        service: &ServiceName,
        slot: Slot,
    ) -> Option<f64> {
        let past = self.past_cpu.get(&(service.clone(), slot)).copied();
        let now = self
            .processes
            .get(&worker)
            .map(|process| process.cpu_seconds);
        match (past, now) {
            (None, None) => None,
            (past, now) => Some(past.unwrap_or(0.0) + now.unwrap_or(0.0)),
        }
    }

    /// A worker that is gone from the view leaves its processor time to its slot.
    fn forget_processes(&mut self) {
        let here: std::collections::BTreeSet<WorkerId> =
            self.view.workers().map(|worker| worker.worker).collect();
        let past = &mut self.past_cpu;
        self.processes.retain(|worker, process| {
            let keep = here.contains(worker);
            if !keep {
                let slot = (process.place.service.clone(), process.place.slot);
                *past.entry(slot).or_default() += process.cpu_seconds;
            }
            keep
        });
    }
}

impl Fixed {
    fn set(&mut self, moment: Option<Moment>, now: Moment, wall: SystemTime) {
        if self.moment == moment {
            return;
        }
        self.moment = moment;
        self.seconds = moment.map_or(0.0, |moment| seconds(moment, now, wall));
    }
}

/// `moment` in seconds since 1970, to the millisecond, given that it is `now` at `wall`.
fn seconds(moment: Moment, now: Moment, wall: SystemTime) -> f64 {
    let at = if moment > now {
        wall.checked_add(moment.since(now))
    } else {
        wall.checked_sub(now.since(moment))
    };
    let since = at
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .unwrap_or(Duration::ZERO);
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}
