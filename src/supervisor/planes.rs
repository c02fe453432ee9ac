//! The set of data planes: started, fed with tables, watched, replaced (F33, F34).
//!
//! Usually there is one; while one is replaced or drains there are two. A plane that does not
//! acknowledge a table within [`ACK_LIMIT`], or answer [`PING_MISSES`] pings, is killed and replaced. One
//! that exits has thereby acknowledged everything, and its counts are zero.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::access_log::OpenLog;
use super::allocator;
use super::belonging::Belonging;
use super::certificates;
use super::image::Image;
use super::input::{Input, Inputs};
use super::listeners::Listeners;
use super::premises::Found;
use super::remains::our_name;
use crate::link::channel::Channel;
use crate::link::message::{
    Confinement, FromPlane, MAGIC, PROTOCOL, Sample, Table, TlsOffer, ToPlane,
};
use crate::proxy::UNCONFINED;
use crate::rollout::{Epoch, InFlight, Moment, WorkerId};

/// How long a plane may take to acknowledge a table (`DESIGN` §2).
pub(super) const ACK_LIMIT: Duration = Duration::from_secs(2);
/// How long a plane may take from its start to accepting.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Between two pings.
const PING_EVERY: Duration = Duration::from_millis(250);
/// Unanswered pings that make a plane hung.
pub(super) const PING_MISSES: u32 = 12;
/// Unanswered pings after which it is not relied on that a plane serves.
const PING_DOUBTS: u32 = 3;
/// A pause between two turns of the loop that is longer than this means that we were stopped
/// ourselves, so nobody is judged by the clock that went on meanwhile (F35).
const OWN_STALL: Duration = Duration::from_millis(900);
/// Messages that may wait for a plane that does not read. Then it is hung.
const OUTBOX: usize = 256;
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

/// A message, and the descriptors that go beside it.
type Letter = (ToPlane, Vec<OwnedFd>);

/// One plane.
#[derive(Debug)]
pub(super) struct Plane {
    /// Its pid.
    pub(super) pid: u32,
    /// What it does.
    pub(super) state: PlaneState,
    /// When it was started.
    pub(super) started_at: Moment,
    /// Its newest counters.
    pub(super) sample: Sample,
    outbox: mpsc::Sender<Letter>,
    served: bool,
    acknowledged: Epoch,
    /// What it had acknowledged when its newest counters came.
    counted: Epoch,
    unacknowledged: VecDeque<(Epoch, Moment)>,
    pings: Pings,
}

#[derive(Debug)]
struct Pings {
    sent: u64,
    answered: u64,
    next: Moment,
}

