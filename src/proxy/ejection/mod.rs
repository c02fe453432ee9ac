//! Which workers get no requests for a while because they fail and others do not (F53). Pure: counts and
//! the time in, verdicts out.
//!
//! A worker that fails at once has the least in flight and would be given the most requests. It is ejected
//! when it failed several in a row, or far more often than the others of its generation, and comes back by
//! itself: first after `base_time`, then after twice as long each time, less again when it serves well.
//!
//! What all of a generation do alike is no worker's fault: then nobody is ejected, and who is out returns. It
//! is not ejected again before its time would have been over, and nobody is better than others merely because
//! it has just returned and failed at nothing yet: else each return would be the next one's ejection.
//! At most `max_percent` are out, but one may always be, and never the last: a part of two or three workers
//! would otherwise be nobody (Envoy's `always_eject_one_host`). Only who serves in a stable generation is to
//! be shown here: a candidate's failures are for the rollout's judge to see, all of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::live::millis;
use crate::link::message::Ejection;
use crate::rollout::WorkerId;

/// Failures are compared over so long: long enough for some requests, short enough that a worker that has
/// just begun to fail stands out.
const WINDOW: u64 = 10_000;
/// Parts the window moves by.
const STEP: u64 = 1_000;
/// Below so many requests in the window a share of failures says nothing.
const FEWEST: u64 = 20;
/// A share of failures stands out from this far above that of the others…
const ABOVE: f64 = 0.3;
/// …if it is also so many times as high.
const TIMES: f64 = 3.0;
/// A row of failures stands out if the others, at their share of failures, would have one as rarely.
const RARE: f64 = 1e-6;
/// The time doubles so often at most: from 10 s to about five minutes.
const DOUBLINGS: u32 = 5;

/// A worker as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) worker: WorkerId,
    /// Requests that ended, and those of them that failed, since the worker began.
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// Failures in a row.
    pub(super) row: u32,
}

/// The open workers of one stable generation.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rules: Ejection,
    pub(super) workers: Vec<Seen>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It gets no requests for so long.
    Eject(WorkerId, Duration),
    /// It gets requests again.
    Readmit(WorkerId),
}

/// Everybody who was seen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    known: HashMap<WorkerId, Known>,
}

#[derive(Debug)]
struct Known {
    standing: Standing,
    /// Ejections for which it has not made up.
    times: u32,
    /// Its sums when it last returned.
    returned: Option<Mark>,
    marks: VecDeque<Mark>,
}

#[derive(Debug, Clone, Copy)]
enum Standing {
    /// It is not ejected before `spared_until`.
    Serves {
        since: u64,
        spared_until: u64,
    },
    Ejected {
        until: u64,
    },
}

/// What a worker's sums were once.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: u64,
    requests: u64,
    failures: u64,
}

/// A worker's requests and failures in the window.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    requests: u64,
    failures: u64,
}

impl Watch {
    /// Looks at everybody. Who is in no group any more is forgotten, and readmitted.
    pub(super) fn review(&mut self, groups: &[Group], now: u64) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for group in groups {
            self.review_group(group, now, &mut verdicts);
        }
        let here: HashSet<_> = groups
            .iter()
            .flat_map(|group| &group.workers)
            .map(|seen| seen.worker)
            .collect();
        self.known.retain(|worker, known| {
            let stays = here.contains(worker);
            if !stays && known.is_ejected() {
                verdicts.push(Verdict::Readmit(*worker));
            }
            stays
        });
        verdicts
    }

    fn review_group(&mut self, group: &Group, now: u64, verdicts: &mut Vec<Verdict>) {
        let rules = &group.rules;
        for seen in &group.workers {
            let known = self.known.entry(seen.worker).or_insert_with(|| Known {
                standing: Standing::Serves {
                    since: now,
                    spared_until: now,
                },
                times: 0,
                returned: None,
                marks: VecDeque::new(),
            });
            known.mark(seen, now);
            if seen.row >= rules.consecutive {
                // It fails, and makes up for nothing meanwhile.
                known.makes_up(rules.base_time, now);
            }
        }
        let is_off = rules.consecutive == 0 || rules.max_percent == 0;
        let is_over_for_all = is_off || self.nobody_serves_well(group);
        for seen in &group.workers {
            if let Some(known) = self.known.get_mut(&seen.worker)
                && let Standing::Ejected { until } = known.standing
                && (now >= until || is_over_for_all)
            {
                known.returns(seen, until, now);
                verdicts.push(Verdict::Readmit(seen.worker));
            }
        }
        if is_off {
            return;
        }
        // Only who fails is compared with everybody: to do that for each would cost the square of their number.
        let failing = group.workers.iter().filter(|of| self.fails(of, rules));
        // Those with the longest rows first: there may not be room for all.
        let mut by_row: Vec<_> = failing.collect();
        by_row.sort_by_key(|seen| std::cmp::Reverse(seen.row));
        for seen in by_row {
            let out = group.workers.iter().filter(|of| self.is_out(of.worker));
            if out.count() >= most_out(group.workers.len(), rules.max_percent) {
                return;
            }
            // Of one that has just returned, this row is the old one.
            let is_back = verdicts.contains(&Verdict::Readmit(seen.worker));
            if is_back || !self.stands_out(seen, group) {
                continue;
            }
            if let Some(known) = self.known.get_mut(&seen.worker)
                && known.may_leave(now)
            {
                let time = known.leaves(rules.base_time, now);
                verdicts.push(Verdict::Eject(seen.worker, time));
            }
        }
    }

    fn is_out(&self, worker: WorkerId) -> bool {
        self.known.get(&worker).is_some_and(Known::is_ejected)
    }

    /// Whether it has failed at all of late; nobody else can stand out.
    fn fails(&self, seen: &Seen, rules: &Ejection) -> bool {
        let known = self.known.get(&seen.worker);
        let failures = known.map_or(0, |known| known.recent(seen).failures);
        failures > 0 || seen.row >= rules.consecutive
    }

    /// Whether at least half of those who serve, but for one, do well.
    fn most_serve_well(&self, group: &Group, but: WorkerId) -> bool {
        let serve = || {
            let all = group.workers.iter();
            all.filter(|of| of.worker != but && !self.is_out(of.worker))
        };
        // Half the row already: in the moment in which all begin to fail, somebody has it whole first.
        let limit = group.rules.consecutive.div_ceil(2);
        let well = serve().filter(|of| self.does_well(of, limit)).count();
        well > 0 && 2 * well >= serve().count()
    }

    /// Whether all who serve have a row of failures behind them. Fewer do not bring anybody back: it has
    /// failed more than some, and would only take turns with others that fail.
    fn nobody_serves_well(&self, group: &Group) -> bool {
        let all = group.workers.iter();
        let mut serve = all.filter(|of| !self.is_out(of.worker));
        serve.all(|of| of.row >= group.rules.consecutive)
    }

    /// Whether it has no such row of failures behind it. One that has returned must have shown it.
    fn does_well(&self, seen: &Seen, limit: u32) -> bool {
        let known = self.known.get(&seen.worker);
        let returned = known.and_then(|known| known.returned);
        let is_proven = returned.is_none_or(|mark| mark.until(seen).is_good_once());
        seen.row < limit && is_proven
    }

    fn stands_out(&self, seen: &Seen, group: &Group) -> bool {
        let Some(known) = self.known.get(&seen.worker) else {
            return false;
        };
        let others = group
            .workers
            .iter()
            .filter(|of| of.worker != seen.worker && !self.is_out(of.worker))
            .filter_map(|of| Some(self.known.get(&of.worker)?.recent(of)));
        let others = others.fold(Recent::default(), Recent::add);
        let (own, usual) = (known.recent(seen), others.share());
        let in_a_row = seen.row >= group.rules.consecutive
            && usual.powf(f64::from(seen.row)) < RARE
            && self.most_serve_well(group, seen.worker);
        let often = own.requests >= FEWEST
            && others.requests >= FEWEST
            && own.share() >= usual + ABOVE
            && own.share() >= usual * TIMES;
        in_a_row || often
    }
}

