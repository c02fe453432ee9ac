//! The set of data planes: started, fed with tables, watched, replaced (F33, F34).
//!
//! Usually there is one; while one is replaced or drains there are two. A plane that does not
//! acknowledge a table within [`plane::ACK_LIMIT`], or answer [`plane::PING_MISSES`] pings, is killed and replaced. One
//! that exits has thereby acknowledged everything, and its counts are zero.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::access_log::OpenLog;
use super::image::Image;
use super::input::Inputs;
use super::listeners::Listeners;
use crate::link::message::{Table, TlsOffer};
use crate::rollout::Moment;

mod counts;
mod news;
mod orders;
mod plane;
mod spawn;

pub(super) use self::news::News;
use self::plane::{PING_DOUBTS, PING_EVERY};
pub(super) use self::plane::{Plane, PlaneState};

/// A pause between two turns of the loop that is longer than this means that we were stopped
/// ourselves, so nobody is judged by the clock that went on meanwhile (F35).
const OWN_STALL: Duration = Duration::from_millis(900);

/// Planes in a row that ended before they served, after which the next start waits.
const FREE_FAILURES: u32 = 2;

/// The planes.
#[derive(Debug)]
pub(super) struct Planes {
    image: Rc<Image>,
    terms: Terms,
    listeners: Option<Listeners>,
    offers: Vec<TlsOffer>,
    log: Option<OpenLog>,
    table: Arc<Table>,
    set: BTreeMap<u64, Plane>,
    next_incarnation: u64,
    next_question: u64,
    inputs: Inputs,
    failed_starts: u32,
    start_at: Option<Moment>,
    last_tick: Moment,
    stopping: bool,
}

/// What every plane is started with.
#[derive(Debug)]
pub(super) struct Terms {
    /// Our own directory, which somebody must tidy up if we are killed.
    pub(super) runtime_dir: PathBuf,
    /// Its event loops.
    pub(super) loops: u32,
    /// It gives up what it does not need (T16).
    pub(super) sandbox: bool,
}

impl Planes {
    /// No plane yet.
    #[must_use]
    pub(super) fn new(
        image: Rc<Image>,
        terms: Terms,
        listeners: Listeners,
        offers: Vec<TlsOffer>,
        log: Option<OpenLog>,
        inputs: Inputs,
    ) -> Self {
        Self {
            image,
            terms,
            listeners: Some(listeners),
            offers,
            log,
            table: Arc::new(Table::default()),
            set: BTreeMap::new(),
            next_incarnation: 1,
            next_question: 1,
            inputs,
            failed_starts: 0,
            start_at: None,
            last_tick: Moment::default(),
            stopping: false,
        }
    }

    /// Starts a plane with the newest table. Returns its pid, for the reaper to watch.
    ///
    /// # Errors
    /// The system's, if there is no process or no socket pair; another start is due in a second.
    pub(super) fn start(&mut self, now: Moment) -> io::Result<u32> {
        self.start_at = None;
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let started = self.spawn(incarnation, now);
        match started {
            Ok(plane) => {
                let pid = plane.pid;
                self.set.insert(incarnation, plane);
                Ok(pid)
            }
            Err(error) => {
                self.start_at = Some(now + Duration::from_secs(1));
                Err(error)
            }
        }
    }

    /// Every plane that is not gone, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Plane)> {
        self.set
            .iter()
            .map(|(incarnation, plane)| (*incarnation, plane))
    }

    /// Whether any plane serves.
    #[must_use]
    pub(super) fn accepting(&self) -> bool {
        self.set
            .values()
            .any(|plane| plane.state == PlaneState::Accepting)
    }

    /// Whether any plane serves and was heard lately.
    #[must_use]
    pub(super) fn are_heard(&self) -> bool {
        self.set.values().any(|plane| {
            let missed = plane.pings.sent - plane.pings.answered;
            plane.state == PlaneState::Accepting && missed < u64::from(PING_DOUBTS)
        })
    }

    /// Whether no plane is left.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Takes note that a plane's process is gone. `None` if the pid is no plane's.
    pub(super) fn exited(&mut self, now: Moment, pid: u32) -> Option<(u64, Plane)> {
        let incarnation = *self.set.iter().find(|(_, plane)| plane.pid == pid)?.0;
        let plane = self.set.remove(&incarnation)?;
        let succeeded = self.set.values().any(Plane::takes_clients);
        if !succeeded && !self.stopping {
            // One that served is replaced at once, however often it dies: each moment without a plane
            // costs more than a start.
            if plane.served {
                self.failed_starts = 0;
            } else {
                self.failed_starts += 1;
            }
            let wait = match self.failed_starts.saturating_sub(FREE_FAILURES) {
                0 => Duration::ZERO,
                more => Duration::from_millis(100 << more.min(6)),
            };
            self.start_at = Some(now + wait);
        }
        Some((incarnation, plane))
    }

    /// Whether a plane finishes what it has and ends by itself.
    #[must_use]
    pub(super) fn is_draining(&self, incarnation: u64) -> bool {
        self.set
            .get(&incarnation)
            .is_some_and(|plane| plane.state == PlaneState::Draining)
    }

    /// Marks a plane as killed; returns its pid for whoever may signal.
    pub(super) fn kill(&mut self, incarnation: u64) -> Option<u32> {
        let plane = self.set.get_mut(&incarnation)?;
        plane.state = PlaneState::Killing;
        Some(plane.pid)
    }

    /// Sends pings, and returns who must be killed and why.
    #[must_use]
    pub(super) fn tick(&mut self, now: Moment) -> Vec<(u64, String)> {
        let stalled = now.since(self.last_tick) > OWN_STALL;
        self.last_tick = now;
        let mut hung = Vec::new();
        for (incarnation, plane) in &mut self.set {
            if stalled {
                plane.forgive(now);
            }
            if let Some(why) = plane.tick(now) {
                hung.push((*incarnation, why));
            }
        }
        hung
    }

    /// Whether a plane is to be started now.
    #[must_use]
    pub(super) fn start_is_due(&self, now: Moment) -> bool {
        !self.stopping && self.start_at.is_some_and(|at| at <= now)
    }

    /// When [`Self::tick`] is due next, at most a ping's time from now.
    #[must_use]
    pub(super) fn next_deadline(&self, now: Moment) -> Moment {
        let soon = now + PING_EVERY;
        self.start_at.map_or(soon, |at| at.min(soon))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::supervisor::inherited::Inherited;

    /// A plane that has just been started, in a set of its own.
    pub(super) fn set() -> Planes {
        let (outbox, _nobody) = mpsc::channel(1);
        let (inputs, _no_loop) = mpsc::channel(1);
        let mut planes = Planes::new(
            Rc::new(Image::open().expect("we have a file")),
            Terms {
                runtime_dir: PathBuf::new(),
                loops: 1,
                sandbox: true,
            },
            Listeners::bind(&[], Inherited::default()).expect("none"),
            Vec::new(),
            None,
            inputs,
        );
        let plane = Plane::starting(1, Moment::default(), outbox);
        planes.set.insert(1, plane);
        planes
    }
}
