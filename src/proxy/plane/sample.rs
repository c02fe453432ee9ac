//! What a plane counts, summed over its loops for the supervisor.

use super::Plane;
use crate::link::message::{Sample, ServiceSample, WorkerSample};
use crate::proxy::access_log::Writer;
use crate::proxy::counters::Sums;

impl Plane {
    pub(super) fn sample(&self) -> Sample {
        // Before the services: a request that has left its gate is then among those that ended.
        let workers = self.worker_samples();
        let mut sums = Sums::default();
        for handle in &self.loops {
            handle.counters.add_to(&mut sums);
        }
        Sample {
            services: sums
                .services
                .into_iter()
                .map(|(name, tally)| {
                    let ejections = self.tripwire.ejections(&name);
                    ServiceSample {
                        ejections,
                        ..tally.into_sample(name)
                    }
                })
                .collect(),
            workers,
            accepted: sums.accepted,
            unrouted: sums.unrouted,
            abused: sums.abused,
            shed: sums.shed,
            exhausted: sums.exhausted,
            connections: sums.connections,
            accept_errors: sums.accept_errors.into_iter().collect(),
            limits: sums.limits.into_iter().collect(),
            log_dropped: self.writer.as_ref().map_or(0, Writer::dropped),
        }
    }

    fn worker_samples(&self) -> Vec<WorkerSample> {
        let Some(published) = &self.published else {
            return Vec::new();
        };
        let mut samples: Vec<_> = published
            .gates
            .iter()
            .map(|(worker, gate)| {
                let sums = gate.sums();
                WorkerSample {
                    worker: *worker,
                    in_flight: sums.in_flight,
                    requests: sums.requests,
                    failures: sums.failures,
                    given_up: sums.given_up,
                    idle_connections: sums.idle,
                    // Every request that is in holds one, or is about to.
                    active_connections: sums.in_flight.total(),
                    cut: sums.cut,
                    drain_left: sums.drain_left,
                    ejected: gate.is_ejected(),
                }
            })
            .collect();
        samples.sort_by_key(|sample| sample.worker);
        samples
    }
}
