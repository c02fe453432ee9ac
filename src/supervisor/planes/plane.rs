//! One plane: its process, the tables and pings it has yet to answer, and what it is by that. Owned by the set,
//! which alone moves it on; it decides when a plane is hung, and ends none.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::link::message::{Sample, Table, ToPlane};
use crate::rollout::{Epoch, Moment};

/// How long a plane may take to acknowledge a table (`DESIGN` §2).
const ACK_LIMIT: Duration = Duration::from_secs(2);
/// How long a plane may take from its start to accepting.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Between two pings.
pub(super) const PING_EVERY: Duration = Duration::from_millis(250);
/// Unanswered pings that make a plane hung.
const PING_MISSES: u32 = 12;
/// Unanswered pings after which it is not relied on that a plane serves.
pub(super) const PING_DOUBTS: u32 = 3;

/// A message, and the descriptors that go beside it.
pub(super) type Letter = (ToPlane, Vec<OwnedFd>);

/// One plane.
#[derive(Debug)]
pub(in crate::supervisor) struct Plane {
    /// Its pid.
    pub(in crate::supervisor) pid: u32,
    /// What it does.
    pub(in crate::supervisor) state: PlaneState,
    /// When it was started.
    pub(in crate::supervisor) started_at: Moment,
    /// Its newest counters.
    pub(in crate::supervisor) sample: Sample,
    /// What it is yet to be sent.
    outbox: mpsc::Sender<Letter>,
    /// It has accepted clients.
    pub(super) served: bool,
    /// The newest table it uses.
    pub(super) acknowledged: Epoch,
    /// What it had acknowledged when its newest counters came.
    pub(super) counted: Epoch,
    unacknowledged: VecDeque<(Epoch, Moment)>,
    /// Whether it is heard.
    pub(super) pings: Pings,
}

/// Heartbeats.
#[derive(Debug)]
pub(super) struct Pings {
    /// The number of the newest one.
    pub(super) sent: u64,
    /// The highest number that came back.
    pub(super) answered: u64,
    next: Moment,
}

/// What a plane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum PlaneState {
    /// Gets its listeners and its first table.
    Starting,
    /// Was told to accept, so that it may serve before we hear that it does.
    Opening,
    /// Serves.
    Accepting,
    /// Finishes what it has.
    Draining,
    /// Was sent SIGKILL.
    Killing,
}

impl PlaneState {
    /// The word in the API.
    #[must_use]
    pub(in crate::supervisor) fn word(self) -> &'static str {
        match self {
            Self::Starting | Self::Opening => "starting",
            Self::Accepting => "accepting",
            Self::Draining => "draining",
            Self::Killing => "killing",
        }
    }
}

impl Plane {
    /// One that was started now.
    pub(super) fn starting(pid: u32, now: Moment, outbox: mpsc::Sender<Letter>) -> Self {
        Self {
            pid,
            state: PlaneState::Starting,
            started_at: now,
            sample: Sample::default(),
            outbox,
            served: false,
            acknowledged: Epoch(0),
            counted: Epoch(0),
            unacknowledged: VecDeque::new(),
            pings: Pings {
                sent: 0,
                answered: 0,
                next: now + PING_EVERY,
            },
        }
    }
}

impl Plane {
    /// Whether it serves, or will.
    pub(super) fn takes_clients(&self) -> bool {
        match self.state {
            PlaneState::Starting | PlaneState::Opening | PlaneState::Accepting => true,
            PlaneState::Draining | PlaneState::Killing => false,
        }
    }

    /// False if it does not read.
    pub(super) fn say(&self, message: ToPlane) -> bool {
        self.send((message, Vec::new()))
    }

    /// The same for a message with descriptors.
    pub(super) fn send(&self, letter: Letter) -> bool {
        self.outbox.try_send(letter).is_ok()
    }

    /// A table that it is to acknowledge.
    pub(super) fn say_table(&mut self, now: Moment, table: &Arc<Table>) {
        // A full outbox is a plane that does not read: the missing acknowledgement will tell.
        self.say(ToPlane::Table(Arc::clone(table)));
        self.unacknowledged.push_back((table.epoch, now));
    }

    /// False if the epoch was never sent.
    pub(super) fn acknowledge(&mut self, epoch: Epoch) -> bool {
        let newest = self
            .unacknowledged
            .back()
            .map_or(self.acknowledged, |(epoch, _)| *epoch);
        if epoch > newest {
            return false;
        }
        self.acknowledged = self.acknowledged.max(epoch);
        self.unacknowledged.retain(|(sent, _)| *sent > epoch);
        if self.state == PlaneState::Starting && self.unacknowledged.is_empty() {
            self.say(ToPlane::Accept);
            self.state = PlaneState::Opening;
        }
        true
    }

    /// We were stopped ourselves: what is overdue gets its time again.
    pub(super) fn forgive(&mut self, now: Moment) {
        for (_, sent) in &mut self.unacknowledged {
            *sent = now;
        }
        self.pings = Pings {
            sent: self.pings.sent,
            answered: self.pings.sent,
            next: now + PING_EVERY,
        };
    }

    /// Asks for a sign of life when one is due; says why it is hung if it is.
    pub(super) fn tick(&mut self, now: Moment) -> Option<String> {
        match self.state {
            PlaneState::Killing => return None,
            PlaneState::Starting | PlaneState::Opening => {
                if now.since(self.started_at) > START_LIMIT {
                    return Some(format!(
                        "did not serve within {} s of its start",
                        START_LIMIT.as_secs()
                    ));
                }
                return None;
            }
            PlaneState::Accepting | PlaneState::Draining => {}
        }
        if let Some((_, sent)) = self.unacknowledged.front()
            && now.since(*sent) > ACK_LIMIT
        {
            return Some(format!(
                "did not acknowledge a routing table within {} s",
                ACK_LIMIT.as_secs()
            ));
        }
        if now >= self.pings.next {
            let missed = self.pings.sent - self.pings.answered;
            if missed >= u64::from(PING_MISSES) {
                return Some(format!("did not answer {missed} heartbeats"));
            }
            self.pings.sent += 1;
            // Turns that come late are no reason to ask less often.
            self.pings.next = (self.pings.next + PING_EVERY).max(now);
            self.say(ToPlane::Ping(self.pings.sent));
        }
        None
    }
}
