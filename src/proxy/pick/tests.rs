//! Many picks from one table, and a play of F50 with time of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::super::counters::LoopCounters;
use super::super::live::Clock;
use super::super::table::{Gates, View};
use super::*;
use crate::link::message::{
    Front, GenerationEntry, Protocol, Service as ServiceEntry, ServiceRules, Table, WorkerAddress,
    WorkerEntry,
};
use crate::rollout::{Epoch, GateState, ServiceName, Slot, Weight};

/// A table of a stable generation and a candidate, each with a weight and workers by number.
fn table(rules: &ServiceRules, generations: &[(u16, &[u64])]) -> Arc<Table> {
    let entry = |number: &u64| WorkerEntry {
        worker: WorkerId(*number),
        slot: Slot(u32::try_from(*number).expect("small")),
        address: WorkerAddress::Unix("/x".into()),
        protocol: Protocol::Http1,
        gate: GateState::Open,
    };
    let numbered = generations.iter().zip(1..);
    let generations = numbered.map(|((weight, workers), number)| GenerationEntry {
        number: Generation(number),
        role: match number {
            1 => Role::Stable,
            _ => Role::Candidate,
        },
        weight: Weight(*weight),
        workers: workers.iter().map(entry).collect(),
    });
    Arc::new(Table {
        epoch: Epoch(1),
        services: vec![ServiceEntry {
            name: ServiceName::new("app"),
            rules: Arc::new(rules.clone()),
            generations: generations.collect(),
        }],
        front: Front::default(),
    })
}

fn service(rules: &ServiceRules, generations: &[(u16, &[u64])]) -> Rc<Service> {
    let table = table(rules, generations);
    let published = Gates::default().apply(table, 1, &Clock::default());
    let view = View::new(&published, &View::default(), &LoopCounters::default());
    Rc::clone(&view.services[0])
}

fn seeker(random: &Random, now: u64) -> Seeker<'_> {
    Seeker {
        index: 0,
        random,
        avoid: &[],
        now,
    }
}

fn limited(most: u32) -> ServiceRules {
    ServiceRules {
        max_in_flight: NonZeroU32::new(most),
        ..ServiceRules::default()
    }
}

fn gate(service: &Service, worker: u64) -> &super::super::gate::Gate {
    let generations = service.generations.iter();
    let mut workers = generations.flat_map(|generation| &generation.workers);
    let found = workers.find(|of| of.id == WorkerId(worker));
    &found.expect("in the table").gate
}

/// How many of so many picks, each of which ends before the next, a worker gets.
fn picks_of(service: &Service, worker: u64, now: u64) -> u32 {
    let random = Random::new(7);
    let mut count = 0;
    for _ in 0..10_000 {
        let Picked::Worker(picked) = seeker(&random, now).pick(service) else {
            panic!("nobody is full");
        };
        count += u32::from(picked.id == WorkerId(worker));
        picked.leave(0);
    }
    count
}

#[test]
fn a_full_stable_generation_does_not_raise_the_candidates_share() {
    let service = service(&limited(1), &[(9_000, &[1]), (1_000, &[2])]);
    let random = Random::new(7);
    assert!(gate(&service, 1).take_place(1) && gate(&service, 1).enter(0));
    let mut for_candidate = 0;
    for _ in 0..10_000 {
        match seeker(&random, 0).pick(&service) {
            Picked::Worker(worker) => {
                assert_eq!(worker.id, WorkerId(2));
                for_candidate += 1;
                worker.leave(0);
            }
            Picked::Full(generation, _) => assert_eq!(generation, Generation(1)),
            Picked::Nobody => panic!("they are open"),
        }
    }
    assert!((900..1_100).contains(&for_candidate), "{for_candidate}");
}

#[test]
fn what_a_full_candidate_cannot_take_goes_to_the_stable_generation() {
    let service = service(&limited(1), &[(1_000, &[1]), (9_000, &[2])]);
    let random = Random::new(7);
    assert!(gate(&service, 2).take_place(1) && gate(&service, 2).enter(0));
    for _ in 0..1_000 {
        let Picked::Worker(worker) = seeker(&random, 0).pick(&service) else {
            panic!("the stable one has a place");
        };
        assert_eq!(worker.id, WorkerId(1));
        worker.leave(0);
    }
}