/// What a plane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlaneState {
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
    pub(super) fn word(self) -> &'static str {
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
    fn starting(pid: u32, now: Moment, outbox: mpsc::Sender<Letter>) -> Self {
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

/// What follows from a plane's message.
#[derive(Debug)]
pub(super) enum News {
    /// It is one of ours, and has given up so much.
    Introduced(Option<Confinement>),
    /// The common epoch may have moved.
    Acknowledged,
    /// It serves now.
    Accepting,
    /// It was told by somebody else to end: a successor is needed now.
    Leaving,
    /// It has new counters; answers this question, if any.
    Sampled(Option<u64>),
    /// The answer to a question about exchanges.
    Exchanges(u64, Vec<crate::link::message::Exchange>),
    /// It broke the protocol and must be killed; the text says how.
    Broken(String),
    /// Nothing.
    Nothing,
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

    fn spawn(&self, incarnation: u64, now: Moment) -> io::Result<Plane> {
        let (channel, theirs) = Channel::pair()?;
        let mut fds = Vec::new();
        let mut names = Vec::new();
        if let Some(listeners) = &self.listeners {
            names = listeners.addresses();
            for fd in listeners.fds() {
                fds.push(fd.try_clone_to_owned()?);
            }
        }
        // What it needs to tidy up after us, should we be killed.
        let name = our_name();
        let mut arguments = vec![
            OsStr::new("proxy"),
            name.as_ref(),
            self.terms.runtime_dir.as_ref(),
        ];
        if !self.terms.sandbox {
            arguments.push(OsStr::new(UNCONFINED));
        }
        let tuned = allocator::variable(allocator::ours().as_deref());
        let pid = self.image.spawn_self(&arguments, theirs, &[tuned])?;
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let hello = ToPlane::Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            build: crate::BUILD.to_owned(),
            incarnation,
            loops: self.terms.loops,
        };
        let mut first = vec![(hello, Vec::new())];
        if let Some(open) = &self.log {
            first.push(open.letter()?);
        }
        first.push((ToPlane::Listeners(names), fds));
        let offers = certificates::messages(&self.offers);
        first.extend(offers.into_iter().map(|message| (message, Vec::new())));
        tokio::task::spawn_local(converse(
            channel,
            incarnation,
            first,
            queue,
            self.inputs.clone(),
        ));
        let mut plane = Plane::starting(pid, now, outbox);
        plane.say_table(now, &self.table);
        Ok(plane)
    }

    /// Sends a table to every plane.
    pub(super) fn publish(&mut self, now: Moment, table: Table) {
        self.table = Arc::new(table);
        for plane in self.set.values_mut() {
            plane.say_table(now, &self.table);
        }
    }

    /// What planes greet new clients with.
    #[must_use]
    pub(super) fn offers(&self) -> &[TlsOffer] {
        &self.offers
    }

    /// Every plane, and those to come, greets new clients with these certificates.
    pub(super) fn offer(&mut self, offers: Vec<TlsOffer>) {
        for message in certificates::messages(&offers) {
            for plane in self.set.values() {
                // One that does not read is replaced, and its successor gets the new ones.
                plane.say(message.clone());
            }
        }
        self.offers = offers;
    }

    /// Every plane, and those to come, log to this one from now on.
    pub(super) fn log_to(&mut self, log: Option<OpenLog>) {
        self.log = log;
        for plane in self.set.values() {
            let letter = match &self.log {
                Some(open) => open.letter(),
                None => Ok((ToPlane::AccessLog(None), Vec::new())),
            };
            // A full outbox is a plane that does not read, which is replaced.
            match letter {
                Ok(letter) => drop(plane.send(letter)),
                Err(error) => tracing::warn!("the access log stays as it was: {error}"),
            }
        }
    }

    /// The newest epoch that every plane which can serve a request uses.
    #[must_use]
    pub(super) fn acknowledged(&self) -> Epoch {
        self.set
            .values()
            .filter(|plane| plane.state != PlaneState::Starting)
            .map(|plane| plane.acknowledged)
            .min()
            .unwrap_or(self.table.epoch)
    }

    /// Whether every plane's counters are of a time at which it had acknowledged the epoch. Older ones say
    /// nothing of a gate which that epoch shut: a request may have passed it since.
    #[must_use]
    pub(super) fn counted_since(&self, epoch: Epoch) -> bool {
        self.set
            .values()
            .filter(|plane| plane.state != PlaneState::Starting)
            .all(|plane| plane.counted >= epoch)
    }

    /// Requests in flight at a worker, over all planes.
    #[must_use]
    pub(super) fn in_flight(&self, worker: WorkerId) -> InFlight {
        sum(self.samples_of(worker).map(|sample| sample.in_flight))
    }

    /// What planes have cut of a worker's requests because their limit was over.
    #[must_use]
    pub(super) fn cut(&self, worker: WorkerId) -> InFlight {
        sum(self.samples_of(worker).map(|sample| sample.cut))
    }

    /// The latest time any plane may take until it cuts a worker's last request.
    #[must_use]
    pub(super) fn drain_left(&self, worker: WorkerId) -> Option<Duration> {
        self.samples_of(worker)
            .filter_map(|sample| sample.drain_left)
            .max()
    }

    fn samples_of(
        &self,
        worker: WorkerId,
    ) -> impl Iterator<Item = &crate::link::message::WorkerSample> {
        self.set
            .values()
            .flat_map(|plane| &plane.sample.workers)
            .filter(move |sample| sample.worker == worker)
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

    /// Takes a plane's message.
    pub(super) fn hear(&mut self, incarnation: u64, message: FromPlane) -> News {
        let Some(plane) = self.set.get_mut(&incarnation) else {
            return News::Nothing;
        };
        match message {
            FromPlane::Hello {
                magic,
                protocol,
                build,
                confinement,
            } => {
                if magic != MAGIC || protocol != PROTOCOL || build != crate::BUILD {
                    News::Broken(format!("its hello is that of another program ({build})"))
                } else if plane.state == PlaneState::Starting {
                    News::Introduced(confinement)
                } else {
                    // It has seen clients since, and is not to change its story.
                    News::Nothing
                }
            }
            FromPlane::Ack(epoch) => {
                if plane.acknowledge(epoch) {
                    News::Acknowledged
                } else {
                    News::Broken("it acknowledged a table it was never sent".to_owned())
                }
            }
            FromPlane::Accepting => {
                if plane.state != PlaneState::Opening {
                    return News::Nothing;
                }
                plane.state = PlaneState::Accepting;
                plane.served = true;
                News::Accepting
            }
            FromPlane::Pong(number) => {
                plane.pings.answered = plane.pings.answered.max(number.min(plane.pings.sent));
                News::Nothing
            }
            FromPlane::Sample { answers, sample } => {
                plane.sample = *sample;
                plane.counted = plane.acknowledged;
                News::Sampled(answers)
            }
            FromPlane::Exchanges { answers, exchanges } => News::Exchanges(answers, exchanges),
            FromPlane::Drained => News::Nothing,
            FromPlane::Leaving => {
                if plane.state == PlaneState::Accepting {
                    plane.state = PlaneState::Draining;
                    News::Leaving
                } else {
                    News::Nothing
                }
            }
        }
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

    /// Asks every serving plane for a sample; returns the question's number and who was asked.
    pub(super) fn ask_samples(&mut self) -> (u64, Vec<u64>) {
        self.ask(ToPlane::Sample)
    }

    /// Asks every serving plane for what is in flight.
    pub(super) fn ask_exchanges(&mut self) -> (u64, Vec<u64>) {
        self.ask(ToPlane::Exchanges)
    }

    fn ask(&mut self, question: fn(u64) -> ToPlane) -> (u64, Vec<u64>) {
        let number = self.next_question;
        self.next_question += 1;
        let mut asked = Vec::new();
        for (incarnation, plane) in &self.set {
            if plane.state != PlaneState::Starting && plane.say(question(number)) {
                asked.push(*incarnation);
            }
        }
        (number, asked)
    }

    /// The paths of public sockets that are ours.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Belonging> {
        self.listeners.iter().flat_map(Listeners::paths)
    }

    /// Binds again what is gone of the public sockets, and hands it to every plane in the old one's place.
    pub(super) fn look_after(&mut self, found: &mut Found) {
        let Some(listeners) = &mut self.listeners else {
            return;
        };
        for place in listeners.look_after(found) {
            let mut taking = self.set.values().filter(|plane| plane.takes_clients());
            let handed_over = taking.try_for_each(|plane| {
                // A full outbox is a plane that does not read: its successor gets the new one at its start.
                plane.send(listeners.letter(place)?);
                io::Result::Ok(())
            });
            match handed_over {
                Ok(()) => found.made.extend(listeners.made(place)),
                Err(error) => {
                    // Clients would wait there for nobody.
                    listeners.take_away(place);
                    found
                        .missing
                        .push(format!("cannot hand over a public socket: {error}"));
                }
            }
        }
    }

    /// Tells every plane that it will be told to finish.
    pub(super) fn announce(&self, due: Duration) {
        for plane in self.set.values() {
            // One that does not read it loses nothing but time.
            plane.say(ToPlane::Announce(due));
        }
    }

    /// Tells every plane to finish, closes our own copies of the listeners and starts no other plane.
    pub(super) fn drain(&mut self) {
        self.stopping = true;
        self.start_at = None;
        for plane in self.set.values_mut() {
            if plane.say(ToPlane::Drain) {
                plane.state = PlaneState::Draining;
            }
        }
        self.listeners = None;
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

impl Plane {
    fn takes_clients(&self) -> bool {
        match self.state {
            PlaneState::Starting | PlaneState::Opening | PlaneState::Accepting => true,
            PlaneState::Draining | PlaneState::Killing => false,
        }
    }

    fn say(&self, message: ToPlane) -> bool {
        self.send((message, Vec::new()))
    }

    fn send(&self, letter: Letter) -> bool {
        self.outbox.try_send(letter).is_ok()
    }

    fn say_table(&mut self, now: Moment, table: &Arc<Table>) {
        // A full outbox is a plane that does not read: the missing acknowledgement will tell.
        self.say(ToPlane::Table(Arc::clone(table)));
        self.unacknowledged.push_back((table.epoch, now));
    }

    /// False if the epoch was never sent.
    fn acknowledge(&mut self, epoch: Epoch) -> bool {
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
    fn forgive(&mut self, now: Moment) {
        for (_, sent) in &mut self.unacknowledged {
            *sent = now;
        }
        self.pings = Pings {
            sent: self.pings.sent,
            answered: self.pings.sent,
            next: now + PING_EVERY,
        };
    }

    fn tick(&mut self, now: Moment) -> Option<String> {
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

fn sum(parts: impl Iterator<Item = InFlight>) -> InFlight {
    parts.fold(InFlight::default(), |sum, part| InFlight {
        plain: sum.plain.saturating_add(part.plain),
        upload: sum.upload.saturating_add(part.upload),
        stream: sum.stream.saturating_add(part.stream),
        tunnel: sum.tunnel.saturating_add(part.tunnel),
    })
}

/// Carries messages both ways until either end is gone.
async fn converse(
    channel: Channel,
    incarnation: u64,
    first: Vec<Letter>,
    mut queue: mpsc::Receiver<Letter>,
    inputs: Inputs,
) {
    let (mut receiver, mut sender) = channel.split();
    let writing = async {
        let mut first = first.into_iter();
        loop {
            let next = match first.next() {
                Some(letter) => Some(letter),
                None => queue.recv().await,
            };
            let Some((message, fds)) = next else {
                break;
            };
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            sender.send(&message, &fds).await?;
        }
        io::Result::Ok(())
    };
    let reading = async {
        loop {
            match receiver.recv::<FromPlane>().await {
                Ok(Some((message, _fds))) => {
                    if inputs
                        .send(Input::Plane {
                            incarnation,
                            message,
                        })
                        .await
                        .is_err()
                    {
                        return "the supervisor ends".to_owned();
                    }
                }
                Ok(None) => return "it closed its channel".to_owned(),
                Err(error) => return format!("its channel failed: {error}"),
            }
        }
    };
    let why = tokio::select! {
        why = reading => why,
        written = writing => match written {
            Ok(()) => "it was let go".to_owned(),
            Err(error) => format!("its channel failed: {error}"),
        },
    };
    // Nobody listens only when the supervisor ends.
    let _ = inputs.send(Input::PlaneClosed { incarnation, why }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::inherited::Inherited;

    /// A plane that has just been started, in a set of its own.
    fn set() -> Planes {
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

    #[test]
    fn t17_a_plane_is_introduced_and_accepts_once_and_what_it_says_again_is_no_news() {
        let mut planes = set();
        let hello = FromPlane::Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            build: crate::BUILD.to_owned(),
            confinement: None,
        };
        assert!(matches!(
            planes.hear(1, hello.clone()),
            News::Introduced(None)
        ));
        // Nobody told it to yet.
        assert!(matches!(
            planes.hear(1, FromPlane::Accepting),
            News::Nothing
        ));
        assert!(matches!(
            planes.hear(1, FromPlane::Ack(Epoch(0))),
            News::Acknowledged
        ));
        assert!(matches!(
            planes.hear(1, FromPlane::Accepting),
            News::Accepting
        ));
        // Each of these would be a line of the log and an event, as often as it likes.
        assert!(matches!(planes.hear(1, hello), News::Nothing));
        assert!(matches!(
            planes.hear(1, FromPlane::Accepting),
            News::Nothing
        ));
    }

    #[test]
    fn i6_a_plane_that_was_told_to_accept_is_waited_for_before_it_says_that_it_does() {
        let mut planes = set();
        let table = |epoch| Table {
            epoch: Epoch(epoch),
            ..Table::default()
        };
        planes.publish(Moment::default(), table(5));
        assert_eq!(planes.acknowledged(), Epoch(5), "nobody can serve yet");
        planes.hear(1, FromPlane::Ack(Epoch(5)));
        // It serves by that one until it has taken the next, whatever of its answers is on the way.
        planes.publish(Moment::default(), table(6));
        assert_eq!(planes.acknowledged(), Epoch(5));
        assert!(!planes.counted_since(Epoch(6)));
        planes.hear(1, FromPlane::Accepting);
        assert_eq!(planes.acknowledged(), Epoch(5));
        planes.hear(1, FromPlane::Ack(Epoch(6)));
        assert_eq!(planes.acknowledged(), Epoch(6));
    }
}
