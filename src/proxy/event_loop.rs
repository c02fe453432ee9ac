//! One event loop: a thread with a runtime of its own, whose connections never leave it.
//!
//! It takes orders from the plane's main task and keeps the time limits of everything that lives on it,
//! at each turn of its clock.

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
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::accept::{self, Listener};
use super::access_log::{Log, Outlet};
use super::client::{Client, Phase};
use super::counters::LoopCounters;
use super::drain::{Draining, Habit, Notice};
use super::live::{Clock, Registry, millis};
use super::park::{Line, Lot};
use super::pick::Random;
use super::rules::RequestId;
use super::table::{Published, View};
use super::tls::Greeting;
use super::upload::Upload;
use super::upstream::Pool;
use crate::link::message::{Limit, ProxyReason, PublicListener};
use crate::rollout::WorkerId;

/// One turn of a loop's clock: time limits are kept this exactly.
const TURN: Duration = Duration::from_millis(100);
/// What goes on is said again after so long, in milliseconds.
const SAY_AGAIN: u64 = 10_000;
/// Those that rest are looked at once in so many turns, a part of them in each, if they may rest for longer than
/// [`RESTING_LONG`]: thousands of them would hold up everybody else for milliseconds.
const PARTS: u32 = 10;
const RESTING_LONG: Duration = Duration::from_secs(5);
/// Where there is no place for a new client, so many that rest make room at a time: as many as may come until the
/// next look, and no more than that need to.
const ROOM: usize = 8;
/// Tasks that are run before the kernel is asked what else has come. A request is four steps, so that all that came
/// at once from some sixty clients is read, sent on and answered in a row (see [`after_the_others`]).
const STEPS: u32 = 256;
/// Orders that may wait; the main task waits for each one, so there is hardly ever a second.
const ORDERS: usize = 16;

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

/// An order from the main task.
#[derive(Debug)]
pub(super) enum Order {
    /// Greet new clients like this.
    Tls(Arc<Greetings>),
    /// Use this table from now on.
    Table(Arc<Published>),
    /// Log requests here from now on, or nowhere.
    Log(Option<Outlet>),
    /// Keep these listeners, each in its place among all; one that has the place already is left.
    Listen(Vec<(usize, PublicListener, OwnedFd)>),
    /// Accept on them.
    Accept,
    /// Show that you turn.
    Turn,
    /// Let clients go that are here, and go on accepting others.
    Announce(Notice),
    /// Stop accepting and let everything end.
    Drain(Draining),
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

/// How clients of each listener are greeted that speak TLS, by the listener's place.
pub(super) type Greetings = HashMap<usize, Arc<Greeting>>;

/// The main task's end of a loop.
#[derive(Debug)]
pub(super) struct Handle {
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    pub(super) counters: Arc<LoopCounters>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts a loop.
    ///
    /// # Errors
    /// The system's, if there is no thread or no runtime.
    pub(super) fn start(index: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let counters = Arc::<LoopCounters>::default();
        let theirs = Arc::clone(&counters);
        // A local runtime cannot leave the thread that makes it, so that thread tells how it went.
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("loop-{index}"))
            .spawn(move || {
                let mut builder = RuntimeBuilder::new_current_thread();
                builder.event_interval(STEPS);
                let built = builder.enable_all().build_local(LocalOptions::default());
                // `told` is there until it has heard.
                let runtime = match built {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                drop(tell.send(Ok(())));
                runtime.block_on(Rc::new(Loop::new(index, shared, theirs)).run(inbox));
            })?;
        told.recv().map_err(io::Error::other)??;
        Ok(Self {
            orders,
            counters,
            thread: Some(thread),
        })
    }