#[test]
fn a_new_request_does_not_overtake_those_who_wait() {
    let service = service(&limited(1), &[(10_000, &[1])]);
    let random = Random::new(7);
    let waiting = service.generations[0].queue.join();
    let new = seeker(&random, 0).pick(&service);
    assert!(matches!(new, Picked::Full(Generation(1), _)), "{new:?}");
    let first = seeker(&random, 0).pick_first(&service, Generation(1));
    assert!(matches!(first, Picked::Worker(_)), "{first:?}");
    drop(waiting);
}

#[test]
fn f53_an_ejected_worker_is_the_last_resort() {
    let service = service(&ServiceRules::default(), &[(10_000, &[1, 2])]);
    gate(&service, 1).eject();
    assert_eq!(picks_of(&service, 1, 0), 0);
    gate(&service, 2).eject();
    let both = picks_of(&service, 1, 0);
    assert!((4_000..6_000).contains(&both), "{both}");
}

/// How many of 40,000 picks each of so many workers gets, of which every third is shut.
fn picks_of_each(workers: u64) -> Vec<u32> {
    let numbers: Vec<_> = (0..workers).collect();
    let service = service(&ServiceRules::default(), &[(10_000, &numbers)]);
    for worker in numbers.iter().filter(|number| *number % 3 == 0) {
        gate(&service, *worker).shut(&Clock::default());
    }
    let random = Random::new(7);
    let mut counts = vec![0; numbers.len()];
    for _ in 0..40_000 {
        let Picked::Worker(picked) = seeker(&random, 0).pick(&service) else {
            panic!("nobody is full");
        };
        counts[usize::try_from(picked.id.0).expect("small")] += 1;
        picked.leave(0);
    }
    counts
}

#[test]
fn all_who_are_open_get_as_much_and_those_who_are_shut_nothing() {
    for (workers, due) in [(3, 20_000), (4, 20_000), (60, 1_000)] {
        for (number, count) in picks_of_each(workers).into_iter().enumerate() {
            let due = if number % 3 == 0 { 0 } else { due };
            assert!(
                (due * 8 / 10..=due * 12 / 10).contains(&count),
                "{number} of {workers}: {count}"
            );
        }
    }
}

#[test]
fn the_last_open_one_of_many_is_found() {
    let numbers: Vec<_> = (0..64).collect();
    let service = service(&ServiceRules::default(), &[(10_000, &numbers)]);
    for worker in 1..64 {
        gate(&service, worker).shut(&Clock::default());
    }
    assert_eq!(picks_of(&service, 0, 0), 10_000);
}

#[test]
fn f50_a_worker_that_joins_climbs_to_its_share() {
    let service = service(&ServiceRules::default(), &[(10_000, &[1, 2, 3, 4])]);
    gate(&service, 4).join(1_000);
    let shares = [1_000, 1_500, 3_500, 5_999, 6_000, 60_000].map(|now| picks_of(&service, 4, now));
    let expected = [(200, 300), (200, 300), (1_100, 1_400), (2_300, 2_600)];
    for (got, (least, most)) in shares.iter().zip(expected) {
        assert!((least..most).contains(got), "{shares:?}");
    }
    assert!(shares[4..].iter().all(|got| (2_350..2_650).contains(got)));
}

/// Whether worker 2 climbs when it comes to a generation in which worker 1 serves already.
fn climbs(slow_start: Duration, generations: &[(u16, &[u64])]) -> bool {
    let rules = ServiceRules {
        slow_start,
        ..ServiceRules::default()
    };
    let clock = Clock::default();
    let mut gates = Gates::default();
    gates.apply(table(&rules, &[(10_000, &[1])]), 1, &clock);
    let published = gates.apply(table(&rules, generations), 1, &clock);
    assert_eq!(published.gates[&WorkerId(1)].share(0, 1_000), FULL_SHARE);
    published.gates[&WorkerId(2)].share(0, 1_000) < FULL_SHARE
}

#[test]
fn f50_who_joins_warm_workers_climbs_and_who_begins_with_them_does_not() {
    let warm = Duration::ZERO;
    let cold = Duration::from_secs(3_600);
    assert!(climbs(warm, &[(10_000, &[1, 2])]));
    assert!(!climbs(cold, &[(10_000, &[1, 2])]));
    // A generation that begins has the rollout's ramp.
    assert!(!climbs(warm, &[(5_000, &[1]), (5_000, &[2])]));
}

