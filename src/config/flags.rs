//! The flags of `remuda run`, each with its `REMUDA_…` variable, and what each sets.

use std::path::{Path, PathBuf};

use clap::Args;

use super::diagnose::Problems;
use super::file::{Found, Source, Values};
use super::keys;
use super::paths::socket_variable;
use super::value::{Kind, Value, Wrong};
use crate::link::message::Entrance;

/// Name of the service that `-- CMD` or `--upstream` makes.
const APP: &str = "app";

/// What `remuda run` takes. A flag replaces the file's value for every service.
#[derive(Debug, Clone, Default, Args)]
pub struct RunFlags {
    /// Config file, no pipe: each reload reads it again [default: remuda.toml, unless a command or an
    /// upstream is given]
    #[arg(short, long, env = "REMUDA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where clients come in: IP:PORT or unix:PATH; may be repeated [default: 127.0.0.1:8080, which
    /// only this machine reaches]
    #[arg(long, env = "REMUDA_LISTEN", value_name = "ADDR", value_delimiter = ',', value_parser = checked(Kind::Listener))]
    pub listen: Vec<String>,
    /// How many workers serve [default: 2]
    #[arg(long, env = "REMUDA_WORKERS", value_name = "N", value_parser = key("services.*.workers"))]
    pub workers: Option<String>,
    /// How a worker is reached: port, socket or fd [default: by the placeholder used, else port]
    #[arg(long, env = "REMUDA_CONNECT", value_name = "KIND", value_parser = key("services.*.connect"))]
    pub connect: Option<String>,
    /// In place of a command: a worker that somebody else runs; may be repeated
    #[arg(long, env = "REMUDA_UPSTREAM", value_name = "ADDR", value_delimiter = ',', value_parser = checked(Kind::Listener))]
    pub upstream: Vec<String>,
    /// GET this and want 200 to 399 [default: GET / and any HTTP answer]
    #[arg(long, env = "REMUDA_HEALTH", value_name = "PATH", value_parser = checked(Kind::UrlPath))]
    pub health: Option<String>,
    /// From spawn to ready [default: 60s]
    #[arg(long, env = "REMUDA_START_TIMEOUT", value_name = "D", value_parser = checked(Kind::Time(1)))]
    pub start_timeout: Option<String>,
    /// How long new workers climb to their share of the requests [default: 3s]
    #[arg(long, env = "REMUDA_RAMP", value_name = "D", value_parser = checked(Kind::Time(0)))]
    pub ramp: Option<String>,
    /// How long a batch is watched, ramp included [default: 5s]
    #[arg(long, env = "REMUDA_SOAK", value_name = "D", value_parser = checked(Kind::Time(0)))]
    pub soak: Option<String>,
    /// How long plain requests may take when their worker retires [default: 30s]
    #[arg(long, env = "REMUDA_DRAIN_TIMEOUT", value_name = "D", value_parser = checked(Kind::Time(0)))]
    pub drain_timeout: Option<String>,
    /// From SIGTERM to SIGKILL [default: 10s]
    #[arg(long, env = "REMUDA_KILL_GRACE", value_name = "D", value_parser = checked(Kind::Time(0)))]
    pub kill_grace: Option<String>,
    /// Workers above the count that a rollout may start [default: 25%]
    #[arg(long, env = "REMUDA_MAX_SURGE", value_name = "N|P%", value_parser = checked(Kind::Amount))]
    pub max_surge: Option<String>,
    /// Workers below the count that may serve during a rollout [default: 0]
    #[arg(long, env = "REMUDA_MAX_UNAVAILABLE", value_name = "N|P%", value_parser = checked(Kind::Amount))]
    pub max_unavailable: Option<String>,
    /// How long a rollout may go without progress [default: 120s]
    #[arg(long, env = "REMUDA_PROGRESS_DEADLINE", value_name = "D", value_parser = checked(Kind::Time(1)))]
    pub progress_deadline: Option<String>,
    /// What a failed rollout does: rollback or pause [default: rollback]
    #[arg(long, env = "REMUDA_ON_FAILURE", value_name = "WORD", value_parser = key("services.*.rollout.on_failure"))]
    pub on_failure: Option<String>,
    /// /metrics, /healthz and /readyz for others, on any address, or off [default: off]
    #[arg(long, env = "REMUDA_METRICS", value_name = "ADDR", value_parser = checked(Kind::Address))]
    pub metrics: Option<String>,
    /// The admin side's TCP address, loopback only, or off [default: 127.0.0.1:9900]
    #[arg(long, env = "REMUDA_ADMIN", value_name = "ADDR", value_parser = checked(Kind::Loopback))]
    pub admin: Option<String>,
    /// The admin side's unix socket [default: admin.sock in the runtime directory]
    // The same id and type as the flag that every other command has for finding the instance.
    #[arg(
        id = "admin_socket",
        long = "admin-socket",
        env = socket_variable(),
        value_name = "PATH"
    )]
    pub admin_socket: Option<PathBuf>,
    /// Written at start, removed at exit
    #[arg(long, env = "REMUDA_PID_FILE", value_name = "PATH", value_parser = checked(Kind::Path))]
    pub pid_file: Option<String>,
    /// Where generation numbers are kept across restarts
    #[arg(long, env = "REMUDA_STATE_DIR", value_name = "PATH", value_parser = checked(Kind::Path))]
    pub state_dir: Option<String>,
    /// Sockets of workers and the token [default: $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/remuda, …]
    #[arg(long, env = "REMUDA_RUNTIME_DIR", value_name = "PATH", value_parser = checked(Kind::Path))]
    pub runtime_dir: Option<String>,
    /// Ports given to workers [default: 20000-29999]
    #[arg(long, env = "REMUDA_PORTS", value_name = "A-B", value_parser = checked(Kind::Ports))]
    pub ports: Option<String>,
    /// Your name for what runs at first start
    #[arg(long, env = "REMUDA_RELEASE", value_name = "NAME", value_parser = checked(Kind::Text))]
    pub release: Option<String>,
    /// Working directory of the workers [default: ours]
    #[arg(long, env = "REMUDA_CWD", value_name = "PATH", value_parser = checked(Kind::Path))]
    pub cwd: Option<String>,
    /// From the end of the shutdown delay to the hard end of everything [default: 60s]
    #[arg(long, env = "REMUDA_STOP_TIMEOUT", value_name = "D", value_parser = checked(Kind::Time(1)))]
    pub stop_timeout: Option<String>,
    /// From a stop to the listeners' closing, with /readyz already failing [default: 0s]
    #[arg(long, env = "REMUDA_SHUTDOWN_DELAY", value_name = "D", value_parser = checked(Kind::Time(0)))]
    pub shutdown_delay: Option<String>,
    /// Event loops of the data plane [default: one per core]
    #[arg(long, env = "REMUDA_THREADS", value_name = "N", value_parser = key("threads"))]
    pub threads: Option<String>,
    /// End with status 1 if the first generation cannot become ready
    #[arg(long, env = "REMUDA_EXIT_ON_FAILED_START")]
    pub exit_on_failed_start: bool,
    /// The worker's program and its arguments, no shell: {port} {socket} {slot} {generation} {release}
    /// are filled in
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// A parser that lets only what this kind reads through.
fn checked(kind: Kind) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| match kind.flag(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(Wrong { message, help }) => {
            Err(help.map_or_else(|| message.clone(), |help| format!("{message}; {help}")))
        }
    }
}

