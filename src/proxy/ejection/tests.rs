//! A generation played request by request against the rules.

use super::*;

const RULES: Ejection = Ejection {
    consecutive: 5,
    base_time: Duration::from_secs(10),
    max_percent: 34,
};

/// Workers by number, and what becomes of their requests.
struct Play {
    watch: Watch,
    rules: Ejection,
    workers: Vec<Seen>,
    now: u64,
}

impl Play {
    fn of(workers: u64) -> Self {
        let fresh = |number| Seen {
            worker: WorkerId(number),
            requests: 0,
            failures: 0,
            row: 0,
        };
        let mut play = Self {
            watch: Watch::default(),
            rules: RULES,
            workers: (0..workers).map(fresh).collect(),
            now: 0,
        };
        assert_eq!(play.review(), []);
        play
    }

    fn well(&mut self, worker: usize, times: u32) {
        for _ in 0..times {
            let seen = &mut self.workers[worker];
            seen.requests += 1;
            seen.row = 0;
        }
    }

    fn fail(&mut self, worker: usize, times: u32) {
        for _ in 0..times {
            let seen = &mut self.workers[worker];
            seen.requests += 1;
            seen.failures += 1;
            seen.row += 1;
        }
    }

    fn review(&mut self) -> Vec<Verdict> {
        let group = Group {
            rules: self.rules,
            workers: self.workers.clone(),
        };
        let verdicts = self.watch.review(&[group], self.now);
        for verdict in &verdicts {
            if let Verdict::Readmit(worker) = verdict {
                // As the gate does.
                let found = self.workers.iter_mut().find(|of| of.worker == *worker);
                found.expect("known").row = 0;
            }
        }
        verdicts
    }

    /// Reviews as time passes, until something happens; when that was.
    fn next(&mut self) -> (u64, Vec<Verdict>) {
        loop {
            self.now += 100;
            let verdicts = self.review();
            if !verdicts.is_empty() {
                return (self.now, verdicts);
            }
            assert!(self.now < 10_000_000, "nothing happens");
        }
    }
}

fn ejected(worker: u64, seconds: u64) -> Vec<Verdict> {
    vec![Verdict::Eject(
        WorkerId(worker),
        Duration::from_secs(seconds),
    )]
}

fn readmitted(worker: u64) -> Vec<Verdict> {
    vec![Verdict::Readmit(WorkerId(worker))]
}

#[test]
fn f53_failures_in_a_row_eject_at_once_and_not_before() {
    let mut play = Play::of(3);
    play.well(1, 100);
    play.well(2, 100);
    play.fail(0, 4);
    assert_eq!(play.review(), []);
    play.fail(0, 1);
    assert_eq!(play.review(), ejected(0, 10));
}

#[test]
fn a_row_that_was_broken_counts_for_nothing() {
    let mut play = Play::of(2);
    for _ in 0..3 {
        play.well(1, 10);
        play.fail(0, 4);
        play.well(0, 10);
        assert_eq!(play.review(), []);
    }
}

#[test]
fn f53_a_share_of_failures_far_above_the_others_ejects_without_a_row() {
    let mut play = Play::of(3);
    for _ in 0..20 {
        play.fail(0, 1);
        play.well(0, 1);
        play.well(1, 9);
        play.fail(1, 1);
        play.well(2, 10);
    }
    assert_eq!(play.review(), ejected(0, 10));
}

#[test]
fn few_requests_are_no_share() {
    let mut play = Play::of(2);
    for _ in 0..9 {
        play.fail(0, 1);
        play.well(0, 1);
    }
    play.well(1, 1_000);
    assert_eq!(play.review(), []);
}

#[test]
fn it_comes_back_by_itself_and_stays_away_longer_each_time() {
    let mut play = Play::of(2);
    let mut out_for = Vec::new();
    for _ in 0..8 {
        play.well(1, 10);
        play.fail(0, 5);
        assert!(matches!(play.review()[..], [Verdict::Eject(..)]));
        let since = play.now;
        let (back, verdicts) = play.next();
        assert_eq!(verdicts, readmitted(0));
        out_for.push((back - since) / 1000);
    }
    assert_eq!(out_for, [10, 20, 40, 80, 160, 320, 320, 320]);
}

