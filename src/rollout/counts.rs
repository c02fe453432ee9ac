//! What the planes count: requests in flight, and how those that ended did.

use super::fact::{InFlight, Outcomes};
use super::id::{Generation, Moment, WorkerId};
use super::judge::open;
use super::plan::{Baseline, Spent};
use super::record::Event;
use super::service::{News, Service, Turn};
use super::worker::Phase;

impl Service {
    pub(super) fn on_load(
        &mut self,
        turn: &Turn<'_>,
        id: WorkerId,
        in_flight: InFlight,
        deadline: Option<Moment>,
    ) -> News {
        let Some(worker) = self.workers.get_mut(&id) else {
            return News::Shown;
        };
        if !worker.listed() {
            return News::Shown;
        }
        let more = in_flight.total() > worker.load.total();
        self.spend(turn.now);
        let Some(worker) = self.workers.get_mut(&id) else {
            return News::Shown;
        };
        worker.load = in_flight;
        worker.load_deadline = deadline;
        let mut news = News::Shown;
        if let Phase::Emptying { counted } = &mut worker.phase {
            *counted = true;
            news = News::Decides;
        }
        // It may be awaited that one which is to be replaced has nothing in flight any more.
        if worker.failing_since.is_some() && in_flight.plain == 0 {
            news = News::Decides;
        }
        let generation = worker.generation;
        if more {
            self.requested(turn, generation);
        } else if self.awaits_answers(turn.clock) {
            news = News::Decides;
        }
        news
    }

    /// It decides nothing: planes eject only who serves in a stable generation, and bring it back themselves.
    pub(super) fn on_ejected(&mut self, turn: &mut Turn<'_>, id: WorkerId) -> News {
        if let Some(worker) = self.workers.get_mut(&id)
            && matches!(worker.phase, Phase::Ready)
            && worker.ejected_since.is_none()
        {
            worker.ejected_since = Some(turn.now);
            let event = Event::WorkerEjected {
                worker: id,
                slot: worker.slot,
                generation: worker.generation,
            };
            turn.record(&self.name, event);
        }
        News::Shown
    }

    pub(super) fn on_readmitted(&mut self, turn: &mut Turn<'_>, id: WorkerId) -> News {
        if let Some(worker) = self.workers.get_mut(&id)
            && let Some(since) = worker.ejected_since.take()
            // One that drains is let go by planes, and gets no requests.
            && matches!(worker.phase, Phase::Ready)
        {
            let event = Event::WorkerReadmitted {
                worker: id,
                slot: worker.slot,
                generation: worker.generation,
                after: turn.now.since(since),
            };
            turn.record(&self.name, event);
        }
        News::Shown
    }

    pub(super) fn on_traffic(
        &mut self,
        turn: &Turn<'_>,
        number: Generation,
        total: Outcomes,
    ) -> News {
        let Some(generation) = self.generations.get(&number) else {
            return News::Shown;
        };
        let more = total.requests > generation.total.requests;
        if more {
            // Before the count is taken over: the baseline is what was there before the first request.
            self.requested(turn, number);
        }
        if let Some(generation) = self.generations.get_mut(&number) {
            let known = &mut generation.total;
            known.requests = known.requests.max(total.requests);
            known.failures = known.failures.max(total.failures).min(known.requests);
        }
        if self.fails_now() || self.awaits_answers(turn.clock) {
            News::Decides
        } else {
            News::Shown
        }
    }

    /// A request came to `number`. How long the service is idle and the soak goes on are deadlines.
    fn requested(&mut self, turn: &Turn<'_>, number: Generation) {
        if let Some(generation) = self.generations.get_mut(&number) {
            generation.last_request = Some(turn.now);
        }
        let (candidate, stable) = (self.total(number), self.total(self.stable));
        if let Some(rollout) = &mut self.rollout
            && rollout.to == number
            && rollout.forward()
            && rollout.baseline.is_none()
        {
            rollout.baseline = Some(Baseline {
                candidate,
                stable,
                at: turn.now,
                spent: Spent::from(turn.now),
            });
        }
        self.note_first_request();
    }

    /// Adds up how long requests are at the stable generation, before their number changes.
    fn spend(&mut self, now: Moment) {
        let open = open(self, self.stable);
        let rollout = self.rollout.as_mut();
        if let Some(baseline) = rollout.and_then(|rollout| rollout.baseline.as_mut()) {
            baseline.spent.add(open, now);
        }
    }
}
