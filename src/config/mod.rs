//! Reading the config: file shapes → checked [`Config`], every mistake reported at once with its place.
//!
//! Flag > environment > file > default. Nothing unchecked leaves this module. [`load`] is called once at
//! start and again at each reload; it reads the file and decides nothing but what the config means.

mod changes;
mod check;
mod convert;
pub mod diagnose;
mod draft;
mod file;
pub mod flags;
mod host;
mod identity;
mod keys;
mod listen;
pub mod paths;
mod placeholders;
#[cfg(test)]
mod property;
pub mod reference;
pub(crate) mod regular;
mod resolved;
pub mod schema;
mod suggest;
mod validity;
mod value;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use self::changes::ChangedKeys;
pub use self::diagnose::{Problems, Report};
pub use self::flags::RunFlags;
pub use self::paths::Env;
pub use self::value::parse_duration;

use self::draft::Draft;
use crate::link::message::{
    AccessLog, Entrance, Front, Protocol, PublicListener, ServiceRules, TlsOffer, WorkerAddress,
};
use crate::rollout::{ServiceName, Settings};

/// A config that was read, and what is to be said about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// Warnings only.
    pub warnings: Problems,
    values: file::Values,
}

impl Loaded {
    /// Every value in effect, as TOML, each with where it comes from.
    #[must_use]
    pub fn resolved(&self) -> String {
        resolved::write(&self.values, &self.config, self.warnings.file.as_deref())
    }

    /// The warnings that `before` had not, wherever in its text.
    #[must_use]
    pub fn warnings_since(&self, before: &Self) -> Vec<Report> {
        let known = before.warnings.list();
        let mut all = self.warnings.reports();
        all.retain(|one| known.iter().all(|other| other.message != one.message));
        all
    }
}

/// Reads the file that the flags name, if any, and puts the flags over it. It can be read again at any time, so it
/// must be a regular file.
///
/// # Errors
///
/// Everything that is wrong, at once; warnings among it.
pub fn load(flags: &RunFlags, env: &Env) -> Result<Loaded, Problems> {
    draft(Reading::Again, flags, env)?.settled()
}

/// The same for who reads it once and starts nothing: a pipe is fine, too, and is waited for; and whatever is wrong,
/// what a start would not find on this host is among the warnings.
///
/// # Errors
///
/// Everything that is wrong, at once; warnings among it.
pub fn examine(flags: &RunFlags, env: &Env) -> Result<Loaded, Problems> {
    let mut draft = draft(Reading::Once, flags, env)?;
    draft.look_at_host(env);
    draft.settled()
}

/// How often a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Once,
    Again,
}

fn draft(reading: Reading, flags: &RunFlags, env: &Env) -> Result<Draft, Problems> {
    let Some(file) = flags.file() else {
        return Ok(Draft::of(None, "", flags, env));
    };
    let name = file.display().to_string();
    let mut problems = Problems::of(Some(name.clone()), "");
    let bytes = match reading {
        Reading::Once => regular::read_once(&file),
        Reading::Again => regular::read(&file),
    };
    match bytes.and_then(text_of) {
        Ok(text) => {
            check::writable_by_others(&file, None, &mut problems);
            if !problems.is_empty() {
                return Err(problems);
            }
            Ok(Draft::of(Some(&file), &text, flags, env))
        }
        Err(message) => {
            let help = match &flags.config {
                Some(file) if reading == Reading::Again && regular::is_pipe(file) => Some(
                    "it is read again at each reload, so write it to a file first; `remuda check` reads pipes"
                        .to_owned(),
                ),
                Some(_) => None,
                None => Some(
                    "name a file with `-c FILE`, or run without one: `remuda run -- CMD`"
                        .to_owned(),
                ),
            };
            problems.error(
                "file",
                None,
                format!("cannot read `{name}`: {message}"),
                help,
            );
            Err(problems)
        }
    }
}

/// One `[[listen]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) address: PublicListener,
    pub(crate) entrance: Entrance,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) places: Places,
}

/// Where in the file the parts of a listener are; `None` if they are not from there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) address: Option<Range<usize>>,
    pub(crate) proxy_protocol: Option<Range<usize>>,
    pub(crate) cert: Option<Range<usize>>,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) client_ca: Option<Range<usize>>,
}

/// Where the certificates of a listener are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM files: a chain, and its key, which may be the same file.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// PEM file of the roots that vouch for clients.
    pub client_ca: Option<PathBuf>,
    /// A client without a certificate is refused.
    pub client_required: bool,
}

impl From<PublicListener> for Listen {
    fn from(address: PublicListener) -> Self {
        Self {
            address,
            entrance: Entrance::default(),
            tls: None,
            places: Places::default(),
        }
    }
}

/// Reads what the listener at `place` shows by TLS.
///
/// # Errors
/// All that is wrong, with the files' names.
pub fn tls_offer(place: u32, files: &TlsFiles, http2: bool) -> Result<TlsOffer, String> {
    let found = identity::read(place, files, http2);
    found.offer.map_err(|unfit| {
        let each = unfit.into_iter().map(|one| one.why);
        each.collect::<Vec<_>>().join("; ")
    })
}