#[test]
fn who_serves_well_for_long_is_forgiven() {
    let mut play = Play::of(2);
    for _ in 0..3 {
        play.well(1, 10);
        play.fail(0, 5);
        play.review();
        assert_eq!(play.next().1, readmitted(0));
    }
    play.now += 25_000;
    play.well(0, 100);
    play.well(1, 100);
    assert_eq!(play.review(), []);
    play.fail(0, 5);
    assert_eq!(play.review(), ejected(0, 20));
}

#[test]
fn failures_before_it_was_ejected_do_not_eject_it_again() {
    let mut play = Play::of(2);
    play.well(1, 100);
    play.fail(0, 50);
    assert_eq!(play.review(), ejected(0, 10));
    assert_eq!(play.next().1, readmitted(0));
    for _ in 0..10 {
        play.now += 100;
        play.well(0, 30);
        play.well(1, 30);
        assert_eq!(play.review(), []);
    }
}

#[test]
fn at_most_a_part_is_out_and_never_the_last() {
    for (workers, most) in [(1, 0), (2, 1), (3, 1), (4, 1), (6, 2), (10, 3)] {
        assert_eq!(most_out(workers, 34), most, "{workers}");
    }
    assert_eq!(most_out(4, 100), 3);
    let mut play = Play::of(4);
    play.well(2, 100);
    play.well(3, 100);
    play.fail(0, 5);
    play.fail(1, 6);
    assert_eq!(play.review(), ejected(1, 10));
    play.fail(0, 100);
    assert_eq!(play.review(), []);
}

#[test]
fn a_single_worker_is_never_ejected() {
    let mut play = Play::of(1);
    play.fail(0, 1_000);
    assert_eq!(play.review(), []);
}

#[test]
fn f58_what_all_do_alike_ejects_nobody() {
    let mut play = Play::of(4);
    for _ in 0..50 {
        play.now += 100;
        for worker in 0..4 {
            play.well(worker, 10);
        }
        assert_eq!(play.review(), []);
    }
    // The database they share is gone: somebody is the first whose row is long enough.
    for (worker, row) in [(0, 5), (1, 3), (2, 4), (3, 3)] {
        play.fail(worker, row);
    }
    assert_eq!(play.review(), []);
    for _ in 0..200 {
        play.now += 100;
        for worker in 0..4 {
            play.fail(worker, 10);
        }
        assert_eq!(play.review(), []);
    }
}

#[test]
fn a_row_that_the_usual_failures_explain_ejects_nobody() {
    let mut play = Play::of(2);
    // Every second request fails on both: five in a row come by chance all the time.
    for _ in 0..50 {
        for worker in 0..2 {
            play.fail(worker, 1);
            play.well(worker, 1);
        }
    }
    play.fail(0, 12);
    assert_eq!(play.review(), []);
    play.fail(0, 30);
    assert_eq!(play.review(), ejected(0, 10));
}

#[test]
fn who_is_out_returns_when_the_others_are_no_better() {
    let mut play = Play::of(2);
    play.well(1, 100);
    play.fail(0, 5);
    assert_eq!(play.review(), ejected(0, 10));
    play.now += 1_000;
    play.fail(1, 5);
    assert_eq!(play.review(), readmitted(0));
    play.fail(0, 5);
    play.fail(1, 5);
    assert_eq!(play.review(), []);
}

/// Sends each worker requests for so many seconds, `bad` of them failing all, and reviews after each; at
/// most how many were out at once, and the verdicts.
fn with_bad_ones(play: &mut Play, bad: usize, seconds: u64) -> (usize, Vec<(u64, Verdict)>) {
    let (mut most, mut verdicts) = (0, Vec::new());
    for step in 0..seconds * 4 {
        play.now += 250;
        // One after another, beginning with another one each time, as requests come.
        for turn in 0..play.workers.len() {
            let worker = (turn + usize::try_from(step).expect("small")) % play.workers.len();
            let id = play.workers[worker].worker;
            if play.watch.is_out(id) {
                continue;
            }
            if worker < bad {
                play.fail(worker, 1);
            } else {
                play.well(worker, 1);
            }
            let new = play.review();
            verdicts.extend(new.into_iter().map(|verdict| (play.now, verdict)));
            let known = play.watch.known.values();
            most = most.max(known.filter(|known| known.is_ejected()).count());
        }
    }
    (most, verdicts)
}

