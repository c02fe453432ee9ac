//! The judgement of a candidate in live traffic: its failures against the stable generation's over the
//! same time. Whole numbers only, so that every machine judges alike.

use std::time::Duration;

use super::fact::Outcomes;
use super::id::{Generation, Moment};
use super::plan::Rollout;
use super::service::Service;
use super::view::{Verdict, VerdictView};

/// The candidate fails if it is this many points worse ...
const POINTS: u128 = 5;
/// ... and this many times as bad.
const TIMES: u128 = 3;

/// A candidate is silent only if it has been asked for this many times as long as a request takes at the stable
/// generation. Most of its requests are young, for all are new: by then less than half of them would be open,
/// even while its share climbs.
const TURNS: u128 = 4;
/// What is open and what has ended was counted up to a tenth of a second ago, the one perhaps before the other: so
/// long after the share began to climb neither is older than that.
const SEEN: Duration = Duration::from_millis(300);
/// So many requests without one answer suffice where the stable generation gives enough to judge by.
const UNHEARD: u64 = 3;

/// The counts of both sides since the candidate's first request.
struct Counts {
    candidate: Outcomes,
    stable: Outcomes,
    /// What the candidate is held against.
    compared: Outcomes,
}

impl Counts {
    fn of(service: &Service, rollout: &Rollout) -> Self {
        let base = rollout.baseline;
        let candidate = since(service.total(rollout.to), base.map(|base| base.candidate));
        let stable_total = service.total(service.stable);
        let stable = since(
            stable_total,
            Some(base.map_or(stable_total, |base| base.stable)),
        );
        // Without a request in the window the stable generation's long-run rate stands in.
        let compared = if stable.requests > 0 {
            stable
        } else {
            stable_total
        };
        Self {
            candidate,
            stable,
            compared,
        }
    }

    fn verdict(&self, service: &Service) -> Verdict {
        if self.candidate.requests < service.settings.judge_min_requests.max(1) {
            Verdict::NotEnough
        } else if worse(self.candidate, self.compared) {
            Verdict::Fail
        } else {
            Verdict::Pass
        }
    }
}

/// Whether the candidate fails now. Asked after every fact, so it makes no sentence.
pub(super) fn fails(service: &Service, rollout: &Rollout) -> bool {
    Counts::of(service, rollout).verdict(service) == Verdict::Fail
}

/// What can be said now. `Pass` is only meant at the end of a soak.
pub(super) fn judge(service: &Service, rollout: &Rollout) -> VerdictView {
    let counts = Counts::of(service, rollout);
    let verdict = counts.verdict(service);
    let Counts {
        candidate,
        stable,
        compared,
    } = counts;
    let sick = compared.requests > 0
        && u128::from(compared.failures) * 100 >= POINTS * u128::from(compared.requests);
    let mut message = match verdict {
        Verdict::NotEnough => format!(
            "too little traffic to judge ({} of {} requests)",
            candidate.requests, service.settings.judge_min_requests
        ),
        Verdict::Pass | Verdict::Fail => format!(
            "{} of {} requests to generation {} failed ({}); of the stable generation's {} of {} ({})",
            candidate.failures,
            candidate.requests,
            rollout.to,
            percent(candidate),
            compared.failures,
            compared.requests,
            percent(compared),
        ),
    };
    let open = open(service, rollout.to);
    if verdict == Verdict::NotEnough && open > 0 {
        message.push_str(&format!("; {open} more have no answer yet"));
    }
    if sick {
        message.push_str(&format!(
            "; the stable generation is sick too ({} failed)",
            percent(compared)
        ));
    }
    VerdictView {
        batch: rollout.batch,
        verdict,
        candidate,
        stable,
        message,
    }
}

/// Requests that the candidate has not answered yet, if it takes them to judge it: a soak that is over waits
/// for them for a while. None if enough have ended, or if there are too few of both.
pub(super) fn awaited(service: &Service, rollout: &Rollout) -> u64 {
    let counts = Counts::of(service, rollout);
    if counts.verdict(service) != Verdict::NotEnough {
        return 0;
    }
    let open = open(service, rollout.to);
    match counts.candidate.requests + open >= service.settings.judge_min_requests {
        true => open,
        false => 0,
    }
}

