//! Telling the core what planes report: how far they are, what is in flight, what became of requests.
//! Only news is told, and no count that a request may have slipped past.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::control::Supervisor;
use super::table;
use crate::link::message::Confinement;
use crate::rollout::{Epoch, Fact, InFlight, Moment, Outcomes, ServiceName, WorkerId};

/// What the core was told last, so that it is told only news.
#[derive(Default)]
pub(super) struct Told {
    acknowledged: Epoch,
    /// That no plane serves.
    blind: bool,
    /// What the operator was told of the planes' sandbox.
    pub(super) confinement: Option<Option<Confinement>>,
    pub(super) loads: BTreeMap<WorkerId, (InFlight, Option<Moment>)>,
    /// Who gets no requests in some plane.
    pub(super) ejected: BTreeSet<WorkerId>,
    pub(super) traffic: BTreeMap<(ServiceName, u64), Outcomes>,
}

impl Supervisor {
    /// Tells the core how far every plane is.
    pub(super) fn tell_acknowledged(&mut self) {
        let epoch = self.planes.acknowledged();
        if epoch > self.told.acknowledged {
            self.told.acknowledged = epoch;
            self.feed(vec![Fact::Acknowledged { epoch }]);
        }
    }

    /// Tells the core whether a plane serves.
    pub(super) fn tell_planes(&mut self) {
        let accept = self.planes.are_heard();
        if accept == self.told.blind {
            self.told.blind = !accept;
            self.feed(vec![Fact::Planes { accept }]);
        }
    }

    /// Tells the core what is in flight: at open gates where that has changed; at shut ones each time, but
    /// only once every plane has counted since it shut them. A count from before the acknowledgement may
    /// miss a request that slipped through, and the worker would be ended under it (I6).
    pub(super) fn tell_loads(&mut self) {
        let counted = self.planes.counted_since(self.told.acknowledged);
        let facts = table::workers(&self.routes)
            .filter_map(|(route, shut)| match shut {
                true if counted => Some(self.load(route.worker)),
                true => None,
                false => self.load_if_changed(route.worker),
            })
            .collect::<Vec<_>>();
        for fact in &facts {
            if let Fact::Load {
                worker,
                in_flight,
                deadline,
            } = fact
            {
                self.told.loads.insert(*worker, (*in_flight, *deadline));
            }
        }
        self.feed(facts);
    }

    fn load(&self, worker: WorkerId) -> Fact {
        let now = self.clock.now();
        Fact::Load {
            worker,
            in_flight: self.planes.in_flight(worker),
            deadline: self.planes.drain_left(worker).map(|left| now + left),
        }
    }

    fn load_if_changed(&self, worker: WorkerId) -> Option<Fact> {
        let in_flight = self.planes.in_flight(worker);
        let deadline = self
            .planes
            .drain_left(worker)
            .map(|left| self.clock.now() + left);
        let told = self.told.loads.get(&worker);
        let same = match told {
            Some((before, at)) => {
                *before == in_flight
                    && match (at, deadline) {
                        (None, None) => true,
                        // Recomputed from a rounded rest each time: small steps are no news.
                        (Some(a), Some(b)) => {
                            a.since(b).max(b.since(*a)) < Duration::from_millis(50)
                        }
                        (None, Some(_)) | (Some(_), None) => false,
                    }
            }
            None => in_flight == InFlight::default() && deadline.is_none(),
        };
        (!same).then_some(Fact::Load {
            worker,
            in_flight,
            deadline,
        })
    }

    /// Tells the core who gets no requests because it fails, and who gets some again. A plane that is gone has
    /// nobody out.
    pub(super) fn tell_ejected(&mut self) {
        let here = table::workers(&self.routes).map(|(route, _)| route.worker);
        let out: BTreeSet<_> = here
            .filter(|worker| self.metrics.is_ejected(*worker))
            .collect();
        let gone = self.told.ejected.difference(&out);
        let gone = gone.map(|worker| Fact::Readmitted { worker: *worker });
        let new = out.difference(&self.told.ejected);
        let new = new.map(|worker| Fact::Ejected { worker: *worker });
        let facts = gone.chain(new).collect();
        self.told.ejected = out;
        self.feed(facts);
    }

    /// Tells the core what became of the requests of each generation.
    pub(super) fn tell_traffic(&mut self) {
        let mut facts = Vec::new();
        for service in &self.routes.services {
            for generation in &service.generations {
                let total = self.metrics.outcomes(&service.service, generation.number);
                let key = (service.service.clone(), generation.number.0);
                if self.told.traffic.get(&key) != Some(&total) {
                    self.told.traffic.insert(key, total);
                    facts.push(Fact::Traffic {
                        service: service.service.clone(),
                        generation: generation.number,
                        total,
                    });
                }
            }
        }
        self.feed(facts);
    }
}
