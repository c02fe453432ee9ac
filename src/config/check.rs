//! From values to a [`Config`]: what must hold between them, and what follows from them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnose::Problems;
use super::file::Values;
use super::identity;
use super::keys;
use super::paths::{self, Env};
use super::placeholders;
use super::value::{Kind, Value};
use super::{
    AccessLogConfig, Admin, Config, Connect, FIRST_PROBES, Health, Listen, LogTarget, Recipe,
    ServiceConfig, Upstream, Workers,
};
use crate::admin::Token;
use crate::link::message::{
    AccessLog, DrainLimits, Ejection, Front, HostPattern, LogFormat, Network, Parking, Protocol,
    PublicListener, Retry, ServiceRules,
};
use crate::rollout::{
    Amount, NotEnough, OnFailure, Ownership, ServiceName, Settings, unfit_release,
};

/// Variables that remuda itself sets.
const OURS: [&str; 4] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];
/// Longest path of a unix socket on Linux, without its ending NUL.
const MAX_SOCKET_PATH: usize = 107;
/// What a drain may take in all if `drain.at_most` does not say.
const DRAIN_AT_MOST: Duration = Duration::from_secs(3600);

/// Builds the config. What it returns counts only if no error was found.
pub(crate) fn build(values: &Values, env: &Env, problems: &mut Problems) -> Config {
    let mut check = Check { values, problems };
    check.services();
    let admin = check.admin(env);
    let services: Vec<ServiceConfig> = values
        .services
        .keys()
        .map(|name| check.service(name))
        .collect();
    check.routes(&services);
    let listen = check.listeners();
    check.addresses(&listen, &admin);
    let config = Config {
        front: check.front(&listen),
        tls: listen.iter().map(|one| one.tls.clone()).collect(),
        listen: listen.into_iter().map(|one| one.address).collect(),
        metrics: check.metrics(),
        access_log: check.access_log(),
        admin,
        loops: check.maybe("threads").and_then(count),
        sandbox: check.yes("sandbox"),
        state_dir: check.path("state_dir"),
        ports: check.ports(),
        shutdown_delay: check.time("shutdown_delay"),
        stop_timeout: check.time("stop_timeout"),
        pid_file: check.path("pid_file"),
        exit_on_failed_start: check.yes("exit_on_failed_start"),
        services,
    };
    check.stop(&config);
    check.enough_ports(&config);
    config
}

pub(super) struct Check<'a> {
    pub(super) values: &'a Values,
    pub(super) problems: &'a mut Problems,
}

