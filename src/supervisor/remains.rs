//! What is left of a worker when its main process is gone: children that outlive it, in its session or in
//! one of their own (F26, F27). All of them are below us, because we are the parent of orphans.
//!
//! A process belongs to a worker if it carries the worker's marker in its environment, or is in the worker's
//! session without another worker's marker, or descends from such a one. Nothing outside our own
//! descendants is ever looked at, so a reused number cannot name a stranger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::sys::signal::Signal;

use super::spec::{MARKER, marker};
use crate::rollout::WorkerId;
use crate::sys::Pidfd;
use crate::sys::procstat::ProcStat;

/// So often it is looked before nothing is said to be left.
const LOOKS: usize = 2;

/// How to recognise the processes of one worker.
#[derive(Debug, Clone)]
pub struct Remains {
    session: u32,
    marker: String,
}

impl Remains {
    /// Of the worker whose main process has, or had, this pid.
    #[must_use]
    pub fn new(worker: WorkerId, pid: u32) -> Self {
        Self {
            session: pid,
            marker: marker(worker),
        }
    }

    /// Its processes that live, the main one included if it does. Reads `/proc` whole, so it is for the
    /// moments when something has ended, not for every turn.
    #[must_use]
    pub fn find(&self) -> Vec<u32> {
        // One that is in the middle of an exec shows no environment, and one whose parent ends while we read is
        // nobody's child, each for a moment: who sees nothing looks again.
        let mut looks = (0..LOOKS).map(|_| self.look());
        looks.find(|found| !found.is_empty()).unwrap_or_default()
    }

    fn look(&self) -> Vec<u32> {
        let below = below_us();
        // The number of a session that has died out may be another process's by now: a plane's, say.
        let is_reused = below.get(&self.session).is_some_and(|leader| {
            !leader.is_dead() && marker_of(self.session).as_ref() != Some(&self.marker)
        });
        let mut ours = BTreeSet::new();
        for (&pid, stat) in &below {
            let belongs = match marker_of(pid) {
                Some(marker) => marker == self.marker,
                None => stat.session == self.session && !is_reused,
            };
            if belongs {
                ours.insert(pid);
            }
        }
        // Children of what was found, however they changed session and environment.
        loop {
            let more: Vec<u32> = below
                .iter()
                .filter(|(pid, stat)| !ours.contains(pid) && ours.contains(&stat.parent))
                .filter(|(pid, _)| marker_of(**pid).is_none_or(|marker| marker == self.marker))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            ours.extend(more);
        }
        let lives = |pid: &u32| below.get(pid).is_some_and(|stat| !stat.is_dead());
        ours.into_iter().filter(lives).collect()
    }

    /// Sends SIGTERM to each and returns how many there are.
    #[must_use]
    pub fn terminate(&self) -> usize {
        self.signal(Signal::SIGTERM)
    }

    /// Sends SIGKILL to each until no new one appears, and returns how many there were.
    #[must_use]
    pub fn kill(&self) -> usize {
        let mut hit = BTreeSet::new();
        // A tree that forks while it is being killed needs another look; one that forks faster than this
        // is met again at the next call.
        for _ in 0..8 {
            let found = self.find();
            let new = found.iter().filter(|pid| !hit.contains(*pid)).count();
            if new == 0 {
                break;
            }
            signal_all(&found, Signal::SIGKILL);
            hit.extend(found);
        }
        hit.len()
    }

    fn signal(&self, signal: Signal) -> usize {
        let found = self.find();
        signal_all(&found, signal);
        found.len()
    }
}

/// The processes below us.
#[must_use]
pub(super) fn below_us_now() -> Vec<u32> {
    below_us().into_keys().collect()
}

/// Kills every process below us that is in none of `spared` (pids with all their descendants): the very
/// last step of a stop, for what has shed both session and environment. Returns how many there were.
#[must_use]
pub fn kill_everything_but(spared: &[u32]) -> usize {
    let below = below_us();
    let is_spared = |pid: u32| {
        let mut at = Some(pid);
        while let Some(pid) = at {
            if spared.contains(&pid) {
                return true;
            }
            at = below.get(&pid).map(|stat| stat.parent);
        }
        false
    };
    let strangers: Vec<u32> = below
        .iter()
        .filter(|(pid, stat)| !stat.is_dead() && !is_spared(**pid))
        .map(|(pid, _)| *pid)
        .collect();
    signal_all(&strangers, Signal::SIGKILL);
    strangers.len()
}

/// What a supervisor is called by what it leaves: pid and start. The pid alone may be another's by now, or
/// that of an instance in a container whose processes we see too.
#[must_use]
pub(super) fn our_name() -> String {
    let pid = std::process::id();
    let started = ProcStat::of(pid).map_or(0, |stat| stat.started);
    format!("{pid}.{started}")
}

/// Whether a process of this name lives.
pub(super) fn is_alive(name: &str) -> bool {
    let parts = name.split_once('.');
    let numbers = parts.and_then(|(pid, started)| Some((pid.parse().ok()?, started.parse().ok()?)));
    let stat = numbers.and_then(|(pid, started)| Some((ProcStat::of(pid)?, started)));
    stat.is_some_and(|(stat, started): (_, u64)| stat.started == started && !stat.is_dead())
}

/// Every living process that bears the marker of a supervisor that is gone, whoever is its parent now.
/// Never we ourselves.
#[must_use]
pub(super) fn left_by(supervisor: &str) -> Vec<u32> {
    let prefix = format!("{supervisor}-");
    let us = std::process::id();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let bears = || marker_of(pid).is_some_and(|marker| marker.starts_with(&prefix));
        if pid != us && bears() && ProcStat::of(pid).is_some_and(|stat| !stat.is_dead()) {
            left.push(pid);
        }
    }
    left
}

/// Signals each, unless its number has been given to another meanwhile.
pub(super) fn signal_all(pids: &[u32], signal: Signal) {
    for &pid in pids {
        let before = ProcStat::of(pid).map(|stat| stat.started);
        let Ok(handle) = Pidfd::open(pid) else {
            continue;
        };
        // Held now: if it is still the one we looked at, it is the one that is hit.
        if before.is_some() && ProcStat::of(pid).map(|stat| stat.started) == before {
            // It may have ended between; then all is well.
            let _ = handle.signal(signal);
        }
    }
}

/// All our descendants.
fn below_us() -> BTreeMap<u32, ProcStat> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, ProcStat::of(pid)?))) {
            all.insert(pid, stat);
        }
    }
    let us = std::process::id();
    let mut below = BTreeMap::new();
    let mut parents = vec![us];
    while let Some(parent) = parents.pop() {
        for (&pid, stat) in all.iter().filter(|(_, stat)| stat.parent == parent) {
            if pid != us && below.insert(pid, *stat).is_none() {
                parents.push(pid);
            }
        }
    }
    below
}

/// The marker in a process's environment, as it was at its last exec.
fn marker_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(MARKER.as_bytes())?;
        value.strip_prefix(b"=")
    })?;
    Some(String::from_utf8_lossy(value).into_owned())
}
