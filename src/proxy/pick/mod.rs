//! Who gets a request: a generation by weight, then the less loaded of two of its workers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::gate::FULL_SHARE;
use super::queue::Queue;
use super::table::{self, Entry, Service, Worker};
use crate::rollout::{Generation, Role, WorkerId};

/// A loop's own source of chance (xorshift64*); nothing secret depends on it.
#[derive(Debug)]
pub(super) struct Random(Cell<u64>);

impl Random {
    /// From any seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(Cell::new(seed | 1))
    }

    /// The next number.
    pub(super) fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, which is not 0.
    fn below(&self, bound: usize) -> usize {
        let high = (u128::from(self.next()) * bound as u128) >> 64;
        usize::try_from(high).unwrap_or(0)
    }
}

/// How often two workers are drawn before all are looked at: where few of many will do, luck takes longer.
const DRAWS: u32 = 4;

/// What is known of a request that looks for a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeker<'a> {
    /// Its loop.
    pub(super) index: usize,
    /// Its loop's chance.
    pub(super) random: &'a Random,
    /// Workers it does not want.
    pub(super) avoid: &'a [WorkerId],
    /// Its loop's time.
    pub(super) now: u64,
}

/// What came of looking.
#[derive(Debug)]
pub(super) enum Picked {
    /// This worker's gate was passed.
    Worker(Rc<Worker>),
    /// Some are open and at their limits, or others wait for them: this is the line to wait in.
    Full(Generation, Arc<Queue>),
    /// Nobody is open.
    Nobody,
}

/// Whether a request has waited in a generation's line and is the first of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    First,
}

/// Whom a request may be given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// Those who do well.
    Usual,
    /// Those who were ejected, too: better than nobody.
    Anybody,
}

/// What came of looking in one generation.
enum Found {
    Worker(Rc<Worker>),
    Full,
    Nobody,
}

impl Found {
    fn worker(self) -> Option<Rc<Worker>> {
        match self {
            Self::Worker(worker) => Some(worker),
            Self::Full | Self::Nobody => None,
        }
    }
}

