//! One service's state and the questions that can be asked of it.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::action::{Action, Role};
use super::backoff::Jitter;
use super::command::Stop;
use super::cure::Cure;
use super::fact::{InFlight, Outcomes};
use super::flat::FlatMap;
use super::id::{Epoch, Generation, Moment, ServiceName, Slot, WorkerId};
use super::plan::Rollout;
use super::record::{Event, Record};
use super::settings::{Ownership, Settings};
use super::view::RolloutState;
use super::worker::{Phase, Vacancy, Worker};

/// Rollouts that are remembered per service; enough for `history`, and small in a snapshot.
const HISTORY: usize = 20;

/// What one call of the core brings along.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Now: what is stamped.
    pub(super) now: Moment,
    /// Deadlines up to here have passed. Behind `now` while facts are taken, so that facts which waited
    /// through a leap of the clock come before the deadlines (F35).
    pub(super) clock: Moment,
    /// The newest table that every plane uses.
    pub(super) acknowledged: Epoch,
    pub(super) stop: Option<Stop>,
    pub(super) ids: &'a mut u64,
    pub(super) jitter: &'a mut Jitter,
    pub(super) out: &'a mut VecDeque<Action>,
}

impl Turn<'_> {
    pub(super) fn act(&mut self, action: Action) {
        self.out.push_back(action);
    }

    pub(super) fn record(&mut self, service: &ServiceName, event: Event) {
        self.act(Action::Record(Record {
            service: service.clone(),
            event,
        }));
    }

    /// Whether `deadline` has passed.
    pub(super) fn passed(&self, deadline: Moment) -> bool {
        deadline <= self.clock
    }
}

/// What a fact was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Something may have to be done now.
    Decides,
    /// Nothing is decided by it; at most it is shown.
    Shown,
}

/// The two numbers of a generation, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GenerationState {
    pub(super) release: String,
    /// How many workers it should have. (Its share follows from the rollout, see `routes`.)
    pub(super) wanted: u32,
    /// `wanted` before the last look at it.
    pub(super) before: u32,
    pub(super) total: Outcomes,
    /// When a request was last seen to come to it.
    pub(super) last_request: Option<Moment>,
    /// Alive at weight 0 until then.
    pub(super) parked: Option<Moment>,
}

/// Everything about one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) name: ServiceName,
    pub(super) settings: Settings,
    pub(super) generations: FlatMap<Generation, GenerationState>,
    pub(super) workers: FlatMap<WorkerId, Worker>,
    pub(super) vacancies: Vec<Vacancy>,
    /// Vacancies whose place is not wanted now; should it be wanted again before they are due, the delay
    /// still counts (I12).
    pub(super) given_up: Vec<Vacancy>,
    pub(super) stable: Generation,
    /// The stable generation before; its spec is kept for `rollback`.
    pub(super) previous: Option<Generation>,
    pub(super) next_generation: u64,
    /// The running rollout, or the last one.
    pub(super) rollout: Option<Rollout>,
    pub(super) pending: Option<Rollout>,
    /// Earlier ones, newest first.
    pub(super) history: VecDeque<Rollout>,
    /// Somebody could answer when the table was last made.
    pub(super) served: bool,
    /// The last replacement of a sick worker.
    pub(super) cure: Option<Cure>,
    /// Since when no plane accepts.
    pub(super) blind: Option<Moment>,
    /// Something was heard, ordered or is due, and nothing was decided upon it yet.
    pub(super) stirred: bool,
    /// When something must happen by itself, as it was when the last call ended.
    pub(super) due: Option<Moment>,
}

impl Service {
    pub(super) fn new(
        name: ServiceName,
        settings: Settings,
        first: Generation,
        release: String,
    ) -> Self {
        let mut service = Self {
            name,
            settings,
            generations: FlatMap::new(),
            workers: FlatMap::new(),
            vacancies: Vec::new(),
            given_up: Vec::new(),
            stable: first,
            previous: None,
            next_generation: first.0 + 1,
            rollout: None,
            pending: None,
            history: VecDeque::new(),
            served: false,
            cure: None,
            blind: None,
            stirred: true,
            due: None,
        };
        service.add_generation(first, release);
        service
    }

    pub(super) fn add_generation(&mut self, number: Generation, release: String) {
        self.generations.insert(
            number,
            GenerationState {
                release,
                wanted: 0,
                before: 0,
                total: Outcomes::default(),
                last_request: None,
                parked: None,
            },
        );
    }

    pub(super) fn unmanaged(&self) -> bool {
        self.settings.ownership == Ownership::Unmanaged
    }

    /// Workers above the wanted count a rollout may have. One if the settings leave no room at all.
    pub(super) fn surge(&self) -> u32 {
        let surge = self.settings.max_surge.of_rounded_up(self.settings.wanted);
        if surge == 0 && self.unavailable() == 0 {
            1
        } else {
            surge
        }
    }

    /// Workers below the wanted count a rollout may go.
    pub(super) fn unavailable(&self) -> u32 {
        self.settings
            .max_unavailable
            .of_rounded_down(self.settings.wanted)
            .min(self.settings.wanted)
    }

