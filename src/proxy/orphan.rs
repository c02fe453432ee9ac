//! What a plane does last if its supervisor is gone: it ends the workers that it knew, so that nothing
//! is left behind.
//!
//! A pid may have been given to a stranger meanwhile. So a group is signalled only while its leader is
//! the process that the table named, by its start time and session.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::link::message::{Session, Table};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(50);

/// Ends every worker of the table that we run: SIGTERM to its group, SIGKILL to what remains.
pub(super) async fn end_workers(table: &Table) {
    let mut groups: Vec<Pid> = sessions(table)
        .filter(is_the_same)
        .filter_map(|session| i32::try_from(session.id).ok())
        .map(Pid::from_raw)
        .collect();
    groups.retain(|group| signal(*group, Signal::SIGTERM));
    let limit = Instant::now() + GRACE;
    while !groups.is_empty() && Instant::now() < limit {
        sleep(LOOK).await;
        // A group's number is not given away while a member of it lives, so this stays the same group.
        groups.retain(|group| killpg(*group, None) != Err(Errno::ESRCH));
    }
    for group in groups {
        signal(group, Signal::SIGKILL);
    }
}

fn sessions(table: &Table) -> impl Iterator<Item = Session> {
    table
        .services
        .iter()
        .flat_map(|service| &service.generations)
        .flat_map(|generation| &generation.workers)
        .filter_map(|worker| worker.session)
}

fn signal(group: Pid, signal: Signal) -> bool {
    // Group 0 would be ours, 1 is not a worker's.
    group.as_raw() > 1 && killpg(group, signal).is_ok()
}

fn is_the_same(session: &Session) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", session.id));
    stat.is_ok_and(|stat| parse(&stat) == Some((session.id, session.started)))
}

/// Session (field 6) and start time (field 22) of a `/proc/PID/stat` line.
fn parse(stat: &str) -> Option<(u32, u64)> {
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let session = fields.nth(3)?.parse().ok()?;
    let started = fields.nth(15)?.parse().ok()?;
    Some((session, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f29_a_stat_line_with_a_nasty_name_is_understood() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4321 99 1";
        assert_eq!(parse(stat), Some((7, 4321)));
    }

    #[test]
    fn f29_a_process_with_another_start_time_is_a_stranger() {
        let own = std::process::id();
        let stranger = Session {
            id: own,
            started: 1,
        };
        assert!(!is_the_same(&stranger));
    }
}
