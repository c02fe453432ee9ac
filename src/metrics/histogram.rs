//! Histograms of ours: fixed bounds, counts that only grow.

use std::time::Duration;

use crate::link::message::{DURATION_BOUNDS, Histogram};

/// Bounds of drains, in microseconds: 0.1 s to 600 s.
pub(super) const DRAIN_BOUNDS: [u64; 12] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    600_000_000,
];

/// Bounds of starts and rollouts, in microseconds: 0.1 s to one hour.
pub(super) const LONG_BOUNDS: [u64; 14] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// Observations by bound, not cumulative, and their sum in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Buckets {
    pub(super) bounds: &'static [u64],
    pub(super) counts: Vec<u64>,
    pub(super) sum: u64,
}

impl Buckets {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0,
        }
    }

    /// A plane's histogram, unless it has another number of buckets. An empty one counts as all 0.
    pub(super) fn read(sent: &Histogram) -> Option<Self> {
        let mut read = Self::new(&DURATION_BOUNDS);
        read.sum = sent.sum;
        if sent.counts.len() == read.counts.len() {
            read.counts.clone_from(&sent.counts);
        } else if !sent.counts.is_empty() {
            return None;
        }
        Some(read)
    }

    pub(super) fn observe(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < micros);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Whether some number here is larger than in `newer`.
    pub(super) fn is_ahead_of(&self, newer: &Self) -> bool {
        self.sum > newer.sum || self.counts.iter().zip(&newer.counts).any(|(a, b)| a > b)
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new(&DURATION_BOUNDS)
    }
}
