//! `scale`, `drain`, `undrain` and `restart`: the count of workers, or one of them.

use serde_json::{Value, json};

use super::args;
use super::client::{Client, escape};
use super::exit::{Code, Failure};
use super::out::Out;
use super::patience::{GLANCE, Patience};
use super::{service, time, words};
use crate::wire::{Scale, Service, Status, Worker};

/// What to do with one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// No new requests.
    Drain,
    /// Requests again.
    Undrain,
    /// Another in its place.
    Restart,
}

impl Order {
    fn verb(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Restart => "restart",
        }
    }
}

/// Sets the count and waits until so many are ready.
pub(crate) async fn scale(client: &Client, out: &Out, args: args::Scale) -> Result<Code, Failure> {
    let patience = Patience::new(args.wait)?;
    let status = client.status().await?;
    let name = service::by_option(&status, args.service.as_deref())?;
    let path = format!("/v1/services/{}/scale", escape(&name));
    let body = Scale {
        workers: args.workers,
    };
    let _: Value = client.post(&path, &body).await?;
    let wanted = args.workers;
    if !args.wait.detach {
        let work = until(client, out, &name, |_, service| {
            let rolls = service
                .rollout
                .as_ref()
                .is_some_and(|rollout| !words::ended(&rollout.state));
            let enough = service.ready == wanted || (rolls && service.ready > wanted);
            Ok(service.wanted == wanted && enough)
        });
        patience.wait("the scaling", work).await?;
    }
    let workers = words::counted(wanted.into(), "worker");
    let message = if args.wait.detach {
        format!("`{name}` will have {workers}; `remuda status` shows them")
    } else {
        format!("`{name}` has {workers} ready")
    };
    out.done(Code::Done, &message, json!({ "workers": wanted }));
    Ok(Code::Done)
}

/// Orders something for the worker in one slot and waits until it is so.
pub(crate) async fn one(
    client: &Client,
    out: &Out,
    order: Order,
    args: args::OneWorker,
) -> Result<Code, Failure> {
    let patience = Patience::new(args.wait)?;
    let status = client.status().await?;
    let name = service::by_option(&status, args.service.as_deref())?;
    let slot = args.slot;
    let before = status
        .services
        .get(&name)
        .and_then(|service| in_slot(service, slot))
        .map(identity);
    let path = format!(
        "/v1/services/{}/workers/{slot}/{}",
        escape(&name),
        order.verb()
    );
    let answer: Value = client.post(&path, &json!({})).await?;
    let notice = answer.get("notice").and_then(Value::as_str);
    if let Some(notice) = notice {
        out.say(notice);
    }
    if args.wait.detach {
        let message = format!("begun with slot {slot}; `remuda status` shows it");
        out.done(
            Code::Done,
            &message,
            json!({ "slot": slot, "notice": notice }),
        );
        return Ok(Code::Done);
    }
    let is_so = |status: &Status, service: &Service| {
        let worker = in_slot(service, slot);
        let is_another = worker.map(identity) != before;
        Ok(match (order, worker) {
            // Its process ends, and whether its requests came to their end is not to be seen from here.
            (Order::Drain, _) if status.state != "running" => {
                let message = format!("remuda stops, and the drain of slot {slot} is not awaited");
                return Err(Failure::new(Code::Conflict, message));
            }
            (Order::Drain, Some(worker)) if !is_another && !is_ending(worker) => {
                worker.state != "ready" && worker.in_flight == 0
            }
            (Order::Drain, _) => {
                let message = format!(
                    "the worker of slot {slot} ended before its drain was seen to end; `remuda status` shows what is there now"
                );
                return Err(Failure::new(Code::Conflict, message));
            }
            (Order::Undrain, worker) => worker.is_none_or(|worker| worker.state == "ready"),
            (Order::Restart, _) => is_another && service.ready >= service.wanted,
        })
    };
    let what = match order {
        Order::Drain => "the drain",
        Order::Undrain => "the change",
        Order::Restart => "the restart",
    };
    let work = until(client, out, &name, is_so);
    patience.wait(what, work).await?;
    let message = match order {
        Order::Drain => format!(
            "slot {slot} is drained and keeps its process; `remuda undrain {slot}` or `remuda restart {slot}` is next"
        ),
        Order::Undrain => format!("slot {slot} takes requests again"),
        Order::Restart => format!("the worker of slot {slot} is replaced"),
    };
    out.done(
        Code::Done,
        &message,
        json!({ "slot": slot, "notice": notice }),
    );
    Ok(Code::Done)
}

/// Looks until it is so, and says meanwhile what is awaited.
async fn until(
    client: &Client,
    out: &Out,
    name: &str,
    so: impl Fn(&Status, &Service) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let status = client.status().await?;
        let Some(service) = status.services.get(name) else {
            let message = format!("the service `{name}` is gone; `remuda status` lists them");
            return Err(Failure::new(Code::Conflict, message));
        };
        if so(&status, service)? {
            return Ok(());
        }
        if let Some(waiting) = &service.waiting_on
            && told.as_ref() != Some(&waiting.kind)
        {
            out.say(&words::waiting(waiting, time::now()));
            out.event("waiting", json!({ "service": name, "waiting_on": waiting }));
            told = Some(waiting.kind.clone());
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// What tells a worker from the next one in its slot.
fn identity(worker: &Worker) -> (u64, Option<u32>, Option<String>) {
    (worker.generation, worker.pid, worker.started_at.clone())
}

/// Its end was ordered.
fn is_ending(worker: &Worker) -> bool {
    matches!(worker.state.as_str(), "terminating" | "killing")
}

fn in_slot(service: &Service, slot: u32) -> Option<&Worker> {
    service.workers().find(|worker| worker.slot == slot)
}