/// What is to be said of the time of a certificate that was read from this file, if anything is.
#[must_use]
pub fn certificate_fault(file: &Path, leaf: &[u8], now: SystemTime) -> Option<String> {
    let fault = validity::fault(leaf, now)?;
    Some(format!("{}: the certificate: {fault}", file.display()))
}

/// Listeners as people write them.
#[must_use]
pub fn listener_names(listeners: &[PublicListener]) -> Vec<String> {
    let name = |one: &PublicListener| match one {
        PublicListener::Tcp(address) => address.to_string(),
        PublicListener::Unix(path) => format!("unix:{}", path.display()),
    };
    listeners.iter().map(name).collect()
}

/// Between two probes of a worker that is not ready yet.
pub const FIRST_PROBES: Duration = Duration::from_millis(100);

fn read_text(file: &Path) -> Result<String, String> {
    regular::read(file).and_then(text_of)
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// Everything `remuda run` needs, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Public addresses, at least one. Port 0 is allowed (tests); the bound one is shown in status.
    pub listen: Vec<PublicListener>,
    /// Certificates of each public address that has some, in the order of `listen`.
    pub tls: Vec<Option<TlsFiles>>,
    /// The admin side.
    pub admin: Admin,
    /// `/metrics`, `/healthz` and `/readyz` for others, on any address, without a token.
    pub metrics: Option<SocketAddr>,
    /// One line for each request.
    pub access_log: AccessLogConfig,
    /// At least one; no two get the same requests.
    pub services: Vec<ServiceConfig>,
    /// Limits towards clients.
    pub front: Front,
    /// Event loops of the data plane; `None` is one per core.
    pub loops: Option<u32>,
    /// Data planes give up what they do not need.
    pub sandbox: bool,
    /// Where generation numbers are kept across restarts; `None` starts at 1 each time.
    pub state_dir: Option<PathBuf>,
    /// Ports for workers, inclusive.
    pub ports: (u16, u16),
    /// From a stop to the listeners' closing, with readiness already failing.
    pub shutdown_delay: Duration,
    /// From the end of `shutdown_delay` to the hard end of everything.
    pub stop_timeout: Duration,
    /// Written at start, removed at exit.
    pub pid_file: Option<PathBuf>,
    /// End with status 1 if the first generation cannot become ready.
    pub exit_on_failed_start: bool,
}

/// The admin side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Loopback TCP; `None` if switched off with `"off"`.
    pub address: Option<SocketAddr>,
    /// Whether the operator named the address. If the default one is taken, remuda says so and runs
    /// without; a named one that is taken ends the start.
    pub address_named: bool,
    /// The unix socket.
    pub socket: PathBuf,
    /// The directory of everything that lives as long as we: worker sockets, token.
    pub runtime_dir: PathBuf,
    /// The token's file; `None` makes `runtime_dir/token`.
    pub token_file: Option<PathBuf>,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Where it goes.
    pub to: LogTarget,
    /// How it looks.
    pub log: AccessLog,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// To our stdout.
    Stdout,
    /// To our stderr.
    Stderr,
    /// To this file, which is appended to.
    File(PathBuf),
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// Its name.
    pub name: ServiceName,
    /// Who runs the workers and how.
    pub workers: Workers,
    /// How they are asked whether they can answer.
    pub health: Health,
    /// What the core needs to know.
    pub settings: Settings,
    /// What the plane needs to know.
    pub rules: ServiceRules,
    /// The release's name at first start.
    pub release: Option<String>,
}

/// Who runs the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workers {
    /// We do.
    Managed(Recipe),
    /// Somebody else does, at these places.
    Unmanaged(Vec<Upstream>),
}

/// A worker that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it listens.
    pub address: WorkerAddress,
    /// What it speaks.
    pub protocol: Protocol,
}

/// How a worker is started. Placeholders are still in it; the supervisor resolves one recipe into one
/// spec per generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Program and arguments, with `{port} {socket} {slot} {generation} {release}`.
    pub command: Vec<String>,
    /// How the worker is reached.
    pub connect: Connect,
    /// What the worker speaks.
    pub protocol: Protocol,
    /// Working directory, resolved through symlinks once per generation.
    pub cwd: Option<PathBuf>,
    /// Added to the environment; placeholders allowed in values.
    pub env: Vec<(String, String)>,
    /// `KEY=value` lines, read once per generation.
    pub env_file: Option<PathBuf>,
    /// Begin with an empty environment.
    pub env_clear: bool,
    /// Run as this user (name or number), if we may.
    pub user: Option<String>,
    /// Run with this group.
    pub group: Option<String>,
    /// File mode creation mask.
    pub umask: Option<u32>,
}

/// How a worker is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// `{port}` or `$PORT` on 127.0.0.1.
    Port,
    /// `{socket}`, a unix socket path.
    Socket,
    /// An inherited listening TCP socket on 127.0.0.1, LISTEN_FDS protocol, descriptor 3.
    Fd,
}

/// How workers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `GET` this and want 200 to 399; `None` is `GET /` and any HTTP answer.
    pub path: Option<String>,
    /// Between two probes of a ready worker. Before, every 100 ms.
    pub interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// Wait for `READY=1` on the worker's notify socket before the first probe.
    pub notify: bool,
}

#[cfg(test)]
mod tests;
