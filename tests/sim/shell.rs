//! The fake shell: processes, a plane, clients and people, all drawn from one seed.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use remuda::rollout::{
    Accepted, Action, Amount, Command, Core, Event, Exit, Fact, GateState, Generation, Halt,
    Health, InFlight, Moment, NotEnough, OnFailure, Outcomes, Ownership, Record, Refusal,
    RolloutOrder, RolloutState, Routes, ServiceName, Settings, Slot, Steer, Stop, Trigger,
    WorkerId, WorkerOrder, WorkerState,
};

use crate::model::Model;
use crate::rising::Rising;

/// splitmix64.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).expect("small")]
    }
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a release does to its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    NeverReady,
    ExitsEarly,
    Daemonises,
    CannotExec,
    CrashesWhenReady,
    Fails(u64),
    FallsIll,
}

#[derive(Debug, Clone)]
struct Process {
    /// Index of its service.
    site: usize,
    generation: Generation,
    alive: bool,
    /// Something is left after the main process.
    straggler: bool,
    gone: bool,
    in_flight: u32,
}

enum Happening {
    Fact(Fact),
    /// Clients for a while.
    Clients,
    Chaos,
    Person,
    Abort(usize),
    /// A worker has served enough and ends by itself.
    Ends(WorkerId),
}

/// What happens at a time; of the same time first what was made first.
#[derive(Default)]
struct Queue {
    /// The time, the number in the order of making, and the place in `what`: small, because a heap moves
    /// things about a lot.
    order: BinaryHeap<Reverse<(Moment, u64, usize)>>,
    what: Vec<Option<Happening>>,
    free: Vec<usize>,
    sequence: u64,
}

impl Queue {
    fn push(&mut self, at: Moment, what: Happening) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.what.push(None);
            self.what.len() - 1
        });
        self.what[place] = Some(what);
        self.order.push(Reverse((at, self.sequence, place)));
    }

    /// When the next one happens.
    fn next(&self) -> Option<Moment> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next one, if it has happened by `now`.
    fn pop(&mut self, now: Moment) -> Option<Happening> {
        self.next().filter(|at| *at <= now)?;
        let Reverse((_, _, place)) = self.order.pop()?;
        self.free.push(place);
        self.what[place].take()
    }
}

pub(crate) struct Shell {
    pub(crate) rng: Rng,
    pub(crate) core: Core,
    shadow: Option<Shadow>,
    pub(crate) now: Moment,
    queue: Queue,
    processes: Rising<Process>,
    pub(crate) sites: Vec<Site>,
    table: Routes,
    faults: bool,
    bad_releases: bool,
    slow_ack: bool,
    /// Some workers end by themselves after a while, and some are ill because they are busy. In every second history, so that the seeds that are
    /// kept by name, all of them even, go on as they did.
    recycles: bool,
    /// In every third one, so that the odd ones that are kept by name go on as they did, workers that serve may be
    /// ill for as long as those that are tried, and are replaced.
    lingers: bool,
    calm: bool,
    /// Saved and restored after every event.
    pub(crate) restless: bool,
    pub(crate) finished: bool,
    verbose: bool,
    /// The trace is hashed; it costs, so only where it is asked for.
    pub(crate) traced: bool,
    hash: u64,
    last_facts: VecDeque<Fact>,
    /// Something was done since anybody looked whether all has settled.
    moved: bool,
    /// The core's next deadline after the last tick, until an order changes it.
    due: Option<Option<Moment>>,
}

/// One service, and the world around it.
pub(crate) struct Site {
    name: ServiceName,
    pub(crate) model: Model,
    kinds: BTreeMap<Generation, Kind>,
    totals: BTreeMap<Generation, Outcomes>,
    traffic: u64,
    /// Somebody else's workers whose addresses are not named any more.
    gone: BTreeSet<WorkerId>,
}

impl Site {
    fn new(name: ServiceName, settings: Settings, traffic: u64) -> Self {
        Self {
            name,
            model: Model::new(settings),
            kinds: BTreeMap::from([(Generation(1), Kind::Good)]),
            totals: BTreeMap::new(),
            traffic,
            gone: BTreeSet::new(),
        }
    }

    fn unmanaged(&self) -> bool {
        self.model.settings.ownership == Ownership::Unmanaged
    }
}

/// The core as it was saved, which goes along with the restored one for a while (I16).
struct Shadow {
    core: Core,
    /// Steps to go.
    left: u32,
}

/// How many steps a shadow goes along: long enough for every deadline that ran at the save to matter to
/// a worker's or a batch's next step. After that the two states must be the same.
const SHADOWED: u32 = 100;

pub(crate) fn service() -> ServiceName {
    ServiceName::new("app")
}

