//! The reconciler: sets each generation's wanted count from the rollout, then spawns and retires until
//! what is there matches. It counts and compares each time and follows no script, so start, batch,
//! rollback, scaling, crash replacement and shutdown are the same few lines.

use std::cmp::Reverse;

use super::action::Action;
use super::id::{Generation, Slot, Weight, WorkerId};
use super::plan::{Stage, share};
use super::service::{Service, Turn, count};
use super::view::{Health, RolloutState};
use super::worker::{Phase, Vacancy};

/// Who may leave first when a generation has too many. In this order: what serves least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// No process at all.
    Vacancy,
    /// Nor here, but who is started in its place is held, as a person drained the one before.
    HeldVacancy,
    Starting,
    /// It is to be replaced.
    Outgoing,
    /// A person drained it.
    Held,
    Failing,
    Serving,
}

impl Service {
    /// The wanted count of every generation, from the rollout's state. Idempotent. Says whether one is
    /// another than before.
    pub(super) fn set_numbers(&mut self, turn: &mut Turn<'_>) -> bool {
        for generation in self.generations.values_mut() {
            generation.before = generation.wanted;
        }
        self.make_numbers(turn);
        self.generations
            .values()
            .any(|generation| generation.wanted != generation.before)
    }

    fn make_numbers(&mut self, turn: &mut Turn<'_>) {
        if turn.stop.is_some() {
            for generation in self.generations.values_mut() {
                generation.wanted = 0;
                generation.parked = None;
            }
            self.vacancies.clear();
            return;
        }
        let state = self.rollout.as_ref().map(|rollout| rollout.state);
        match state {
            Some(RolloutState::Running | RolloutState::Paused) => self.forward_numbers(),
            Some(RolloutState::RollingBack | RolloutState::Failed) => self.backward_numbers(),
            Some(
                RolloutState::Pending
                | RolloutState::Completed
                | RolloutState::RolledBack
                | RolloutState::Superseded,
            )
            | None => self.steady_numbers(turn),
        }
    }