    /// Gives an order; the receiver resolves when it is carried out, or fails if the loop is gone.
    pub(super) async fn order(&self, order: Order) -> oneshot::Receiver<()> {
        let (done, carried_out) = oneshot::channel();
        // If the loop is gone `done` is dropped with the message, which says so.
        let _ = self.orders.send((order, done)).await;
        carried_out
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.orders = closed;
        if let Some(thread) = self.thread.take() {
            // A panic was printed by the thread itself.
            let _ = thread.join();
        }
    }
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
    date: RefCell<(u64, Rc<str>)>,
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
            date: RefCell::new((0, "".into())),
            steps_aside: Cell::new(false),
            listeners: RefCell::default(),
            open: RefCell::default(),
            accepts: Cell::new(false),
            stopped: Cell::new(false),
            stop: Notify::new(),
            turns: Cell::new(0),
            said_exhausted: Cell::new(None),
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
    pub(super) fn date(&self) -> Rc<str> {
        let second = self.now() / 1_000;
        let mut date = self.date.borrow_mut();
        if date.0 != second || date.1.is_empty() {
            *date = (second, httpdate::fmt_http_date(SystemTime::now()).into());
        }
        Rc::clone(&date.1)
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
        let now = self.now();
        if self
            .said_exhausted
            .get()
            .is_none_or(|at| at + SAY_AGAIN <= now)
        {
            self.said_exhausted.set(Some(now));
            tracing::warn!(
                "no connection to a worker: {error}; remuda, or this host, is out of descriptors, ports or memory \
                 (`remuda_upstream_exhausted_total` counts it)"
            );
        }
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

    /// Ends a client that took longer than it may.
    fn times_out(&self, client: &Client, limit: Limit) {
        if !client.is_killed() {
            self.counters.reached(limit);
        }
        client.kill();
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

    /// The client of this number is to be looked at in each turn.
    pub(super) fn watch(&self, client: u64) {
        self.watched.borrow_mut().push(client);
    }

    /// Has those that rest longest make room for others, a few of them. Says whether any does.
    pub(super) fn make_room(&self) -> bool {
        let clients = self.clients.borrow();
        let now = self.now();
        let resting = |client: &Rc<Client>| {
            let from = client.room_from().filter(|from| *from <= now)?;
            Some((from, client.entry.number()))
        };
        let mut all: Vec<_> = clients.values().filter_map(resting).collect();
        if all.len() > ROOM {
            all.select_nth_unstable(ROOM);
            all.truncate(ROOM);
        }
        let first = all.iter().filter_map(|(_, number)| clients.get(number));
        let makes_room = |client: &&Rc<Client>| {
            let anew = !client.is_closing();
            let makes_room = client.makes_room();
            if makes_room && anew {
                self.counters.shed();
            }
            makes_room
        };
        first.filter(makes_room).count() > 0
    }

    fn look_at_clients(&self, view: &View, left: &mut Vec<(WorkerId, u64)>) {
        let clients = self.clients.borrow();
        let may_rest = view.front.idle_timeout >= RESTING_LONG && self.draining.get().is_none();
        let parts = u64::from(if may_rest { PARTS } else { 1 });
        let part = u64::from(self.turns.get()) % parts;
        // To ask the number alone touches nothing but the map.
        for (_, client) in clients.iter().filter(|(number, _)| *number % parts == part) {
            if !client.is_watched() {
                self.keep_limits(client, view, left);
            }
        }
        let mut watched = self.watched.take();
        watched.retain(|number| {
            let Some(client) = clients.get(number) else {
                return false;
            };
            self.keep_limits(client, view, left);
            let goes_on = client.is_to_be_watched();
            if !goes_on {
                client.rests();
            }
            goes_on
        });
        // Whoever began meanwhile.
        watched.append(&mut self.watched.borrow_mut());
        *self.watched.borrow_mut() = watched;
    }

    fn keep_limits(&self, client: &Rc<Client>, view: &View, left: &mut Vec<(WorkerId, u64)>) {
        let front = &view.front;
        let now = self.now();
        if let Some(limit) = now.checked_sub(millis(front.header_timeout))
            && client.owes_head_since(limit)
        {
            // Whatever else it waits for: as by HTTP/1.1, a head comes in time or not at all.
            self.times_out(client, Limit::HeaderTime);
        }
        let (phase, since) = client.phase();
        let number = client.entry.number();
        if client.habit() == Habit::Served && self.is_noticed(number) && !client.is_closing() {
            client.close();
        }
        match phase {
            Phase::Idle => {
                let idle_since = client.idle_since();
                let limit = idle_since.saturating_add(millis(front.idle_timeout));
                let close_at = self.draining.get().map_or(limit, |draining| {
                    draining.close_at(number, idle_since, client.habit())
                });
                if now >= close_at && client.close_if_idle() && now >= limit {
                    self.counters.reached(Limit::IdleTime);
                }
                // It ought to be gone: what is left of its last answer stands still, or it does not say that it
                // has heard (F45), which a client that is asleep never will.
                let silent = self.draining.get().is_some_and(|draining| {
                    draining.is_given_up(close_at.max(client.last_taken()), now)
                });
                if silent || now >= close_at.saturating_add(view.stuck_after()) {
                    client.kill();
                }
            }
            Phase::Head => {
                if now >= since.saturating_add(millis(front.header_timeout)) {
                    self.times_out(client, Limit::HeaderTime);
                }
            }
            Phase::Spare => {}
            Phase::Streams => {
                let leaves = |d: Draining| now >= d.close_at(number, 0, client.habit());
                if self.draining.get().is_some_and(leaves) {
                    client.close();
                }
            }
            Phase::Busy => {
                client.may_leave_now();
                if client.has_left(now) {
                    client.kill();
                }
                let Some(exchange) = client.exchange() else {
                    // The whole answer was handed on, and the client does not take it.
                    let last = since.max(client.last_write());
                    if now >= last.saturating_add(view.stuck_after()) {
                        self.times_out(client, Limit::BodyTime);
                    }
                    return;
                };
                exchange.classify();
                let cut_at = exchange.cut_at();
                exchange.live().set_cut_at(cut_at);
                if exchange.has_lost_worker() {
                    exchange.lose();
                } else if cut_at.is_some_and(|at| now >= at) {
                    exchange.cut();
                } else if exchange.is_stuck() {
                    self.times_out(client, Limit::BodyTime);
                }
                if let (Some(at), Some(worker)) = (cut_at, exchange.worker()) {
                    left.push((worker.id, at.saturating_sub(now)));
                }
            }
        }
    }
}

/// Now, and since 1970. A clock that stands before that is not set.
fn wall() -> (Instant, Duration) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    (Instant::now(), time.unwrap_or_default())
}
