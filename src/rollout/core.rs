//! The state of everything and its one entry.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::{Action, ServiceRoutes};
use super::backoff::Jitter;
use super::command::{Accepted, Command, Halt, Refusal, Stop};
use super::fact::Fact;
use super::id::{Epoch, Moment, ServiceName, WorkerId};
use super::plan::Hold;
use super::record::{Event, Record};
use super::service::{News, Service, Turn};
use super::view::{FailureView, RolloutState};

/// All services' state. See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    pub(super) services: BTreeMap<ServiceName, Service>,
    jitter: Jitter,
    next_worker: u64,
    /// Deadlines up to here have passed.
    pub(super) clock: Moment,
    /// The newest table.
    pub(super) published: Epoch,
    pub(super) routes: Vec<Arc<ServiceRoutes>>,
    pub(super) acknowledged: Epoch,
    /// A stop has begun.
    pub(super) halt: Option<Halt>,
    pub(super) stop: Option<Stop>,
    /// When the last order to stop came.
    pub(super) stop_since: Moment,
    finished: bool,
    pub(super) out: VecDeque<Action>,
}

impl Core {
    /// An empty core; `seed` feeds the jitter of restart delays and nothing else.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            services: BTreeMap::new(),
            jitter: Jitter::new(seed),
            next_worker: 1,
            clock: Moment::default(),
            published: Epoch::default(),
            routes: Vec::new(),
            acknowledged: Epoch::default(),
            halt: None,
            stop: None,
            stop_since: Moment::default(),
            finished: false,
            out: VecDeque::new(),
        }
    }

    /// Takes an order.
    ///
    /// # Errors
    /// The refusal says why nothing was changed.
    pub fn command(&mut self, now: Moment, command: Command) -> Result<Accepted, Refusal> {
        let now = now.max(self.clock);
        let answer = match command {
            Command::Stop(stop) => {
                self.order_stop(now, stop);
                Ok(Accepted::Done)
            }
            Command::Halt(halt) => {
                self.order_halt(now, halt);
                Ok(Accepted::Done)
            }
            Command::Start { .. }
            | Command::Configure { .. }
            | Command::Readdress { .. }
            | Command::Rollout { .. }
            | Command::Steer { .. }
            | Command::Rollback { .. }
            | Command::Scale { .. }
            | Command::Worker { .. }
                if self.halt.is_some() || self.stop.is_some() =>
            {
                Err(Refusal::Stopping)
            }
            Command::Start {
                service,
                settings,
                first,
                release,
            } => self.start(service, Service::new, (settings, first, release)),
            Command::Configure { service, settings } => {
                self.order(now, &service, |service, turn| {
                    service.configure(turn, settings)
                })
            }
            Command::Readdress {
                service,
                settings,
                gone,
            } => self.order(now, &service, |service, turn| {
                service.readdress(turn, settings, &gone)
            }),
            Command::Rollout { service, order } => self.order(now, &service, |service, turn| {
                service.order_rollout(turn, order)
            }),
            Command::Steer {
                service,
                steer,
                rollout,
            } => self.order(now, &service, |service, turn| {
                service.steer(turn, steer, rollout)
            }),
            Command::Rollback { service } => self.order(now, &service, Service::order_rollback),
            Command::Scale { service, wanted } => {
                self.order(now, &service, |service, turn| service.scale(turn, wanted))
            }
            Command::Worker {
                service,
                slot,
                order,
            } => self.order(now, &service, |service, turn| {
                service.order_worker(turn, slot, order)
            }),
        };
        self.settle(now);
        answer
    }

    /// Takes news. Facts are taken before deadlines that passed meanwhile (F35). Most news changes
    /// nothing that is decided upon (a worker that serves has answered again), and costs next to nothing.
    pub fn fact(&mut self, now: Moment, fact: Fact) {
        let now = now.max(self.clock);
        let news = match fact {
            Fact::Spawned { worker, pid } => self.about(now, worker, |service, _| {
                service.on_spawned(worker, pid);
                News::Shown
            }),
            Fact::SpawnFailed { worker, error } => self.about(now, worker, |service, turn| {
                service.on_spawn_failed(turn, worker, error);
                News::Decides
            }),
            Fact::Answered { worker } => self.about(now, worker, |service, turn| {
                service.on_answered(turn, worker)
            }),
            Fact::Unanswered {
                worker,
                problem,
                late,
            } => self.about(now, worker, |service, turn| {
                service.on_unanswered(turn, worker, problem, late)
            }),
            Fact::Exited { worker, exit } => self.about(now, worker, |service, turn| {
                service.on_exited(turn, worker, exit);
                News::Decides
            }),
            Fact::Cleared { worker } => self.about(now, worker, |service, turn| {
                service.on_cleared(turn, worker);
                News::Decides
            }),
            Fact::Acknowledged { epoch } => self.on_acknowledged(epoch),
            Fact::Load {
                worker,
                in_flight,
                deadline,
            } => self.about(now, worker, |service, turn| {
                service.on_load(turn, worker, in_flight, deadline)
            }),
            Fact::Ejected { worker } => self.about(now, worker, |service, turn| {
                service.on_ejected(turn, worker)
            }),
            Fact::Readmitted { worker } => self.about(now, worker, |service, turn| {
                service.on_readmitted(turn, worker)
            }),
            Fact::Traffic {
                service,
                generation,
                total,
            } => {
                let (services, mut turn) = self.turn(now);
                services.get_mut(&service).map_or(News::Shown, |service| {
                    service.heard(&mut turn, |service, turn| {
                        service.on_traffic(turn, generation, total)
                    })
                })
            }
            Fact::Planes { accept } => {
                for service in self.services.values_mut() {
                    service.on_planes(now, accept);
                }
                News::Decides
            }
            Fact::Stalled { by } => {
                for service in self.services.values_mut() {
                    service.on_stalled(now, by);
                    service.due = service.next_deadline(self.clock);
                }
                News::Shown
            }
        };
        match news {
            News::Decides => self.settle(now),
            News::Shown => {}
        }
    }

    /// Lets every deadline up to `now` pass. Without one nothing is looked at: between deadlines only
    /// facts and orders change anything.
    pub fn tick(&mut self, now: Moment) {
        self.clock = self.clock.max(now);
        let mut any = false;
        for service in self.services.values_mut() {
            let due = service.due.is_some_and(|deadline| deadline <= self.clock);
            service.stirred |= due;
            any |= due;
        }
        if any {
            self.settle(self.clock);
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// A service's deadline is the one that it would find now, and nothing is left to decide upon.
    pub(super) fn knows_when(&self, service: &Service) -> bool {
        !service.stirred && service.due == service.next_deadline(self.clock)
    }

    /// When `tick` must be called next. May be now or earlier after a fact or an order, never after a
    /// `tick`.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let services = self.services.values();
        services.filter_map(|service| service.due).min()
    }

    fn start(
        &mut self,
        name: ServiceName,
        make: impl FnOnce(ServiceName, super::Settings, super::Generation, String) -> Service,
        (settings, first, release): (super::Settings, super::Generation, String),
    ) -> Result<Accepted, Refusal> {
        if self.services.contains_key(&name) {
            return Err(Refusal::Conflict(format!("service `{name}` runs already")));
        }
        if settings.wanted == 0 {
            return Err(Refusal::Invalid(
                "a service has at least 1 worker".to_owned(),
            ));
        }
        let service = make(name.clone(), settings, first, release);
        self.services.insert(name, service);
        Ok(Accepted::Done)
    }

    /// Freezes running rollouts and drops what waits for them, so that a stop does not race with either.
    fn order_halt(&mut self, now: Moment, halt: Halt) {
        if self.halt.is_some() || self.stop.is_some() {
            return;
        }
        self.halt = Some(halt);
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        for name in names {
            self.with(now, &name, |service, turn| {
                service.stop_pending(turn);
                if service
                    .active()
                    .is_some_and(|rollout| rollout.state == RolloutState::Running)
                {
                    let hold = Hold::Stop { since: turn.now };
                    service.hold(turn, hold, "goes no further: remuda is stopping");
                }
            });
        }
    }

    fn order_stop(&mut self, now: Moment, stop: Stop) {
        let before = self.stop;
        self.stop = match (before, stop) {
            (Some(Stop::Now), _) | (_, Stop::Now) => Some(Stop::Now),
            (Some(Stop::Graceful) | None, Stop::Graceful) => Some(Stop::Graceful),
        };
        if self.stop == before {
            return;
        }
        self.stop_since = now;
        // Said before it was told, and not true any more.
        self.out.retain(|action| {
            !matches!(
                action,
                Action::Record(Record {
                    event: Event::WorkerBackoff { .. },
                    ..
                })
            )
        });
        let message = match stop {
            Stop::Graceful => "every worker finishes its requests, then ends",
            Stop::Now => "every worker ends now",
        };
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        for name in names {
            self.with(now, &name, |service, turn| {
                turn.record(
                    &service.name,
                    Event::Stopping {
                        message: message.to_owned(),
                    },
                );
                service.stop_pending(turn);
                if service.active().is_some() {
                    if let Some(rollout) = &mut service.rollout {
                        rollout.failure = Some(FailureView::by_stop(rollout.failure.take()));
                    }
                    service.end(turn, RolloutState::Failed, "remuda stops".to_owned());
                }
            });
        }
    }

    fn order(
        &mut self,
        now: Moment,
        name: &ServiceName,
        with: impl FnOnce(&mut Service, &mut Turn<'_>) -> Result<Accepted, Refusal>,
    ) -> Result<Accepted, Refusal> {
        self.with(now, name, with)
            .unwrap_or_else(|| Err(Refusal::NoService(name.clone())))
    }

    fn about(
        &mut self,
        now: Moment,
        worker: WorkerId,
        with: impl FnOnce(&mut Service, &mut Turn<'_>) -> News,
    ) -> News {
        let (services, mut turn) = self.turn(now);
        let of = |service: &&mut Service| service.workers.contains_key(&worker);
        services
            .values_mut()
            .find(of)
            .map_or(News::Shown, |service| service.heard(&mut turn, with))
    }

    fn with<T>(
        &mut self,
        now: Moment,
        name: &ServiceName,
        with: impl FnOnce(&mut Service, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let (services, mut turn) = self.turn(now);
        let service = services.get_mut(name)?;
        service.stirred = true;
        Some(with(service, &mut turn))
    }

    /// The services, and what a call brings along for them.
    fn turn(&mut self, now: Moment) -> (&mut BTreeMap<ServiceName, Service>, Turn<'_>) {
        let turn = Turn {
            now,
            clock: self.clock,
            acknowledged: self.acknowledged,
            stop: self.stop,
            ids: &mut self.next_worker,
            jitter: &mut self.jitter,
            out: &mut self.out,
        };
        (&mut self.services, turn)
    }

    /// Repeats until nothing is left to do now. Services have nothing to do with each other, so only those
    /// about which there was something new are looked at.
    fn settle(&mut self, now: Moment) {
        loop {
            let (services, mut turn) = self.turn(now);
            for service in services.values_mut().filter(|service| service.stirred) {
                service.settle(&mut turn);
            }
            if !self.publish() {
                break;
            }
        }
        self.finish();
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    fn finish(&mut self) {
        let empty = self
            .services
            .values()
            .all(|service| service.workers.is_empty());
        if self.stop.is_some() && empty && !self.finished {
            self.finished = true;
            self.out.push_back(Action::Finished);
        }
    }
}

impl Service {
    /// Takes news of it.
    fn heard(
        &mut self,
        turn: &mut Turn<'_>,
        with: impl FnOnce(&mut Self, &mut Turn<'_>) -> News,
    ) -> News {
        let news = with(self, turn);
        match news {
            News::Decides => self.stirred = true,
            News::Shown => self.due = self.next_deadline(turn.clock),
        }
        news
    }

    fn settle(&mut self, turn: &mut Turn<'_>) {
        loop {
            // A worker that was not ready in time ends its rollout: none is started by the numbers of before.
            let mut changed = self.step_workers(turn);
            changed |= self.drive_rollout(turn);
            changed |= self.set_numbers(turn);
            changed |= self.reconcile(turn);
            if !changed {
                break;
            }
        }
        self.note_progress(turn.now);
        self.note_nobody(turn);
    }

    /// Records the moment when the last one who could answer is gone.
    fn note_nobody(&mut self, turn: &mut Turn<'_>) {
        let serves = self.answers();
        if self.served && !serves && turn.stop.is_none() {
            turn.record(
                &self.name,
                Event::NobodyReady {
                    message: "no worker is ready; requests wait for one".to_owned(),
                },
            );
        }
        self.served = serves;
    }
}