/// The same for the kind of a key.
fn key(path: &str) -> impl Fn(&str) -> Result<String, String> + Clone {
    checked(keys::at(path).map_or(Kind::Text, |key| key.kind))
}

impl RunFlags {
    /// The file to read: the named one, else `remuda.toml` where nothing else says what to run.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match &self.config {
            Some(file) => Some(file.clone()),
            None if self.command.is_empty() && self.upstream.is_empty() => {
                Some(PathBuf::from("remuda.toml"))
            }
            None => None,
        }
    }

    /// Puts the flags over the file's values.
    pub(crate) fn apply(&self, values: &mut Values, problems: &mut Problems) {
        if !self.command.is_empty() || !self.upstream.is_empty() {
            // The command is of `app`; a file's own service of that name is changed, no other.
            values.services.entry(APP.to_owned()).or_insert(None);
        }
        self.apply_whole(values, problems);
        let services: Vec<String> = values.services.keys().cloned().collect();
        for service in &services {
            self.apply_service(service, values, problems);
        }
        self.apply_command(values, problems);
    }

    fn apply_whole(&self, values: &mut Values, problems: &mut Problems) {
        let mut set = |path: &str, flag, text: &Option<String>| {
            put(values, problems, path.to_owned(), flag, text.as_deref());
        };
        set("metrics.address", "--metrics", &self.metrics);
        set("admin.address", "--admin", &self.admin);
        set(
            "admin.socket",
            "--admin-socket",
            &self.admin_socket.as_deref().map(text),
        );
        set("pid_file", "--pid-file", &self.pid_file);
        set("state_dir", "--state-dir", &self.state_dir);
        set("runtime_dir", "--runtime-dir", &self.runtime_dir);
        set("ports", "--ports", &self.ports);
        set("stop_timeout", "--stop-timeout", &self.stop_timeout);
        set("shutdown_delay", "--shutdown-delay", &self.shutdown_delay);
        set("threads", "--threads", &self.threads);
        if self.exit_on_failed_start {
            let flag = Source::Flag("--exit-on-failed-start");
            values.put("exit_on_failed_start".to_owned(), Value::Bool(true), flag);
        }
        if !self.listen.is_empty() {
            keeps_manners(values, problems);
            let mut all = Vec::new();
            for one in &self.listen {
                match Kind::Listener.flag(one) {
                    Ok(Value::Listeners(mut addresses)) => all.append(&mut addresses),
                    Ok(_) => {}
                    Err(wrong) => complain(problems, "--listen", wrong),
                }
            }
            values.put(
                "listen.address".to_owned(),
                Value::Listeners(all),
                Source::Flag("--listen"),
            );
        }
    }

    fn apply_service(&self, service: &str, values: &mut Values, problems: &mut Problems) {
        let mut set = |key: &str, flag, text: &Option<String>| {
            put(
                values,
                problems,
                format!("services.{service}.{key}"),
                flag,
                text.as_deref(),
            );
        };
        set("workers", "--workers", &self.workers);
        set("connect", "--connect", &self.connect);
        set("release", "--release", &self.release);
        set("cwd", "--cwd", &self.cwd);
        set("health.path", "--health", &self.health);
        set(
            "health.start_timeout",
            "--start-timeout",
            &self.start_timeout,
        );
        set("rollout.ramp", "--ramp", &self.ramp);
        set("rollout.soak", "--soak", &self.soak);
        set("rollout.max_surge", "--max-surge", &self.max_surge);
        set(
            "rollout.max_unavailable",
            "--max-unavailable",
            &self.max_unavailable,
        );
        set(
            "rollout.progress_deadline",
            "--progress-deadline",
            &self.progress_deadline,
        );
        set("rollout.on_failure", "--on-failure", &self.on_failure);
        set("drain.request", "--drain-timeout", &self.drain_timeout);
        set("drain.kill_grace", "--kill-grace", &self.kill_grace);
    }

    fn apply_command(&self, values: &mut Values, problems: &mut Problems) {
        let path = |key: &str| format!("services.{APP}.{key}");
        if !self.command.is_empty() {
            if self.upstream.is_empty() {
                values.found.remove(&path("upstream"));
            }
            values.put(
                path("command"),
                Value::Texts(self.command.clone()),
                Source::Flag("-- CMD"),
            );
        }
        if !self.upstream.is_empty() {
            if self.command.is_empty() {
                values.found.remove(&path("command"));
            }
            let mut all = Vec::new();
            for one in &self.upstream {
                match super::value::upstream(one) {
                    Ok(address) => all.push(address),
                    Err(wrong) => complain(problems, "--upstream", wrong),
                }
            }
            values.put(
                path("upstream"),
                Value::Upstreams(all),
                Source::Flag("--upstream"),
            );
        }
    }
}