    /// A parked generation's time is over: all of it goes at once, and none of it serves again.
    pub(super) fn unpark(&mut self, turn: &mut Turn<'_>, number: Generation) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        if generation.parked.take().is_none() {
            return;
        }
        generation.wanted = 0;
        let ids: Vec<WorkerId> = self.of(number).map(|worker| worker.id).collect();
        for id in ids {
            self.retire(turn, id);
        }
    }

    fn steady_numbers(&mut self, turn: &mut Turn<'_>) {
        let (stable, wanted) = (self.stable, self.settings.wanted);
        let mut index = 0;
        while let Some(number) = self.generations.key_at(index) {
            index += 1;
            let places = self.places(number);
            let parked = self
                .generations
                .get(&number)
                .and_then(|generation| generation.parked);
            // Its time is over, or all of it has crashed.
            if parked.is_some_and(|until| places == 0 || turn.passed(until)) {
                self.unpark(turn, number);
            }
            let Some(generation) = self.generations.get_mut(&number) else {
                continue;
            };
            generation.wanted = if number == stable {
                wanted
            } else if generation.parked.is_some() {
                // What crashes while parked is not restarted.
                places
            } else {
                0
            };
        }
    }

    /// The candidate gets the batch's goal, the others the rest. The stable generation keeps what
    /// serves; superseded candidates fill up to the rest and are never restarted (their spec is unproven),
    /// so whatever they lose the stable one gets back. Only those that serve count: a superseded worker
    /// that fails its probes must not take the place of one that does not.
    fn forward_numbers(&mut self) {
        let wanted = self.settings.wanted;
        let Some(rollout) = &self.rollout else { return };
        let (to, paused) = (rollout.to, rollout.hold.is_some());
        let failed = rollout.held_by_failure();
        let first = rollout.first();
        let goal = rollout.goal.min(wanted);
        let left = match rollout.stage {
            Stage::Waiting => 0,
            Stage::Starting { .. } | Stage::Watching(_) => {
                (rollout.passed + rollout.early).min(goal)
            }
            Stage::Retiring { .. } => goal,
            Stage::Refilling { .. } | Stage::Ended => 0,
        };
        let old = if self.keeps_old() {
            wanted
        } else {
            wanted - left
        };
        let candidate = if paused {
            goal.min(self.places(to))
        } else {
            goal
        };
        self.set_wanted(to, candidate);
        // Places that only start yet do not serve: the superseded ones stay until they do.
        let stable = self.staffed(self.stable);
        let mut rest = old.saturating_sub(stable);
        let mut superseded = 0;
        for number in self.superseded() {
            let part = self.staffed(number).min(rest);
            self.set_wanted(number, part);
            rest -= part;
            superseded += part;
        }
        self.set_wanted(self.stable, old.saturating_sub(superseded));
        if failed {
            self.fall_back_share(first);
        }
    }

    /// The others leave as the stable generation gets ready, and it is refilled as they make room.
    fn backward_numbers(&mut self) {
        let wanted = self.settings.wanted;
        let surge = self.surge();
        // Once it is given up nobody may lack (I1), so nobody makes room before the stable one is ready, and
        // what starts must fit beside them (I2). Without a surge there would be no room for it at all.
        let unavailable = match self.active() {
            None if surge > 0 => 0,
            Some(_) | None => self.unavailable(),
        };
        let Some(rollout) = &self.rollout else { return };
        let (to, first) = (rollout.to, rollout.first());
        let mut others = wanted.saturating_sub(self.staffed(self.stable));
        if others > 0 {
            others = others.saturating_sub(unavailable);
        }
        let mut total = 0;
        for number in self.superseded().into_iter().chain([to]) {
            let most = if first && number == to { 0 } else { others };
            let part = self.staffed(number).min(most);
            self.set_wanted(number, part);
            others -= part;
            total += part;
        }
        let stable = (wanted + surge)
            .saturating_sub(total)
            .max(self.places(self.stable))
            .min(wanted);
        self.set_wanted(self.stable, stable);
        self.fall_back_share(first);
    }

    /// The candidate's share while it goes back: what the old ones cannot carry, and never more than
    /// before. In the first batch the old ones were never touched and carry all.
    fn fall_back_share(&mut self, first: bool) {
        let candidate = self.rollout.as_ref().map(|rollout| rollout.to);
        let old: u32 = self
            .generations
            .keys()
            .filter(|number| Some(**number) != candidate)
            .filter(|number| self.serves(**number))
            .map(|number| self.routable(*number))
            .sum();
        let wanted = self.settings.wanted;
        let enough = old
            >= wanted
                .saturating_sub(self.unavailable() + self.held())
                .max(1);
        let carried = if first || enough {
            Weight::FULL
        } else {
            share(old, wanted)
        };
        // A candidate that lost its share because none of its workers answers does not get it back when
        // one does: going back, a share never rises.
        let carried = if candidate.is_some_and(|to| self.routable(to) == 0) {
            Weight::FULL
        } else {
            carried
        };
        if let Some(rollout) = &mut self.rollout {
            rollout.share = rollout.share.min(Weight(Weight::FULL.0 - carried.0));
        }
    }

    /// One step towards the wanted counts. Says whether anything was done.
    pub(super) fn reconcile(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut changed = self.restart_due(turn);
        changed |= self.notice_sick(turn);
        for index in 0..self.generations.len() {
            let number = self.generations.key_at(index);
            while number.is_some_and(|number| self.release_one(turn, number)) {
                changed = true;
            }
        }
        for index in 0..self.generations.len() {
            let Some(number) = self.generations.key_at(index) else {
                break;
            };
            while self.lacks(number, turn) {
                if !self.revive(turn, number) {
                    let slot = self.free_slot();
                    self.spawn(turn, slot, number, None);
                }
                changed = true;
            }
        }
        changed |= self.forget(turn);
        changed
    }

    /// Restarts whose delay is over, each as soon as nothing of the worker before is left in the slot,
    /// or in another slot if that one is stuck. No slot waits for another's.
    fn restart_due(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut changed = false;
        let mut index = 0;
        while let Some(vacancy) = self.vacancies.get(index) {
            let occupant = self
                .workers
                .values()
                .find(|worker| worker.slot == vacancy.slot);
            let stuck = occupant.is_some_and(|worker| worker.stuck);
            // One that is too many is given up in a moment.
            let number = vacancy.generation;
            let wanted = self.places(number) <= self.target(number);
            if !turn.passed(vacancy.due) || (occupant.is_some() && !stuck) || !wanted {
                index += 1;
                continue;
            }
            let slot = if stuck {
                self.free_slot()
            } else {
                vacancy.slot
            };
            let vacancy = self.vacancies.remove(index);
            self.spawn(turn, slot, vacancy.generation, Some(&vacancy));
            changed = true;
        }
        changed
    }

    /// Takes back a place of the generation that was given up while its restart waited.
    fn revive(&mut self, turn: &Turn<'_>, number: Generation) -> bool {
        self.given_up.retain(|vacancy| !turn.passed(vacancy.due));
        let taken = |slot: Slot| {
            let workers = self.workers.values().map(|worker| worker.slot);
            let vacancies = self.vacancies.iter().map(|vacancy| vacancy.slot);
            workers.chain(vacancies).any(|used| used == slot)
        };
        // First one whose slot is free: one that moves must not take a slot whose own delay still runs.
        let Some((index, moves)) = self
            .given_up
            .iter()
            .enumerate()
            .filter(|(_, vacancy)| vacancy.generation == number)
            .map(|(index, vacancy)| (index, taken(vacancy.slot)))
            .min_by_key(|(_, moves)| *moves)
        else {
            return false;
        };
        let mut vacancy = self.given_up.remove(index);
        if moves {
            vacancy.slot = self.free_slot();
        }
        self.vacancies.push(vacancy);
        true
    }

    /// Places the generation should fill: the wanted ones, and one more for each worker that is to be
    /// replaced, as far as there is room above.
    fn target(&self, number: Generation) -> u32 {
        let wanted = self.wanted_of(number);
        if wanted == 0 || self.active().is_some() {
            return wanted;
        }
        let leaving = count(self.of(number).filter(|worker| worker.leaves()));
        // Somebody else's take no memory of ours, and each wanted one has an address of its own.
        let room = match self.unmanaged() {
            true => leaving,
            false => self.room_above(),
        };
        wanted + leaving.min(room)
    }

    /// How many may be above the wanted counts while no rollout runs (I2): as many as a rollout may have above,
    /// less what a failed one has left to serve beside the stable generation.
    pub(super) fn room_above(&self) -> u32 {
        let serve = self.generations.values().filter(|of| of.parked.is_none());
        let wanted: u32 = serve.map(|of| of.wanted).sum();
        (self.settings.wanted + self.surge().max(1)).saturating_sub(wanted)
    }

    fn lacks(&self, number: Generation, turn: &Turn<'_>) -> bool {
        if turn.stop.is_some() || self.places(number) >= self.target(number) {
            return false;
        }
        !self.no_room()
    }

    /// With no surge at all, memory is meant to be too scarce for one process more: a new one waits
    /// until an old one is gone, not only draining.
    pub(super) fn no_room(&self) -> bool {
        let live = self.workers.values().filter(|worker| !worker.stuck);
        self.active().is_some() && self.surge() == 0 && count(live) >= self.settings.wanted
    }

    /// Lets one worker go that the generation has too many, if none is hurt by it.
    fn release_one(&mut self, turn: &mut Turn<'_>, number: Generation) -> bool {
        if let Some(id) = self.replaced(turn, number) {
            self.retire(turn, id);
            return true;
        }
        if self.places(number) <= self.target(number) {
            return false;
        }
        match self.least_used(number) {
            Some((Use::Vacancy | Use::HeldVacancy, id)) => {
                let (dropped, kept): (Vec<_>, _) = std::mem::take(&mut self.vacancies)
                    .into_iter()
                    .partition(|vacancy| vacancy.last == id);
                self.vacancies = kept;
                // Its slot is nobody's any more, so nothing is drained there.
                self.given_up
                    .extend(dropped.into_iter().map(|vacancy: Vacancy| Vacancy {
                        drained: false,
                        ..vacancy
                    }));
                true
            }
            Some((Use::Serving | Use::Outgoing, id)) => {
                let routable = self
                    .workers
                    .get(&id)
                    .is_some_and(super::worker::Worker::routable);
                let may = !routable || turn.stop.is_some() || self.can_spare(number);
                if may {
                    self.retire(turn, id);
                }
                may
            }
            Some((Use::Starting | Use::Held | Use::Failing, id)) => {
                self.retire(turn, id);
                true
            }
            None => false,
        }
    }

    /// Who is missed least; among equals the highest slot.
    fn least_used(&self, number: Generation) -> Option<(Use, WorkerId)> {
        let vacancies = self
            .vacancies
            .iter()
            .filter(|vacancy| vacancy.generation == number)
            .map(|vacancy| {
                let of_use = match vacancy.drained {
                    false => Use::Vacancy,
                    true => Use::HeldVacancy,
                };
                (of_use, Reverse(vacancy.slot), vacancy.last)
            });
        let workers = self.of(number).filter_map(|worker| {
            let of_use = match worker.phase {
                Phase::Starting { .. } => Use::Starting,
                Phase::Held => Use::Held,
                Phase::Ready if worker.leaves() => Use::Outgoing,
                Phase::Ready if worker.health == Health::Failing => Use::Failing,
                Phase::Ready => Use::Serving,
                Phase::Shutting { .. }
                | Phase::Emptying { .. }
                | Phase::Unlisting { .. }
                | Phase::Terminating { .. }
                | Phase::Killing { .. }
                | Phase::Sweeping { .. } => return None,
            };
            Some((of_use, Reverse(worker.slot), worker.id))
        });
        vacancies
            .chain(workers)
            .min()
            .map(|(of_use, _, id)| (of_use, id))
    }

    /// I1: one ready worker of this generation may go without those that serve falling below the wanted
    /// count, less what a rollout may lack and what a person drained by hand.
    pub(super) fn can_spare(&self, number: Generation) -> bool {
        let (mut weighted, mut serving) = (false, 0);
        for (of, weight) in self.weights() {
            if weight > Weight::NONE {
                weighted |= of == number;
                serving += self.routable(of);
            }
        }
        if !weighted {
            return true;
        }
        let lack = self.active().map_or(0, |_| self.unavailable()) + self.held();
        serving > self.settings.wanted.saturating_sub(lack)
    }

    /// Drops generations that have nothing left and nothing to come.
    fn forget(&mut self, turn: &mut Turn<'_>) -> bool {
        let gone: Vec<Generation> = self
            .generations
            .iter()
            .filter(|(number, generation)| {
                generation.wanted == 0
                    && **number != self.stable
                    && Some(**number) != self.previous
                    && self.active().is_none_or(|rollout| rollout.to != **number)
                    && self
                        .pending
                        .as_ref()
                        .is_none_or(|rollout| rollout.to != **number)
                    && self.of(**number).next().is_none()
                    && self.places(**number) == 0
            })
            .map(|(number, _)| *number)
            .collect();
        for generation in &gone {
            self.generations.remove(generation);
            self.given_up
                .retain(|vacancy| vacancy.generation != *generation);
            turn.act(Action::Forget {
                service: self.name.clone(),
                generation: *generation,
            });
        }
        !gone.is_empty()
    }
}