impl Shell {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1));
        let core = Core::new(rng.next());
        let mut sites = Vec::new();
        for name in ["app", "shop", "wiki"]
            .into_iter()
            .take(rng.pick(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3]))
        {
            let settings = settings(&mut rng);
            let traffic = rng.pick(&[0, 1, 5, 40, 40]);
            sites.push(Site::new(ServiceName::new(name), settings, traffic));
        }
        let mut shell = Self {
            rng,
            core,
            shadow: None,
            now: Moment(ms(1000)),
            queue: Queue::default(),
            processes: Rising::new(),
            sites,
            table: Routes::default(),
            faults: true,
            bad_releases: true,
            slow_ack: false,
            recycles: seed % 2 == 1,
            lingers: seed % 3 == 2,
            calm: false,
            restless: false,
            finished: false,
            verbose: false,
            traced: false,
            hash: 0,
            last_facts: VecDeque::new(),
            moved: true,
            due: None,
        };
        shell.faults = shell.rng.chance(80);
        shell
    }

    /// One whole history: start, faults and orders for a while, then calm until everything has settled,
    /// then stop. Returns a hash of all that was done.
    pub(crate) fn run(mut self, step: &Cell<u64>, verbose: bool) -> u64 {
        self.verbose = verbose;
        let starts: Vec<Command> = self
            .sites
            .iter()
            .map(|site| Command::Start {
                service: site.name.clone(),
                settings: site.model.settings.clone(),
                first: Generation(1),
                release: "v1".to_owned(),
            })
            .collect();
        for start in starts {
            self.order(start);
        }
        for (after, what) in [
            (400, Happening::Clients),
            (700, Happening::Chaos),
            (2500, Happening::Person),
        ] {
            self.after(after, what);
        }
        let calm = self.now + ms(self.rng.between(5_000, 60_000));
        while self.now < calm {
            step.set(step.get() + 1);
            self.step();
        }
        self.calm_down();
        let bounds = self.sites.iter().map(|site| site.model.bound());
        let bound = self.now + bounds.max().expect("a service");
        let mut resumed = self.now;
        while !self.settled() {
            step.set(step.get() + 1);
            assert!(
                self.now < bound,
                "I9: not settled: {:#?}",
                self.core.view(self.now)
            );
            self.step();
            // Whoever paused comes back, now and then.
            if self.now.since(resumed) > ms(4_000) {
                resumed = self.now;
                let steer = self.rng.pick(&[Steer::Resume, Steer::Resume, Steer::Abort]);
                for service in self.paused() {
                    self.order(Command::Steer {
                        service,
                        steer,
                        rollout: None,
                    });
                }
                self.undrain_all();
                self.probe_ready();
            }
        }
        let view = self.core.view(self.now);
        assert_eq!(view.services.len(), self.sites.len());
        for (site, service) in self.sites.iter().zip(&view.services) {
            site.model.check_settled(service);
        }
        let stop = if self.rng.chance(70) {
            Stop::Graceful
        } else {
            Stop::Now
        };
        if self.rng.chance(50) {
            let since = self.now;
            let (serves_until, deadline) = (since + ms(1_000), since + ms(60_000));
            self.order(Command::Halt(Halt {
                since,
                serves_until,
                deadline,
            }));
            let refused = self.core.command(
                since,
                Command::Scale {
                    service: self.sites[0].name.clone(),
                    wanted: 3,
                },
            );
            assert_eq!(refused, Err(Refusal::Stopping));
            for _ in 0..5 {
                self.step();
            }
        }
        self.order(Command::Stop(stop));
        let bound = self.now + ms(200_000);
        while !self.finished {
            step.set(step.get() + 1);
            assert!(
                self.now < bound,
                "I8: it does not finish: {:#?}",
                self.core.view(self.now)
            );
            self.step();
            if self.rng.chance(1) {
                self.order(Command::Stop(Stop::Now));
            }
        }
        assert!(
            self.processes.values().all(|process| process.gone),
            "I8: a process is left behind"
        );
        self.hash
    }

    fn calm_down(&mut self) {
        self.faults = false;
        self.bad_releases = false;
        self.slow_ack = false;
        self.calm = true;
        let kinds = self
            .sites
            .iter_mut()
            .flat_map(|site| site.kinds.values_mut());
        for kind in kinds {
            if !matches!(kind, Kind::Fails(_)) {
                *kind = Kind::Good;
            }
        }
        self.undrain_all();
    }

    /// The services whose rollout is paused.
    fn paused(&self) -> Vec<ServiceName> {
        let paused = self.sites.iter().filter(|site| site.model.paused());
        paused.map(|site| site.name.clone()).collect()
    }

    /// The probes go on: whoever was ready answers, and whom nobody here starts.
    fn probe_ready(&mut self) {
        let view = self.core.view(self.now);
        let generations = view
            .services
            .iter()
            .flat_map(|service| &service.generations);
        for worker in generations.flat_map(|generation| &generation.workers) {
            let Some(process) = self.processes.get(worker.worker) else {
                continue;
            };
            // One that somebody else runs has all the time in the world to start.
            let probed = worker.state == WorkerState::Ready
                || worker.state == WorkerState::Starting && self.sites[process.site].unmanaged();
            if process.alive && probed {
                self.answers(worker.worker, 0);
            }
        }
    }

    /// It passes as many probes in a row as it takes.
    fn answers(&mut self, worker: WorkerId, delay: u64) {
        let Some(process) = self.processes.get(worker) else {
            return;
        };
        for n in 0..u64::from(self.sites[process.site].model.settings.rise) {
            self.later(delay + n, Fact::Answered { worker });
        }
    }

    fn undrain_all(&mut self) {
        for site in 0..self.sites.len() {
            for slot in 0..20 {
                if self.sites[site].model.held_by_hand() > 0 {
                    self.worker_order(site, Slot(slot), WorkerOrder::Undrain);
                }
            }
        }
    }

    /// Nothing settles without an action, but for the last of a worker that crashed.
    fn settled(&mut self) -> bool {
        if !std::mem::take(&mut self.moved) {
            return false;
        }
        if !self.sites.iter().all(|site| site.model.may_have_settled()) {
            return false;
        }
        let view = self.core.view(self.now);
        view.services.iter().all(|service| {
            service.pending.is_none()
                && service
                    .rollout
                    .as_ref()
                    .is_none_or(|rollout| rollout.state.is_final())
                && service.generations.len() == 1
                && service.ready == service.wanted
                && service.generations[0].workers.len() == service.wanted as usize
                && service.generations[0]
                    .workers
                    .iter()
                    .all(|worker| worker.health == Health::Passing)
                // An ejection is over when its time is.
                && service.waiting_on.is_none()
        })
    }

    /// The next thing that happens. After a leap of the clock all facts that wait come first (F35).
    fn step(&mut self) {
        let next = self.queue.next();
        let deadline = self.due.take().unwrap_or_else(|| self.core.next_deadline());
        let at = match (next, deadline) {
            (Some(next), Some(deadline)) => next.min(deadline),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => panic!("nothing will ever happen: {:#?}", self.core.view(self.now)),
        };
        self.now = self.now.max(at);
        if self.faults && self.rng.below(400) == 0 {
            let leap = ms(self.rng.between(500, 40_000));
            self.now = self.now + leap;
            // Of the shell's own standing still the core is told; of a clock that only leaps it is not.
            if self.rng.chance(50) {
                self.tell(Fact::Stalled { by: leap });
            }
        }
        while let Some(what) = self.queue.pop(self.now) {
            match what {
                Happening::Fact(fact) => self.tell(fact),
                Happening::Clients => self.clients(),
                Happening::Chaos => self.chaos(),
                Happening::Person => self.person(),
                Happening::Ends(worker) => self.exit(worker, 0, Exit::Code(0)),
                Happening::Abort(site) => self.order(Command::Steer {
                    service: self.sites[site].name.clone(),
                    steer: Steer::Abort,
                    rollout: None,
                }),
            }
        }
        let now = self.now;
        self.both(|core| core.tick(now));
        self.drain_actions();
        let deadline = self.core.next_deadline();
        assert!(
            deadline.is_none_or(|deadline| deadline > now),
            "the loop would spin: {deadline:?} at {now:?}"
        );
        self.due = Some(deadline);
        for site in &self.sites {
            site.model.punctual(now);
        }
        self.shadow_step();
    }

    /// F13: what an upgrade does, here after every single event, before anything of it is done.
    fn restore(&mut self) {
        if self.restless {
            let saved = serde_json::to_string(&self.core).expect("the core can be saved");
            self.core = serde_json::from_str(&saved).expect("and restored");
        }
    }

    /// I16: a restored core is the saved one, and goes on exactly as that.
    fn shadow_step(&mut self) {
        if let Some(shadow) = &mut self.shadow {
            shadow.left -= 1;
            if shadow.left == 0 {
                assert!(self.core == shadow.core, "I16");
                self.shadow = None;
            }
        } else if self.rng.below(1_000) == 0 {
            let saved = serde_json::to_string(&self.core).expect("the core can be saved");
            let restored: Core = serde_json::from_str(&saved).expect("and restored");
            assert!(self.core == restored, "I16");
            self.shadow = Some(Shadow {
                core: std::mem::replace(&mut self.core, restored),
                left: SHADOWED,
            });
        }
    }

    fn both(&mut self, with: impl Fn(&mut Core)) {
        with(&mut self.core);
        if let Some(shadow) = &mut self.shadow {
            with(&mut shadow.core);
        }
    }

    pub(crate) fn order(&mut self, command: Command) {
        if self.verbose {
            println!("{:>9.3} order {command:?}", self.now.0.as_secs_f64());
        }
        self.due = None;
        for site in &mut self.sites {
            if about(&command).is_none_or(|service| *service == site.name) {
                site.model.ordered(&command, || self.core.view(self.now));
            }
        }
        let now = self.now;
        let answer = self.core.command(now, command.clone());
        if self.verbose {
            println!("          answer {answer:?}");
        }
        if let Some(shadow) = &mut self.shadow {
            assert_eq!(answer, shadow.core.command(now, command.clone()), "I16");
        }
        for site in &mut self.sites {
            if about(&command).is_none_or(|service| *service == site.name) {
                site.model.answered(&command, &answer);
            }
        }
        if let (Command::Rollback { service }, Ok(_)) = (&command, &answer) {
            let service = service.clone();
            let mut twice = self.core.clone();
            let again = twice.command(now, Command::Rollback { service });
            assert!(matches!(again, Ok(Accepted::Rollout { .. })), "{again:?}");
            assert!(twice == self.core, "F63: a second rollback does something");
        }
        self.drain_actions();
    }

    fn tell(&mut self, fact: Fact) {
        if self.verbose {
            println!("{:>9.3} fact  {fact:?}", self.now.0.as_secs_f64());
        }
        self.moved |= matches!(fact, Fact::Cleared { .. });
        let now = self.now;
        match &fact {
            Fact::Acknowledged { epoch } => {
                for site in &mut self.sites {
                    site.model.acknowledged(*epoch);
                }
            }
            Fact::Spawned { worker, .. }
            | Fact::SpawnFailed { worker, .. }
            | Fact::Answered { worker }
            | Fact::Unanswered { worker, .. }
            | Fact::Exited { worker, .. }
            | Fact::Cleared { worker }
            | Fact::Ejected { worker }
            | Fact::Readmitted { worker }
            | Fact::Load { worker, .. } => {
                if let Some(process) = self.processes.get(*worker) {
                    self.sites[process.site].model.told(now, &fact);
                }
            }
            Fact::Traffic { service, .. } => {
                let site = self.site(service);
                self.sites[site].model.told(now, &fact);
            }
            Fact::Stalled { .. } | Fact::Planes { .. } => {
                for site in &mut self.sites {
                    site.model.told(now, &fact);
                }
            }
        }
        self.both(|core| core.fact(now, fact.clone()));
        self.drain_actions();
        if self.last_facts.len() == 8 {
            self.last_facts.pop_front();
        }
        self.last_facts.push_back(fact);
    }

    fn drain_actions(&mut self) {
        self.restore();
        while let Some(action) = self.core.poll_action() {
            self.moved = true;
            if let Some(shadow) = &mut self.shadow {
                assert_eq!(Some(&action), shadow.core.poll_action().as_ref(), "I16");
            }
            if self.verbose {
                println!("          {action:?}");
            }
            if self.traced {
                self.hash = self.hash.rotate_left(5).wrapping_mul(31) ^ fold(&action);
            }
            self.witness(&action);
            self.obey(action);
        }
        if let Some(shadow) = &mut self.shadow {
            assert_eq!(None, shadow.core.poll_action(), "I16");
            assert_eq!(
                self.core.next_deadline(),
                shadow.core.next_deadline(),
                "I16"
            );
        }
        for site in &mut self.sites {
            site.model.after();
        }
    }

    /// Shows the models what the core does.
    fn witness(&mut self, action: &Action) {
        let now = self.now;
        match action {
            Action::Publish(routes) => {
                assert_eq!(routes.epoch.0, self.table.epoch.0 + 1, "epochs count");
                for routes_of in &routes.services {
                    let site = self.site(&routes_of.service);
                    self.sites[site]
                        .model
                        .published(now, routes.epoch, routes_of);
                }
            }
            Action::Terminate { worker }
            | Action::TerminateGroup { worker }
            | Action::KillGroup { worker } => {
                let process = self.processes.get(*worker).expect("it was spawned");
                self.sites[process.site].model.acted(now, action);
            }
            Action::Spawn { service, .. } => {
                let site = self.site(service);
                self.sites[site].model.acted(now, action);
            }
            Action::Forget { service, .. }
            | Action::Reuse { service, .. }
            | Action::Record(Record { service, .. }) => {
                let site = self.site(service);
                self.sites[site].model.acted(now, action);
            }
            Action::Finished => {
                for site in &mut self.sites {
                    site.model.acted(now, action);
                }
            }
        }
    }

    fn site(&self, service: &ServiceName) -> usize {
        let is = |site: &Site| site.name == *service;
        self.sites.iter().position(is).expect("it was started")
    }

    fn after(&mut self, delay: u64, what: Happening) {
        self.queue.push(self.now + ms(delay), what);
    }

    fn later(&mut self, delay: u64, fact: Fact) {
        self.after(delay, Happening::Fact(fact));
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Publish(routes) => self.publish(routes),
            Action::Spawn {
                worker,
                service,
                generation,
                ..
            } => self.spawn(worker, self.site(&service), generation),
            Action::Terminate { worker } => {
                let ignored = self.faults && self.rng.chance(10);
                if !ignored {
                    let delay = self.rng.between(1, 400);
                    self.exit(worker, delay, Exit::Code(0));
                }
            }
            Action::TerminateGroup { worker } => {
                if self.rng.chance(50) {
                    self.clear(worker, 5);
                }
            }
            Action::KillGroup { worker } => {
                let delay = if self.faults && self.rng.chance(10) {
                    self.rng.between(5_000, 60_000)
                } else {
                    self.rng.between(1, 20)
                };
                self.exit(
                    worker,
                    delay,
                    Exit::Signal {
                        signal: 9,
                        core: false,
                    },
                );
                self.clear(worker, delay + 1);
            }
            Action::Finished => self.finished = true,
            Action::Record(record) => {
                let site = self.site(&record.service);
                match record.event {
                    // What was promoted is taken for good.
                    Event::RolloutState {
                        to,
                        state: RolloutState::Completed,
                        ..
                    } => {
                        self.sites[site].kinds.insert(to, Kind::Good);
                    }
                    // It is nobody's any more; whoever runs it goes on.
                    Event::WorkerRetired { worker, .. } if self.sites[site].unmanaged() => {
                        if let Some(process) = self.processes.get_mut(worker) {
                            process.alive = false;
                            process.gone = true;
                        }
                    }
                    _ => {}
                }
            }
            Action::Forget { .. } | Action::Reuse { .. } => {}
        }
    }

    fn publish(&mut self, routes: Routes) {
        let slow = self.slow_ack && self.rng.chance(30);
        let delay = if slow {
            self.rng.between(200, 2000)
        } else {
            self.rng.between(1, 20)
        };
        self.later(
            delay,
            Fact::Acknowledged {
                epoch: routes.epoch,
            },
        );
        for worker in routes
            .services
            .iter()
            .flat_map(|service| &service.generations)
        {
            for route in worker
                .workers
                .iter()
                .filter(|route| route.gate != GateState::Open)
            {
                self.report_drain(route.worker, delay);
            }
        }
        self.table = routes;
    }

    /// A shut gate's count, now and when it is empty.
    fn report_drain(&mut self, worker: WorkerId, delay: u64) {
        let Some(process) = self.processes.get_mut(worker) else {
            return;
        };
        let plain = process.in_flight;
        process.in_flight = 0;
        let in_flight = InFlight {
            plain,
            ..InFlight::default()
        };
        let limit = self.rng.between(500, 30_000);
        let deadline = (plain > 0 && self.rng.chance(80)).then(|| self.now + ms(limit));
        let fact = Fact::Load {
            worker,
            in_flight,
            deadline,
        };
        self.later(delay, fact);
        if plain > 0 && !(self.faults && self.rng.chance(10)) {
            let empty = Fact::Load {
                worker,
                in_flight: InFlight::default(),
                deadline,
            };
            let took = self.rng.between(1, limit);
            self.later(delay + took, empty);
        }
    }

    fn spawn(&mut self, worker: WorkerId, site: usize, generation: Generation) {
        let kind = self.kind(site, generation);
        let unmanaged = self.sites[site].unmanaged();
        let unlucky = self.faults && self.rng.chance(3);
        let fails = kind == Kind::CannotExec || unlucky;
        let straggler = !unmanaged && !fails && self.rng.chance(10);
        self.processes.push(
            worker,
            Process {
                site,
                generation,
                alive: !fails,
                straggler,
                gone: fails,
                in_flight: 0,
            },
        );
        if fails {
            self.later(
                3,
                Fact::SpawnFailed {
                    worker,
                    error: "cannot execute".to_owned(),
                },
            );
            return;
        }
        if !unmanaged {
            self.later(2, Fact::Spawned { worker, pid: 1000 });
        }
        let boot = self.rng.between(20, 1500);
        if self.rng.chance(30) {
            self.later(
                boot / 2,
                Fact::Unanswered {
                    worker,
                    problem: "connection refused".to_owned(),
                    late: false,
                },
            );
        }
        match kind {
            Kind::NeverReady => {}
            Kind::ExitsEarly => self.exit(worker, boot, Exit::Code(1)),
            Kind::Daemonises => self.exit(worker, boot, Exit::Code(0)),
            Kind::Good
            | Kind::CannotExec
            | Kind::CrashesWhenReady
            | Kind::Fails(_)
            | Kind::FallsIll => {
                if self.faults && self.rng.chance(3) {
                    return;
                }
                self.answers(worker, boot);
                if self.recycles && self.faults && !unmanaged && self.rng.chance(30) {
                    let serves = self.rng.between(200, 9_000);
                    self.after(boot + serves, Happening::Ends(worker));
                }
                if kind == Kind::CrashesWhenReady {
                    let delay = boot + self.rng.between(10, 4000);
                    self.exit(
                        worker,
                        delay,
                        Exit::Signal {
                            signal: 11,
                            core: true,
                        },
                    );
                }
                if kind == Kind::FallsIll {
                    for n in 0..3 {
                        self.later(
                            boot + 500 + n,
                            Fact::Unanswered {
                                worker,
                                problem: "503".to_owned(),
                                late: false,
                            },
                        );
                    }
                }
            }
        }
    }

    fn unmanaged(&self, worker: WorkerId) -> bool {
        self.sites[self.processes[worker].site].unmanaged()
    }

    fn kind(&mut self, site: usize, generation: Generation) -> Kind {
        if let Some(kind) = self.sites[site].kinds.get(&generation) {
            return *kind;
        }
        let kind = if self.bad_releases && self.rng.chance(45) {
            self.rng.pick(&[
                Kind::NeverReady,
                Kind::ExitsEarly,
                Kind::Daemonises,
                Kind::CannotExec,
                Kind::CrashesWhenReady,
                Kind::Fails(30),
                Kind::Fails(100),
                Kind::FallsIll,
            ])
        } else {
            Kind::Good
        };
        self.sites[site].kinds.insert(generation, kind);
        kind
    }

    fn exit(&mut self, worker: WorkerId, delay: u64, exit: Exit) {
        let Some(process) = self.processes.get_mut(worker) else {
            return;
        };
        if !process.alive {
            return;
        }
        process.alive = false;
        let straggler = process.straggler;
        self.later(delay, Fact::Exited { worker, exit });
        if !straggler {
            self.clear(worker, delay + 1);
        }
    }

    fn clear(&mut self, worker: WorkerId, delay: u64) {
        let Some(process) = self.processes.get_mut(worker) else {
            return;
        };
        if !process.gone {
            process.gone = true;
            self.later(delay, Fact::Cleared { worker });
        }
    }

    fn clients(&mut self) {
        let delay = self.rng.between(300, 1500);
        self.after(delay, Happening::Clients);
        let mut open = Vec::new();
        let mut told = Vec::new();
        for (site, service) in self.sites.iter_mut().zip(&self.table.services) {
            if self.faults && self.rng.chance(5) {
                site.traffic = self.rng.pick(&[0, 1, 5, 40]);
            }
            if site.traffic == 0 {
                continue;
            }
            for generation in &service.generations {
                let n = site.traffic * u64::from(generation.weight.0) / 10_000
                    + u64::from(self.rng.below(10_000) < u64::from(generation.weight.0));
                if n == 0 {
                    continue;
                }
                let percent = match site.kinds.get(&generation.number) {
                    Some(Kind::Fails(percent)) => *percent,
                    _ => 0,
                };
                let total = site.totals.entry(generation.number).or_default();
                total.requests += n;
                total.failures += (n * percent).div_ceil(100);
                told.push(Fact::Traffic {
                    service: site.name.clone(),
                    generation: generation.number,
                    total: *total,
                });
                open.extend(
                    generation
                        .workers
                        .iter()
                        .filter(|route| route.gate == GateState::Open)
                        .map(|route| route.worker),
                );
            }
        }
        open.sort_unstable();
        for worker in open {
            if self.rng.chance(40) {
                let plain = u32::try_from(self.rng.below(4)).expect("small");
                if let Some(process) = self.processes.get_mut(worker) {
                    process.in_flight = plain;
                }
                let in_flight = InFlight {
                    plain,
                    ..InFlight::default()
                };
                self.later(
                    0,
                    Fact::Load {
                        worker,
                        in_flight,
                        deadline: None,
                    },
                );
            }
        }
        for fact in told {
            self.later(1, fact);
        }
    }

    fn chaos(&mut self) {
        if !self.faults {
            return;
        }
        let delay = self.rng.between(300, 6000);
        self.after(delay, Happening::Chaos);
        let alive: Vec<WorkerId> = self
            .processes
            .iter()
            .filter(|(_, process)| process.alive)
            .map(|(worker, _)| worker)
            .collect();
        match self.rng.below(9) {
            0 | 1 if !alive.is_empty() => {
                let victim = self.rng.pick(&alive);
                if self.unmanaged(victim) {
                    return;
                }
                self.exit(
                    victim,
                    0,
                    Exit::Signal {
                        signal: 9,
                        core: false,
                    },
                );
            }
            2 if !alive.is_empty() => {
                let ill = self.rng.pick(&alive);
                self.falls_ill(ill);
            }
            // The plane dies: nothing is in flight any more, its successor acknowledges later.
            3 => {
                self.slow_ack = !self.slow_ack;
                let most = self.rng.pick(&[100, 3_000, 3_000, 30_000]);
                let gone = self.rng.between(20, most);
                self.later(0, Fact::Planes { accept: false });
                self.later(gone, Fact::Planes { accept: true });
                for worker in alive {
                    if let Some(process) = self.processes.get_mut(worker) {
                        process.in_flight = 0;
                    }
                    self.later(
                        0,
                        Fact::Load {
                            worker,
                            in_flight: InFlight::default(),
                            deadline: None,
                        },
                    );
                }
            }
            // Late, repeated and unknown news.
            4 | 5 if !self.last_facts.is_empty() => {
                let index = self.rng.below(self.last_facts.len() as u64);
                let fact = self.last_facts[usize::try_from(index).expect("small")].clone();
                let repeatable = !matches!(
                    fact,
                    Fact::Load { .. }
                        | Fact::Planes { .. }
                        | Fact::Ejected { .. }
                        | Fact::Readmitted { .. }
                );
                if repeatable {
                    let delay = self.rng.between(0, 5000);
                    self.later(delay, fact);
                }
            }
            6 => self.later(
                0,
                Fact::Exited {
                    worker: WorkerId(999_999),
                    exit: Exit::Code(3),
                },
            ),
            7 => self.later(
                0,
                Fact::Acknowledged {
                    epoch: remuda::rollout::Epoch(u64::MAX),
                },
            ),
            8 if !alive.is_empty() => self.disaster(&alive),
            _ => {}
        }
    }

    fn falls_ill(&mut self, worker: WorkerId) {
        let site = self.processes[worker].site;
        for n in 0..u64::from(self.sites[site].model.settings.fall) {
            self.later(
                n,
                Fact::Unanswered {
                    worker,
                    problem: "timed out".to_owned(),
                    late: self.recycles,
                },
            );
        }
        let mut well = self.rng.between(10, 3000);
        // Long enough for a rollout to bear with it no longer, and for a worker that serves to be replaced.
        let site = &self.sites[site];
        let lingers = self.lingers || site.model.tries(self.processes[worker].generation);
        if self.recycles && lingers && self.rng.chance(20) {
            well = self.rng.between(10_000, 25_000);
        }
        // Its answers are as bad.
        self.later(0, Fact::Ejected { worker });
        self.later(well, Fact::Readmitted { worker });
        self.answers(worker, well);
    }

    /// A whole generation dies or falls ill, and mostly somebody aborts.
    fn disaster(&mut self, alive: &[WorkerId]) {
        let (one, dies) = (self.rng.pick(alive), self.rng.chance(50));
        let of = |process: &Process| (process.site, process.generation);
        let (site, generation) = of(&self.processes[one]);
        for worker in alive {
            if of(&self.processes[*worker]) != (site, generation) {
                continue;
            }
            if dies && !self.unmanaged(*worker) {
                let exit = Exit::Signal {
                    signal: 9,
                    core: false,
                };
                self.exit(*worker, 0, exit);
            } else {
                self.falls_ill(*worker);
            }
        }
        if self.rng.chance(60) {
            let delay = self.rng.between(0, 300);
            self.after(delay, Happening::Abort(site));
        }
    }

    fn person(&mut self) {
        if self.calm {
            return;
        }
        let delay = self.rng.between(500, 15_000);
        self.after(delay, Happening::Person);
        let at = usize::try_from(self.rng.below(self.sites.len() as u64)).expect("small");
        let service = self.sites[at].name.clone();
        let n = self.rng.below(22);
        let command = match n {
            0..=8 => {
                let release = match self.rng.below(4) {
                    0 => None,
                    n => Some(format!("v{n}")),
                };
                let order = RolloutOrder {
                    release,
                    trigger: Trigger::Api,
                    reason: None,
                    force: self.rng.chance(30),
                    expected: None,
                };
                Command::Rollout { service, order }
            }
            9..=13 => {
                let steer = self.rng.pick(&[
                    Steer::Pause,
                    Steer::Resume,
                    Steer::Resume,
                    Steer::Promote,
                    Steer::Abort,
                ]);
                Command::Steer {
                    service,
                    steer,
                    rollout: None,
                }
            }
            14 => Command::Rollback { service },
            15 | 16 => {
                let wanted = u32::try_from(self.rng.between(1, 5)).expect("small");
                Command::Scale { service, wanted }
            }
            17 | 18 => {
                self.reload(at);
                return;
            }
            _ => {
                let slot = Slot(u32::try_from(self.rng.below(6)).expect("small"));
                let order = self.rng.pick(&[
                    WorkerOrder::Drain,
                    WorkerOrder::Undrain,
                    WorkerOrder::Restart,
                ]);
                self.worker_order(at, slot, order);
                return;
            }
        };
        self.order(command);
    }

    /// The config has changed: other settings, and mostly a new spec to roll to.
    fn reload(&mut self, at: usize) {
        let ownership = self.sites[at].model.settings.ownership;
        let mut settings = settings(&mut self.rng);
        if settings.ownership != ownership && self.rng.chance(80) {
            settings.ownership = ownership;
        }
        if self.rng.chance(5) {
            settings.wanted = 0;
        }
        let service = self.sites[at].name.clone();
        if self.sites[at].unmanaged() && self.rng.chance(60) {
            self.readdress(at, service, settings);
            return;
        }
        self.order(Command::Configure {
            service: service.clone(),
            settings,
        });
        if self.rng.chance(70) {
            let order = RolloutOrder {
                release: None,
                trigger: Trigger::Reload,
                reason: Some("its config has changed".to_owned()),
                force: false,
                expected: None,
            };
            self.order(Command::Rollout { service, order });
        }
    }

    /// Some addresses go, and with the new count others come.
    fn readdress(&mut self, at: usize, service: ServiceName, mut settings: Settings) {
        let view = self.core.view(self.now);
        let mut services = view.services.iter();
        let of = services.find(|of| of.service == service);
        let generations = of.iter().flat_map(|of| &of.generations);
        let workers = generations.flat_map(|generation| &generation.workers);
        let ids = workers.map(|worker| worker.worker).collect::<Vec<_>>();
        let named = ids
            .into_iter()
            .filter(|id| !self.sites[at].gone.contains(id));
        let (gone, kept): (Vec<_>, Vec<_>) = named.partition(|_| self.rng.chance(40));
        // There is one worker for each address that is named.
        let kept = u32::try_from(kept.len()).expect("few");
        settings.wanted = settings.wanted.max(kept);
        self.sites[at].gone.extend(&gone);
        self.order(Command::Readdress {
            service,
            settings,
            gone,
        });
    }

    fn worker_order(&mut self, at: usize, slot: Slot, order: WorkerOrder) {
        self.order(Command::Worker {
            service: self.sites[at].name.clone(),
            slot,
            order,
        });
    }
}

