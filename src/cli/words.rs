//! The sentences about services, rollouts and workers that several commands print.

use std::time::{Duration, SystemTime};

use super::exit::Code;
use super::time;
use crate::wire::{Failure, Rollout, Service, WaitingOn, Worker};

/// Whether a rollout's state is its last.
pub(crate) fn ended(state: &str) -> bool {
    matches!(state, "completed" | "rolled_back" | "failed" | "superseded")
}

/// How one who waited for this rollout exits.
pub(crate) fn code(rollout: &Rollout) -> Code {
    match rollout.state.as_str() {
        "completed" => Code::Done,
        "superseded" => Code::Conflict,
        // Nobody can say what serves after a stop. That nobody answers any more is sure.
        _ if was_stopped(rollout) => Code::NoInstance,
        _ if rollout.full_strength => Code::Failed,
        _ => Code::Degraded,
    }
}

/// Whether it did not come to its end, because Remuda stopped.
pub(crate) fn was_stopped(rollout: &Rollout) -> bool {
    let failure = rollout.failure.as_ref();
    rollout.state == "failed" && failure.is_some_and(|failure| failure.reason == "stopped")
}

/// The same rollout as a stop ends it.
pub(crate) fn stopped(rollout: Rollout) -> Rollout {
    Rollout {
        state: "failed".to_owned(),
        waiting_on: None,
        failure: Some(Failure {
            reason: "stopped".to_owned(),
            message: "remuda stopped".to_owned(),
            worker: None,
        }),
        full_strength: false,
        ..rollout
    }
}

/// `app-3 (v3)`.
pub(crate) fn title(rollout: &Rollout) -> String {
    match rollout.release.as_deref() {
        Some(release) if !release.is_empty() => format!("{} ({release})", rollout.id),
        Some(_) | None => rollout.id.clone(),
    }
}

/// Generation and release: `generation 3 (v3)`.
pub(crate) fn generation(number: u64, release: Option<&str>) -> String {
    match release {
        Some(release) if !release.is_empty() => format!("generation {number} ({release})"),
        Some(_) | None => format!("generation {number}"),
    }
}

/// Where a rollout is: `running, batch 1 of 4, ramping`.
pub(crate) fn place(rollout: &Rollout) -> String {
    let state = rollout.state.replace('_', " ");
    if ended(&rollout.state) || rollout.state == "pending" {
        return state;
    }
    let step = &rollout.step;
    if step.batch == 0 {
        return format!("{state}, {}", step.name);
    }
    format!(
        "{state}, batch {} of {}, {}",
        step.batch, step.of, step.name
    )
}

/// What is awaited, with its deadline.
pub(crate) fn waiting(waiting: &WaitingOn, now: SystemTime) -> String {
    // How long a worker has been sick is a reason by itself.
    let since = match waiting.kind.as_str() {
        "health" => time::since(&waiting.since, now).map(time::short),
        _ => None,
    };
    let deadline = waiting.deadline.as_deref();
    let left = deadline
        .and_then(|deadline| time::left(deadline, now))
        .filter(|left| !left.is_zero())
        .map(|left| time::short(left.max(Duration::from_secs(1))));
    // As the page has it: a sentence may end with brackets, which want no others behind them.
    let since = since.map(|since| format!(", for {since} now"));
    let left = left.map(|left| format!(", at most {left} more"));
    let (since, left) = (since.unwrap_or_default(), left.unwrap_or_default());
    format!("{}{since}{left}", waiting.message)
}

/// The one sentence about a service.
pub(crate) fn why(service: &Service, now: SystemTime) -> String {
    match &service.waiting_on {
        Some(what) => waiting(what, now),
        None => {
            let line = match service.parked {
                0 => String::new(),
                1 => "; 1 request waits".to_owned(),
                all => format!("; {all} requests wait"),
            };
            let cause = match &service.parked_as {
                Some(cause) => format!(", as {cause}"),
                None => String::new(),
            };
            format!(
                "nothing: {} of {} workers serve generation {}{line}{cause}",
                service.ready, service.wanted, service.generation
            )
        }
    }
}

/// The worker whose start a service waits for, or whose restart, if it waits for one: the longest, as the
/// sentence has it.
pub(crate) fn starting(service: &Service) -> Option<&Worker> {
    let states: &[&str] = match service.waiting_on.as_ref()?.kind.as_str() {
        "ready" => &["starting"],
        // For a moment what the last one left ends beside the delay.
        "backoff" => &["backoff", "terminating"],
        _ => return None,
    };
    let newest_first = service.workers().rev();
    newest_first
        .filter(|worker| states.contains(&worker.state.as_str()))
        .min_by(|a, b| (&a.started_at, a.slot).cmp(&(&b.started_at, b.slot)))
}

/// `1 worker`, `2 workers`.
pub(crate) fn counted(count: u64, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {word}{plural}")
}

