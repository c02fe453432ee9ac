//! Replacing workers one by one while no rollout runs: those a person wants replaced, and those whose
//! liveness has failed for long.
//!
//! A worker that stands still keeps its process, so nothing but its probes tells. Its gate is shut at once;
//! when it has failed them for `unhealthy_after` it is replaced, the new one first. What makes it fail may be
//! no fault of its own (a sick database), and then restarts help nobody: so it is one at a time, the next one
//! only when the new one is ready, with the delays of a crash loop between them, and one that passes its
//! probes again before its successor serves stays.
//!
//! It may also be busy: a worker with a single thread answers no probe while it answers a long request. So
//! the one that is replaced leaves when its plain requests have ended, in their own time. Those of a worker
//! that hangs have the proxy's limits, so that does not take for ever.

use serde::{Deserialize, Serialize};

use super::backoff;
use super::id::{Generation, Moment, WorkerId};
use super::record::Event;
use super::service::{Service, Turn, count};
use super::view::Health;
use super::worker::{Phase, Worker};

/// The last replacement of a sick worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cure {
    at: Moment,
    /// How many there were in a row.
    row: u32,
    /// The next one not before then.
    next: Moment,
}

impl Service {
    /// Whether sick workers are replaced at all now. A rollout replaces every worker anyway.
    fn cures(&self) -> bool {
        !self.settings.unhealthy_after.is_zero() && !self.unmanaged() && self.active().is_none()
    }

    /// When a worker that fails its probes is to be replaced, if nothing else is done before.
    pub(super) fn cure_due(&self, worker: &Worker) -> Option<Moment> {
        let since = worker.failing_since.filter(|_| self.cures())?;
        let due = since + self.settings.unhealthy_after;
        Some(self.cure.map_or(due, |cure| due.max(cure.next)))
    }

    /// The next worker to be replaced for its health, and when; none while another one is.
    fn next_sick(&self) -> Option<(Moment, WorkerId)> {
        // Asked after every fact, and hardly ever is anybody sick.
        if !self.workers.values().any(|of| of.failing_since.is_some()) {
            return None;
        }
        let busy =
            |worker: &Worker| matches!(worker.phase, Phase::Starting { .. }) || worker.leaves();
        let restarts = |vacancy: &super::worker::Vacancy| vacancy.generation == self.stable;
        if self.of(self.stable).any(busy) || self.vacancies.iter().any(restarts) {
            return None;
        }
        self.of(self.stable)
            .filter(|worker| matches!(worker.phase, Phase::Ready))
            .filter_map(|worker| Some((self.cure_due(worker)?, worker.slot, worker.id)))
            .min()
            .map(|(due, _, id)| (due, id))
    }

    /// When `notice_sick` has something to do.
    pub(super) fn cure_deadline(&self) -> Option<Moment> {
        self.next_sick().map(|(due, _)| due)
    }

    /// Finds the worker that is to be replaced for its health, if it is time for one.
    pub(super) fn notice_sick(&mut self, turn: &mut Turn<'_>) -> bool {
        if turn.stop.is_some() {
            return false;
        }
        let Some((due, id)) = self.next_sick() else {
            return false;
        };
        if !turn.passed(due) {
            return false;
        }
        let row = match self.cure {
            Some(cure) if turn.now.since(cure.at) < self.settings.backoff_reset => cure.row + 1,
            Some(_) | None => 1,
        };
        let delay = backoff::delay(&self.settings, row, turn.jitter);
        self.cure = Some(Cure {
            at: turn.now,
            row,
            next: turn.now + delay,
        });
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.sick = true;
        }
        self.note_replaced(turn, id);
        true
    }

    pub(super) fn note_replaced(&self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let event = Event::WorkerReplaced {
            worker: id,
            slot: worker.slot,
            generation: worker.generation,
            failing: turn.now.since(worker.failing_since.unwrap_or(turn.now)),
            problem: worker.problem.clone().unwrap_or_default(),
        };
        turn.record(&self.name, event);
    }

    /// A worker that may go because what replaces it serves, or because it serves nobody itself: where there is
    /// no room for both, the sick one goes first.
    pub(super) fn replaced(&mut self, turn: &mut Turn<'_>, number: Generation) -> Option<WorkerId> {
        if self.active().is_some() || turn.stop.is_some() {
            return None;
        }
        if !self.of(number).any(Worker::leaves) {
            return None;
        }
        let (staffed, wanted) = (self.staffed(number), self.wanted_of(number));
        let stays = count(self.of(number).filter(|worker| worker.stays()));
        let no_room = self.room_above() == 0;
        let unneeded = self.unmanaged() && self.named_ones_serve(number);
        let leaves = |worker: &Worker| {
            let shut = !self.open(worker);
            let made_good = worker.outgoing && (shut || staffed > wanted || unneeded);
            let cured = worker.sick && shut && idles(worker) && (stays >= wanted || no_room);
            worker.leaves() && (made_good || cured)
        };
        if let Some(worker) = self.of(number).find(|worker| leaves(worker)) {
            return Some(worker.id);
        }
        // One that fails its probes, and with that stands in the way of another one's replacement: as many
        // as are wanted serve, but only with the one that leaves.
        let stands = |worker: &&Worker| {
            matches!(worker.phase, Phase::Ready)
                && worker.health == Health::Failing
                && !worker.leaves()
                && idles(worker)
        };
        let waits = self
            .of(number)
            .any(|worker| worker.outgoing && worker.leaves());
        let sick = self.of(number).find(stands)?.id;
        // Of somebody else's no new one begins in its place.
        if self.unmanaged() || !waits || staffed < wanted || staffed == 0 {
            return None;
        }
        self.note_replaced(turn, sick);
        Some(sick)
    }
}

impl Service {
    /// Of those that stay each has answered once, and one can: nobody new is waited for. One that has failed since
    /// is no reason to go on with an address that is not to be used any more.
    fn named_ones_serve(&self, number: Generation) -> bool {
        let mut stay = self.of(number).filter(|worker| !worker.outgoing);
        let begins = |worker: &Worker| matches!(worker.phase, Phase::Starting { .. });
        let served = self
            .of(number)
            .any(|worker| worker.stays() && worker.routable());
        served && !stay.any(begins)
    }
}

/// It has no plain request in flight, which would be cut some time after it was told to leave.
fn idles(worker: &Worker) -> bool {
    worker.load.plain == 0
}