fn ejections(verdicts: &[(u64, Verdict)]) -> usize {
    let all = verdicts.iter();
    all.filter(|(_, verdict)| matches!(verdict, Verdict::Eject(..)))
        .count()
}

#[test]
fn f53_where_most_fail_who_is_out_stays_out_for_its_time() {
    for (workers, bad) in [(4, 2), (4, 3), (10, 7), (3, 2)] {
        let mut play = Play::of(workers);
        with_bad_ones(&mut play, 0, 5);
        let (most, verdicts) = with_bad_ones(&mut play, bad, 9);
        let what = format!("{bad} bad of {workers}: {verdicts:?}");
        assert!(most <= most_out(play.workers.len(), 34), "{what}");
        assert_eq!(ejections(&verdicts), verdicts.len(), "{what}");
        // And it comes to rest: each is out once in its time, which doubles.
        let (_, verdicts) = with_bad_ones(&mut play, bad, 300);
        let what = format!("{bad} bad of {workers}: {verdicts:?}");
        assert!(ejections(&verdicts) <= bad * 6, "{what}");
    }
}

#[test]
fn f58_who_is_out_returns_once_when_all_fail() {
    for workers in 2..6 {
        let mut play = Play::of(workers);
        with_bad_ones(&mut play, 0, 5);
        assert_eq!(ejections(&with_bad_ones(&mut play, 1, 3).1), 1);
        let all = play.workers.len();
        let (_, verdicts) = with_bad_ones(&mut play, all, 60);
        let rest: Vec<_> = verdicts.iter().map(|(_, verdict)| *verdict).collect();
        assert_eq!(rest, readmitted(0), "{workers}");
    }
}

#[test]
fn one_that_was_ejected_by_mistake_is_spared_until_its_time_would_have_been_over() {
    let mut play = Play::of(2);
    play.well(1, 100);
    play.fail(0, 5);
    assert_eq!(play.review(), ejected(0, 10));
    play.now += 1_000;
    play.fail(1, 5);
    assert_eq!(play.review(), readmitted(0));
    // The other one serves again, and it does not.
    play.now += 100;
    play.well(1, 100);
    play.fail(0, 5);
    assert_eq!(play.review(), []);
    // The mistake does not make the next one longer.
    assert_eq!(play.next(), (10_000, ejected(0, 10)));
}

#[test]
fn one_that_has_returned_makes_nobody_worse_before_it_has_served() {
    let mut play = Play::of(2);
    play.well(1, 100);
    play.fail(0, 5);
    assert_eq!(play.review(), ejected(0, 10));
    play.fail(1, 6);
    assert_eq!(play.review(), readmitted(0));
    assert_eq!(play.review(), []);
    play.well(0, 1);
    assert_eq!(play.review(), ejected(1, 10));
}

#[test]
fn it_can_be_switched_off_at_any_time() {
    for off in [
        Ejection {
            consecutive: 0,
            ..RULES
        },
        Ejection {
            max_percent: 0,
            ..RULES
        },
    ] {
        let mut play = Play::of(2);
        play.well(1, 100);
        play.fail(0, 5);
        assert_eq!(play.review(), ejected(0, 10));
        play.rules = off;
        assert_eq!(play.review(), readmitted(0));
        play.fail(0, 100);
        assert_eq!(play.review(), []);
    }
}

#[test]
fn who_leaves_the_generation_is_forgotten() {
    let mut play = Play::of(3);
    play.well(1, 100);
    play.well(2, 100);
    play.fail(0, 5);
    assert_eq!(play.review(), ejected(0, 10));
    let verdicts = play.watch.review(&[], play.now);
    assert_eq!(verdicts, readmitted(0));
    assert!(play.watch.known.is_empty());
}