fn put(
    values: &mut Values,
    problems: &mut Problems,
    path: String,
    flag: &'static str,
    text: Option<&str>,
) {
    let (Some(text), Some(key)) = (text, keys::at(&path)) else {
        return;
    };
    match key.kind.flag(text) {
        Ok(value) => values.put(path, value, Source::Flag(flag)),
        Err(wrong) => complain(problems, flag, wrong),
    }
}

/// A flag has addresses only. What else the file says of its listeners, TLS first of all, would be gone
/// without a word.
fn keeps_manners(values: &Values, problems: &mut Problems) {
    let Some(Found {
        value: Value::Listeners(all),
        source: Source::File(place),
    }) = values.found.get("listen.address")
    else {
        return;
    };
    let lost = all.iter().find_map(|one| {
        let plain = Entrance::default();
        if one.tls.is_some() {
            Some("tls")
        } else if one.entrance.proxy_protocol {
            Some("proxy_protocol")
        } else if one.entrance.redirect.is_some() {
            Some("redirect_https")
        } else {
            (one.entrance.http2 != plain.http2).then_some("http2")
        }
    });
    if let Some(key) = lost {
        let help = "leave out `--listen` (and `REMUDA_LISTEN`), or change `address` here";
        problems.error(
            "conflict",
            Some(place.clone()),
            format!("`--listen` takes the place of `[[listen]]`, whose `{key}` would be lost"),
            Some(help.to_owned()),
        );
    }
}

fn complain(problems: &mut Problems, flag: &str, wrong: Wrong) {
    problems.error(
        "flag",
        None,
        format!("`{flag}`: {}", wrong.message),
        wrong.help,
    );
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