/// The service an order is about; `None` for all of them.
fn about(command: &Command) -> Option<&ServiceName> {
    match command {
        Command::Start { service, .. }
        | Command::Configure { service, .. }
        | Command::Readdress { service, .. }
        | Command::Rollout { service, .. }
        | Command::Steer { service, .. }
        | Command::Rollback { service }
        | Command::Scale { service, .. }
        | Command::Worker { service, .. } => Some(service),
        Command::Halt(_) | Command::Stop(_) => None,
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let (surge, unavailable) = rng.pick(&[(1, 0), (1, 0), (2, 0), (1, 1), (0, 1), (0, 2)]);
    Settings {
        ownership: if rng.chance(4) {
            Ownership::Unmanaged
        } else {
            Ownership::Managed
        },
        wanted: u32::try_from(rng.between(1, 5)).expect("small"),
        max_surge: Amount::Count(surge),
        max_unavailable: Amount::Count(unavailable),
        ramp: ms(rng.pick(&[0, 150, 600])),
        soak: ms(rng.pick(&[0, 500, 3000])),
        progress_deadline: ms(rng.pick(&[15_000, 30_000])),
        on_failure: rng.pick(&[OnFailure::Rollback, OnFailure::Rollback, OnFailure::Pause]),
        park: ms(rng.pick(&[0, 0, 0, 5_000])),
        max_generations: rng.pick(&[2, 3]),
        judge_min_requests: 20,
        not_enough: rng.pick(&[NotEnough::Continue, NotEnough::Continue, NotEnough::Hold]),
        rise: rng.pick(&[1, 1, 2]),
        fall: rng.pick(&[1, 3]),
        start_timeout: ms(10_000),
        kill_grace: ms(rng.pick(&[1_000, 3_000])),
        drain_request: ms(rng.pick(&[2_000, 10_000])),
        unhealthy_after: ms(rng.pick(&[0, 1_000, 10_000])),
        ..Settings::default()
    }
}

/// A number that differs when the action does.
fn fold(action: &Action) -> u64 {
    match action {
        Action::Publish(routes) => {
            let mut sum = routes.epoch.0;
            for generation in routes
                .services
                .iter()
                .flat_map(|service| &service.generations)
            {
                sum = sum.wrapping_mul(31)
                    + generation.number.0 * 20_011
                    + u64::from(generation.weight.0);
                for route in &generation.workers {
                    let open = u64::from(route.gate == GateState::Open);
                    sum = sum.wrapping_mul(31) + route.worker.0 * 2 + open;
                }
            }
            sum
        }
        Action::Spawn {
            worker,
            slot,
            generation,
            ..
        } => worker.0 * 131 + u64::from(slot.0) * 17 + generation.0,
        Action::Terminate { worker } => worker.0 * 3 + 1,
        Action::TerminateGroup { worker } => worker.0 * 3 + 2,
        Action::KillGroup { worker } => worker.0 * 3 + 3,
        Action::Reuse { generation, .. } | Action::Forget { generation, .. } => generation.0 * 11,
        Action::Record(record) => {
            let mut hasher = std::hash::DefaultHasher::new();
            let told = serde_json::to_vec(&record.event).expect("a record can be written");
            std::hash::Hasher::write(&mut hasher, &told);
            std::hash::Hasher::finish(&hasher)
        }
        Action::Finished => 9,
    }
}