impl Check<'_> {
    fn services(&mut self) {
        // Those that could not be read have been said already.
        if self.values.services.is_empty() && !self.values.refused.contains("services") {
            let help =
                "write `[services.app]` with a `command`, or run `remuda run -- CMD`".to_owned();
            self.problems
                .error("missing", None, "there is no service", Some(help));
        }
    }

    /// Each request is for one service at most.
    fn routes(&mut self, services: &[ServiceConfig]) {
        let mut taken: HashMap<(Option<&HostPattern>, &str), &ServiceName> = HashMap::new();
        for service in services {
            let hosts: Vec<_> = match &*service.rules.hosts {
                [] => vec![None],
                hosts => hosts.iter().map(Some).collect(),
            };
            for host in hosts {
                let prefix = service.rules.path_prefix.trim_end_matches('/');
                let Some(other) = taken.insert((host, prefix), &service.name) else {
                    continue;
                };
                let whose =
                    host.map_or_else(|| "every host".to_owned(), |host| format!("`{host}`"));
                let below = match prefix {
                    "" => String::new(),
                    prefix => format!(" below `{prefix}`"),
                };
                let message = match *other == service.name {
                    true => format!("service `{other}` names {whose} twice"),
                    false => format!(
                        "services `{other}` and `{}` both get the requests of {whose}{below}",
                        service.name
                    ),
                };
                let at = |key: &str| {
                    self.values
                        .span(&format!("services.{}.{key}", service.name))
                };
                let span = at("hosts").or_else(|| at("path_prefix"));
                let span = span.or_else(|| {
                    self.values
                        .services
                        .get(&*service.name.0)
                        .cloned()
                        .flatten()
                });
                let help = "tell them apart by `hosts` or `path_prefix`".to_owned();
                self.problems.error("conflict", span, message, Some(help));
            }
        }
    }

    fn listeners(&mut self) -> Vec<Listen> {
        let Some(Value::Listeners(list)) = self.get("listen.address") else {
            return Vec::new();
        };
        for (number, one) in list.iter().enumerate() {
            let Listen {
                address,
                entrance,
                tls,
                places,
            } = one;
            if let Some(files) = tls
                && let Err(unfit) = identity::offer(0, files, entrance.http2)
            {
                let span = match unfit.part {
                    identity::Part::Cert => &places.cert,
                    // It is in the same file if it is not named.
                    identity::Part::Key => {
                        places.key.as_ref().map_or(&places.cert, |_| &places.key)
                    }
                    identity::Part::Roots => &places.client_ca,
                };
                self.problems
                    .error("certificate", span.clone(), unfit.why, None);
            }
            let zero = matches!(address, PublicListener::Tcp(address) if address.port() == 0);
            let shown = |address| super::listener_names(std::slice::from_ref(address)).join("");
            let mut before = list[..number].iter().map(|one| &one.address);
            if !zero && before.any(|one| one == address) {
                self.problems.error(
                    "duplicate",
                    places.address.clone(),
                    format!("two listeners have the same address `{}`", shown(address)),
                    None,
                );
            } else if let PublicListener::Tcp(of) = address
                && let Some(other) = list[..number].iter().find(|one| match one.address {
                    PublicListener::Tcp(other) => clash(other, *of),
                    PublicListener::Unix(_) => false,
                })
            {
                let message = format!(
                    "`{}` and `{}` cannot both be listened on, as one is the port at every address",
                    shown(&other.address),
                    shown(address)
                );
                let help = "leave out the other, or give one of them another port".to_owned();
                self.problems
                    .error("duplicate", places.address.clone(), message, Some(help));
            }
            match address {
                PublicListener::Unix(path) => self.socket_length(path, places.address.clone()),
                PublicListener::Tcp(_) if entrance.proxy_protocol && self.trusted().is_empty() => {
                    let message = "`proxy_protocol` without `trusted_proxies`: nobody's header would be believed";
                    let help = "name the load balancer's network, such as `trusted_proxies = [\"10.0.0.0/8\"]`";
                    let span = places.proxy_protocol.clone();
                    self.problems
                        .error("conflict", span, message, Some(help.to_owned()));
                }
                PublicListener::Tcp(_) => {}
            }
        }
        list
    }

    /// The doors of the admin side are others than the clients'.
    fn addresses(&mut self, listen: &[Listen], admin: &Admin) {
        let public = |address: SocketAddr| {
            listen.iter().any(|one| match one.address {
                PublicListener::Tcp(of) => clash(of, address),
                PublicListener::Unix(_) => false,
            })
        };
        let unix = |path: &Path| {
            let mut sockets = listen.iter();
            sockets.any(|one| matches!(&one.address, PublicListener::Unix(of) if of == path))
        };
        if let Some(address) = admin.address.filter(|address| public(*address)) {
            let message = format!("the admin address {address} is a public listener's, too");
            let help = "give one of them another port".to_owned();
            let span = self.values.span("admin.address");
            if admin.address_named {
                self.problems.error("duplicate", span, message, Some(help));
            } else {
                // The default one is done without.
                let help = "name another one: `[admin] address = \"127.0.0.1:9901\"`, or \"off\"";
                self.problems
                    .warning("duplicate", span, message, Some(help.to_owned()));
            }
        }
        if unix(&admin.socket) {
            let message = format!(
                "the admin socket {} is a public listener's, too",
                admin.socket.display()
            );
            let span = self.values.span("admin.socket");
            self.problems.error("duplicate", span, message, None);
        }
        if let Some(address) = self.metrics() {
            let admins = admin.address.is_some_and(|of| clash(of, address));
            let whose = match public(address) {
                true => "a public listener's",
                false if admins => "the admin side's",
                false => return,
            };
            let message = format!("the metrics address {address} is {whose}, too");
            let help = "give one of them another port".to_owned();
            let span = self.values.span("metrics.address");
            self.problems.error("duplicate", span, message, Some(help));
        }
    }

    /// Each worker that is reached by a port has one, those of a rollout's batch included.
    fn enough_ports(&mut self, config: &Config) {
        let by_port = config
            .services
            .iter()
            .filter(|service| match &service.workers {
                Workers::Managed(recipe) => recipe.connect == Connect::Port,
                Workers::Unmanaged(_) => false,
            });
        let needed: u64 = by_port
            .map(|service| {
                let of = &service.settings;
                let surge = of.max_surge.of_rounded_up(of.wanted);
                u64::from(of.wanted) + u64::from(surge)
            })
            .sum();
        let (first, last) = config.ports;
        let there = u64::from(last.saturating_sub(first)) + 1;
        if needed > there {
            let message = format!(
                "`ports` {first}-{last} are {there}, and `workers` and `max_surge` together need {needed}"
            );
            let help = "a worker that drains keeps its port, so name some more than that";
            self.problems.error(
                "ports",
                self.values.span("ports"),
                message,
                Some(help.to_owned()),
            );
        }
    }

    fn metrics(&self) -> Option<SocketAddr> {
        match self.maybe("metrics.address") {
            Some(Value::Address(address)) => Some(*address),
            _ => None,
        }
    }

    fn access_log(&mut self) -> AccessLogConfig {
        let to = match self.get("access_log.to") {
            Some(Value::LogTarget(to)) => to,
            _ => LogTarget::Off,
        };
        let format = match self.get("access_log.format") {
            Some(Value::LogFormat(format)) => format,
            _ => LogFormat::Json,
        };
        let query = self.yes("access_log.query");
        let log = AccessLog { format, query };
        let names = crate::proxy::LogFormat::new(&log).is_ok_and(|format| format.names_query());
        if names && !query {
            let message = "`{query}` is always empty: query strings are not kept";
            let help = "add `query = true` if they hold no secrets, or leave the field out";
            let span = self.values.span("access_log.format");
            self.problems
                .error("conflict", span, message, Some(help.to_owned()));
        }
        AccessLogConfig { to, log }
    }

    fn admin(&mut self, env: &Env) -> Admin {
        let named = self.path("admin.socket");
        let runtime_dir = self
            .path("runtime_dir")
            .unwrap_or_else(|| paths::runtime_dir(env, named.as_deref()));
        let socket = named.unwrap_or_else(|| runtime_dir.join("admin.sock"));
        self.socket_length(&socket, self.values.span("admin.socket"));
        // The deepest thing that is made there: a worker's notify socket.
        let names = self.values.services.keys();
        let longest = names
            .max_by_key(|name| name.len())
            .filter(|_| self.values.services.len() > 1);
        let workers = runtime_dir.join("w").join(longest.map_or("", |name| name));
        let deepest = workers.join("9999-999999/notify");
        self.socket_length(&deepest, self.values.span("runtime_dir"));
        let token_file = self.path("admin.token_file");
        if let Some(file) = &token_file {
            let span = self.values.span("admin.token_file");
            let before = self.problems.errors();
            writable_by_others(file, span.clone(), self.problems);
            // One that is not there, or not ours to read, is looked for by a start alone.
            if let Err(error) = Token::of_file(file)
                && error.kind() == io::ErrorKind::InvalidData
                && self.problems.errors() == before
            {
                self.problems.error("token", span, error.to_string(), None);
            }
        }
        let address = match self.get("admin.address") {
            Some(Value::Address(address)) => Some(address),
            _ => None,
        };
        Admin {
            address,
            address_named: self.values.found.contains_key("admin.address"),
            socket,
            runtime_dir,
            token_file,
        }
    }

    fn socket_length(&mut self, path: &Path, span: Option<Range<usize>>) {
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let message = format!(
                "`{}` is too long for a unix socket: {length} bytes, at most {MAX_SOCKET_PATH}",
                path.display()
            );
            let help = "name a shorter `runtime_dir` (`--runtime-dir`) or `admin.socket` (`--admin-socket`)";
            self.problems
                .error("path-too-long", span, message, Some(help.to_owned()));
        }
    }

    fn front(&self, listen: &[Listen]) -> Front {
        Front {
            header_timeout: self.time("timeouts.header"),
            idle_timeout: self.time("timeouts.client_idle"),
            max_head: u32::try_from(self.size("limits.head")).unwrap_or(u32::MAX),
            max_headers: self.count("limits.headers"),
            max_target: u32::try_from(self.size("limits.target")).unwrap_or(u32::MAX),
            max_connections: self.count("limits.connections"),
            max_streams: self.count("limits.streams"),
            entrances: listen.iter().map(|one| one.entrance).collect(),
            trusted: self.trusted(),
        }
    }

    fn ports(&mut self) -> (u16, u16) {
        let Some(Value::Ports(first, last)) = self.get("ports") else {
            return (20_000, 29_999);
        };
        if let Some((low, high)) = ephemeral_ports()
            && first <= high
            && low <= last
        {
            let message = format!(
                "`ports` {first}-{last} overlaps the kernel's ephemeral range {low}-{high}: a stranger's connection may hold a worker's port"
            );
            let help = "choose a range outside of it".to_owned();
            self.problems.warning(
                "ephemeral-ports",
                self.values.span("ports"),
                message,
                Some(help),
            );
        }
        (first, last)
    }

    fn stop(&mut self, config: &Config) {
        for service in &config.services {
            let grace = service.settings.kill_grace;
            let longest = config.shutdown_delay + service.settings.drain_request + grace;
            if longest > config.stop_timeout {
                let message = format!(
                    "`stop_timeout` is {}, less than `shutdown_delay`, `drain.request` and `drain.kill_grace` of `{}` together: a stop may cut requests",
                    super::value::time_text(config.stop_timeout),
                    service.name,
                );
                let help = format!(
                    "set it to at least \"{}\"",
                    super::value::time_text(longest)
                );
                self.problems.warning(
                    "stop-timeout",
                    self.values.span("stop_timeout"),
                    message,
                    Some(help),
                );
            }
        }
    }

    fn service(&mut self, name: &str) -> ServiceConfig {
        let at = |key: &str| format!("services.{name}.{key}");
        let workers = self.workers(name);
        let mut settings = self.settings(name);
        if let Workers::Unmanaged(upstream) = &workers {
            settings.ownership = Ownership::Unmanaged;
            settings.wanted = u32::try_from(upstream.len()).unwrap_or(u32::MAX);
        }
        let health = Health {
            path: self.text(&at("health.path")),
            interval: self.time(&at("health.interval")),
            timeout: self.time(&at("health.timeout")),
            notify: self.yes(&at("health.notify")),
        };
        if health.notify && settings.ownership == Ownership::Unmanaged {
            let help = "remove it; readiness is asked by HTTP".to_owned();
            let span = self.values.span(&at("health.notify"));
            let message = "`health.notify` needs workers that remuda starts";
            self.problems.error("conflict", span, message, Some(help));
        }
        ServiceConfig {
            name: ServiceName::new(name),
            workers,
            health,
            rules: self.rules(name, &settings),
            settings,
            release: self.release(&at("release")),
        }
    }

    fn release(&mut self, path: &str) -> Option<String> {
        let name = self.text(path)?;
        if let Some(why) = unfit_release(&name) {
            let span = self.values.span(path);
            self.problems
                .error("value", span, format!("`release`: {why}"), None);
        }
        Some(name)
    }

    fn workers(&mut self, name: &str) -> Workers {
        let at = |key: &str| format!("services.{name}.{key}");
        let command = match self.maybe(&at("command")) {
            Some(Value::Texts(command)) => Some(command.clone()),
            _ => None,
        };
        let upstream = match self.maybe(&at("upstream")) {
            Some(Value::Upstreams(addresses)) => Some(addresses.clone()),
            _ => None,
        };
        let protocol = match self.text(&at("protocol")).as_deref() {
            Some("h2c") => Protocol::H2c,
            _ => Protocol::Http1,
        };
        let upstream = upstream.map(|addresses| {
            let addresses = addresses.into_iter();
            let worker = |address| Upstream { address, protocol };
            addresses.map(worker).collect::<Vec<_>>()
        });
        match (command, upstream) {
            (Some(_), Some(workers)) => {
                let span = self.values.span(&at("upstream"));
                let message = format!("service `{name}` has both `command` and `upstream`");
                let help =
                    "keep `command` if remuda starts the workers, `upstream` if somebody else does";
                self.problems
                    .error("conflict", span, message, Some(help.to_owned()));
                Workers::Unmanaged(workers)
            }
            (Some(command), None) => Workers::Managed(self.recipe(name, command, protocol)),
            (None, Some(workers)) => {
                self.unmanaged(name, &workers);
                Workers::Unmanaged(workers)
            }
            // What was given and is wrong has been said already.
            (None, None)
                if ["command", "upstream"]
                    .iter()
                    .any(|key| self.values.refused.contains(&at(key))) =>
            {
                Workers::Unmanaged(Vec::new())
            }
            (None, None) => {
                let span = self.values.services.get(name).cloned().flatten();
                let message = format!("service `{name}` has neither `command` nor `upstream`");
                let help = "add `command = [\"./server\", \"--port\", \"{port}\"]`".to_owned();
                self.problems.error("missing", span, message, Some(help));
                Workers::Unmanaged(Vec::new())
            }
        }
    }

    fn unmanaged(&mut self, name: &str, workers: &[Upstream]) {
        const OF_A_COMMAND: [&str; 9] = [
            "workers",
            "connect",
            "cwd",
            "env",
            "env_file",
            "env_clear",
            "user",
            "group",
            "umask",
        ];
        for key in OF_A_COMMAND {
            let path = format!("services.{name}.{key}");
            if self.values.found.contains_key(&path) {
                let message = format!(
                    "`{key}` belongs to a `command`, and service `{name}` has an `upstream`"
                );
                let help = if key == "workers" {
                    "remove it; there is one worker per address".to_owned()
                } else {
                    "remove it; who runs the workers sets it".to_owned()
                };
                self.problems
                    .error("conflict", self.values.span(&path), message, Some(help));
            }
        }
        for (number, one) in workers.iter().enumerate() {
            if workers[..number].contains(one) {
                let span = self.values.span(&format!("services.{name}.upstream"));
                let message = format!("`{}` is named twice", one.address);
                self.problems.error("duplicate", span, message, None);
            }
        }
    }

    fn recipe(&mut self, name: &str, command: Vec<String>, protocol: Protocol) -> Recipe {
        let at = |key: &str| format!("services.{name}.{key}");
        let env = match self.maybe(&at("env")) {
            Some(Value::Pairs(pairs)) => pairs.clone(),
            _ => Vec::new(),
        };
        for (key, _) in &env {
            if OURS.contains(&key.as_str()) || key.starts_with("REMUDA_") {
                let message = format!("`env`: remuda itself sets `{}`", key.escape_debug());
                let span = self.values.span(&at("env"));
                self.problems
                    .error("reserved", span, message, Some("remove it".to_owned()));
            }
        }
        if command.first().is_some_and(String::is_empty) {
            let span = self.values.span(&at("command"));
            self.problems.error(
                "value",
                span,
                "`command`: the program's name is empty",
                None,
            );
        }
        self.placeholders(&at("command"), &command);
        for (_, value) in &env {
            self.placeholders(&at("env"), std::slice::from_ref(value));
        }
        let connect = self.connect(name, &command, &env);
        let umask = match self.maybe(&at("umask")) {
            Some(Value::Umask(mask)) => Some(*mask),
            _ => None,
        };
        Recipe {
            connect,
            protocol,
            cwd: self.path(&at("cwd")),
            env_file: self.path(&at("env_file")),
            env_clear: self.yes(&at("env_clear")),
            user: self.text(&at("user")),
            group: self.text(&at("group")),
            umask,
            command,
            env,
        }
    }

    /// A slip in a placeholder is nobody's mistake but ours to see: the worker gets the braces, and its own
    /// words about them are far from the config.
    fn placeholders(&mut self, path: &str, texts: &[String]) {
        let key = path.rsplit('.').next().unwrap_or(path);
        for word in texts.iter().flat_map(|text| placeholders::unknown(text)) {
            let shown = format!("{{{word}}}");
            let message = format!("`{key}`: `{shown}` is no placeholder and is passed on as it is");
            let span = self
                .values
                .span(path)
                .map(|span| self.problems.within(span, &shown));
            let help = placeholders::help(word);
            self.problems
                .warning("placeholder", span, message, Some(help));
        }
    }

    fn connect(&mut self, name: &str, command: &[String], env: &[(String, String)]) -> Connect {
        let at = |key: &str| format!("services.{name}.{key}");
        let texts = || command.iter().chain(env.iter().map(|(_, value)| value));
        let used = |word: &str| texts().any(|text| text.contains(&format!("{{{word}}}")));
        let (port, socket) = (used("port"), used("socket"));
        let named = self.text(&at("connect"));
        let span = self
            .values
            .span(&at("connect"))
            .or_else(|| self.values.span(&at("command")));
        let mut wrong = |message: &str, help: &str| {
            self.problems
                .error("connect", span.clone(), message, Some(help.to_owned()));
        };
        match named.as_deref() {
            Some("fd") => {
                if socket {
                    wrong(
                        "`connect = \"fd\"` gives no `{socket}`",
                        "remove the placeholder, or set `connect = \"socket\"`",
                    );
                }
                Connect::Fd
            }
            Some("socket") => {
                if !socket {
                    wrong(
                        "`connect = \"socket\"`, and nothing tells the worker its `{socket}`",
                        "add it to `command`, such as \"unix:{socket}\", or to a value of `env`",
                    );
                }
                if port {
                    wrong(
                        "`connect = \"socket\"` gives no `{port}`",
                        "remove the placeholder",
                    );
                }
                Connect::Socket
            }
            Some(_) => {
                if socket {
                    wrong(
                        "`connect = \"port\"` gives no `{socket}`",
                        "remove the placeholder, or set `connect = \"socket\"`",
                    );
                }
                Connect::Port
            }
            None if port && socket => {
                wrong(
                    "`{port}` and `{socket}` are both used",
                    "keep the one by which the worker is reached",
                );
                Connect::Port
            }
            None if socket => Connect::Socket,
            None => Connect::Port,
        }
    }

    fn settings(&mut self, name: &str) -> Settings {
        let at = |key: &str| format!("services.{name}.{key}");
        let max_surge = self.amount(&at("rollout.max_surge"));
        let max_unavailable = self.amount(&at("rollout.max_unavailable"));
        if max_surge == Amount::Count(0) && max_unavailable == Amount::Count(0) {
            let span = self
                .values
                .span(&at("rollout.max_surge"))
                .or_else(|| self.values.span(&at("rollout.max_unavailable")));
            let message =
                "`max_surge` and `max_unavailable` are both 0: no worker could ever be replaced";
            let help = "set `max_surge = 1`".to_owned();
            self.problems.error("both-zero", span, message, Some(help));
        }
        let (first, most) = (
            self.time(&at("restart.first")),
            self.time(&at("restart.most")),
        );
        if first > most {
            let message = "`restart.first` is longer than `restart.most`";
            let span = self.values.span(&at("restart.first"));
            self.problems.error("conflict", span, message, None);
        }
        self.time_to_rise(name);
        let on_failure = match self.text(&at("rollout.on_failure")).as_deref() {
            Some("pause") => OnFailure::Pause,
            _ => OnFailure::Rollback,
        };
        let not_enough = match self.text(&at("judge.not_enough")).as_deref() {
            Some("hold") => NotEnough::Hold,
            _ => NotEnough::Continue,
        };
        let [upload, stream, tunnel] =
            ["upload", "stream", "tunnel"].map(|class| self.time(&at(&format!("drain.{class}"))));
        let at_most = match self.maybe(&at("drain.at_most")) {
            Some(Value::Time(at_most)) => *at_most,
            _ => DRAIN_AT_MOST.max(upload).max(stream).max(tunnel),
        };
        Settings {
            ownership: Ownership::Managed,
            wanted: self.count(&at("workers")),
            max_surge,
            max_unavailable,
            ramp: self.time(&at("rollout.ramp")),
            soak: self.time(&at("rollout.soak")),
            progress_deadline: self.time(&at("rollout.progress_deadline")),
            on_failure,
            park: self.time(&at("rollout.park")),
            max_generations: self.count(&at("rollout.max_generations")),
            judge_min_requests: u64::from(self.count(&at("judge.min_requests"))),
            not_enough,
            rise: self.count(&at("health.rise")),
            fall: self.count(&at("health.fall")),
            start_timeout: self.time(&at("health.start_timeout")),
            kill_grace: self.time(&at("drain.kill_grace")),
            drain_request: self.time(&at("drain.request")),
            drain_upload: upload,
            drain_stream: stream,
            drain_tunnel: tunnel,
            drain_at_most: at_most,
            backoff_first: first,
            backoff_max: most,
            unhealthy_after: self.time(&at("restart.unhealthy")),
            backoff_reset: self.time(&at("restart.reset")),
        }
    }

    /// A worker becomes ready after `rise` probes in a row. A limit that is over before those can have been
    /// asked would end every start, or every rollout.
    fn time_to_rise(&mut self, name: &str) {
        let rise = format!("services.{name}.health.rise");
        let least = FIRST_PROBES * self.count(&rise);
        for key in ["health.start_timeout", "rollout.progress_deadline"] {
            let path = format!("services.{name}.{key}");
            if self.count(&rise) < 2 || self.time(&path) >= least {
                continue;
            }
            let spans = (self.values.span(&path), self.values.span(&rise));
            let least = humantime::format_duration(least);
            let message = format!(
                "`{key}` ends before `health.rise` good answers in a row can come, so no worker would ever be ready in time"
            );
            let short = key.rsplit('.').next().unwrap_or(key);
            let help = format!("set `{short} = \"{least}\"` or more, or a lower `rise`");
            let span = spans.0.or(spans.1);
            self.problems.error("conflict", span, &message, Some(help));
        }
    }

    fn rules(&mut self, name: &str, settings: &Settings) -> ServiceRules {
        let (edits, pages) = (self.edits(name), self.pages(name));
        let at = |key: &str| format!("services.{name}.{key}");
        ServiceRules {
            edits,
            pages,
            maintenance: self.yes(&at("maintenance")),
            hosts: match self.maybe(&at("hosts")) {
                Some(Value::Hosts(hosts)) => hosts.clone(),
                _ => Vec::new(),
            },
            path_prefix: self.text(&at("path_prefix")).unwrap_or_default(),
            connect_timeout: self.time(&at("timeouts.connect")),
            response_head_timeout: self.time(&at("timeouts.response_head")),
            body_idle_timeout: self.time(&at("timeouts.body_idle")),
            worker_idle_timeout: self.time(&at("timeouts.worker_idle")),
            max_body: match self.maybe(&at("limits.body")) {
                Some(Value::Size(size)) => Some(*size),
                _ => None,
            },
            drain: DrainLimits {
                request: settings.drain_request,
                upload: settings.drain_upload,
                stream: settings.drain_stream,
                tunnel: settings.drain_tunnel,
                at_most: settings.drain_at_most,
            },
            parking: Parking {
                max_requests: self.count(&at("parking.requests")),
                max_bytes: self.size(&at("parking.bytes")),
                max_wait: self.time(&at("parking.wait")),
            },
            max_in_flight: self
                .maybe(&at("max_in_flight"))
                .and_then(count)
                .and_then(NonZeroU32::new),
            queue: Parking {
                max_requests: self.count(&at("queue.requests")),
                max_bytes: self.size(&at("queue.bytes")),
                max_wait: self.time(&at("queue.wait")),
            },
            retry: Retry {
                tries: self.count(&at("retry.tries")),
                budget_percent: self.percent(&at("retry.budget")),
                buffer: self.size(&at("retry.buffer")),
            },
            ejection: Ejection {
                consecutive: self.count(&at("ejection.consecutive")),
                base_time: self.time(&at("ejection.base_time")),
                max_percent: self.percent(&at("ejection.max_percent")),
            },
            slow_start: self.time(&at("slow_start")),
        }
    }

    fn trusted(&self) -> Vec<Network> {
        match self.maybe("trusted_proxies") {
            Some(Value::Networks(networks)) => networks.clone(),
            _ => Vec::new(),
        }
    }

    /// The value that was given.
    pub(super) fn maybe(&self, path: &str) -> Option<&Value> {
        Some(&self.values.found.get(path)?.value)
    }

    /// The value that was given, else the default.
    fn get(&self, path: &str) -> Option<Value> {
        self.maybe(path).cloned().or_else(|| default(path))
    }

    // A key of another kind or without a default would be a slip in the table of keys; a test asks
    // for every one of them, so the last arms below are for nobody.

    fn time(&self, path: &str) -> Duration {
        match self.get(path) {
            Some(Value::Time(time)) => time,
            other => slip(path, other.as_ref()),
        }
    }

    fn count(&self, path: &str) -> u32 {
        self.get(path)
            .as_ref()
            .and_then(count)
            .unwrap_or_else(|| slip(path, None))
    }

    fn percent(&self, path: &str) -> u32 {
        match self.get(path) {
            Some(Value::Percent(part)) => part,
            other => slip(path, other.as_ref()),
        }
    }

    fn size(&self, path: &str) -> u64 {
        match self.get(path) {
            Some(Value::Size(size)) => size,
            other => slip(path, other.as_ref()),
        }
    }

    pub(super) fn yes(&self, path: &str) -> bool {
        matches!(self.get(path), Some(Value::Bool(true)))
    }

    fn text(&self, path: &str) -> Option<String> {
        match self.get(path) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn path(&self, path: &str) -> Option<PathBuf> {
        match self.maybe(path) {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }

    /// A percentage of nothing is none, so that both ways to write zero are one.
    fn amount(&self, path: &str) -> Amount {
        match self.get(path) {
            Some(Value::Amount(Amount::Percent(0))) => Amount::Count(0),
            Some(Value::Amount(amount)) => amount,
            other => slip(path, other.as_ref()),
        }
    }
}

fn slip<T: Zero>(path: &str, found: Option<&Value>) -> T {
    debug_assert!(false, "the table of keys does not fit `{path}`: {found:?}");
    T::ZERO
}

trait Zero {
    const ZERO: Self;
}
impl Zero for Duration {
    const ZERO: Self = Self::ZERO;
}
impl Zero for u32 {
    const ZERO: Self = 0;
}
impl Zero for u64 {
    const ZERO: Self = 0;
}
impl Zero for Amount {
    const ZERO: Self = Self::Count(0);
}

fn count(value: &Value) -> Option<u32> {
    match value {
        Value::Count(count) => Some(*count),
        _ => None,
    }
}

/// The default of a key, from the table of keys.
pub(crate) fn default(path: &str) -> Option<Value> {
    let key = keys::at(path)?;
    let literal = key.default?;
    match literal
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(text) => key.kind.text(text).ok(),
        None if key.kind == Kind::Bool => Some(Value::Bool(literal == "true")),
        None => key.kind.number(literal.parse().ok()?).ok(),
    }
}

/// Refuses a file that others may change (T21): who may write it says what we run.
pub(crate) fn writable_by_others(file: &Path, span: Option<Range<usize>>, problems: &mut Problems) {
    let Ok(meta) = std::fs::metadata(file) else {
        return;
    };
    if meta.is_file() && meta.mode() & 0o022 != 0 {
        let shown = file.display();
        let message = format!(
            "`{shown}` can be changed by other users (mode {:03o})",
            meta.mode() & 0o777
        );
        problems.error(
            "writable-by-others",
            span,
            message,
            Some(format!("run `chmod go-w {shown}`")),
        );
    }
}

/// Whether two sockets cannot both listen. Port 0 is another one each time.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip(), b.ip());
    let everywhere = one.is_unspecified() || other.is_unspecified();
    let meets = one == other || everywhere && one.is_ipv4() == other.is_ipv4();
    a.port() == b.port() && a.port() != 0 && meets
}

fn ephemeral_ports() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
