//! The start in its order, and the end: what is bound, made and written before the loop runs, and what
//! is removed after it. Anything that fails here ends the start with one sentence and status 1.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};

use super::access_log;
use super::belonging::Belonging;
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
use super::premises::{Entry, OwnPidFile, OwnToken, Premises};
use super::protect;
use super::reaper::Reaper;
use super::reload;
use super::remains;
use super::runtime_dir::{AdminPath, AdminSocket, RuntimeDir};
use super::signals::Signals;
use super::state::State;
use super::told::Told;
use super::workers::{Parts, Workers};
use crate::admin;
use crate::config::paths::default_admin_socket;
use crate::config::{Config, Loaded, TlsFiles};
use crate::feed::Feed;
use crate::link::message::PublicListener;
use crate::metrics::{Build, Metrics};
use crate::rollout::{Command, Core, Moment};
use crate::sys;

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

fn name_of(listener: &PublicListener) -> String {
    match listener {
        PublicListener::Tcp(address) => address.to_string(),
        PublicListener::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The operator's token, or a fresh one in the runtime directory, which is removed at the end.
fn token(
    config: &Config,
    runtime: &RuntimeDir,
) -> Result<(admin::Token, Option<OwnToken>), String> {
    if let Some(named) = &config.admin.token_file {
        return Ok((
            admin::Token::read(named).map_err(|error| error.to_string())?,
            None,
        ));
    }
    let path = runtime.path().join("token");
    let wrong =
        |error: io::Error| format!("cannot write the token file {}: {error}", path.display());
    let token = admin::Token::create(&path).map_err(wrong)?;
    let kept = Some(Belonging::at(&path).map_err(wrong)?);
    let own = OwnToken {
        path,
        token: token.clone(),
        kept,
    };
    Ok((token, Some(own)))
}

/// The admin side's sockets.
struct Doors {
    listeners: admin::Listeners,
    tcp_address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    /// Removes the unix socket's path when it goes.
    path: AdminPath,
}

async fn open_doors(config: &Config) -> Result<Doors, String> {
    let (unix, path) = AdminSocket::bind(&config.admin.socket)?.into_parts();
    unix.set_nonblocking(true)
        .map_err(|error| error.to_string())?;
    let unix = tokio::net::UnixListener::from_std(unix).map_err(|error| error.to_string())?;
    let mut tcp = None;
    if let Some(address) = config.admin.address {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => tcp = Some(listener),
            Err(error) if config.admin.address_named => {
                return Err(format!(
                    "cannot listen on the admin address {address}: {error}; choose another with `--admin ADDR`, or `--admin off`"
                ));
            }
            Err(error) => tracing::warn!(
                "the default admin address {address} cannot be used ({error}); going on with the unix socket alone; name another with `--admin ADDR`"
            ),
        }
    }
    let mut metrics = None;
    if let Some(address) = config.metrics {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            format!("cannot listen on the metrics address {address}: {error}; choose another with `--metrics ADDR`")
        })?;
        metrics = Some(listener);
    }
    let tcp_address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
    let metrics_address = metrics
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    Ok(Doors {
        listeners: admin::Listeners { unix, tcp, metrics },
        tcp_address,
        metrics_address,
        path,
    })
}

fn announce(listeners: &[String], config: &Config, doors: &Doors) {
    let pid = std::process::id();
    tracing::info!(
        "remuda {} (pid {pid}) listens on {}",
        crate::BUILD,
        listeners.join(", ")
    );
    let page = doors
        .tcp_address
        .map(|address| format!(", page at http://{address}/"))
        .unwrap_or_default();
    tracing::info!("admin socket {}{page}", config.admin.socket.display());
    if let Some(address) = doors.metrics_address {
        tracing::info!("metrics at http://{address}/metrics");
    }
}

/// Listeners as a browser's address line takes them.
fn urls(listeners: &[String], tls: &[Option<TlsFiles>]) -> Vec<String> {
    let tls = tls.iter().map(Option::is_some);
    let all = listeners.iter().zip(tls.chain(std::iter::repeat(false)));
    let url = |(listener, has_tls): (&String, bool)| match listener.strip_prefix("unix:") {
        Some(_) => listener.clone(),
        None if has_tls => format!("https://{listener}"),
        None => format!("http://{listener}"),
    };
    all.map(url).collect()
}

/// The same for somebody who started us in a terminal and wants to know what to do next.
fn banner(listeners: &[String], config: &Config, doors: &Doors) -> String {
    let pid = std::process::id();
    let clients = urls(listeners, &config.tls);
    let socket = if config.admin.socket == default_admin_socket() {
        String::new()
    } else {
        format!(" --admin-socket {}", config.admin.socket.display())
    };
    let mut rows = vec![("clients", clients.join(", "))];
    if let Some(address) = doors.tcp_address {
        rows.push((
            "status",
            format!("http://{address}/ or `remuda status{socket}`"),
        ));
    } else {
        rows.push(("status", format!("`remuda status{socket}`")));
    }
    rows.push(("socket", config.admin.socket.display().to_string()));
    if let Some(address) = doors.metrics_address {
        rows.push(("metrics", format!("http://{address}/metrics")));
    }
    rows.push((
        "roll",
        format!("`remuda rollout{socket}` or `kill -USR2 {pid}`"),
    ));
    rows.push((
        "stop",
        format!("Ctrl-C or `kill {pid}`, twice to stop at once"),
    ));
    let mut text = format!("remuda {} (pid {pid})\n", crate::BUILD);
    for (name, value) in rows {
        text.push_str(&format!("  {name:8} {value}\n"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::urls;
    use crate::config::TlsFiles;

    #[test]
    fn a_listener_with_certificates_is_reached_by_https() {
        let listeners = ["127.0.0.1:1", "127.0.0.1:2", "unix:/x"].map(str::to_owned);
        let files = TlsFiles {
            pairs: Vec::new(),
            client_ca: None,
            client_required: false,
        };
        let shown = urls(&listeners, &[None, Some(files), None]);
        assert_eq!(
            shown,
            ["http://127.0.0.1:1", "https://127.0.0.1:2", "unix:/x"]
        );
    }
}