#[test]
fn f50_the_limit_climbs_too() {
    let service = service(&limited(20), &[(10_000, &[1, 2])]);
    gate(&service, 2).join(0);
    let workers = &service.generations[0].workers;
    let mut taken = 0;
    for (now, most) in [(0, 2), (2_500, 10), (10_000, 20)] {
        while workers[1].enter(0, now) == Entry::Entered {
            taken += 1;
        }
        assert_eq!(taken, most);
    }
}

/// Workers with so many threads each; requests beyond wait within the worker.
struct Play {
    slow_start: Duration,
    threads: usize,
    /// Milliseconds a request takes, of a warm worker and of a cold one.
    takes: (u64, u64),
    /// Requests in a second, of all.
    rate: u64,
}

impl Play {
    /// Three workers serve, a cold one joins and is cold for five seconds: the hundredth that took
    /// longest of the requests of that time, in milliseconds.
    fn slowest_hundredth(&self) -> u64 {
        const COLD: u64 = 4;
        const COLD_FOR: u64 = 5_000;
        const BEFORE: u64 = 1_000;
        let rules = ServiceRules {
            slow_start: self.slow_start,
            ..ServiceRules::default()
        };
        let service = service(&rules, &[(10_000, &[1, 2, 3, COLD])]);
        let random = Random::new(7);
        gate(&service, COLD).shut(&Clock::default());
        // By worker, when each thread is free, in microseconds.
        let mut free = [(); 5].map(|()| vec![0_u64; self.threads]);
        let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut times = Vec::new();
        let mut at = 0;
        let generation = &service.generations[0];
        while at < (BEFORE + COLD_FOR) * 1_000 {
            // Neither in step nor in bursts: between half and one and a half of the mean.
            let mean = 1_000_000 / self.rate;
            at += mean / 2 + random.next() % mean;
            while let Some(Reverse((end, place))) = ends.peek().copied().filter(|of| of.0.0 <= at) {
                debug_assert!(end <= at);
                ends.pop();
                generation.workers[place].leave(0);
            }
            let now = at / 1_000;
            if now >= BEFORE && gate(&service, COLD).is_shut(0) {
                gate(&service, COLD).open(&Clock::default());
                gate(&service, COLD).join(BEFORE);
            }
            let Picked::Worker(worker) = seeker(&random, now).pick(&service) else {
                panic!("they are open");
            };
            let number = usize::try_from(worker.id.0).expect("small");
            let takes = match worker.id.0 {
                COLD => self.takes.1,
                _ => self.takes.0,
            };
            let thread = free[number].iter_mut().min().expect("a thread");
            *thread = (*thread).max(at) + takes * 1_000;
            ends.push(Reverse((*thread, number - 1)));
            if now >= BEFORE {
                times.push((*thread - at) / 1_000);
            }
        }
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }
}

/// Twenty times slower for five seconds: processes of many threads, of few and of one, under a load that
/// three of them bear.
const PLAYS: [(usize, (u64, u64), u64); 4] = [
    (4, (10, 200), 1_100),
    (2, (4, 80), 1_400),
    (1, (2, 40), 1_480),
    (1, (5, 100), 570),
];

fn slowest_hundredth(
    (threads, takes, rate): (usize, (u64, u64), u64),
    slow_start: Duration,
) -> u64 {
    let play = Play {
        slow_start,
        threads,
        takes,
        rate,
    };
    play.slowest_hundredth()
}

#[test]
fn f50_nothing_queues_at_a_cold_worker() {
    let usual = ServiceRules::default().slow_start;
    for play in PLAYS {
        let (_, (_, cold), _) = play;
        let with = slowest_hundredth(play, usual);
        let without = slowest_hundredth(play, Duration::ZERO);
        // What is sent there takes as long as it takes, and does not also wait for many others.
        assert!(with <= 2 * cold, "{play:?}: {with} ms");
        // The play bites: least-loaded alone fills the empty one up to what the others have.
        assert!(3 * with < 2 * without, "{play:?}: {with}, {without} ms");
        assert!(without > 3 * cold / 2, "{play:?}: {without} ms");
    }
}

#[test]
fn f50_a_slow_start_longer_than_it_is_cold_hides_it_from_the_slowest_hundredth() {
    for (rate, most) in [(1_600, 20), (2_200, 30)] {
        let play = (8, (10, 200), rate);
        let with = slowest_hundredth(play, Duration::from_secs(10));
        assert!(with <= most, "{rate}: {with} ms");
        let without = slowest_hundredth(play, Duration::ZERO);
        assert!(without >= 200, "{rate}: {without} ms");
    }
}
