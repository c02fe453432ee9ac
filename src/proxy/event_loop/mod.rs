//! One event loop: a thread with a runtime of its own, whose connections never leave it.
//!
//! It takes orders from the plane's main task (`handle`) and keeps the time limits of everything that lives on
//! it (`limits`), at each turn of its clock.

mod handle;
mod limits;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::accept::{self, Listener};
use super::access_log::Log;
use super::client::Client;
use super::counters::LoopCounters;
use super::drain::{Draining, Notice};
use super::live::{Clock, Registry};
use super::park::{Line, Lot};
use super::pick::Random;
use super::rules::RequestId;
use super::table::{Published, View};
use super::tls::Greeting;
use super::upload::Upload;
use super::upstream::Pool;
use crate::link::message::{Limit, ProxyReason, PublicListener};
use crate::rollout::{ServiceName, Slot, WorkerId};
pub(super) use handle::{Greetings, Handle, Order};

/// One turn of a loop's clock: time limits are kept this exactly.
const TURN: Duration = Duration::from_millis(100);
/// What goes on is said again after so long, in milliseconds.
const SAY_AGAIN: u64 = 10_000;

/// What all loops and the main task share. Nothing in it is written for each request.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) live: Registry,
    pub(super) parked: Lot,
    /// Client connections of all loops.
    pub(super) connections: AtomicU32,
    /// The main task should look: a shut gate was left by its last request, or a drain went on.
    pub(super) wake: Notify,
}

/// Lets everybody else on this loop go first who is ready.
///
/// Whoever is about to write waits here, and so all that a loop has to write is written in a row, after
/// all that it had to read. Else a receiver that sleeps is woken for each single write, works, and sleeps
/// again before the next: waking costs as much as writing. Unlike tokio's `yield_now` it does not ask the
/// kernel what else has come.
pub(super) async fn after_the_others() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        // Behind all that are ready now.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One event loop, as its connections see it.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<LoopCounters>,
    pub(super) pool: Rc<Pool>,
    pub(super) random: Random,
    pub(super) line: Line,
    pub(super) clients: RefCell<HashMap<u64, Rc<Client>, foldhash::fast::RandomState>>,
    /// Of them, by number, those that are looked at in each turn: who has something in flight.
    watched: RefCell<Vec<u64>>,
    pub(super) draining: Cell<Option<Draining>>,
    notice: Cell<Option<Notice>>,
    pub(super) log: Log,
    /// The body of each request that has none.
    pub(super) no_upload: Rc<Upload>,
    view: RefCell<Rc<View>>,
    greetings: RefCell<Arc<Greetings>>,
    /// The time now, as `Date` has it; made anew each second.
    date: RefCell<Option<(u64, HeaderValue)>>,
    now: Cell<u64>,
    /// When the last turn was, by both clocks of the system.
    wall: Cell<(Instant, Duration)>,
    /// The request that was polled just now only lets others go first.
    pub(super) steps_aside: Cell<bool>,
    /// Each with its place among all listeners.
    listeners: RefCell<Vec<(usize, Listener)>>,
    /// Those that are accepted on, by their place; to drop one ends that.
    open: RefCell<HashMap<usize, oneshot::Sender<()>>>,
    accepts: Cell<bool>,
    stopped: Cell<bool>,
    stop: Notify,
    turns: Cell<u32>,
    /// When it was last said that something is used up.
    said_exhausted: Cell<Option<u64>>,
    said_broken: Cell<Option<u64>>,
}

impl Loop {
    fn new(index: usize, shared: Arc<Shared>, counters: Arc<LoopCounters>) -> Self {
        let seed = RandomState::new().hash_one(index);
        Self {
            index,
            now: Cell::new(shared.clock.now()),
            wall: Cell::new(wall()),
            shared,
            counters,
            pool: Pool::new(),
            random: Random::new(seed),
            line: Line::default(),
            clients: RefCell::default(),
            watched: RefCell::default(),
            draining: Cell::new(None),
            notice: Cell::new(None),
            log: Log::default(),
            no_upload: Upload::none(),
            view: RefCell::default(),
            greetings: RefCell::default(),
            date: RefCell::default(),
            steps_aside: Cell::new(false),
            listeners: RefCell::default(),
            open: RefCell::default(),
            accepts: Cell::new(false),
            stopped: Cell::new(false),
            stop: Notify::new(),
            turns: Cell::new(0),
            said_exhausted: Cell::new(None),
            said_broken: Cell::new(None),
        }
    }

