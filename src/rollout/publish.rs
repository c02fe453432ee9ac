//! The routing table: when it is published, and who waits until the planes use it.

use super::action::{Action, Routes};
use super::core::Core;
use super::id::Epoch;
use super::service::{News, Service};
use super::worker::Phase;

impl Core {
    /// An epoch that was never published proves nothing.
    pub(super) fn on_acknowledged(&mut self, epoch: Epoch) -> News {
        if epoch > self.published || epoch <= self.acknowledged {
            return News::Shown;
        }
        self.acknowledged = epoch;
        let mut news = News::Shown;
        for service in self.services.values_mut() {
            if service.waits_for_table(epoch) {
                service.stirred = true;
                news = News::Decides;
            }
        }
        news
    }

    /// Publishes the table if it is another than before, and tells the workers that wait for a table
    /// which one it is. Says whether one of them waits for a table that is acknowledged already.
    pub(super) fn publish(&mut self) -> bool {
        if self.make_routes() {
            self.published.0 += 1;
            for service in self.services.values_mut() {
                service.forget_cuts();
            }
            self.out.push_back(Action::Publish(Routes {
                epoch: self.published,
                services: self.routes.clone(),
            }));
        }
        let (published, acknowledged, clock) = (self.published, self.acknowledged, self.clock);
        let mut again = false;
        for service in self.services.values_mut().filter(|service| service.stirred) {
            let waits = service.await_table(published);
            service.stirred = waits && published <= acknowledged;
            again |= service.stirred;
            service.due = service.next_deadline(clock);
        }
        again
    }

    /// Brings the table up to date. Says whether it is to be published: something in it is new, or a worker
    /// waits for the next one. The second is for those whose gate a person had shut: their retirement changes
    /// nothing in the table, and without one nobody would count for them what is left; without a plane, ever.
    fn make_routes(&mut self) -> bool {
        if self.routes.len() != self.services.len() {
            self.routes = self.services.values().map(Service::routes).collect();
            return true;
        }
        let mut new = false;
        for (service, known) in self.services.values().zip(&mut self.routes) {
            if !service.stirred {
                continue;
            }
            if !service.routes_are(known) {
                *known = service.routes();
                new = true;
            }
            new |= service.wants_table();
        }
        new
    }
}

impl Service {
    /// A worker waits for the planes to use this table or an older one.
    fn waits_for_table(&self, epoch: Epoch) -> bool {
        self.workers.values().any(|worker| match worker.phase {
            Phase::Shutting { epoch: of } | Phase::Unlisting { epoch: of } => {
                of.is_some_and(|of| of <= epoch)
            }
            Phase::Starting { .. }
            | Phase::Ready
            | Phase::Held
            | Phase::Emptying { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => false,
        })
    }

    /// A worker waits for the next table.
    fn wants_table(&self) -> bool {
        self.workers.values().any(|worker| {
            matches!(
                worker.phase,
                Phase::Shutting { epoch: None } | Phase::Unlisting { epoch: None }
            )
        })
    }

    /// Workers that wait for the next table now wait for this one. Says whether there is any.
    fn await_table(&mut self, published: Epoch) -> bool {
        let mut any = false;
        for worker in self.workers.values_mut() {
            if let Phase::Shutting { epoch } | Phase::Unlisting { epoch } = &mut worker.phase
                && epoch.is_none()
            {
                *epoch = Some(published);
                any = true;
            }
        }
        any
    }
}
