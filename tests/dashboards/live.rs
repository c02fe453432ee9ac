//! A real Prometheus scrapes a running Remuda during a rollout.

use libtest_mimic::Trial;

/// None yet.
pub(crate) fn trials() -> Vec<Trial> {
    Vec::new()
}
