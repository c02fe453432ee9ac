//! The end of a worker's process: signals to it and to its group, its exit, and what is left of it until nothing is.
//! A start that a stranger on the port made fail is repeated here, because it is no end of the worker's (F18).

use super::{Squatter, Worker, Workers};
use crate::rollout::{Exit, Fact, WorkerId};
use crate::supervisor::place::Place;
use crate::supervisor::remains::Remains;

impl Workers {
    /// SIGTERM to the main process.
    pub(in crate::supervisor) fn terminate(&mut self, worker: WorkerId) {
        if let Some(process) = self.process_mut(worker) {
            process.asked = true;
            let pid = process.pid;
            self.reaper.terminate(pid);
        }
    }

    /// SIGTERM to what is left of its group.
    pub(in crate::supervisor) fn terminate_group(&mut self, worker: WorkerId) {
        self.signal_group(worker, nix::sys::signal::Signal::SIGTERM);
    }

    /// SIGKILL to everything of it.
    pub(in crate::supervisor) fn kill_group(&mut self, worker: WorkerId) {
        self.signal_group(worker, nix::sys::signal::Signal::SIGKILL);
    }

    fn signal_group(&mut self, worker: WorkerId, signal: nix::sys::signal::Signal) {
        let Some(process) = self.process_mut(worker) else {
            return;
        };
        process.asked = true;
        let pid = process.pid;
        if self.reaper.is_live(pid) {
            match signal {
                nix::sys::signal::Signal::SIGKILL => self.reaper.kill_group(pid),
                _ => self.reaper.terminate_group(pid),
            };
        }
        let remains = Remains::new(worker, pid);
        match signal {
            nix::sys::signal::Signal::SIGKILL => remains.kill(),
            _ => remains.terminate(),
        };
    }

    /// A child was reaped. If it was a worker's main process, so the core is told, once the exec is known
    /// to have succeeded.
    pub(in crate::supervisor) fn exited(&mut self, pid: u32, exit: Exit) -> Vec<Fact> {
        let found = self.live.iter_mut().find(|(_, known)| {
            known
                .process
                .as_ref()
                .is_some_and(|process| process.pid == pid)
        });
        let Some((&worker, known)) = found else {
            return Vec::new();
        };
        let Some(process) = &mut known.process else {
            return Vec::new();
        };
        process.exited = Some(exit);
        for task in process.tasks.drain(..) {
            task.abort();
        }
        if !process.launched {
            return Vec::new();
        }
        // A worker that went to the background may hold the port itself (F27), so status 0 is no sign.
        let squatted = known.squatter == Squatter::Unseen
            && !known.answered
            && exit != Exit::Code(0)
            && known
                .place
                .as_ref()
                .is_some_and(Place::is_port_held_by_stranger);
        if squatted {
            known.squatter = Squatter::Seen;
            self.kill_group(worker);
            return Vec::new();
        }
        self.learn_from_failure(worker);
        vec![Fact::Exited { worker, exit }]
    }

    /// Workers whose process ended: those of which nothing is left are cleared.
    pub(in crate::supervisor) fn sweep(&mut self) -> Vec<Fact> {
        let ended: Vec<WorkerId> = self.ended().map(|(worker, _)| worker).collect();
        if ended.is_empty() {
            return Vec::new();
        }
        let mut facts = Vec::new();
        for worker in ended {
            let Some(known) = self.live.get(&worker) else {
                continue;
            };
            let Some(process) = &known.process else {
                continue;
            };
            if Remains::new(worker, process.pid).find().is_empty() {
                if known.squatter == Squatter::Seen {
                    facts.extend(self.dodge(worker));
                    continue;
                }
                if let Some(known) = self.live.remove(&worker) {
                    self.keep(worker, &known);
                }
                facts.push(Fact::Cleared { worker });
            }
        }
        facts
    }

    /// Repeats a start that a stranger on the port made fail, on another port, uncharged (F18).
    fn dodge(&mut self, worker: WorkerId) -> Vec<Fact> {
        let Some(known) = self.live.remove(&worker) else {
            return Vec::new();
        };
        let place = (known.slot, known.generation);
        let spec = self
            .specs
            .get(&(known.service.clone(), known.generation))
            .cloned();
        let config = self.services.get(&known.service).cloned();
        tracing::info!(
            "the port of worker {} of `{}` is held by a stranger; starting it on another",
            known.slot,
            known.service
        );
        drop(known);
        let started = match (config, spec) {
            (Some(config), Some(spec)) => self.start(worker, &config, &spec, place),
            (None, _) | (_, None) => Err("its service is no longer configured".to_owned()),
        };
        match started {
            Ok(facts) => {
                if let Some(known) = self.live.get_mut(&worker) {
                    known.squatter = Squatter::Dodged;
                }
                facts
            }
            Err(error) => vec![
                Fact::SpawnFailed { worker, error },
                Fact::Cleared { worker },
            ],
        }
    }

    fn ended(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.live
            .iter()
            .filter(|(_, known)| {
                known
                    .process
                    .as_ref()
                    .is_some_and(|of| of.launched && of.exited.is_some())
            })
            .map(|(worker, known)| (*worker, known))
    }

    /// Whether [`Self::sweep`] has something to look for.
    #[must_use]
    pub(in crate::supervisor) fn may_leave_remains(&self) -> bool {
        self.ended().next().is_some()
    }

    /// The processes of workers that have not ended, in words.
    pub(in crate::supervisor) fn left(&self) -> impl Iterator<Item = String> {
        self.live.iter().filter_map(|(worker, known)| {
            let process = known.process.as_ref()?;
            let (service, slot, generation) = (&known.service, known.slot, known.generation);
            let of = format!("worker {slot} of generation {generation} of `{service}`");
            if process.exited.is_none() {
                return Some(format!("{of} (pid {})", process.pid));
            }
            let pids = Remains::new(*worker, process.pid).find();
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            (!pids.is_empty()).then(|| format!("children of {of} (pid {})", pids.join(", ")))
        })
    }
}