    /// Old workers stay until the end, to be parked. Not where the surge is 0: there is no room for both.
    pub(super) fn keeps_old(&self) -> bool {
        !self.settings.park.is_zero() && self.surge() > 0
    }

    /// Workers of a batch after the first.
    pub(super) fn batch_size(&self) -> u32 {
        match self.surge() {
            0 => self.unavailable().max(1),
            surge => surge,
        }
    }

    pub(super) fn of(&self, generation: Generation) -> impl Iterator<Item = &Worker> {
        self.workers
            .values()
            .filter(move |worker| worker.generation == generation)
    }

    /// Wanted places that are filled: by a worker, or by a slot that waits for its restart.
    pub(super) fn places(&self, generation: Generation) -> u32 {
        let workers = self.of(generation).filter(|worker| worker.in_place());
        let vacancies = self
            .vacancies
            .iter()
            .filter(|vacancy| vacancy.generation == generation);
        count(workers) + count(vacancies)
    }

    pub(super) fn routable(&self, generation: Generation) -> u32 {
        count(self.of(generation).filter(|worker| worker.routable()))
    }

    pub(super) fn staffed(&self, generation: Generation) -> u32 {
        count(self.of(generation).filter(|worker| worker.staffed()))
    }

    /// Workers that a person drained.
    pub(super) fn held(&self) -> u32 {
        count(
            self.workers
                .values()
                .filter(|worker| matches!(worker.phase, Phase::Held)),
        )
    }

    /// The rollout that is not final.
    pub(super) fn active(&self) -> Option<&Rollout> {
        self.rollout
            .as_ref()
            .filter(|rollout| !rollout.state.is_final())
    }

    /// The generation that is tried now. After a rollout that failed and could not go back, what is left
    /// of it serves on and still counts as candidate.
    pub(super) fn candidate(&self) -> Option<Generation> {
        let rollout = self.rollout.as_ref()?;
        match rollout.state {
            RolloutState::Running | RolloutState::Paused | RolloutState::RollingBack => {
                Some(rollout.to)
            }
            RolloutState::Failed => (self.places(rollout.to) > 0).then_some(rollout.to),
            RolloutState::Pending
            | RolloutState::Completed
            | RolloutState::RolledBack
            | RolloutState::Superseded => None,
        }
    }

    pub(super) fn role(&self, number: Generation) -> Role {
        let parked = self
            .generations
            .get(&number)
            .is_some_and(|generation| generation.parked.is_some());
        if number == self.stable {
            Role::Stable
        } else if self.candidate() == Some(number) {
            Role::Candidate
        } else if parked {
            Role::Parked
        } else {
            Role::Retiring
        }
    }

    /// Generations that serve beside the stable one and are not the candidate: superseded candidates
    /// whose workers are still needed.
    pub(super) fn superseded(&self) -> Vec<Generation> {
        let candidate = self.candidate();
        self.generations
            .iter()
            .filter(|(number, generation)| {
                **number != self.stable
                    && Some(**number) != candidate
                    && generation.parked.is_none()
                    && (generation.wanted > 0 || self.places(**number) > 0)
            })
            .map(|(number, _)| *number)
            .collect()
    }

    pub(super) fn wanted_of(&self, number: Generation) -> u32 {
        self.generations
            .get(&number)
            .map_or(0, |generation| generation.wanted)
    }

    pub(super) fn set_wanted(&mut self, number: Generation, wanted: u32) {
        if let Some(generation) = self.generations.get_mut(&number) {
            generation.wanted = wanted;
        }
    }

    pub(super) fn total(&self, number: Generation) -> Outcomes {
        self.generations
            .get(&number)
            .map_or_else(Outcomes::default, |generation| generation.total)
    }

    /// When a request was last seen; `None` also while plain requests or uploads are in flight now, which
    /// `busy` tells.
    pub(super) fn last_request(&self) -> Option<Moment> {
        self.generations
            .values()
            .filter_map(|generation| generation.last_request)
            .max()
    }

    /// Something short is in flight.
    pub(super) fn busy(&self) -> bool {
        self.workers.values().any(|worker| {
            let InFlight { plain, upload, .. } = worker.load;
            worker.listed() && plain + upload > 0
        })
    }

    /// The lowest slot that no process and no restart holds.
    pub(super) fn free_slot(&self) -> Slot {
        let taken: BTreeSet<Slot> = self
            .workers
            .values()
            .map(|worker| worker.slot)
            .chain(self.vacancies.iter().map(|vacancy| vacancy.slot))
            .collect();
        let mut slot = Slot(0);
        for used in taken {
            if used != slot {
                break;
            }
            slot.0 += 1;
        }
        slot
    }

    /// Moves the last rollout into the history.
    pub(super) fn remember(&mut self, rollout: Rollout) {
        self.history.push_front(rollout);
        self.history.truncate(HISTORY);
    }
}

/// How many there are; a service never has more than fits.
pub(super) fn count<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}
