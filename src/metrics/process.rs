//! What a process uses, read from `/proc`. For ourselves, for planes and for workers.

use std::fs;

use crate::sys::procstat::{ProcStat, TICKS, open_descriptors};

/// One process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor seconds, user and system, since it began.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Open descriptors; 0 if we may not look.
    pub open_fds: u64,
    /// The limit of open descriptors; 0 if it is unknown or there is none.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it began, in seconds since 1970; 0 if unknown.
    pub start_seconds: f64,
}

/// What the process `pid` uses, or `None` if there is no such process any more.
///
/// Counting descriptors costs a directory listing, so it is asked for by [`with_descriptors`] alone.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    Some(used(&ProcStat::of(pid)?))
}

/// The same with descriptors and start time, for our own two roles.
#[must_use]
pub fn with_descriptors(pid: u32) -> Option<Usage> {
    let stat = ProcStat::of(pid)?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let start_seconds = parse_boot(&boot).map_or(0.0, |boot| boot + since_boot(stat.started));
    Some(Usage {
        open_fds: open_descriptors(pid).unwrap_or(0),
        max_fds: parse_limit(&limits),
        start_seconds,
        ..used(&stat)
    })
}

fn used(stat: &ProcStat) -> Usage {
    Usage {
        cpu_seconds: stat.cpu.as_secs_f64(),
        resident_bytes: stat.rss,
        virtual_bytes: stat.virtual_bytes,
        threads: stat.threads.into(),
        ..Usage::default()
    }
}

fn parse_boot(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn parse_limit(limits: &str) -> u64 {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 ticks are three million years"
)]
fn since_boot(ticks: u64) -> f64 {
    ticks as f64 / f64::from(TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_descriptors_and_a_start() {
        let usage = with_descriptors(std::process::id()).expect("we run");
        assert!(usage.resident_bytes > 0);
        assert!(usage.threads >= 1);
        assert!(usage.open_fds >= 3);
        assert!(usage.start_seconds > 1.5e9);
    }
}
