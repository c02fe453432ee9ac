//! The start in its order, and the end: what is bound, made and written before the loop runs, and what
//! is removed after it. Anything that fails here ends the start with one sentence and status 1.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};

use super::access_log;
use super::certificates::Certificates;
use super::clock::Clock;
use super::console::{Console, Stream};
use super::control::{Identity, Outlets, Reread, Supervisor};
use super::handle::Handle;
use super::image::Image;
use super::inherited::Inherited;
use super::journal::{Journal, Naming};
use super::listeners::Listeners;
use super::logging::{self, Form};
use super::manager::Manager;
use super::notices::Notices;
use super::orphans;
use super::pid_file;
use super::planes::{Planes, Terms};
use super::premises::{Entry, OwnPidFile, Premises};
use super::protect;
use super::reaper::Reaper;
use super::reload;
use super::remains;
use super::runtime_dir::RuntimeDir;
use super::signals::Signals;
use super::state::State;
use super::told::Told;
use super::workers::{Parts, Workers};
use crate::admin;
use crate::config::Loaded;
use crate::feed::Feed;
use crate::metrics::{Build, Metrics};
use crate::rollout::{Command, Core, Moment};
use crate::sys;

mod banner;
mod doors;

use self::banner::{announce, banner, name_of};
use self::doors::{open_doors, token};

/// Events kept for readers that come late.
const EVENTS: usize = 1000;
/// Lines of output kept over all workers.
const LINES: usize = 5000;
/// How long the last lines may take to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Questions of the admin side that wait.
const ASKS: usize = 64;

