//! Who gets a request: a generation by weight, then the less loaded of two of its workers.

use std::cell::Cell;
use std::rc::Rc;

use super::table::{Generation, Service, Worker};
use crate::rollout::WorkerId;

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

/// A worker whose gate this request has passed, none of `avoid`; `None` if nobody else is open.
pub(super) fn pick(
    service: &Service,
    index: usize,
    random: &Random,
    avoid: &[WorkerId],
) -> Option<Rc<Worker>> {
    loop {
        let worker = choose(service, index, random, avoid)?;
        // It may have been shut since: then choose again.
        if worker.gate.enter(index) {
            return Some(Rc::clone(worker));
        }
    }
}

fn choose<'a>(
    service: &'a Service,
    index: usize,
    random: &Random,
    avoid: &[WorkerId],
) -> Option<&'a Rc<Worker>> {
    let total: u32 = service.generations.iter().map(|g| g.weight).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = random.below(total as usize);
    let chosen = service.generations.iter().find(|generation| {
        let weight = generation.weight as usize;
        let hit = ticket < weight;
        ticket = ticket.saturating_sub(weight);
        hit
    })?;
    among(chosen, index, random, avoid).or_else(|| {
        let others = service.generations.iter().filter(|g| g.weight > 0);
        others
            .filter_map(|generation| among(generation, index, random, avoid))
            .next()
    })
}

/// Power of two choices among the open ones.
fn among<'a>(
    generation: &'a Generation,
    index: usize,
    random: &Random,
    avoid: &[WorkerId],
) -> Option<&'a Rc<Worker>> {
    let open = |worker: &&Rc<Worker>| !worker.gate.is_shut(index) && !avoid.contains(&worker.id);
    let count = generation.workers.iter().filter(open).count();
    let nth = |n: usize| generation.workers.iter().filter(open).nth(n);
    match count {
        0 => None,
        1 => nth(0),
        _ => {
            let first = random.below(count);
            // Another one: of the rest, each as likely.
            let second = (first + 1 + random.below(count - 1)) % count;
            let (first, second) = (nth(first)?, nth(second)?);
            if second.gate.in_flight() < first.gate.in_flight() {
                Some(second)
            } else {
                Some(first)
            }
        }
    }
}
