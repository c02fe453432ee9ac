//! Where a request is counted in or turned away: the only counter of what is in flight.
//!
//! One padded cell per worker and event loop, so that a loop never writes what another one writes.
//! The shut bit and the count share one word: once `shut` has returned, whoever got in is counted,
//! and nobody else gets in.
//!
//! Where a service limits what a worker may have at once, places are taken from one count for all loops
//! before the gate is passed. Without a limit that count is never touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::live::Clock;
use crate::link::message::Class;
use crate::rollout::InFlight;

const SHUT: u32 = 1 << 31;
/// In `drain_left`, `shut_at` and `joined_at`: there is none.
const NONE: u64 = u64::MAX;
/// The whole share of a worker, in percent.
pub(super) const FULL_SHARE: u32 = 100;
/// The share a worker begins with: enough to warm up by, little enough to bear if it is slow.
const FIRST_SHARE: u32 = 10;

/// A worker's gate, shared by all loops and the plane's main task.
#[derive(Debug)]
pub(super) struct Gate {
    cells: Box<[Cell]>,
    /// Milliseconds on the plane's clock, or `NONE` while open.
    shut_at: AtomicU64,
    /// When it was last opened, on the same clock.
    opened_at: AtomicU64,
    /// Since when it climbs to its full share, on the plane's clock, or `NONE`.
    joined_at: AtomicU64,
    /// It is to get no requests for a while, if there is somebody else.
    ejected: AtomicBool,
    taken: Taken,
}

/// Places taken by requests that were counted against a limit, those included that are about to pass the
/// gate. Apart from what is only read for each request.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Taken(AtomicU32);

/// One loop's part of a gate. Only that loop writes it, but for the shut bit.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Cell {
    /// The shut bit and the count of requests that are in.
    state: AtomicU32,
    /// Those of `state`'s count that are an upload, a stream, a tunnel.
    classes: [AtomicU32; 3],
    /// Requests that ended here, and those that failed.
    requests: AtomicU64,
    failures: AtomicU64,
    /// Of the others, those that their clients gave up.
    given_up: AtomicU64,
    /// Failures in a row.
    row: AtomicU32,
    /// Cut by a drain's limit: plain, upload, stream, tunnel.
    cut: [AtomicU32; 4],
    /// Unused connections in the loop's pool.
    idle: AtomicU32,
    /// Milliseconds until the last one is cut, or `NONE`.
    drain_left: AtomicU64,
}

impl Cell {
    fn new(shut: bool) -> Self {
        Self {
            state: AtomicU32::new(if shut { SHUT } else { 0 }),
            classes: Default::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            row: AtomicU32::new(0),
            cut: Default::default(),
            idle: AtomicU32::new(0),
            drain_left: AtomicU64::new(NONE),
        }
    }
}

/// A gate's sums over all loops.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) in_flight: InFlight,
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) given_up: u64,
    pub(super) cut: InFlight,
    pub(super) idle: u32,
    pub(super) drain_left: Option<Duration>,
}

impl Gate {
    /// A gate for so many loops.
    pub(super) fn new(loops: usize, shut: bool, clock: &Clock) -> Arc<Self> {
        Arc::new(Self {
            cells: (0..loops).map(|_| Cell::new(shut)).collect(),
            shut_at: AtomicU64::new(if shut { clock.now() } else { NONE }),
            opened_at: AtomicU64::new(clock.now()),
            joined_at: AtomicU64::new(NONE),
            ejected: AtomicBool::new(false),
            taken: Taken::default(),
        })
    }

    /// The worker begins to climb to its full share, `now` on the plane's clock.
    pub(super) fn join(&self, now: u64) {
        self.joined_at.store(now, Ordering::Relaxed);
    }

    /// The worker's share in percent of a full one, `now` on the plane's clock, if it climbs for so many
    /// milliseconds.
    pub(super) fn share(&self, now: u64, climb: u64) -> u32 {
        let joined_at = self.joined_at.load(Ordering::Relaxed);
        if joined_at == NONE || climb == 0 {
            return FULL_SHARE;
        }
        // A loop's time is that of its last turn, which may have been before.
        let percent = now.saturating_sub(joined_at).saturating_mul(100) / climb;
        let percent = u32::try_from(percent).unwrap_or(FULL_SHARE);
        percent.clamp(FIRST_SHARE, FULL_SHARE)
    }

    /// The worker is to get no requests.
    pub(super) fn eject(&self) {
        self.ejected.store(true, Ordering::Relaxed);
    }

    /// The worker is to get requests again, few at first.
    pub(super) fn readmit(&self, now: u64) {
        self.join(now);
        for cell in &self.cells {
            // Its loop may write it at the same time: then a failure more or less is forgotten.
            cell.row.store(0, Ordering::Relaxed);
        }
        self.ejected.store(false, Ordering::Relaxed);
    }

