//! What must hold, seen from outside: only actions, facts and orders are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use remuda::rollout::{
    Accepted, Action, Command, Epoch, Event, Exit, Fact, GateState, Generation, GenerationRoutes,
    InFlight, Moment, NotEnough, Outcomes, Ownership, Refusal, Role, RolloutState, ServiceRoutes,
    ServiceView, Settings, Slot, Steer, Stop, Verdict, View, Weight, WorkerFailure, WorkerId,
    WorkerOrder, WorkerState,
};

use crate::rising::Rising;
use crate::shell::ms;

#[derive(Debug, Default)]
struct Worker {
    generation: Option<Generation>,
    slot: Option<Slot>,
    ready: bool,
    failing: bool,
    failing_since: Option<Moment>,
    /// One of its probes since then says that it is not only busy.
    worse: bool,
    load: InFlight,
    misses: u32,
    passes: u32,
    listed: bool,
    /// First table in which it is shut or missing, and first in which it is missing.
    shut: Option<(Epoch, Moment)>,
    unlisted: Option<Epoch>,
    /// A count after the acknowledgement of the shut gate was zero.
    empty: bool,
    load_deadline: Option<Moment>,
    /// Its requests had all the time they have when its drain ended.
    over: bool,
    held: bool,
    /// It follows one in its slot that a person had drained, and is held, too: surely, or where something came
    /// between, perhaps.
    follows: Option<bool>,
    retiring: bool,
    /// Its address is none of its service's any more.
    unnamed: bool,
    terminated: Option<Moment>,
    /// What it was given then.
    grace: Duration,
    start_limit: Moment,
    /// Since when it is on the retire order.
    leaves: Option<Moment>,
    /// Failed starts in a row in its slot before it.
    failures: u32,
    ready_at: Option<Moment>,
    killed: Option<Moment>,
    exited: Option<Moment>,
    /// It had served for a while and ended with exit status 0, though nobody had asked.
    ended: bool,
    cleared: bool,
    stuck: bool,
    /// What was left of its group got SIGTERM.
    swept: bool,
}

impl Worker {
    fn live(&self) -> bool {
        self.exited.is_none() && !self.cleared
    }
    fn placed(&self) -> bool {
        self.live() && !self.held && !self.retiring && !self.unnamed && self.terminated.is_none()
    }
    fn serves(&self) -> bool {
        self.live()
            && self.ready
            && !self.failing
            && !self.held
            && !self.retiring
            && self.terminated.is_none()
    }
}

pub(crate) struct Model {
    pub(crate) settings: Settings,
    workers: Rising<Worker>,
    epoch: Epoch,
    table: Option<Arc<ServiceRoutes>>,
    acknowledged: Epoch,
    rollouts: BTreeMap<Generation, RolloutState>,
    /// A parked generation is taken back, as it is: what has ended of it meanwhile is started again after that.
    taken_back: bool,
    batch: BTreeMap<Generation, u32>,
    /// Those that failed, until somebody resumes them.
    failed: BTreeSet<Generation>,
    /// Those whose batch has the share it should have.
    ramped: BTreeSet<Generation>,
    /// The settings have changed since the last rollout began.
    rescaled: bool,
    /// A person has said since then that it goes on.
    pushed: bool,
    /// Those that somebody resumed though they had failed: they are judged afresh.
    resumed: BTreeSet<Generation>,
    /// When each of those that run last made progress, moved on by pauses; and since when it is paused.
    patience: BTreeMap<Generation, (Moment, Option<Moment>)>,
    /// Ordered, and waits for the running one.
    pending: Option<Generation>,
    /// The most of a share each ever had.
    share: BTreeMap<Generation, Weight>,
    totals: BTreeMap<Generation, Outcomes>,
    /// Rollouts that ran since the last table.
    ran: BTreeSet<Generation>,
    pending_backoff: BTreeMap<(Slot, Generation), (Moment, u32)>,
    restarts: BTreeMap<Slot, Vec<Moment>>,
    /// Places whose worker was drained by hand and ended unasked. Whether nothing came between since.
    drained: BTreeMap<(Slot, Generation), bool>,
    /// No plane accepts.
    blind: bool,
    stop: Option<Stop>,
    stopped: bool,
    most_wanted: u32,
    most_surge: u32,
    most_grace: Duration,
    /// Old generations may be, or have been, kept beside the new one.
    parks: bool,
    bound: Duration,
    stable: Generation,
    gone: bool,
    /// Something was done since the last look.
    moved: bool,
    records: u64,
}