/// How many of so many may be out at once.
fn most_out(workers: usize, percent: u32) -> usize {
    let part = workers.saturating_mul(percent.min(100) as usize) / 100;
    part.max(1).min(workers.saturating_sub(1))
}

impl Known {
    fn is_ejected(&self) -> bool {
        matches!(self.standing, Standing::Ejected { .. })
    }

    /// Keeps the sums from time to time; the first mark is the window's begin.
    fn mark(&mut self, seen: &Seen, now: u64) {
        if self.marks.back().is_none_or(|last| now >= last.at + STEP) {
            self.marks.push_back(Mark::of(seen, now));
        }
        while self.marks.len() > 1 && self.marks[0].at + WINDOW < now {
            self.marks.pop_front();
        }
    }

    fn recent(&self, seen: &Seen) -> Recent {
        let begin = self.marks.front();
        begin.map_or_else(Recent::default, |mark| mark.until(seen))
    }

    fn may_leave(&self, now: u64) -> bool {
        matches!(self.standing, Standing::Serves { spared_until, .. } if now >= spared_until)
    }

    /// It has made up for one ejection with each `base_time` that it served until now.
    fn makes_up(&mut self, base: Duration, now: u64) {
        if let Standing::Serves { since, .. } = &mut self.standing {
            let served = now.saturating_sub(*since) / millis(base).max(1);
            let forgiven = u32::try_from(served).unwrap_or(u32::MAX);
            self.times = self.times.saturating_sub(forgiven);
            *since = now;
        }
    }

    /// It is ejected; for how long.
    fn leaves(&mut self, base: Duration, now: u64) -> Duration {
        self.makes_up(base, now);
        let time = base.saturating_mul(1 << self.times.min(DOUBLINGS));
        self.times = self.times.saturating_add(1);
        self.standing = Standing::Ejected {
            until: now.saturating_add(millis(time)),
        };
        time
    }

    /// It serves again, and what it did before is not held against it. If that is before its time, which
    /// ends at `until`, the ejection was a mistake: it counts for nothing, and is not made again so soon.
    fn returns(&mut self, seen: &Seen, until: u64, now: u64) {
        if now < until {
            self.times = self.times.saturating_sub(1);
        }
        self.standing = Standing::Serves {
            since: now,
            spared_until: until,
        };
        let mark = Mark::of(seen, now);
        self.returned = Some(mark);
        self.marks.clear();
        self.marks.push_back(mark);
    }
}

impl Mark {
    fn of(seen: &Seen, at: u64) -> Self {
        Self {
            at,
            requests: seen.requests,
            failures: seen.failures,
        }
    }

    /// What came since.
    fn until(self, seen: &Seen) -> Recent {
        Recent {
            requests: seen.requests.saturating_sub(self.requests),
            failures: seen.failures.saturating_sub(self.failures),
        }
    }
}

impl Recent {
    fn is_good_once(self) -> bool {
        self.requests > self.failures
    }

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            failures: self.failures + other.failures,
        }
    }

    fn share(self) -> f64 {
        if self.requests == 0 {
            return 0.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share need not be exact in its last digits"
        )]
        let share = self.failures as f64 / self.requests as f64;
        share
    }
}

#[cfg(test)]
mod tests;