    /// Whether the worker is to get no requests.
    pub(super) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Failures in a row, in the loop that has seen most.
    pub(super) fn row(&self) -> u32 {
        let rows = self.cells.iter().map(|cell| load(&cell.row));
        rows.max().unwrap_or(0)
    }

    /// Takes one of so many places, for a request that is about to enter.
    pub(super) fn take_place(&self, most: u32) -> bool {
        if !self.has_place(most) {
            return false;
        }
        let taken = &self.taken.0;
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < most).then_some(taken + 1)
            })
            .is_ok()
    }

    /// Gives a place back, after leaving.
    pub(super) fn give_place(&self) {
        let before = self.taken.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "every place that is given back was taken");
    }

    /// Whether one of so many places is free. Requests that entered before there was a limit have one.
    pub(super) fn has_place(&self, most: u32) -> bool {
        self.taken.0.load(Ordering::Acquire) < most && self.in_flight() < most
    }

    /// Counts a request in, unless the gate is shut.
    pub(super) fn enter(&self, index: usize) -> bool {
        let state = &self.cells[index].state;
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            if seen & SHUT != 0 {
                return false;
            }
            match state.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Counts a request out; true if it was this loop's last one at a shut gate.
    pub(super) fn leave(&self, index: usize) -> bool {
        let before = self.cells[index].state.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & !SHUT > 0, "every leave has its enter");
        before == SHUT | 1
    }

    /// Turns every later request away, in all loops.
    pub(super) fn shut(&self, clock: &Clock) {
        let now = clock.now();
        let _ = self
            .shut_at
            .compare_exchange(NONE, now, Ordering::AcqRel, Ordering::Relaxed);
        for cell in &self.cells {
            cell.state.fetch_or(SHUT, Ordering::AcqRel);
        }
    }

    /// Turns every later request away, in all loops, and has none of those that are in cut: their worker
    /// does not leave.
    pub(super) fn set_aside(&self) {
        self.shut_at.store(NONE, Ordering::Release);
        for cell in &self.cells {
            cell.state.fetch_or(SHUT, Ordering::AcqRel);
            cell.drain_left.store(NONE, Ordering::Relaxed);
        }
    }

    /// Whether requests are turned away, by the last table.
    pub(super) fn turns_away(&self) -> bool {
        self.cells
            .iter()
            .any(|cell| cell.state.load(Ordering::Acquire) & SHUT != 0)
    }

    /// Lets requests in again.
    pub(super) fn open(&self, clock: &Clock) {
        self.opened_at.store(clock.now(), Ordering::Relaxed);
        self.shut_at.store(NONE, Ordering::Release);
        for cell in &self.cells {
            cell.state.fetch_and(!SHUT, Ordering::AcqRel);
            cell.drain_left.store(NONE, Ordering::Relaxed);
        }
    }

    /// Whether a loop's cell turns requests away.
    pub(super) fn is_shut(&self, index: usize) -> bool {
        self.cells[index].state.load(Ordering::Acquire) & SHUT != 0
    }

    /// Since when it is shut because its worker leaves, in milliseconds of the plane's clock.
    pub(super) fn shut_at(&self) -> Option<u64> {
        let at = self.shut_at.load(Ordering::Acquire);
        (at != NONE).then_some(at)
    }

    /// Milliseconds that it has been open, `now` on the plane's clock; `None` if it is shut.
    pub(super) fn open_for(&self, now: u64) -> Option<u64> {
        let opened_at = self.opened_at.load(Ordering::Relaxed);
        (!self.turns_away()).then(|| now.saturating_sub(opened_at))
    }

    /// Requests that are in, of all loops.
    pub(super) fn in_flight(&self) -> u32 {
        self.cells
            .iter()
            .map(|cell| cell.state.load(Ordering::Relaxed) & !SHUT)
            .sum()
    }

    /// A request that is in has become something else.
    pub(super) fn reclass(&self, index: usize, from: Class, to: Class) {
        let classes = &self.cells[index].classes;
        if let Some(from) = class_index(from) {
            classes[from].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(to) = class_index(to) {
            classes[to].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request that was in has ended.
    pub(super) fn ended(&self, index: usize, failed: bool) {
        let cell = &self.cells[index];
        cell.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            cell.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The client of a request that has ended had waited in vain for an answer to begin.
    pub(super) fn count_given_up(&self, index: usize) {
        self.cells[index].given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// A request said how the worker does; how many failed in a row now.
    pub(super) fn judged(&self, index: usize, well: bool) -> u32 {
        let row = &self.cells[index].row;
        let now = if well { 0 } else { load(row).saturating_add(1) };
        row.store(now, Ordering::Relaxed);
        now
    }

    /// A request was cut by the drain's limit.
    pub(super) fn count_cut(&self, index: usize, class: Class) {
        let at = class_index(class).map_or(0, |at| at + 1);
        self.cells[index].cut[at].fetch_add(1, Ordering::Relaxed);
    }

    /// What a loop saw last of its pool and of the time until its last request here is cut.
    pub(super) fn observe(&self, index: usize, idle: u32, drain_left: Option<u64>) {
        let cell = &self.cells[index];
        cell.idle.store(idle, Ordering::Relaxed);
        cell.drain_left
            .store(drain_left.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Everything, summed over the loops.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        let mut left = None;
        for cell in &self.cells {
            let [upload, stream, tunnel] = cell.classes.each_ref().map(load);
            let all = load(&cell.state) & !SHUT;
            sums.in_flight.upload += upload;
            sums.in_flight.stream += stream;
            sums.in_flight.tunnel += tunnel;
            // The words are read one after another, so the parts may exceed the whole for a moment.
            sums.in_flight.plain += all.saturating_sub(upload + stream + tunnel);
            sums.requests += cell.requests.load(Ordering::Relaxed);
            sums.failures += cell.failures.load(Ordering::Relaxed);
            sums.given_up += cell.given_up.load(Ordering::Relaxed);
            let [plain, upload, stream, tunnel] = cell.cut.each_ref().map(load);
            sums.cut.plain += plain;
            sums.cut.upload += upload;
            sums.cut.stream += stream;
            sums.cut.tunnel += tunnel;
            sums.idle += load(&cell.idle);
            let cell_left = cell.drain_left.load(Ordering::Relaxed);
            if cell_left != NONE && all > 0 {
                left = left.max(Some(cell_left));
            }
        }
        if self.shut_at().is_some() {
            sums.drain_left = left.map(Duration::from_millis);
        }
        sums
    }
}

fn load(cell: &AtomicU32) -> u32 {
    cell.load(Ordering::Relaxed)
}

fn class_index(class: Class) -> Option<usize> {
    match class {
        Class::Plain | Class::Parked => None,
        Class::Upload => Some(0),
        Class::Stream => Some(1),
        Class::Tunnel => Some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shut_gate_turns_away_and_still_counts_out() {
        let clock = Clock::default();
        let gate = Gate::new(2, false, &clock);
        assert!(gate.enter(0) && gate.enter(1));
        gate.shut(&clock);
        assert!(!gate.enter(0) && !gate.enter(1));
        assert_eq!(gate.in_flight(), 2);
        assert!(gate.leave(0));
        assert!(gate.leave(1));
        assert_eq!(gate.sums().in_flight, InFlight::default());
        gate.open(&clock);
        assert!(gate.enter(1));
    }

    #[test]
    fn classes_are_parts_of_the_whole() {
        let gate = Gate::new(1, false, &Clock::default());
        for _ in 0..3 {
            assert!(gate.enter(0));
        }
        gate.reclass(0, Class::Plain, Class::Upload);
        gate.reclass(0, Class::Plain, Class::Tunnel);
        gate.reclass(0, Class::Upload, Class::Stream);
        let in_flight = gate.sums().in_flight;
        assert_eq!((in_flight.plain, in_flight.upload), (1, 0));
        assert_eq!((in_flight.stream, in_flight.tunnel), (1, 1));
    }

    #[test]
    fn loops_together_never_take_more_places_than_there_are() {
        const MOST: u32 = 3;
        let gate = Gate::new(2, false, &Clock::default());
        let work = |index: usize| {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || {
                let mut most = 0;
                for _ in 0..20_000 {
                    let mut held = 0;
                    while gate.take_place(MOST) {
                        assert!(gate.enter(index));
                        held += 1;
                        most = most.max(gate.in_flight());
                    }
                    for _ in 0..held {
                        gate.leave(index);
                        gate.give_place();
                    }
                }
                most
            })
        };
        let threads = [work(0), work(1)];
        let most = threads.map(|thread| thread.join().expect("no panic"));
        assert_eq!(most.into_iter().max(), Some(MOST));
        assert!(gate.has_place(1));
    }

    #[test]
    fn who_entered_before_the_limit_counts_against_it() {
        let gate = Gate::new(2, false, &Clock::default());
        assert!(gate.enter(0) && gate.enter(1));
        assert!(!gate.take_place(2));
        assert!(gate.take_place(3));
    }

    #[test]
    fn nobody_slips_in_while_it_shuts() {
        let clock = Clock::default();
        let gate = Gate::new(1, false, &clock);
        let other = Arc::clone(&gate);
        let entering = std::thread::spawn(move || (0..10_000).filter(|_| other.enter(0)).count());
        gate.shut(&clock);
        let seen = gate.in_flight();
        let entered = entering.join().expect("no panic");
        assert_eq!(seen as usize, entered);
        assert_eq!(gate.in_flight() as usize, entered);
    }
}
