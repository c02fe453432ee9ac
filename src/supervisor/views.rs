//! What others see: status, rollouts, readiness, metrics of the view, and the service manager's line.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::watch;

use super::control::Supervisor;
use super::shell::ShellView;
use super::status;
use crate::rollout::{
    GenerationView, Health, Moment, ServiceView, View, Weight, WorkerState, WorkerView,
};
use crate::wire;

impl Supervisor {
    pub(super) fn publish_views(&mut self) {
        let now = self.clock.now();
        let view = self.core.view(now);
        self.metrics.view(&view, now, self.clock.wall(now));
        let shell = self.shell();
        let services: status::Services = view
            .services
            .iter()
            .map(|of| {
                (
                    of.service.to_string(),
                    status::service(of, &self.clock, &shell),
                )
            })
            .collect();
        let mut rollouts: Vec<wire::Rollout> = Vec::new();
        for of in &view.services {
            for rollout in self.core.rollouts(&of.service, now) {
                rollouts.push(status::rollout(
                    &of.service,
                    of.wanted,
                    &rollout,
                    &self.clock,
                    &shell,
                ));
            }
        }
        rollouts.sort_by(|a, b| b.requested_at.cmp(&a.requested_at).then(b.to.cmp(&a.to)));
        let status = wire::Status {
            version: crate::BUILD.to_owned(),
            pid: std::process::id(),
            data_planes: self
                .planes
                .iter()
                .map(|(_, plane)| wire::DataPlane {
                    pid: plane.pid,
                    state: plane.state.word().to_owned(),
                    started_at: self.clock.print(plane.started_at),
                })
                .collect(),
            services,
            state: if self.stopping.is_some() {
                "stopping"
            } else {
                "running"
            }
            .to_owned(),
            started_at: self.clock.print(Moment::default()),
            listeners: self.identity.listeners.clone(),
            admin: self.identity.admin.clone(),
            notices: self.notices(&view),
        };
        let ready = self.stopping.is_none()
            && self.planes.accepting()
            && view.services.iter().all(|service| service.ready > 0);
        self.tell_manager(&view, ready);
        replace_if_changed(&self.outlets.status, Arc::new(status));
        replace_if_changed(&self.outlets.rollouts, Arc::new(rollouts));
        replace_if_changed(&self.outlets.ready, ready);
    }

    fn tell_manager(&mut self, view: &View, ready: bool) {
        if !self.manager.listens() {
            return;
        }
        let services: Vec<String> = view
            .services
            .iter()
            .map(|of| {
                let waiting = of
                    .waiting_on
                    .as_ref()
                    .map_or(String::new(), |on| format!(", waiting for {}", on.message));
                format!("{}: {}{waiting}", of.service, serving(of))
            })
            .collect();
        self.manager.stands(ready, services.join("; "));
    }

    pub(super) fn shell(&self) -> ShellView<'_> {
        ShellView {
            workers: &self.workers,
            metrics: &self.metrics,
            ledgers: &self.ledgers,
            config: &self.config,
        }
    }
}

/// How many workers serve which generation: the stable one, and what takes requests beside it.
fn serving(service: &ServiceView) -> String {
    let count = |of: &GenerationView| {
        let serves =
            |of: &&WorkerView| of.state == WorkerState::Ready && of.health != Health::Failing;
        match of.weight {
            Weight::NONE => 0,
            _ => of.workers.iter().filter(serves).count(),
        }
    };
    let (stable, others): (Vec<_>, Vec<_>) = service
        .generations
        .iter()
        .map(|of| (of.number, count(of)))
        .partition(|(number, _)| *number == service.stable);
    let of_stable = stable.first().map_or(0, |(_, count)| *count);
    let mut said = format!(
        "{of_stable} of {} workers serve generation {}",
        service.wanted, service.stable
    );
    for (number, count) in others.into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(said, ", {count} generation {number}");
    }
    said
}

fn replace_if_changed<T: PartialEq>(outlet: &watch::Sender<T>, value: T) {
    outlet.send_if_modified(|old| {
        let changed = *old != value;
        if changed {
            *old = value;
        }
        changed
    });
}
