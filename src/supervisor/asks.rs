//! The admin side's questions, answered by the loop. What a plane must be asked first is answered when
//! it has, or when the time for it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tracing::Level;

use super::control::Supervisor;
use super::handle::Ask;
use super::status;
use crate::link::message::{Class, Exchange};
use crate::rollout::{
    Accepted, Command, Generation, Moment, Refusal, RolloutOrder, ServiceName, Trigger, WorkerId,
    WorkerState,
};
use crate::wire;

/// How long a scrape waits for fresh samples (`DESIGN` §9).
const SAMPLE_WAIT: Duration = Duration::from_millis(50);
/// How long a listing waits for planes.
const EXCHANGES_WAIT: Duration = Duration::from_millis(500);

/// A question that waits for planes.
#[derive(Debug)]
pub(super) struct Question {
    number: u64,
    missing: BTreeSet<u64>,
    /// When it is answered with what there is.
    pub(super) deadline: Moment,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Metrics {
        reply: oneshot::Sender<String>,
    },
    Requests {
        service: ServiceName,
        found: Vec<Exchange>,
        reply: oneshot::Sender<Result<Vec<wire::LiveRequest>, Refusal>>,
    },
}

impl Supervisor {
    pub(super) fn on_ask(&mut self, ask: Ask) {
        // An asker that has gone away needs no answer: failed sends are ignored throughout.
        match ask {
            Ask::Command { command, by, reply } => {
                let described = describe(&command);
                let outcome = self.command(*command);
                self.audit(&by, &described, outcome.as_ref().err());
                self.act();
                self.publish_views();
                let _ = reply.send(outcome);
            }
            Ask::Rollout {
                order,
                trigger,
                by,
                reply,
            } => {
                let outcome = self.order_rollouts(&order, trigger);
                self.audit(&by, "rollout", outcome.as_ref().err());
                let _ = reply.send(outcome);
            }
            Ask::Requests { service, reply } => self.ask_requests(&service, reply),
            Ask::Metrics { reply } => self.ask_metrics(reply),
            Ask::Plan { reply } => {
                let _ = reply.send(self.rehearse());
            }
            Ask::Reload { by, reply } => {
                let outcome = self.reload();
                self.audit(&by, "reload", outcome.as_ref().err());
                let _ = reply.send(outcome);
            }
        }
    }

    fn audit(&self, by: &str, what: &str, refused: Option<&Refusal>) {
        let outcome =
            refused.map_or_else(|| "accepted".to_owned(), |why| format!("refused: {why}"));
        self.journal.note(
            self.clock.now(),
            Level::INFO,
            "audit",
            &format!("{what} by {by}: {outcome}"),
            json!({"what": what, "by": by, "outcome": outcome}),
        );
    }

    fn order_rollouts(
        &mut self,
        order: &wire::NewRollout,
        trigger: Trigger,
    ) -> Result<Vec<wire::Rollout>, Refusal> {
        let services = match &order.service {
            Some(name) => {
                let name = ServiceName::new(name);
                if !self.service_names().contains(&name) {
                    return Err(Refusal::NoService(name));
                }
                vec![name]
            }
            None => self.service_names(),
        };
        let mut ordered = Vec::new();
        for service in services {
            let core_order = RolloutOrder {
                release: order.release.clone(),
                trigger,
                reason: order.reason.clone(),
                force: order.force,
                expected: order.expected_generation.map(Generation),
            };
            let accepted = self.command(Command::Rollout {
                service: service.clone(),
                order: core_order,
            })?;
            ordered.push((service, accepted));
        }
        self.act();
        self.publish_views();
        let all = self.rollouts_now();
        Ok(ordered
            .into_iter()
            .filter_map(|(service, accepted)| match accepted {
                Accepted::Rollout { number, .. } => {
                    let id = status::rollout_id(&service, number.0);
                    all.iter().find(|rollout| rollout.id == id).cloned()
                }
                // A no-op: the rollout that made the stable generation, if there was one.
                Accepted::AlreadyStable { generation } => {
                    let id = status::rollout_id(&service, generation.0);
                    all.iter().find(|rollout| rollout.id == id).cloned()
                }
                Accepted::Done => None,
            })
            .collect())
    }

    pub(super) fn rollouts_now(&self) -> Vec<wire::Rollout> {
        self.outlets.rollouts.borrow().to_vec()
    }

    fn ask_metrics(&mut self, reply: oneshot::Sender<String>) {
        let (number, asked) = self.planes.ask_samples();
        let deadline = self.clock.now() + SAMPLE_WAIT;
        self.questions.push(Question {
            number,
            missing: asked.into_iter().collect(),
            deadline,
            kind: Kind::Metrics { reply },
        });
        self.answer_complete();
    }