/// What a draining worker still has and how long it may take.
pub(crate) fn drain(worker: &Worker, now: SystemTime) -> String {
    let what = worker.in_flight_by_class;
    let deadline = worker.drain_deadline.as_deref();
    match deadline.and_then(|deadline| time::left(deadline, now)) {
        Some(left) if worker.in_flight > 0 => {
            let left = time::short(left);
            // Only a plain request's limit stands still; the others' begins anew with each byte.
            if worker.in_flight_by_class.plain > 0 {
                format!("{what} left, at most {left} more")
            } else {
                format!("{what} left, cut in {left} unless something moves")
            }
        }
        Some(_) | None => format!("{what} left"),
    }
}

/// How a rollout has just ended, in one sentence, with what that means for those who wait for it.
pub(crate) fn end(rollout: &Rollout) -> String {
    if was_stopped(rollout) {
        return format!(
            "remuda stopped before {} ended (generation {} was to replace generation {})",
            title(rollout),
            rollout.to,
            rollout.from
        );
    }
    let outcome = outcome(rollout);
    match rollout.state.as_str() {
        "failed" | "rolled_back" if rollout.full_strength => {
            format!(
                "{outcome}; generation {} serves at full strength",
                rollout.from
            )
        }
        "failed" | "rolled_back" => {
            format!("{outcome}; capacity is degraded; `remuda status` shows the workers")
        }
        _ => outcome,
    }
}

/// How a rollout ended, in one sentence that stays true: nothing of what the service is like since.
pub(crate) fn outcome(rollout: &Rollout) -> String {
    let title = title(rollout);
    let because = rollout
        .failure
        .as_ref()
        .map_or_else(String::new, |failure| format!(": {}", failure.message));
    match rollout.state.as_str() {
        "completed" => format!("{title} completed{}; {}", took(rollout), ledger(rollout)),
        "superseded" => {
            format!("{title} was superseded by a newer rollout; `remuda history` lists them")
        }
        "failed" => format!("{title} failed{because}"),
        "rolled_back" => format!("{title} was rolled back{because}"),
        _ => format!("{title} is {}", place(rollout)),
    }
}

/// What is needed to see why a rollout failed, line by line.
pub(crate) fn bundle(rollout: &Rollout) -> Vec<String> {
    let Some(worker) = rollout
        .failure
        .as_ref()
        .and_then(|failure| failure.worker.as_ref())
    else {
        return Vec::new();
    };
    let pid = worker
        .pid
        .map_or_else(String::new, |pid| format!(", pid {pid}"));
    let mut lines = vec![format!(
        "  worker       slot {}, generation {}{pid}",
        worker.slot, worker.generation
    )];
    if let Some(exit) = &worker.exit {
        lines.push(format!("  ended        {exit}"));
    }
    if let Some(probe) = &worker.probe {
        lines.push(format!("  last probe   {probe}"));
    }
    if worker.output.is_empty() {
        lines.push("  last output  none".to_owned());
    } else {
        lines.push("  last output".to_owned());
        lines.extend(worker.output.iter().map(|line| format!("    | {line}")));
    }
    lines
}

/// The same for a rollout that has failed and stands: whoever is to resume or abort it decides by that.
pub(crate) fn standing(rollout: &Rollout) -> Vec<String> {
    match rollout.state.as_str() {
        "paused" => bundle(rollout),
        _ => Vec::new(),
    }
}

/// What became of the requests.
pub(crate) fn ledger(rollout: &Rollout) -> String {
    let ledger = &rollout.ledger;
    let cut = ledger.cut;
    let cut = cut.plain + cut.upload + cut.stream + cut.tunnel;
    format!(
        "{}, {} by the new workers, {} retried, {} failed in the proxy, {cut} cut by a drain's limit",
        counted(ledger.requests, "request"),
        ledger.candidate,
        ledger.retried,
        ledger.proxy_errors
    )
}

fn took(rollout: &Rollout) -> String {
    let begin = rollout.started_at.as_deref();
    let length = begin
        .zip(rollout.ended_at.as_deref())
        .and_then(|(begin, end)| time::between(begin, end));
    length.map_or_else(String::new, |length| {
        format!(" in {:.1} s", length.as_secs_f64())
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::waiting;
    use crate::wire::WaitingOn;

    #[test]
    fn a_deadline_is_said_until_it_has_passed() {
        let deadline = "2026-11-23T02:00:09.400Z";
        let awaited = WaitingOn {
            kind: "soak".to_owned(),
            message: "the soak of batch 2 to end".to_owned(),
            since: "2026-11-23T02:00:00.000Z".to_owned(),
            deadline: Some(deadline.to_owned()),
        };
        let end: SystemTime = humantime::parse_rfc3339(deadline).expect("a time");
        let at = |before| waiting(&awaited, end - Duration::from_millis(before));
        let said = |rest| format!("the soak of batch 2 to end{rest}");
        assert_eq!(at(2_900), said(", at most 2s more"));
        assert_eq!(at(300), said(", at most 1s more"));
        assert_eq!(at(0), said(""));
    }
}
