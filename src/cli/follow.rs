//! Following rollouts to their ends, and saying on the way what changes.

use std::collections::BTreeMap;

use super::client::Client;
use super::exit::{Code, Failure};
use super::live::Live;
use super::out::{Out, Tone};
use super::patience::GLANCE;
use super::{time, words};
use crate::wire::{Rollout, Service, Status, Verdict};

/// Follows these rollouts until each has ended and, where one completed, until the old workers have
/// answered their plain requests. Returns them as they ended.
pub(crate) async fn to_the_end(
    client: &Client,
    out: &Out,
    rollouts: Vec<Rollout>,
) -> Result<Vec<Rollout>, Failure> {
    let mut teller = Teller::new(out);
    let mut running = rollouts;
    let mut over = Vec::new();
    let mut seen: Option<Status> = None;
    loop {
        let known = seen.as_ref().map(|status| status.pid);
        let looked = match look(client, &running, known).await {
            Ok(looked) => looked,
            Err(failure) if has_stopped(client, &failure).await => None,
            Err(failure) => return Err(failure),
        };
        let Some((status, current)) = looked else {
            over.extend(teller.tell_stop(running, seen.as_ref()));
            return Ok(over);
        };
        let mut left = Vec::new();
        for rollout in current {
            teller.tell(&rollout, &status);
            if words::ended(&rollout.state) && !holds_requests(&rollout, &status) {
                teller.tell_end(&rollout, Some(&status));
                over.push(rollout);
            } else {
                left.push(rollout);
            }
        }
        if left.is_empty() {
            return Ok(over);
        }
        running = left;
        seen = Some(status);
        tokio::time::sleep(GLANCE).await;
    }
}

/// What the instance says now, if it is the one of before.
async fn look(
    client: &Client,
    rollouts: &[Rollout],
    known: Option<u32>,
) -> Result<Option<(Status, Vec<Rollout>)>, Failure> {
    let status = client.status().await?;
    if known.is_some_and(|pid| pid != status.pid) {
        return Ok(None);
    }
    let mut current = Vec::new();
    for rollout in rollouts {
        current.push(client.rollout(&rollout.id).await?);
    }
    Ok(Some((status, current)))
}

/// Whether an instance that has answered until now does not because it has stopped, or is about to.
async fn has_stopped(client: &Client, failure: &Failure) -> bool {
    if failure.is_stopping() {
        return true;
    }
    if failure.code != Code::NoInstance {
        return false;
    }
    if !client.is_gone().await {
        // It leaves its connections a moment before its socket.
        tokio::time::sleep(GLANCE).await;
    }
    client.is_gone().await
}

/// Says what changes about rollouts, in the form that suits the output.
#[derive(Debug)]
struct Teller<'a> {
    out: &'a Out,
    live: Option<Live>,
    told: BTreeMap<String, String>,
}

impl<'a> Teller<'a> {
    fn new(out: &'a Out) -> Self {
        Self {
            out,
            live: out.live().then(Live::default),
            told: BTreeMap::new(),
        }
    }

    fn tell(&mut self, rollout: &Rollout, status: &Status) {
        if self.out.json() {
            if self.is_news(rollout, &full_key(rollout)) {
                self.out.event("rollout", rollout);
            }
            return;
        }
        let now = time::now();
        if let Some(live) = &mut self.live {
            live.show(rollout, status.services.get(&rollout.service), now);
            return;
        }
        if words::ended(&rollout.state) || !self.is_news(rollout, &line_key(rollout)) {
            return;
        }
        let waiting = rollout.waiting_on.as_ref();
        let waiting = waiting.map_or_else(String::new, |waiting| {
            format!(": {}", words::waiting(waiting, now))
        });
        let title = words::title(rollout);
        self.say(&format!("{title} {}{waiting}", words::place(rollout)));
        for line in words::standing(rollout) {
            self.say(&line);
        }
    }

    /// Remuda has stopped. Those that had ended before have ended so, though old workers had requests yet.
    fn tell_stop(&mut self, running: Vec<Rollout>, seen: Option<&Status>) -> Vec<Rollout> {
        let mut all = Vec::new();
        for rollout in running {
            let rollout = match words::ended(&rollout.state) {
                true => rollout,
                false => words::stopped(rollout),
            };
            self.tell_end(&rollout, seen);
            all.push(rollout);
        }
        all
    }

    fn tell_end(&mut self, rollout: &Rollout, status: Option<&Status>) {
        if let Some(live) = &mut self.live {
            live.remove(&rollout.id);
        }
        let (mark, tone) = match rollout.state.as_str() {
            "completed" => ("✔", Tone::Good),
            _ => ("✘", Tone::Bad),
        };
        let mark = self.out.stderr(tone, mark);
        self.say(&format!("{mark} {}", words::end(rollout)));
        for line in words::bundle(rollout) {
            self.say(&line);
        }
        // With one failure in twenty requests or more one passes only beside a stable generation as sick (F58).
        let is_sick = |of: &Verdict| of.candidate.failures * 20 >= of.candidate.requests.max(1);
        let news = |of: &&Verdict| of.verdict != "pass" || is_sick(of);
        for verdict in rollout.verdicts.iter().filter(news) {
            self.say(&format!(
                "  batch {}: {}: {}",
                verdict.batch,
                verdict.verdict.replace('_', " "),
                verdict.message
            ));
        }
        for remark in &rollout.remarks {
            self.say(&format!("  note: {remark}"));
        }
        let service = status.and_then(|status| status.services.get(&rollout.service));
        for line in still_draining(rollout, service) {
            self.say(&line);
        }
    }

    fn say(&self, text: &str) {
        match &self.live {
            Some(live) => live.say(text),
            None => self.out.say(text),
        }
    }

    fn is_news(&mut self, rollout: &Rollout, key: &str) -> bool {
        let told = self.told.insert(rollout.id.clone(), key.to_owned());
        told.as_deref() != Some(key)
    }
}

/// A completed rollout's old workers still have plain requests in flight.
fn holds_requests(rollout: &Rollout, status: &Status) -> bool {
    rollout.state == "completed"
        && old_workers(rollout, status.services.get(&rollout.service))
            .any(|worker| worker.in_flight_by_class.plain > 0)
}

fn still_draining(rollout: &Rollout, service: Option<&Service>) -> Vec<String> {
    let now = time::now();
    old_workers(rollout, service)
        .filter(|worker| worker.in_flight > 0)
        .map(|worker| {
            format!(
                "  slot {} of generation {} still drains: {}",
                worker.slot,
                worker.generation,
                words::drain(worker, now)
            )
        })
        .collect()
}

fn old_workers<'a>(
    rollout: &'a Rollout,
    service: Option<&'a Service>,
) -> impl Iterator<Item = &'a crate::wire::Worker> {
    service
        .into_iter()
        .flat_map(Service::workers)
        .filter(|worker| {
            // One that takes a parked generation back leaves a newer one.
            let is_old = worker.generation < rollout.to || worker.generation == rollout.from;
            is_old && worker.state == "draining"
        })
}

/// Without the sentence: its numbers change all the time, and each would be a line.
fn line_key(rollout: &Rollout) -> String {
    let kind = rollout.waiting_on.as_ref().map(|waiting| &waiting.kind);
    let step = &rollout.step;
    format!("{} {} {} {kind:?}", rollout.state, step.name, step.batch)
}

fn full_key(rollout: &Rollout) -> String {
    let message = rollout.waiting_on.as_ref().map(|waiting| &waiting.message);
    format!("{} {:?} {message:?}", line_key(rollout), rollout.counts)
}