    /// Lets a request wait for [`after_the_others`]; whoever polls it sees by `steps_aside` that it goes on by itself.
    pub(super) async fn step_aside(&self) {
        self.steps_aside.set(true);
        after_the_others().await;
    }

    /// The table in use.
    pub(super) fn table(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// How clients of the listener at this place are greeted, if they speak TLS.
    pub(super) fn greeting(&self, place: usize) -> Option<Arc<Greeting>> {
        self.greetings.borrow().get(&place).map(Arc::clone)
    }

    /// The time of the last turn, on the plane's clock.
    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    /// The time now, as `Date` has it.
    pub(super) fn date(&self) -> HeaderValue {
        let second = self.now() / 1_000;
        let mut known = self.date.borrow_mut();
        match &*known {
            Some((of, date)) if *of == second => date.clone(),
            Some(_) | None => {
                let date = httpdate::HttpDate::from(SystemTime::now()).to_string();
                // Letters, digits and blanks are a value.
                let date = HeaderValue::try_from(date).expect("a date");
                known.insert((second, date)).1.clone()
            }
        }
    }

    /// An id for a request that comes now, whose client gave none that is believed.
    pub(super) fn request_id(&self) -> RequestId {
        self.request_id_at(Instant::now())
    }

    /// The same for one that came at this moment: to ask both clocks costs as much as to make the id.
    pub(super) fn request_id_at(&self, moment: Instant) -> RequestId {
        let (turn, time) = self.wall.get();
        let time = time.saturating_add(moment.saturating_duration_since(turn));
        let [high, low] = [self.random.next(), self.random.next()].map(u128::from);
        RequestId::of(time, high << 64 | low)
    }

    /// A worker could not be reached for want of what is ours. Said now and then.
    pub(super) fn is_exhausted(&self, error: &io::Error) {
        self.counters.exhausted();
        if self.is_to_be_said(&self.said_exhausted) {
            tracing::warn!(
                "no connection to a worker: {error}; remuda, or this host, is out of descriptors, ports or memory \
                 (`remuda_upstream_exhausted_total` counts it)"
            );
        }
    }

    /// What a worker answered breaks the rules. Said now and then: the client is told nothing of it, and its
    /// programmer must be.
    pub(super) fn answer_is_broken(&self, service: &ServiceName, by: Option<Slot>, why: &str) {
        if self.is_to_be_said(&self.said_broken) {
            let slot = by.map_or(String::new(), |slot| format!(" {slot}"));
            tracing::warn!(
                "worker{slot} of `{service}` sent an answer that cannot be passed on: {why} \
                 (`remuda_http_proxy_errors_total{{reason=\"bad_response\"}}` counts them)"
            );
        }
    }

    /// Whether it is time to say this again.
    fn is_to_be_said(&self, said: &Cell<Option<u64>>) -> bool {
        let now = self.now();
        let due = said.get().is_none_or(|at| at + SAY_AGAIN <= now);
        if due {
            said.set(Some(now));
        }
        due
    }

    /// A head was refused before it was known whom it is for. Where there is but one service it was for that.
    pub(super) fn count_unreadable(&self, reason: ProxyReason) {
        match &self.table().services[..] {
            [only] => only.counters.tally().failed(None, reason),
            _ => {
                self.counters.unrouted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A request is refused, for this limit if it is over one.
    pub(super) fn count_limit(&self, limit: Option<Limit>) {
        if let Some(limit) = limit {
            self.counters.reached(limit);
        }
    }

    /// Whether this client's next answer is its last one here.
    pub(super) fn lets_go(&self, client: u64) -> bool {
        self.draining.get().is_some() || self.is_noticed(client)
    }

    /// Whether this client is let go before the drain begins.
    fn is_noticed(&self, client: u64) -> bool {
        let notice = self.notice.get();
        notice.is_some_and(|notice| notice.lets_go(client, self.now()))
    }

    /// Resolves when this loop is to accept no more.
    pub(super) async fn until_accepting_stops(&self) {
        let stop = self.stop.notified();
        if !self.stopped.get() {
            stop.await;
        }
    }

    /// Waits; true if this loop is to accept no more.
    pub(super) async fn stops_within(&self, time: Duration) -> bool {
        let stop = self.until_accepting_stops();
        tokio::time::timeout(time, stop).await.is_ok()
    }

    async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<(Order, oneshot::Sender<()>)>) {
        let mut clock = interval(TURN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let Some((order, done)) = order else {
                        return;
                    };
                    self.obey(order);
                    // The main task may have given up waiting.
                    let _ = done.send(());
                }
                _ = clock.tick() => self.turn(),
            }
        }
    }

    fn obey(self: &Rc<Self>, order: Order) {
        match order {
            Order::Tls(greetings) => *self.greetings.borrow_mut() = greetings,
            Order::Table(published) => self.publish(&published),
            Order::Log(outlet) => self.log.set(outlet),
            Order::Listen(listeners) => self.listen(listeners),
            Order::Accept => {
                self.accepts.set(true);
                self.begin_to_accept();
            }
            Order::Turn => {}
            Order::Announce(notice) => self.notice.set(Some(notice)),
            Order::Drain(draining) => {
                self.draining.set(Some(draining));
                self.stopped.set(true);
                self.listeners.borrow_mut().clear();
                self.stop.notify_waiters();
                if draining.orphaned {
                    // Nobody publishes for those who wait for a worker any more.
                    self.line.wake();
                }
                self.turn();
            }
        }
    }

    fn publish(&self, published: &Published) {
        let before = self.table();
        let view = View::new(published, &before, &self.counters);
        for worker in before.gone(&view) {
            self.pool.close(worker);
        }
        *self.view.borrow_mut() = Rc::new(view);
        self.line.wake();
        // Those of generations that are gone wait in lines that nobody else knows.
        for generation in before.generations() {
            generation.queue.place_is_free();
        }
        self.turn();
    }

    fn listen(self: &Rc<Self>, listeners: Vec<(usize, PublicListener, OwnedFd)>) {
        if self.stopped.get() {
            return;
        }
        for (place, kind, fd) in listeners {
            match Listener::new(fd) {
                Ok(listener) => {
                    let mut all = self.listeners.borrow_mut();
                    all.retain(|(before, _)| *before != place);
                    all.push((place, listener));
                }
                Err(error) => tracing::error!(?kind, %error, "cannot use a listener"),
            }
        }
        if self.accepts.get() {
            self.begin_to_accept();
        }
    }

    fn begin_to_accept(self: &Rc<Self>) {
        if self.stopped.get() {
            return;
        }
        for (place, listener) in self.listeners.borrow_mut().drain(..) {
            self.counters.accepting.fetch_add(1, Ordering::AcqRel);
            let (open, until) = oneshot::channel();
            tokio::task::spawn_local(accept::run(Rc::clone(self), place, listener, until));
            // Whoever had the place before accepts what waits for it, and ends.
            self.open.borrow_mut().insert(place, open);
        }
    }

    /// One turn of the clock.
    fn turn(&self) {
        self.now.set(self.shared.clock.now());
        self.wall.set(wall());
        self.turns.set(self.turns.get().wrapping_add(1));
        self.log.turn();
        self.pool.let_go();
        if self.turns.get().is_multiple_of(3) {
            self.pool.sweep();
        }
        let view = self.table();
        let mut left: Vec<(WorkerId, u64)> = Vec::new();
        self.look_at_clients(&view, &mut left);
        for worker in view.workers() {
            let left = left.iter().filter(|(id, _)| *id == worker.id);
            let left = left.map(|(_, left)| *left).max();
            let idle = self.pool.idle(worker.id);
            worker.gate.observe(self.index, idle, left);
        }
    }
}

/// Now, and since 1970. A clock that stands before that is not set.
fn wall() -> (Instant, Duration) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    (Instant::now(), time.unwrap_or_default())
}
