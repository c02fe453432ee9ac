//! The simulator: thousands of random histories of the pure core against a fake shell with virtual time
//! and weighted faults. After every event a model outside the core checks I1 to I10, I12 and I16 from
//! what it sees: actions and facts. (I11 is about sockets; the core has none.)
//!
//! `cargo sim` (optimised) runs 50,000 histories, `cargo test` 1,000, `REMUDA_SIM_HISTORIES` any number;
//! `REMUDA_SIM_SECONDS` is the longest they may take at the best of three tries. A failure prints its seed
//! and step; replay it with
//! `REMUDA_SIM_SEED=… cargo test --test sim replay -- --nocapture`.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::needless_pass_by_value,
    reason = "a test panics when it fails, prints when it replays, and hands orders over for good"
)]

mod examples;
mod model;
mod rising;
mod shell;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shell::Shell;

fn histories() -> u64 {
    std::env::var("REMUDA_SIM_HISTORIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(if cfg!(debug_assertions) {
            1_000
        } else {
            50_000
        })
}

/// On a machine that is not idle the time may be somebody else's, so all of it may be tried three times:
/// a loss of ours is there each time.
#[test]
fn random_histories_keep_every_invariant() {
    let most = std::env::var("REMUDA_SIM_SECONDS").ok();
    let most = most.map(|most| most.parse().expect("seconds are a number"));
    let mut took = Duration::ZERO;
    for _ in 0..3 {
        took = run_histories();
        if most.is_none_or(|most| took <= Duration::from_secs(most)) {
            return;
        }
    }
    panic!("the histories took {took:?} at the third try, more than {most:?} s");
}

/// All of them; how long they took.
fn run_histories() -> Duration {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let events = AtomicU64::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    let (last, threads) = (
        histories(),
        std::thread::available_parallelism().map_or(2, usize::from),
    );
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        break;
                    }
                    let step = std::cell::Cell::new(0);
                    let run = catch_unwind(AssertUnwindSafe(|| Shell::new(seed).run(&step, false)));
                    events.fetch_add(step.get(), Ordering::Relaxed);
                    if run.is_err() {
                        next.store(last, Ordering::Relaxed);
                        failed
                            .lock()
                            .expect("nobody panics with it")
                            .push((seed, step.get()));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("nobody panics with it");
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "seed and step: {failed:?}; replay: REMUDA_SIM_SEED={} cargo test --test sim replay -- --nocapture",
        failed[0].0
    );
    assert!(events.into_inner() > last * 20, "histories are not empty");
    let took = begun.elapsed();
    println!("{last} histories took {:.1} s", took.as_secs_f64());
    took
}

#[test]
fn i16_same_seed_same_trace() {
    for seed in 0..20 {
        let step = std::cell::Cell::new(0);
        let traced = || {
            let mut shell = Shell::new(seed);
            shell.traced = true;
            shell.run(&step, false)
        };
        let (first, second) = (traced(), traced());
        assert_ne!(first, 0, "something happened");
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Its own slot was taken, so it moved into the slot of another restart with a longer delay.
#[test]
fn i12_a_restart_that_moves_takes_no_slot_whose_own_delay_still_runs() {
    Shell::new(36_248).run(&std::cell::Cell::new(0), false);
}

/// A rollback was given up, and the stable generation was refilled before the candidate could be spared.
#[test]
fn i2_what_is_refilled_after_a_failed_rollback_fits_beside_the_candidate() {
    Shell::new(7_894).run(&std::cell::Cell::new(0), false);
}

/// A rollout failed with a sick stable worker and a candidate that serves on; the sick one's successor came beside
/// all of them.
#[test]
fn i2_a_sick_worker_goes_first_where_a_failed_rollout_left_no_room_for_its_successor() {
    Shell::new(32_375).run(&std::cell::Cell::new(0), false);
}

/// A candidate's worker ended by itself in the ramp, and the share climbed on over those that were left.
#[test]
fn i1_the_share_does_not_climb_while_a_worker_that_ended_is_replaced() {
    Shell::new(843).run(&std::cell::Cell::new(0), false);
}

/// The candidate's only worker ended by itself; its successor got all requests back, though more are wanted.
#[test]
fn i1_the_successor_of_a_worker_that_ended_gets_its_part_and_no_more() {
    Shell::new(13_303).run(&std::cell::Cell::new(0), false);
}

/// What an upgrade in the middle of a rollout does, here after every single event.
#[test]
fn f13_a_core_restored_after_every_event_decides_the_same() {
    for seed in 0..if cfg!(debug_assertions) { 4 } else { 100 } {
        let step = std::cell::Cell::new(0);
        let run = |restless| {
            let mut shell = Shell::new(seed);
            shell.traced = true;
            shell.restless = restless;
            shell.run(&step, false)
        };
        assert_eq!(run(false), run(true), "seed {seed}");
    }
}

/// Prints the whole history of `REMUDA_SIM_SEED`; without it there is nothing to replay.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("REMUDA_SIM_SEED") else {
        return;
    };
    let seed = seed.parse().expect("a seed is a number");
    Shell::new(seed).run(&std::cell::Cell::new(0), true);
}