impl Seeker<'_> {
    /// A worker of this service, by the weights of its generations.
    pub(super) fn pick(self, service: &Service) -> Picked {
        match self.draw(service) {
            Some(drawn) => self.pick_for(service, drawn, Standing::New),
            None => Picked::Nobody,
        }
    }

    /// A worker for the first one of this generation's line.
    pub(super) fn pick_first(self, service: &Service, generation: Generation) -> Picked {
        let mut all = service.generations.iter();
        match all.find(|of| of.number == generation && of.weight > 0) {
            Some(drawn) => self.pick_for(service, drawn, Standing::First),
            None => Picked::Nobody,
        }
    }

    fn draw(self, service: &Service) -> Option<&table::Generation> {
        let total: u32 = service.generations.iter().map(|g| g.weight).sum();
        if total == 0 {
            return None;
        }
        let mut ticket = self.random.below(total as usize);
        service.generations.iter().find(|generation| {
            let weight = generation.weight as usize;
            let hit = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            hit
        })
    }

    fn pick_for(self, service: &Service, drawn: &table::Generation, standing: Standing) -> Picked {
        match self.pick_of(service, drawn, (standing, Whom::Usual)) {
            Picked::Nobody => self.pick_of(service, drawn, (standing, Whom::Anybody)),
            picked => picked,
        }
    }

    fn pick_of(
        self,
        service: &Service,
        drawn: &table::Generation,
        (standing, whom): (Standing, Whom),
    ) -> Picked {
        let others = || {
            let others = service.generations.iter().filter(|of| of.weight > 0);
            others.filter(|of| of.number != drawn.number)
        };
        let wait = |of: &table::Generation| Picked::Full(of.number, Arc::clone(&of.queue));
        match self.among(drawn, standing, whom) {
            Found::Worker(worker) => return Picked::Worker(worker),
            Found::Full => {
                // What waits for a candidate may go to the stable one, which lowers the candidate's share.
                // Nothing goes the other way: the share of a candidate is not to be raised here.
                let mut stable = others().filter(|of| of.role == Role::Stable);
                return match stable.find_map(|of| self.among(of, Standing::New, whom).worker()) {
                    Some(worker) => Picked::Worker(worker),
                    None => wait(drawn),
                };
            }
            Found::Nobody => {}
        }
        let mut full = None;
        for other in others() {
            match self.among(other, Standing::New, whom) {
                Found::Worker(worker) => return Picked::Worker(worker),
                Found::Full => full = full.or(Some(other)),
                Found::Nobody => {}
            }
        }
        full.map_or(Picked::Nobody, wait)
    }

    /// Power of two choices among the open ones.
    fn among(self, generation: &table::Generation, standing: Standing, whom: Whom) -> Found {
        let open = |worker: &&Rc<Worker>| {
            !worker.gate.is_shut(self.index)
                && !self.avoid.contains(&worker.id)
                && (whom == Whom::Anybody || !worker.gate.is_ejected())
        };
        // Without a limit nobody ever waits.
        let is_new = standing == Standing::New && generation.is_limited();
        let must_wait = || is_new && generation.queue.is_waited_in();
        let will_do = |worker: &&Rc<Worker>| open(worker) && worker.has_place(self.now);
        if !must_wait() {
            let drawn = self.drawn(&generation.workers, will_do);
            let entered = drawn.filter(|of| of.enter(self.index, self.now) == Entry::Entered);
            if let Some(worker) = entered {
                return Found::Worker(Rc::clone(worker));
            }
        }
        loop {
            let mut is_open = false;
            let mut room = 0;
            for worker in generation.workers.iter().filter(open) {
                is_open = true;
                room += usize::from(worker.has_place(self.now));
            }
            if !is_open {
                return Found::Nobody;
            }
            if room == 0 || must_wait() {
                return Found::Full;
            }
            let with_room = || generation.workers.iter().filter(will_do);
            let chosen = if room == 1 {
                with_room().next()
            } else {
                let (first, second) = self.two_of(room);
                let two = (with_room().nth(first), with_room().nth(second));
                two.0.zip(two.1).map(|(a, b)| self.lighter(a, b))
            };
            let Some(worker) = chosen else {
                continue;
            };
            // It may have been shut or filled since: then choose again.
            if worker.enter(self.index, self.now) == Entry::Entered {
                return Found::Worker(Rc::clone(worker));
            }
        }
    }

    /// The less loaded of two that are drawn from all and both will do, which mostly they all do: so a pick
    /// costs the same among many as among few. Any two that will do are as likely as if the others were left
    /// out first.
    fn drawn(
        self,
        workers: &[Rc<Worker>],
        will_do: impl Fn(&&Rc<Worker>) -> bool,
    ) -> Option<&Rc<Worker>> {
        if workers.len() < 2 {
            return None;
        }
        (0..DRAWS).find_map(|_| {
            let (first, second) = self.two_of(workers.len());
            let (first, second) = (&workers[first], &workers[second]);
            (will_do(&first) && will_do(&second)).then(|| self.lighter(first, second))
        })
    }

    /// Two different numbers below `count`, which is at least 2; any two are as likely.
    fn two_of(self, count: usize) -> (usize, usize) {
        let first = self.random.below(count);
        let second = (first + 1 + self.random.below(count - 1)) % count;
        (first, second)
    }

    /// The less loaded of two.
    fn lighter<'w>(self, first: &'w Rc<Worker>, second: &'w Rc<Worker>) -> &'w Rc<Worker> {
        let shares = [first.share(self.now), second.share(self.now)];
        // One that has just joined is empty and would win each time, so it may stand for choice only as
        // often as its share says, and what it has weighs as much more.
        let sits_out = |share| share < FULL_SHARE && self.random.below(100) >= share as usize;
        match shares.map(sits_out) {
            [true, false] => return second,
            [false, true] => return first,
            [true, true] | [false, false] => {}
        }
        let [load, other] = [first, second].map(|of| u64::from(of.gate.in_flight()));
        if other * u64::from(shares[0]) < load * u64::from(shares[1]) {
            second
        } else {
            first
        }
    }
}

#[cfg(test)]
mod tests;