    fn ask_requests(
        &mut self,
        service: &str,
        reply: oneshot::Sender<Result<Vec<wire::LiveRequest>, Refusal>>,
    ) {
        let service = ServiceName::new(service);
        if !self.service_names().contains(&service) {
            let _ = reply.send(Err(Refusal::NoService(service)));
            return;
        }
        let (number, asked) = self.planes.ask_exchanges();
        let deadline = self.clock.now() + EXCHANGES_WAIT;
        self.questions.push(Question {
            number,
            missing: asked.into_iter().collect(),
            deadline,
            kind: Kind::Requests {
                service,
                found: Vec::new(),
                reply,
            },
        });
        self.answer_complete();
    }

    pub(super) fn answered_sample(&mut self, incarnation: u64, number: u64) {
        if let Some(question) = self.questions.iter_mut().find(|of| of.number == number) {
            question.missing.remove(&incarnation);
        }
        self.answer_complete();
    }

    pub(super) fn answered_exchanges(
        &mut self,
        incarnation: u64,
        number: u64,
        exchanges: Vec<Exchange>,
    ) {
        if let Some(question) = self.questions.iter_mut().find(|of| of.number == number)
            && question.missing.remove(&incarnation)
            && let Kind::Requests { found, .. } = &mut question.kind
        {
            found.extend(exchanges);
        }
        self.answer_complete();
    }

    /// A plane that is gone answers nothing more.
    pub(super) fn lost_plane(&mut self, incarnation: u64) {
        for question in &mut self.questions {
            question.missing.remove(&incarnation);
        }
        self.answer_complete();
    }

    pub(super) fn tick_questions(&mut self, now: Moment) {
        for question in &mut self.questions {
            if now >= question.deadline {
                question.missing.clear();
            }
        }
        self.answer_complete();
    }

    fn answer_complete(&mut self) {
        let (complete, open): (Vec<_>, Vec<_>) = self
            .questions
            .drain(..)
            .partition(|question| question.missing.is_empty());
        self.questions = open;
        for question in complete {
            match question.kind {
                Kind::Metrics { reply } => {
                    let _ = reply.send(self.metrics.render());
                }
                Kind::Requests {
                    service,
                    found,
                    reply,
                } => {
                    let _ = reply.send(Ok(self.live_requests(&service, found)));
                }
            }
        }
    }

    fn live_requests(
        &self,
        service: &ServiceName,
        mut found: Vec<Exchange>,
    ) -> Vec<wire::LiveRequest> {
        found.retain(|exchange| exchange.service == *service);
        found.sort_by_key(|exchange| std::cmp::Reverse(exchange.age));
        let view = self.view();
        let place = |worker: WorkerId| {
            view.services
                .iter()
                .flat_map(|of| &of.generations)
                .flat_map(|generation| {
                    generation
                        .workers
                        .iter()
                        .map(move |of| (generation.number, of))
                })
                .find(|(_, of)| of.worker == worker)
        };
        found
            .into_iter()
            .map(|exchange| {
                let place = exchange.worker.and_then(place);
                wire::LiveRequest {
                    id: exchange.request_id,
                    class: match exchange.class {
                        Class::Plain => "plain",
                        Class::Upload => "upload",
                        Class::Stream => "stream",
                        Class::Tunnel => "tunnel",
                        Class::Parked => "parked",
                    }
                    .to_owned(),
                    method: exchange.method,
                    route: exchange.path,
                    client: exchange.client,
                    age: exchange.age.as_secs_f64(),
                    idle: exchange.idle.as_secs_f64(),
                    bytes_in: exchange.bytes_in,
                    bytes_out: exchange.bytes_out,
                    slot: place.map(|(_, of)| of.slot.0),
                    generation: place.map(|(generation, _)| generation.0),
                    blocks_drain: place.is_some_and(|(_, of)| of.state == WorkerState::Draining),
                    eta: exchange.cut_in.map(|left| left.as_secs_f64()),
                    attempt: exchange.attempt,
                }
            })
            .collect()
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::Start { service, .. } => format!("start of {service}"),
        Command::Configure { service, .. } => format!("new settings of {service}"),
        Command::Readdress { service, .. } => format!("new addresses of {service}"),
        Command::Rollout { service, .. } => format!("rollout of {service}"),
        Command::Steer { service, steer, .. } => format!("{steer:?} of {service}").to_lowercase(),
        Command::Rollback { service } => format!("rollback of {service}"),
        Command::Scale { service, wanted } => format!("scale of {service} to {wanted}"),
        Command::Worker {
            service,
            slot,
            order,
        } => format!("{order:?} of {service} slot {slot}").to_lowercase(),
        Command::Halt(_) => "halt".to_owned(),
        Command::Stop(stop) => format!("stop ({stop:?})").to_lowercase(),
    }
}
