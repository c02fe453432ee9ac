//! What all planes together have acknowledged, and what is in flight at a worker over all of them. Asked by whoever
//! tells the core of it ([`crate::supervisor::told`]); changes nothing.

use std::time::Duration;

use super::Planes;
use super::plane::PlaneState;
use crate::rollout::{Epoch, InFlight, WorkerId};

impl Planes {
    /// The newest epoch that every plane which can serve a request uses.
    #[must_use]
    pub(in crate::supervisor) fn acknowledged(&self) -> Epoch {
        self.set
            .values()
            .filter(|plane| plane.state != PlaneState::Starting)
            .map(|plane| plane.acknowledged)
            .min()
            .unwrap_or(self.table.epoch)
    }

    /// Whether every plane's counters are of a time at which it had acknowledged the epoch. Older ones say
    /// nothing of a gate which that epoch shut: a request may have passed it since.
    #[must_use]
    pub(in crate::supervisor) fn counted_since(&self, epoch: Epoch) -> bool {
        self.set
            .values()
            .filter(|plane| plane.state != PlaneState::Starting)
            .all(|plane| plane.counted >= epoch)
    }

    /// Requests in flight at a worker, over all planes.
    #[must_use]
    pub(in crate::supervisor) fn in_flight(&self, worker: WorkerId) -> InFlight {
        sum(self.samples_of(worker).map(|sample| sample.in_flight))
    }

    /// What planes have cut of a worker's requests because their limit was over.
    #[must_use]
    pub(in crate::supervisor) fn cut(&self, worker: WorkerId) -> InFlight {
        sum(self.samples_of(worker).map(|sample| sample.cut))
    }

    /// The latest time any plane may take until it cuts a worker's last request.
    #[must_use]
    pub(in crate::supervisor) fn drain_left(&self, worker: WorkerId) -> Option<Duration> {
        self.samples_of(worker)
            .filter_map(|sample| sample.drain_left)
            .max()
    }

    fn samples_of(
        &self,
        worker: WorkerId,
    ) -> impl Iterator<Item = &crate::link::message::WorkerSample> {
        self.set
            .values()
            .flat_map(|plane| &plane.sample.workers)
            .filter(move |sample| sample.worker == worker)
    }
}

fn sum(parts: impl Iterator<Item = InFlight>) -> InFlight {
    parts.fold(InFlight::default(), |sum, part| InFlight {
        plain: sum.plain.saturating_add(part.plain),
        upload: sum.upload.saturating_add(part.upload),
        stream: sum.stream.saturating_add(part.stream),
        tunnel: sum.tunnel.saturating_add(part.tunnel),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message::{FromPlane, Table};
    use crate::rollout::Moment;
    use crate::supervisor::planes::tests::set;

    #[test]
    fn i6_a_plane_that_was_told_to_accept_is_waited_for_before_it_says_that_it_does() {
        let mut planes = set();
        let table = |epoch| Table {
            epoch: Epoch(epoch),
            ..Table::default()
        };
        planes.publish(Moment::default(), table(5));
        assert_eq!(planes.acknowledged(), Epoch(5), "nobody can serve yet");
        planes.hear(1, FromPlane::Ack(Epoch(5)));
        // It serves by that one until it has taken the next, whatever of its answers is on the way.
        planes.publish(Moment::default(), table(6));
        assert_eq!(planes.acknowledged(), Epoch(5));
        assert!(!planes.counted_since(Epoch(6)));
        planes.hear(1, FromPlane::Accepting);
        assert_eq!(planes.acknowledged(), Epoch(5));
        planes.hear(1, FromPlane::Ack(Epoch(6)));
        assert_eq!(planes.acknowledged(), Epoch(6));
    }
}