/// Runs remuda in the foreground until it is stopped.
///
/// With `json` its log is objects. Status 0 after a graceful stop; 1 if it cannot start, or something could not
/// be ended.
#[must_use]
pub fn run(loaded: Loaded, reread: Reread, json: bool) -> ExitCode {
    let inherited = Inherited::of_environment();
    protect::supervisor();
    let form = Form::of_stderr(json);
    let console = match Console::start() {
        Ok(console) => console,
        // Without a thread there is nobody to write the reason; the status says that it failed.
        Err(_no_thread) => return ExitCode::from(1),
    };
    logging::install(&console, form);
    // What we were given by whoever started us is no plane's business (F15). It stays open here: a lock may hang
    // on it.
    if let Err(error) = sys::close_on_exec_from(3) {
        tracing::warn!("descriptors that we were given cannot be kept from our children: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&console, form, &format!("cannot start: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(
        &runtime,
        serve(loaded, reread, console.clone(), form, inherited),
    );
    // Tasks hold sockets and child handles; they go before the last words.
    drop(local);
    match outcome {
        Ok(()) => {
            console.flush(LAST_WORDS);
            ExitCode::SUCCESS
        }
        Err(why) => refuse(&console, form, &why),
    }
}

fn refuse(console: &Console, form: Form, why: &str) -> ExitCode {
    console.write(Stream::Error, form.last_words(why).into_bytes());
    console.flush(LAST_WORDS);
    ExitCode::from(1)
}

async fn serve(
    loaded: Loaded,
    reread: Reread,
    console: Console,
    form: Form,
    inherited: Inherited,
) -> Result<(), String> {
    let config = loaded.config.clone();
    let clock = Clock::start();
    let signals = Signals::install().map_err(|error| format!("cannot handle signals: {error}"))?;
    let image = Image::open().map_err(|error| format!("cannot open our own program: {error}"))?;
    let image = image.telling(form.variable());
    let reaper = Reaper::new().map_err(|error| format!("cannot adopt orphans: {error}"))?;
    let (state, remark) = State::load(config.state_dir.as_deref())?;
    if let Some(remark) = remark {
        tracing::warn!("{remark}");
    }

    let (certificates, offers) = Certificates::read(&config, clock.now())?;
    for fault in certificates.faults(&offers, SystemTime::now()) {
        tracing::warn!("{fault}");
    }
    let runtime = RuntimeDir::open(&config.admin.runtime_dir)?;
    let bound = Listeners::bind(&config.listen, inherited).map_err(|wrong| wrong.join("\n"))?;
    let mut manager = Manager::of_environment();
    manager.keep(bound.to_be_kept(), bound.forgets());
    let log = access_log::open(&config.access_log)?;
    let doors = open_doors(&config).await?;
    let (token, own_token) = token(&config, &runtime)?;
    let pid_file = config
        .pid_file
        .as_deref()
        .map(|path| {
            let kept = Some(pid_file::write(path)?);
            let path = path.to_owned();
            Ok::<_, String>(OwnPidFile { path, kept })
        })
        .transpose()?;
    for dead in runtime.bereft() {
        tokio::task::spawn_local(orphans::end_workers(dead.clone()));
    }

    let listener_names: Vec<String> = bound.addresses().iter().map(name_of).collect();
    let admin_name = doors.tcp_address.map(|address| address.to_string());
    if form == Form::Watched {
        let text = banner(&listener_names, &config, &doors);
        console.write(Stream::Error, text.into_bytes());
    } else {
        announce(&listener_names, &config, &doors);
    }

    let (inputs_end, inputs) = mpsc::channel(super::input::QUEUE);
    let (asks_end, asks) = mpsc::channel(ASKS);
    let (status_end, status) = watch::channel(Arc::default());
    let (rollouts_end, rollouts) = watch::channel(Arc::default());
    let (ready_end, ready) = watch::channel(false);
    let events = Feed::new(EVENTS);
    let logs = Feed::new(LINES);
    let handle = Handle {
        asks: asks_end,
        status,
        rollouts,
        events: events.clone(),
        logs: logs.clone(),
        ready,
    };
    let admin = admin::serve(doors.listeners, handle, token);
    let premises = Premises {
        pid_file,
        entry: Entry {
            path: config.admin.socket.clone(),
            kept: Some(doors.path),
            door: admin.door(),
        },
        token: own_token,
        runtime,
        trouble: Vec::new(),
    };
    if let Err(error) = premises.write_down(bound.paths()) {
        tracing::warn!("nobody will tidy up after us should we be killed: {error}");
    }

    let image = Rc::new(image);
    let names: Vec<_> = config
        .services
        .iter()
        .map(|service| service.name.clone())
        .collect();
    let naming = match names.len() {
        _ if form == Form::Json => Naming::Field,
        0 | 1 => Naming::Left,
        _ => Naming::First,
    };
    let mut supervisor = Supervisor {
        clock,
        core: Core::new(u64::from(std::process::id())),
        certificates,
        notices: Notices::default(),
        planes: Planes::new(
            Rc::clone(&image),
            Terms {
                runtime_dir: premises.runtime.path().to_owned(),
                loops: config.loops.unwrap_or_else(cores),
                sandbox: config.sandbox,
            },
            bound,
            offers,
            log,
            inputs_end.clone(),
        ),
        workers: Workers::new(
            Parts {
                image,
                reaper,
                directory: premises.runtime.workers(),
                console: console.clone(),
                logs,
                inputs: inputs_end,
            },
            &config,
        ),
        journal: Journal::new(clock, events, naming),
        metrics: Metrics::new(Build::current(), &names, clock.wall(Moment::default())),
        state,
        inputs,
        asks,
        signals,
        outlets: Outlets {
            status: status_end,
            rollouts: rollouts_end,
            ready: ready_end,
        },
        identity: Identity {
            listeners: listener_names,
            admin: admin_name,
        },
        questions: Vec::new(),
        stopping: None,
        routes: crate::rollout::Routes::default(),
        told: Told::default(),
        ledgers: std::collections::BTreeMap::new(),
        releases: std::collections::BTreeMap::new(),
        ever_ready: false,
        strangers: remains::below_us_now(),
        finished: false,
        failed_start: None,
        rollout_due: None,
        process_due: Moment::default(),
        sweep_due: Moment::default(),
        state_due: Moment::default(),
        refused_due: Moment::default(),
        premises,
        console: console.clone(),
        manager,
        last_read: loaded,
        config,
        reread,
    };
    supervisor
        .metrics
        .config_hash(&reload::digest(&supervisor.config));
    supervisor.begin();
    let (outcome, premises) = supervisor.run().await;
    admin.stop().await;
    drop(premises);
    outcome
}

impl Supervisor {
    /// The first plane, and the first generation of every service.
    fn begin(&mut self) {
        let now = self.clock.now();
        self.start_plane(now);
        for service in self.config.services.clone() {
            let first = self.state.first(&service.name);
            if let Err(error) = self.state.record(&service.name, first) {
                tracing::error!("{error}");
            }
            let release = service.release.clone().unwrap_or_default();
            self.releases
                .insert((service.name.clone(), first), release.clone());
            let started = self.command(Command::Start {
                service: service.name.clone(),
                settings: service.settings.clone(),
                first,
                release,
            });
            if let Err(refusal) = started {
                self.failed_start = Some(refusal.to_string());
                self.stop(true);
            }
        }
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|cores| u32::try_from(cores.get()).ok())
        .unwrap_or(1)
}
