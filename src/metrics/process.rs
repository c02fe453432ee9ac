//! What a process uses, read from `/proc`. For ourselves, for planes and for workers.

use std::fs;
use std::path::PathBuf;

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
    let stat = fs::read_to_string(of(pid).join("stat")).ok()?;
    parse_stat(&stat, clock_ticks(), page_size())
}

/// The same with descriptors and start time, for our own two roles.
#[must_use]
pub fn with_descriptors(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(of(pid).join("stat")).ok()?;
    let usage = parse_stat(&stat, clock_ticks(), page_size())?;
    let open_fds = fs::read_dir(of(pid).join("fd")).map_or(0, |entries| entries.count() as u64);
    let limits = fs::read_to_string(of(pid).join("limits")).unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let start_seconds = match (parse_boot(&boot), start_ticks(&stat)) {
        (Some(boot), Some(ticks)) => boot + ticks / clock_ticks(),
        (None, _) | (_, None) => 0.0,
    };
    Some(Usage {
        open_fds,
        max_fds: parse_limit(&limits),
        start_seconds,
        ..usage
    })
}

fn of(pid: u32) -> PathBuf {
    PathBuf::from("/proc").join(pid.to_string())
}

/// The fields after the command's name, which may itself hold spaces and parentheses.
fn fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split_ascii_whitespace().collect())
}

/// Numbers as in `proc_pid_stat(5)`, where the state is field 3.
fn field(fields: &[&str], number: usize) -> Option<u64> {
    fields.get(number.checked_sub(3)?)?.parse().ok()
}

fn parse_stat(stat: &str, ticks: f64, page: u64) -> Option<Usage> {
    let fields = fields(stat)?;
    let (user, system) = (field(&fields, 14)?, field(&fields, 15)?);
    Some(Usage {
        cpu_seconds: seconds(user.saturating_add(system), ticks),
        resident_bytes: field(&fields, 24)?.saturating_mul(page),
        virtual_bytes: field(&fields, 23)?,
        threads: field(&fields, 20)?,
        ..Usage::default()
    })
}

fn start_ticks(stat: &str) -> Option<f64> {
    Some(seconds(field(&fields(stat)?, 22)?, 1.0))
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
fn seconds(count: u64, per_second: f64) -> f64 {
    count as f64 / per_second
}

fn clock_ticks() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks
        .ok()
        .flatten()
        .and_then(|ticks| u32::try_from(ticks).ok())
        .map_or(100.0, f64::from)
}

fn page_size() -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    page.ok()
        .flatten()
        .and_then(|page| u64::try_from(page).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_moves_no_field() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 3 0 1000 8192000 500 1 1";
        let usage = parse_stat(stat, 100.0, 4096).expect("a whole line");
        assert!((usage.cpu_seconds - 3.0).abs() < 1e-9);
        assert_eq!(usage.resident_bytes, 500 * 4096);
        assert_eq!(usage.virtual_bytes, 8_192_000);
        assert_eq!(usage.threads, 3);
        assert_eq!(start_ticks(stat), Some(1000.0));
    }

    #[test]
    fn a_cut_line_is_no_usage() {
        assert_eq!(parse_stat("7 (a) S 1 7", 100.0, 4096), None);
        assert_eq!(parse_stat("", 100.0, 4096), None);
    }

    #[test]
    fn this_process_has_memory_threads_descriptors_and_a_start() {
        let usage = with_descriptors(std::process::id()).expect("we run");
        assert!(usage.resident_bytes > 0);
        assert!(usage.threads >= 1);
        assert!(usage.open_fds >= 3);
        assert!(usage.start_seconds > 1.5e9);
    }
}