/// The verdict on a candidate that is silent when its soak ends: half of its requests and more have no answer,
/// enough of them to judge it, or it has answered nothing at all, and the stable generation answers so soon that
/// it would have. Where requests take as long as the soak, that cannot be told yet (F57). `since` is when its share
/// began to climb.
pub(super) fn silent(
    service: &Service,
    rollout: &Rollout,
    since: Moment,
    now: Moment,
) -> Option<VerdictView> {
    let counts = Counts::of(service, rollout);
    let base = rollout.baseline?;
    let unanswered = |ended: Outcomes, number| {
        let open = open(service, number);
        Outcomes {
            requests: ended.requests + open,
            failures: open,
        }
    };
    let candidate = unanswered(counts.candidate, rollout.to);
    let stable = unanswered(counts.stable, service.stable);
    let enough = service.settings.judge_min_requests.max(1);
    // Few clients may all be waiting for the candidate: then the stable generation has nothing left to answer.
    let idle = stable.failures == 0 && service.total(service.stable).requests >= enough;
    let unheard = service.total(rollout.to).requests == 0
        && candidate.failures >= UNHEARD
        && (idle || counts.stable.requests >= enough);
    let half = candidate.failures >= enough && candidate.failures * 2 >= candidate.requests;
    // By Little's law one of the stable generation's takes the time of all, divided by how many have ended.
    let asked = now.since(base.at.max(since));
    if asked < SEEN {
        return None;
    }
    let asked = asked.as_millis();
    let spent = base.spent.at(stable.failures, now);
    let soon = asked * u128::from(counts.stable.requests) >= spent.saturating_mul(TURNS);
    if !(half || unheard) || !soon || !worse(candidate, stable) {
        return None;
    }
    Some(VerdictView {
        batch: rollout.batch,
        verdict: Verdict::Fail,
        candidate: counts.candidate,
        stable: counts.stable,
        message: format!(
            "{} of {} requests to generation {} have no answer; of the stable generation's {} of {}",
            candidate.failures, candidate.requests, rollout.to, stable.failures, stable.requests
        ),
    })
}

/// Plain requests that a generation has not answered yet.
pub(super) fn open(service: &Service, number: Generation) -> u64 {
    let workers = service.of(number).filter(|worker| worker.listed());
    workers.map(|worker| u64::from(worker.load.plain)).sum()
}

/// At least 5 points and at least 3 times above.
fn worse(candidate: Outcomes, stable: Outcomes) -> bool {
    // Counts beyond this say nothing more, and the products below stay within range.
    let cap = |count: u64| u128::from(count.min(1 << 50));
    let (bad, all) = (cap(candidate.failures), cap(candidate.requests));
    // A stable generation without any request ever has a rate of 0 of 1.
    let (old_bad, old_all) = (cap(stable.failures), cap(stable.requests.max(1)));
    let (new, old) = (bad * old_all, old_bad * all);
    new > old && (new - old) * 100 >= POINTS * all * old_all && new >= TIMES * old
}

fn since(total: Outcomes, base: Option<Outcomes>) -> Outcomes {
    let base = base.unwrap_or_default();
    Outcomes {
        requests: total.requests.saturating_sub(base.requests),
        failures: total.failures.saturating_sub(base.failures),
    }
}

fn percent(outcomes: Outcomes) -> String {
    let tenths = u128::from(outcomes.failures) * 1000 / u128::from(outcomes.requests.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f56_worse_needs_five_points_and_three_times() {
        let of = |failures, requests| Outcomes { requests, failures };
        assert!(worse(of(5, 100), of(0, 100)));
        assert!(!worse(of(4, 100), of(0, 100)), "4 points");
        assert!(worse(of(1, 20), of(0, 0)), "nothing to compare with");
        assert!(worse(of(30, 100), of(10, 100)));
        assert!(!worse(of(29, 100), of(10, 100)), "2.9 times");
        assert!(!worse(of(100, 100), of(50, 100)), "both sick (F58)");
        assert!(
            worse(of(u64::MAX, u64::MAX), of(1, u64::MAX)),
            "no overflow"
        );
    }
}