impl Model {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut model = Self {
            most_wanted: settings.wanted,
            most_surge: surge(&settings),
            most_grace: settings.kill_grace,
            parks: parks(&settings),
            bound: Duration::ZERO,
            settings,
            workers: Rising::new(),
            epoch: Epoch(0),
            table: None,
            acknowledged: Epoch(0),
            rollouts: BTreeMap::new(),
            taken_back: false,
            batch: BTreeMap::new(),
            failed: BTreeSet::new(),
            ramped: BTreeSet::new(),
            rescaled: false,
            pushed: false,
            resumed: BTreeSet::new(),
            patience: BTreeMap::new(),
            pending: None,
            share: BTreeMap::new(),
            totals: BTreeMap::new(),
            ran: BTreeSet::new(),
            pending_backoff: BTreeMap::new(),
            restarts: BTreeMap::new(),
            drained: BTreeMap::new(),
            blind: false,
            stop: None,
            stopped: false,
            stable: Generation(1),
            gone: false,
            moved: true,
            records: 0,
        };
        model.bound = model.bound_now();
        model
    }

    /// I9: every rollout ends within this, from its own deadlines: per batch one progress deadline for
    /// each worker and a watch, and as much again to go back; a pending one likewise; and what drains.
    pub(crate) fn bound(&self) -> Duration {
        self.bound
    }

    fn bound_now(&self) -> Duration {
        let settings = &self.settings;
        let batch = settings.progress_deadline + settings.ramp + settings.soak + ms(20_000);
        let drain = ms(35_000) + settings.drain_request + settings.kill_grace * 3 + ms(65_000);
        (batch * (2 * self.most_wanted + 2) + drain) * 3 + settings.park * 2
    }

    pub(crate) fn ordered(&mut self, command: &Command, view: impl FnOnce() -> View) {
        match command {
            Command::Steer { .. } => {}
            Command::Worker {
                order: WorkerOrder::Drain | WorkerOrder::Undrain,
                ..
            } => {}
            // The place may be given up.
            _ => self.drained.values_mut().for_each(|sure| *sure = false),
        }
        match command {
            Command::Stop(stop) => {
                self.stop = Some(match (self.stop, stop) {
                    (Some(Stop::Now), _) => Stop::Now,
                    (_, stop) => *stop,
                });
                self.stopped = true;
            }
            Command::Worker {
                slot,
                order: WorkerOrder::Restart,
                ..
            } => {
                self.pending_backoff.retain(|(of, _), _| of != slot);
            }
            Command::Worker {
                service,
                slot,
                order: WorkerOrder::Drain,
            } => {
                let in_slot = view()
                    .services
                    .into_iter()
                    .filter(|seen| seen.service == *service)
                    .flat_map(|service| service.generations)
                    .flat_map(|generation| generation.workers)
                    .find(|worker| worker.slot == *slot);
                if let Some(seen) = in_slot
                    && seen.state == WorkerState::Ready
                    && let Some(worker) = self.workers.get_mut(seen.worker)
                {
                    worker.held = true;
                }
            }
            Command::Worker { .. } => {}
            Command::Steer {
                steer: Steer::Promote | Steer::Resume,
                ..
            } => self.pushed = true,
            Command::Start { .. }
            | Command::Halt(_)
            | Command::Configure { .. }
            | Command::Readdress { .. }
            | Command::Rollback { .. }
            | Command::Rollout { .. }
            | Command::Steer { .. }
            | Command::Scale { .. } => {}
        }
        // What was ordered holds from then on, also for what the order itself makes the core do.
        match command {
            Command::Scale { wanted, .. } if !self.unmanaged() => {
                let settings = Settings {
                    wanted: *wanted,
                    ..self.settings.clone()
                };
                self.set(settings);
            }
            Command::Configure { settings, .. } if self.takes(settings) => {
                self.set(settings.clone());
            }
            Command::Readdress { settings, gone, .. }
                if self.unmanaged() && self.takes(settings) =>
            {
                self.set(settings.clone());
                for id in gone {
                    if let Some(worker) = self.workers.get_mut(*id) {
                        worker.unnamed = true;
                    }
                }
            }
            _ => {}
        }
    }

    fn unmanaged(&self) -> bool {
        self.settings.ownership == Ownership::Unmanaged
    }

    /// Whether new settings make sense.
    fn takes(&self, settings: &Settings) -> bool {
        self.stop.is_none() && settings.wanted > 0 && settings.ownership == self.settings.ownership
    }

    fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.rescaled = true;
        self.most_wanted = self.most_wanted.max(self.settings.wanted);
        self.most_surge = self.most_surge.max(surge(&self.settings));
        self.most_grace = self.most_grace.max(self.settings.kill_grace);
        self.parks |= parks(&self.settings);
        self.bound = self.bound.max(self.bound_now());
    }

    pub(crate) fn answered(&mut self, command: &Command, answer: &Result<Accepted, Refusal>) {
        if let (
            Command::Worker {
                slot,
                order: WorkerOrder::Undrain,
                ..
            },
            Ok(_),
        ) = (command, answer)
        {
            self.drained.retain(|(of, _), _| of != slot);
            let of_slot = |worker: &&mut Worker| worker.slot == Some(*slot);
            for worker in self.workers.values_mut().filter(of_slot) {
                worker.follows = None;
                // Whether its gate opens is for the next table to say: it may be shut for its health.
                if worker.live() {
                    worker.held = false;
                }
            }
        }
        let refused = answer.as_ref().err();
        match command {
            Command::Scale { .. } if self.unmanaged() => {
                assert_eq!(refused, Some(&Refusal::Unmanaged));
            }
            Command::Scale { .. } => assert_eq!(refused, None),
            Command::Configure { settings, .. } => {
                assert_eq!(refused.is_none(), self.takes(settings), "{refused:?}");
            }
            Command::Readdress { settings, .. } => {
                let taken = self.unmanaged() && self.takes(settings);
                assert_eq!(refused.is_none(), taken, "{refused:?}");
            }
            Command::Rollout { .. } | Command::Rollback { .. } if self.unmanaged() => {
                assert_eq!(refused, Some(&Refusal::Unmanaged));
            }
            _ => {}
        }
    }

    fn active(&self) -> Option<Generation> {
        let mut rollouts = self.rollouts.iter();
        rollouts
            .find(|(_, state)| runs(**state))
            .map(|(number, _)| *number)
    }

    /// The rollout that runs makes this generation.
    pub(crate) fn tries(&self, generation: Generation) -> bool {
        self.active() == Some(generation)
    }

    pub(crate) fn acknowledged(&mut self, epoch: Epoch) {
        if epoch <= self.epoch {
            self.acknowledged = self.acknowledged.max(epoch);
        }
    }

    pub(crate) fn paused(&self) -> bool {
        let mut states = self.rollouts.values();
        states.any(|state| *state == RolloutState::Paused)
    }

    pub(crate) fn held_by_hand(&self) -> u32 {
        let workers = self.workers.values();
        n(workers.filter(|worker| worker.held && worker.live() && !worker.retiring))
    }

    /// Nothing speaks against its having settled. What the core thinks of it is asked only then.
    pub(crate) fn may_have_settled(&self) -> bool {
        let rest = |worker: &Worker| worker.serves() && worker.generation == Some(self.stable);
        self.pending.is_none()
            && n(self.workers.values()) == self.settings.wanted
            && self.workers.values().all(rest)
            && self.active().is_none()
    }

    pub(crate) fn told(&mut self, now: Moment, fact: &Fact) {
        self.moved |= matches!(fact, Fact::Exited { .. } | Fact::Cleared { .. });
        match fact {
            Fact::SpawnFailed { worker, .. } => {
                self.leaves_drained(*worker);
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.exited.get_or_insert(now);
                    worker.cleared = true;
                    self.gone = true;
                }
            }
            Fact::Answered { worker } => {
                let rise = self.settings.rise;
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.misses = 0;
                    worker.passes += 1;
                    if worker.passes >= rise && worker.live() {
                        worker.failing = false;
                        worker.failing_since = None;
                        worker.worse = false;
                    }
                }
            }
            Fact::Unanswered { worker, late, .. } => {
                let fall = self.settings.fall;
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.passes = 0;
                    worker.misses += 1;
                    if worker.misses >= fall && worker.ready {
                        worker.failing = true;
                        worker.failing_since.get_or_insert(now);
                        worker.worse |= !late || worker.load.total() == 0;
                    }
                }
            }
            Fact::Exited { worker, exit } => {
                self.leaves_drained(*worker);
                if let Some(worker) = self.workers.get_mut(*worker) {
                    let served = worker.ready_at.is_some_and(|at| now.since(at) >= ms(1000));
                    worker.ended |= worker.exited.is_none()
                        && served
                        && worker.terminated.is_none()
                        && *exit == Exit::Code(0);
                    worker.exited.get_or_insert(now);
                    self.gone = true;
                }
            }
            Fact::Cleared { worker } => {
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.cleared = true;
                    self.gone = true;
                }
            }
            Fact::Load {
                worker,
                in_flight,
                deadline,
            } => {
                let acknowledged = self.acknowledged;
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.load_deadline = *deadline;
                    if worker.listed {
                        worker.load = *in_flight;
                    }
                    worker.empty |= *in_flight == InFlight::default()
                        && worker.shut.is_some_and(|(epoch, _)| epoch <= acknowledged);
                }
            }
            Fact::Traffic {
                generation, total, ..
            } => {
                let known = self.totals.entry(*generation).or_default();
                known.requests = known.requests.max(total.requests);
                known.failures = known.failures.max(total.failures);
                self.moved = true;
            }
            Fact::Stalled { by } => {
                for worker in self.workers.values_mut() {
                    worker.start_limit = worker.start_limit + *by;
                }
            }
            Fact::Planes { accept } => self.blind = !accept,
            Fact::Acknowledged { .. }
            | Fact::Spawned { .. }
            | Fact::Ejected { .. }
            | Fact::Readmitted { .. } => {}
        }
    }

    /// One that a person drained is about to end: who follows in its slot is held.
    fn leaves_drained(&mut self, id: WorkerId) {
        let in_place =
            |worker: &&Worker| worker.live() && !worker.retiring && worker.terminated.is_none();
        // Where there are more than wanted, for one that is being replaced, its place may be the one too many.
        let above = n(self.workers.values().filter(in_place)) > self.settings.wanted;
        let sure = self.active().is_none() && self.stop.is_none() && !above;
        let Some(worker) = self.workers.get(id).filter(|worker| worker.live()) else {
            return;
        };
        let drained = worker.held || worker.follows.is_some();
        if let Some(place) = worker.slot.zip(worker.generation).filter(|_| drained) {
            let unasked = !worker.retiring && worker.terminated.is_none();
            let follows = worker.held || worker.follows == Some(true);
            let sure = sure && unasked && follows && place.1 == self.stable;
            self.drained.insert(place, sure);
        }
    }

    pub(crate) fn acted(&mut self, now: Moment, action: &Action) {
        self.moved = true;
        match action {
            Action::Spawn {
                worker,
                slot,
                generation,
                ..
            } => self.spawned(now, *worker, *slot, *generation),
            Action::Terminate { worker } => self.terminated(now, *worker),
            Action::TerminateGroup { worker } => {
                let worker = self.workers.get_mut(*worker).expect("we spawned it");
                assert!(
                    worker.exited.is_some(),
                    "the group goes after the main process"
                );
                worker.swept = true;
            }
            Action::KillGroup { worker } => self.killed(now, *worker),
            Action::Record(record) => self.recorded(now, &record.event),
            Action::Finished => {
                assert!(self.stopped, "it was told to stop");
                assert!(
                    self.workers.values().all(|worker| worker.cleared),
                    "I8: finished with a worker left"
                );
            }
            Action::Forget { generation, .. } => {
                assert!(
                    !self
                        .workers
                        .values()
                        .any(|worker| worker.generation == Some(*generation) && !worker.cleared),
                    "forgotten while a worker lives"
                );
            }
            Action::Publish(_) | Action::Reuse { .. } => {}
        }
    }

    /// Every deadline is kept, once what happened until `now` is told and the clock has moved on.
    pub(crate) fn punctual(&self, now: Moment) {
        let limit = self.patience_with_busy();
        // Where somebody said that it goes on all the same, what failed before is not held against it.
        let running = self.active().filter(|to| {
            self.rollouts.get(to) == Some(&RolloutState::Running) && !self.resumed.contains(to)
        });
        for (id, worker) in self.workers.iter() {
            if let Some(since) = worker.failing_since.filter(|_| worker.live())
                && running.is_some()
                && worker.generation == running
                && !worker.retiring
                && worker.terminated.is_none()
            {
                assert!(
                    !worker.worse && now < since + limit,
                    "F56: {id:?} fails its probes since {since:?}"
                );
            }
            if self.unmanaged() || !worker.live() {
                continue;
            }
            match (worker.terminated, worker.killed) {
                (None, _) if !worker.ready => {
                    let limit = worker.start_limit;
                    assert!(now < limit, "{id:?} had until {limit:?} to start");
                }
                (None, _) => {
                    // Without a table that is acknowledged nothing can go on.
                    let shut = worker
                        .shut
                        .is_some_and(|(epoch, _)| epoch <= self.acknowledged);
                    if let (true, None, Some(since)) = (shut, worker.unlisted, worker.leaves) {
                        let plain = since + self.settings.drain_request;
                        let limit = worker.load_deadline.map_or(plain, |told| told.max(plain));
                        assert!(now < limit + ms(2_000), "I6: {id:?} drains for ever");
                    }
                }
                (Some(at), None) => {
                    assert!(now < at + worker.grace, "I7: {id:?} ignores SIGTERM");
                }
                (Some(_), Some(at)) => assert!(
                    worker.stuck || now < at + self.most_grace,
                    "I7: {id:?} is neither gone nor stuck"
                ),
            }
        }
    }

    #[inline]
    pub(crate) fn after(&mut self) {
        if std::mem::take(&mut self.moved) {
            self.check();
        }
    }

    fn check(&mut self) {
        let active = n(self.rollouts.values().filter(|state| runs(**state)));
        assert!(active <= 1, "I3: {:?}", self.rollouts);
        self.judged();
        for (id, worker) in self.workers.iter() {
            let rest = worker.exited.is_some() && !worker.cleared && worker.killed.is_none();
            assert!(
                !rest || worker.swept,
                "I8: what {id:?} left is not asked to end"
            );
        }
        // Nothing more can be said of what is gone; the core never speaks of it again.
        if self.gone {
            self.gone = false;
            self.workers
                .retain(|worker| !(worker.cleared && worker.exited.is_some()));
        }
    }

    fn spawned(&mut self, now: Moment, id: WorkerId, slot: Slot, generation: Generation) {
        assert!(self.stop.is_none(), "nothing starts while stopping");
        assert!(
            !self
                .workers
                .values()
                .any(|worker| worker.slot == Some(slot) && !worker.cleared),
            "slot {slot} is taken"
        );
        let mut failures = 0;
        if let Some((due, before)) = self.pending_backoff.remove(&(slot, generation)) {
            // Who cannot start where a dead one is stuck goes elsewhere, perhaps to a slot that was given up.
            let elsewhere = self.workers.values().any(|worker| worker.stuck);
            assert!(now >= due || elsewhere, "I12: restarted before its delay");
            // Later it may be another start: that place was given up meanwhile.
            if now == due {
                failures = before;
            }
        }
        // A place of another generation whose slot this takes waits on in a slot that is not told.
        self.pending_backoff
            .retain(|(of, by), _| *of != slot || *by == generation);
        let restarts = self.restarts.entry(slot).or_default();
        restarts.push(now);
        let recent = n(restarts.iter().filter(|at| now.since(**at) < ms(1000)));
        assert!(
            recent <= 12,
            "I12: {recent} starts in slot {slot} within a second"
        );
        let elsewhere = self.drained.keys().any(|(_, of)| *of == generation);
        let follows = self.drained.remove(&(slot, generation));
        let worker = Worker {
            follows: follows.or(elsewhere.then_some(false)),
            generation: Some(generation),
            slot: Some(slot),
            start_limit: now + self.settings.start_timeout,
            failures,
            ..Worker::default()
        };
        self.workers.push(id, worker);
        // I2. Whom a person drained is draining. A generation kept to be parked counts apart. Beside a rollout a person's restart of one worker
        // adds one, the new one first, also where a rollout would have to make room first.
        let placed = n(self.workers.values().filter(|worker| worker.placed()));
        let parked = if self.parks { self.most_wanted } else { 0 };
        let restart = u32::from(self.most_surge == 0 && self.active().is_none());
        let ceiling = self.most_wanted + self.most_surge + restart + parked;
        assert!(placed <= ceiling, "I2: {placed} live, at most {ceiling}");
    }

    pub(crate) fn published(&mut self, now: Moment, epoch: Epoch, routes: &Arc<ServiceRoutes>) {
        self.epoch = epoch;
        let generations = || routes.generations.iter();
        let before = || self.table.iter().flat_map(|table| &table.generations);
        let sum: u32 = generations()
            .map(|generation| u32::from(generation.weight.0))
            .sum();
        let open = |weighted: bool| {
            generations()
                .filter(move |generation| !weighted || generation.weight > Weight::NONE)
                .flat_map(|generation| &generation.workers)
                .filter(|route| route.gate == GateState::Open)
        };
        let someone = open(true).count() > 0;
        assert_eq!(
            sum,
            if someone { 10_000 } else { 0 },
            "I4: the weights' sum"
        );
        for route in open(false) {
            let worker = self.workers.get(route.worker).expect("we spawned it");
            assert!(
                worker.ready
                    && worker.live()
                    && !worker.retiring
                    && !worker.held
                    && worker.terminated.is_none(),
                "I5: slot {} is open",
                route.slot
            );
            assert_ne!(
                worker.follows,
                Some(true),
                "slot {} was drained by a person",
                route.slot
            );
        }
        // I4: the candidate's share rises in forward steps, or because nobody else can answer.
        for generation in generations().filter(|generation| generation.role == Role::Candidate) {
            let old = before()
                .find(|old| old.number == generation.number)
                .map_or(Weight::NONE, |old| old.weight);
            let state = self.rollouts.get(&generation.number).copied();
            // The weights' sum is all, so who alone can answer gets all of it.
            let alone = generations()
                .filter(|other| other.number != generation.number)
                .flat_map(|other| &other.workers)
                .all(|route| route.gate != GateState::Open);
            // A paused one gets back what it had when its gates, shut by a person, open again.
            let most = self.share.get(&generation.number).copied();
            let reopened = state == Some(RolloutState::Paused)
                && !self.failed.contains(&generation.number)
                && generation.weight <= most.unwrap_or(Weight::NONE)
                && !before()
                    .filter(|old| old.number == generation.number)
                    .flat_map(|old| &old.workers)
                    .any(|route| route.gate == GateState::Open);
            if generation.weight > old && !reopened && !self.ran.contains(&generation.number) {
                assert!(
                    alone,
                    "I4: {state:?} and the share rises from {old:?} to {:?}",
                    generation.weight
                );
            }
            if !alone && self.ran.contains(&generation.number) {
                let most = self.share.entry(generation.number).or_default();
                *most = generation.weight.max(*most);
            }
            if state == Some(RolloutState::RollingBack)
                && self.batch.get(&generation.number) == Some(&1)
            {
                assert_eq!(
                    generation.weight,
                    Weight::NONE,
                    "I4: first batch, going back"
                );
            }
        }
        self.check_spared(routes);
        self.ran = self
            .rollouts
            .iter()
            .filter(|(_, state)| **state == RolloutState::Running)
            .map(|(number, _)| *number)
            .collect();
        for (id, worker) in self.workers.iter_mut() {
            let route = routes
                .generations
                .iter()
                .flat_map(|generation| &generation.workers)
                .find(|route| route.worker == id);
            worker.listed |= route.is_some();
            match route {
                Some(route) if route.gate == GateState::Open => {
                    worker.shut = None;
                    worker.empty = false;
                }
                Some(_) | None if worker.listed => {
                    worker.shut.get_or_insert((epoch, now));
                    if route.is_none() {
                        worker.unlisted.get_or_insert(epoch);
                    }
                }
                Some(_) | None => {}
            }
        }
        self.table = Some(Arc::clone(routes));
    }

    /// I1: what we take though it served must be spared. Taken is who had a share and an open gate, and is
    /// as well as before, but now has not.
    fn check_spared(&self, routes: &ServiceRoutes) {
        let well = |worker: &WorkerId| {
            let worker = self.workers.get(*worker);
            worker.is_some_and(|worker| {
                worker.live() && worker.ready && !worker.failing && !worker.held && !worker.unnamed
            })
        };
        // "Failure in the first batch: the candidate's weight goes to 0, then it retires", whoever else
        // serves; and of a paused one that failed as well.
        let backs_out = |number: &Generation| {
            let back = match self.rollouts.get(number) {
                Some(RolloutState::RollingBack | RolloutState::Failed) => true,
                Some(RolloutState::Paused) => self.failed.contains(number),
                _ => false,
            };
            back && self.batch.get(number).is_none_or(|batch| *batch <= 1)
        };
        // A share rises in forward steps only (I4). So who got all of it because nobody else could answer
        // (the weights' sum is all) has its own again as soon as somebody else can.
        let table = self.table.as_ref();
        let before = || weighted(table.map_or(&[], |table| &table.generations));
        let after = || weighted(&routes.generations);
        let stood_in = |number: &Generation| {
            !before().any(|(_, of)| of != *number)
                && routes
                    .generations
                    .iter()
                    .any(|of| of.number == *number && of.role == Role::Candidate)
        };
        let taken: Vec<WorkerId> = before()
            .filter(|(worker, number)| {
                !after().any(|(open, _)| open == *worker)
                    && well(worker)
                    && !backs_out(number)
                    && !stood_in(number)
            })
            .map(|(worker, _)| worker)
            .collect();
        if taken.is_empty() || self.stopped {
            return;
        }
        let serving = n(after().filter(|(worker, _)| well(worker)));
        let settings = &self.settings;
        let lack = settings.max_unavailable.of_rounded_down(settings.wanted) + self.held_by_hand();
        let least = settings.wanted.saturating_sub(lack);
        assert!(
            serving >= least,
            "I1: {taken:?} taken, {serving} serve, at least {least}"
        );
    }

    fn terminated(&mut self, now: Moment, id: WorkerId) {
        assert!(!self.unmanaged(), "somebody else runs it");
        if self.workers.get(id).is_some_and(|worker| !worker.ready) {
            // Not ready in time, perhaps.
            self.leaves_drained(id);
        }
        let (acknowledged, stop) = (self.acknowledged, self.stop);
        let grace = self.grace();
        let worker = self.workers.get_mut(id).expect("we spawned it");
        assert!(worker.terminated.replace(now).is_none(), "TERM once");
        worker.grace = grace;
        assert!(worker.live(), "TERM to a process that is gone");
        if stop == Some(Stop::Now) || !worker.listed {
            return;
        }
        assert!(
            worker.unlisted.is_some_and(|epoch| epoch <= acknowledged),
            "I6: TERM before the table without it"
        );
        assert!(
            worker.empty || worker.over,
            "I6: TERM with requests in flight"
        );
    }

    /// SIGTERM to SIGKILL. After a second signal there is little patience left.
    fn grace(&self) -> Duration {
        match self.stop {
            Some(Stop::Now) => self.settings.kill_grace.min(ms(1000)),
            Some(Stop::Graceful) | None => self.settings.kill_grace,
        }
    }

    fn killed(&mut self, now: Moment, id: WorkerId) {
        let sooner = match self.stop {
            Some(Stop::Now) => self.grace(),
            Some(Stop::Graceful) | None => Duration::MAX,
        };
        assert!(!self.unmanaged(), "somebody else runs it");
        let worker = self.workers.get_mut(id).expect("we spawned it");
        let grace = worker.grace.min(sooner);
        // What is left of a group has its main process's time, but a second of its own.
        let passed = |since: Option<Moment>, time| since.is_none_or(|at| now.since(at) >= time);
        assert!(
            worker.terminated.is_some() || worker.exited.is_some(),
            "I7: KILL without a word before"
        );
        assert!(
            passed(worker.terminated, grace) && passed(worker.exited, ms(1000)),
            "I7: KILL before the grace was over"
        );
        worker.killed = Some(now);
    }

    fn recorded(&mut self, now: Moment, event: &Event) {
        self.records += 1;
        match event {
            Event::WorkerReady { worker, .. } => {
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.ready = true;
                    worker.ready_at = Some(now);
                    worker.failing = false;
                    let made = worker.generation;
                    self.progressed(made, now);
                }
            }
            Event::WorkerDraining { worker, .. } => {
                if let Some(worker) = self.workers.get_mut(*worker) {
                    // It is held as soon as it is ready.
                    worker.held |= worker.follows.is_some() && worker.ready_at == Some(now);
                }
                self.check_arrived(*worker);
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.retiring = !worker.held;
                    if worker.retiring {
                        worker.leaves = Some(now);
                    }
                }
            }
            Event::WorkerDrained { worker, .. } => {
                let drain = self.settings.drain_request;
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.retiring = true;
                    let plain = worker.shut.map(|(_, since)| since + drain);
                    let limit = worker.load_deadline.or(plain);
                    worker.over = limit.is_some_and(|limit| now >= limit);
                }
            }
            Event::WorkerTerminating { worker, .. } => {
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.retiring = true;
                }
            }
            // Nothing more can come of one that somebody else runs.
            Event::WorkerRetired { worker, .. } if self.unmanaged() => {
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.exited = Some(now);
                    worker.cleared = true;
                    self.gone = true;
                }
            }
            Event::WorkerStuck { worker, .. } => {
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.stuck = true;
                }
            }
            Event::WorkerBackoff {
                slot,
                generation,
                delay,
                failures,
            } => self.backs_off(now, (*slot, *generation), *failures, *delay),
            Event::RolloutState {
                number, to, state, ..
            } if number != to => {
                // A parked generation is taken back: over as soon as it began, and nothing else runs.
                assert_eq!(*state, RolloutState::Completed);
                assert_eq!(self.active(), None, "I3");
                let made = self.rollouts.insert(*number, *state);
                assert_eq!(made, None, "a number is used once");
                self.taken_back = true;
            }
            Event::RolloutState {
                to,
                from,
                state,
                message,
                ..
            } => {
                self.patient(now, *to, *state, message);
                self.rollout_state(*to, *from, *state);
            }
            Event::RolloutBatch { to, batch, .. } => {
                assert!(
                    *batch <= 1 || self.pending.is_none(),
                    "F55: {:?} waits, and another batch begins",
                    self.pending
                );
                if *batch == 1 {
                    self.check_generations(*to);
                }
                self.batch.insert(*to, *batch);
                self.ramped.remove(to);
                // The one before has passed.
                if *batch > 1 {
                    self.progressed(Some(*to), now);
                }
            }
            Event::RolloutRamped { to, weight } => {
                // Also while nobody else could answer.
                let most = self.share.entry(*to).or_default();
                *most = (*weight).max(*most);
                self.ramped.insert(*to);
                assert!(!self.blind, "F33: ramped though no plane accepts");
            }
            Event::RolloutRequested { to, .. } => {
                // The one that waited before has lost its place by now.
                assert_eq!(self.pending, None, "F55: one is pending at most");
                self.pending = self.active().map(|_| *to);
            }
            Event::RolloutVerdict {
                to,
                verdict,
                message,
                ..
            } => {
                let failed = *verdict == Verdict::Fail;
                assert!(failed || !self.blind, "F57: passed though no plane accepts");
                let holds = self.settings.not_enough == NotEnough::Hold && !self.pushed;
                assert!(
                    *verdict != Verdict::NotEnough || !holds || !message.contains("went on"),
                    "F57: {message}"
                );
                let requests = self.totals.get(to).map_or(0, |total| total.requests);
                // One that has answered nothing at all is found out by fewer.
                let unheard = requests == 0 && message.contains("have no answer");
                let enough = requests >= self.settings.judge_min_requests;
                assert!(
                    *verdict == Verdict::NotEnough || enough || unheard,
                    "F57: {verdict:?} after {requests} requests"
                );
            }
            Event::Promoted { generation, .. } => {
                self.stable = *generation;
                let of = |worker: &&Worker| worker.generation == Some(*generation);
                let serves = |worker: &&Worker| worker.serves() || worker.held && worker.live();
                let serving = n(self.workers.values().filter(of).filter(serves));
                let taken_back = std::mem::take(&mut self.taken_back);
                assert!(
                    taken_back || !self.blind,
                    "F33: completed though no plane accepts"
                );
                assert!(
                    taken_back || serving >= self.settings.wanted,
                    "completed with {serving} of {}",
                    self.settings.wanted
                );
            }
            // One more may soon be one too many.
            Event::WorkerReplaced { .. } => {
                self.drained.values_mut().for_each(|sure| *sure = false);
            }
            Event::WorkerFailed {
                worker, failure, ..
            } => {
                let ended = self.workers.get(*worker).is_some_and(|worker| worker.ended);
                assert_eq!(*failure == WorkerFailure::Ended, ended, "{failure:?}");
            }
            Event::WorkerRetired { .. }
            | Event::WorkerStarting { .. }
            | Event::WorkerUnhealthy { .. }
            | Event::WorkerHealthy { .. }
            | Event::WorkerEjected { .. }
            | Event::WorkerReadmitted { .. }
            | Event::WorkerKilling { .. }
            | Event::Scaled { .. }
            | Event::NobodyReady { .. }
            | Event::Stopping { .. } => {}
        }
    }

    /// F20: 100 ms, doubled with each failure in a row, and a fifth of chance.
    fn backs_off(
        &mut self,
        now: Moment,
        place: (Slot, Generation),
        failures: u32,
        delay: Duration,
    ) {
        let settings = &self.settings;
        assert_eq!(place.1, self.stable, "only stable workers are restarted");
        let of_place =
            |worker: &&Worker| worker.slot.zip(worker.generation) == Some(place) && !worker.cleared;
        if let Some(worker) = self.workers.values().find(of_place) {
            assert!(!worker.ended, "what ends by itself is replaced at once");
            let healthy = worker
                .ready_at
                .is_some_and(|at| now.since(at) >= settings.backoff_reset);
            let least = if healthy { 0 } else { worker.failures + 1 };
            assert!(failures >= least, "F20: {failures} in a row, not {least}");
        }
        let plain = settings.backoff_first * 2_u32.pow(failures.clamp(1, 16) - 1);
        let plain = plain.min(settings.backoff_max);
        assert!(
            delay >= plain * 4 / 5 && delay <= plain * 6 / 5,
            "F20: {delay:?} after {failures} in a row"
        );
        self.pending_backoff.insert(place, (now + delay, failures));
    }

    /// While one generation more would be one too many and another one leaves, a rollout waits.
    fn check_generations(&self, to: Generation) {
        let mut alive: BTreeMap<Generation, bool> = BTreeMap::new();
        for worker in self.workers.values() {
            if let Some(number) = worker.generation
                && number != to
                && !(worker.cleared || worker.stuck)
            {
                let stays = worker.live() && !worker.retiring && worker.terminated.is_none();
                *alive.entry(number).or_default() |= stays || number == self.stable;
            }
        }
        let most = self.settings.max_generations.max(2);
        assert!(
            n(alive.keys()) < most || alive.values().all(|stays| *stays),
            "{alive:?} beside generation {to}"
        );
    }

    /// "Old workers of the batch are drained only when it has arrived", unless fewer may serve, or fewer
    /// are wanted than when the rollout began.
    fn check_arrived(&self, id: WorkerId) {
        let serves = self
            .workers
            .get(id)
            .is_some_and(|worker| worker.serves() && worker.generation == Some(self.stable));
        let running = self.active().filter(|to| {
            self.rollouts.get(to) == Some(&RolloutState::Running) && !self.ramped.contains(to)
        });
        let lack = self.settings.max_unavailable;
        if serves && !self.rescaled && lack.of_rounded_down(self.settings.wanted) == 0 {
            assert_eq!(running, None, "{id:?} goes before the share has arrived");
        }
    }

    fn progressed(&mut self, of: Option<Generation>, now: Moment) {
        if let Some((at, _)) = of.and_then(|of| self.patience.get_mut(&of)) {
            *at = now;
        }
    }

    /// The progress deadline counts from the last progress and stands still in a pause.
    fn patient(&mut self, now: Moment, to: Generation, state: RolloutState, message: &str) {
        let fails = matches!(state, RolloutState::Paused | RolloutState::RollingBack);
        if fails && message.contains("failed its health check") {
            let limit = self.patience_with_busy();
            let to_blame = |worker: &Worker| {
                let long = worker.failing_since.is_some_and(|at| now >= at + limit);
                worker.generation == Some(to) && worker.failing && (worker.worse || long)
            };
            assert!(
                self.workers.values().any(to_blame),
                "{state:?} because a worker was busy: {message}"
            );
        }
        assert!(
            !message.starts_with("worker ") || !message.contains("ended by itself"),
            "{state:?} because a worker was through: {message}"
        );
        if self.pending == Some(to) {
            self.pending = None;
        }
        match state {
            RolloutState::Running => {
                if self.failed.remove(&to) {
                    self.resumed.insert(to);
                }
                let known = self.patience.remove(&to);
                let at = match known {
                    Some((at, Some(paused))) => (at + now.since(paused)).min(now),
                    Some((at, None)) => at,
                    None => {
                        self.rescaled = false;
                        self.pushed = false;
                        now
                    }
                };
                self.patience.insert(to, (at, None));
            }
            RolloutState::Paused | RolloutState::RollingBack => {
                let (at, paused) = self.patience.get(&to).copied().unwrap_or((now, None));
                if message.starts_with("no progress") {
                    let limit = at + self.settings.progress_deadline;
                    assert!(
                        paused.is_none() && now >= limit,
                        "F63: not before {limit:?}"
                    );
                }
                self.patience.insert(to, (at, paused.or(Some(now))));
                if !message.starts_with("paused by") && !message.starts_with("too little") {
                    self.failed.insert(to);
                }
            }
            RolloutState::Pending
            | RolloutState::Completed
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => {}
        }
    }

    fn patience_with_busy(&self) -> Duration {
        let limit = self.settings.unhealthy_after;
        if limit.is_zero() {
            ms(15_000)
        } else {
            limit.min(ms(15_000))
        }
    }

    /// F56: who is clearly worse has lost by the time it is told.
    fn judged(&self) {
        let Some(to) = self.active() else { return };
        let of = |number| self.totals.get(&number).copied().unwrap_or_default();
        let (candidate, stable) = (of(to), of(self.stable));
        let worse = stable.failures == 0
            && candidate.requests >= self.settings.judge_min_requests.max(1)
            && candidate.failures * 20 >= candidate.requests;
        assert!(
            !worse || self.failed.contains(&to) || self.resumed.contains(&to),
            "F56: {candidate:?} and it goes on"
        );
    }

    fn rollout_state(&mut self, to: Generation, from: Generation, state: RolloutState) {
        let before = self.rollouts.insert(to, state);
        if state == RolloutState::Running {
            self.ran.insert(to);
        }
        let legal = match state {
            RolloutState::Running => matches!(
                before,
                None | Some(RolloutState::Paused | RolloutState::Pending)
            ),
            RolloutState::Paused => {
                matches!(before, Some(RolloutState::Running | RolloutState::Paused))
            }
            RolloutState::Completed => before == Some(RolloutState::Running),
            RolloutState::RollingBack => {
                matches!(before, Some(RolloutState::Running | RolloutState::Paused))
            }
            RolloutState::RolledBack => before == Some(RolloutState::RollingBack),
            RolloutState::Failed | RolloutState::Superseded => {
                before.is_none_or(|before| !before.is_final())
            }
            RolloutState::Pending => false,
        };
        assert!(legal, "I3: {before:?} to {state:?}");
        if state == RolloutState::RolledBack {
            // I10: the same generation, so the same spec, at the wanted count.
            assert_eq!(from, self.stable, "I10");
            let serving = n(self.workers.values().filter(|worker| {
                worker.generation == Some(from) && (worker.serves() || worker.held && worker.live())
            }));
            assert!(
                serving >= self.settings.wanted,
                "I10: {serving} of {}",
                self.settings.wanted
            );
        }
    }

    pub(crate) fn check_settled(&self, service: &ServiceView) {
        assert_eq!(service.ready, self.settings.wanted);
        assert_eq!(service.stable, self.stable);
        let stable = &service.generations[0];
        assert_eq!(
            (stable.number, stable.role, stable.weight),
            (self.stable, Role::Stable, Weight::FULL),
            "I10"
        );
        assert!(self.records > 0, "something was recorded");
        assert!(
            service.waiting_on.is_none(),
            "waits for {:?}",
            service.waiting_on
        );
    }
}

/// Who has a share and an open gate, and of which generation.
fn weighted(generations: &[GenerationRoutes]) -> impl Iterator<Item = (WorkerId, Generation)> {
    let shares = generations.iter().filter(|of| of.weight > Weight::NONE);
    shares.flat_map(|of| {
        let open = of.workers.iter().filter(|to| to.gate == GateState::Open);
        open.map(|to| (to.worker, of.number))
    })
}

fn runs(state: RolloutState) -> bool {
    match state {
        RolloutState::Running | RolloutState::Paused | RolloutState::RollingBack => true,
        RolloutState::Pending
        | RolloutState::Completed
        | RolloutState::RolledBack
        | RolloutState::Failed
        | RolloutState::Superseded => false,
    }
}

/// How many more than wanted a rollout may have: one if nothing else is allowed at all.
fn surge(settings: &Settings) -> u32 {
    let lack = settings.max_unavailable.of_rounded_down(settings.wanted);
    let surge = settings.max_surge.of_rounded_up(settings.wanted);
    surge.max(u32::from(lack == 0))
}

fn parks(settings: &Settings) -> bool {
    !settings.park.is_zero() && surge(settings) > 0
}

fn n<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).expect("few")
}
