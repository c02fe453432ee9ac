//! One running remuda: the real binary, in its own directories, on ports the kernel chose.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Answer, Client, PATIENCE};
use super::knobs::Knobs;
use super::worker;

/// Everything of one instance; dropping it ends every process it started.
pub(crate) struct Instance {
    child: Child,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) knobs: Knobs,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<String>>,
    flags: Vec<String>,
    open_files: Option<u32>,
    env: Vec<(String, OsString)>,
    within: Option<PathBuf>,
    /// Sockets that a service manager has opened for it, with their names.
    pub(crate) given: Vec<(OwnedFd, String)>,
}

/// What to start.
pub(crate) struct Start {
    dir: tempfile::TempDir,
    flags: Vec<String>,
    top: String,
    service: String,
    command: Option<Vec<String>>,
    others: Vec<(String, String)>,
    before: Vec<(String, String)>,
    open_files: Option<u32>,
    env: Vec<(String, OsString)>,
    within: Option<PathBuf>,
    /// Sockets that a service manager has opened for it, with their names.
    pub(crate) given: Vec<(OwnedFd, String)>,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            dir: tempfile::Builder::new()
                .prefix("rmd")
                .tempdir()
                .expect("a temporary directory"),
            flags: Vec::new(),
            top: String::new(),
            service: String::new(),
            command: None,
            others: Vec::new(),
            before: Vec::new(),
            open_files: None,
            env: Vec::new(),
            within: None,
            given: Vec::new(),
        }
    }
}

impl Start {
    /// Starts it in this directory, as a shell does that came there by this name.
    pub(crate) fn within(mut self, directory: PathBuf) -> Self {
        self.env.push(("PWD".to_owned(), directory.clone().into()));
        self.within = Some(directory);
        self
    }

    /// The instance's own directory, where its config file will be.
    pub(crate) fn place(&self) -> &Path {
        self.dir.path()
    }

    /// Puts a file beside the config.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.dir.path().join(name), text).expect("the directory is writable");
        self
    }

    /// Adds lines at the top of the config file.
    pub(crate) fn top(mut self, lines: &str) -> Self {
        self.top.push_str(lines);
        self.top.push('\n');
        self
    }

    /// Workers that somebody else runs, in place of a command.
    pub(crate) fn upstream(mut self, addresses: &[&str]) -> Self {
        self.command = Some(Vec::new());
        self.service(&format!("upstream = {addresses:?}"))
    }

    /// Adds flags of `remuda run`.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Adds lines of the service's table in the config file.
    pub(crate) fn service(mut self, lines: &str) -> Self {
        self.service.push_str(lines);
        self.service.push('\n');
        self
    }

    /// Another service with the same workers, unless its lines of the config file name others.
    pub(crate) fn another(mut self, name: &str, lines: &str) -> Self {
        self.others.push((name.to_owned(), lines.to_owned()));
        self
    }

    /// Another command than the scripted worker.
    pub(crate) fn command(mut self, command: &[&str]) -> Self {
        self.command = Some(command.iter().map(|&word| word.to_owned()).collect());
        self
    }

    /// A knob that the first workers see.
    pub(crate) fn knob(mut self, key: &str, value: &str) -> Self {
        self.before.push((key.to_owned(), value.to_owned()));
        self
    }

    /// At most so many descriptors for each process.
    pub(crate) fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// A variable in remuda's own environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Hands it a socket as a service manager does, under this name.
    pub(crate) fn given(mut self, socket: impl Into<OwnedFd>, name: &str) -> Self {
        self.given.push((socket.into(), name.to_owned()));
        self
    }

    /// Starts and waits until the wanted workers are ready, and the data plane accepts.
    pub(crate) fn ready(self) -> Instance {
        let mut instance = self.launch();
        instance.wait("all workers to be ready", |status| {
            let app = &status["services"]["app"];
            let accepting = status["data_planes"][0]["state"] == "accepting";
            app["ready"] == app["wanted"] && app["ready"] != 0 && accepting
        });
        instance
    }

    /// Starts and waits until the admin socket answers.
    pub(crate) fn launch(self) -> Instance {
        let dir = self.dir;
        let knobs = Knobs::new(dir.path());
        let pairs: Vec<(&str, &str)> = self
            .before
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        knobs.set(&pairs);
        let command = self.command.unwrap_or_else(worker::command);
        let workers = if command.is_empty() {
            String::new()
        } else {
            format!(
                "command = {command:?}\nenv = {{ {} = {:?}, {} = {:?} }}\n",
                worker::KNOBS,
                knobs.path().display().to_string(),
                worker::LOG,
                dir.path().join("executed").display().to_string(),
            )
        };
        let mut config = format!(
            "{}[[listen]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [services.app]\n{workers}{}\n",
            self.top, self.service,
        );
        for (name, lines) in self.others {
            let workers = match lines.contains("upstream =") {
                true => "",
                false => &workers,
            };
            config.push_str(&format!("[services.{name}]\n{workers}{lines}\n"));
        }
        let file = dir.path().join("remuda.toml");
        std::fs::write(&file, config).expect("the directory is writable");
        std::fs::create_dir_all(dir.path().join("run")).expect("the directory is writable");
        let said = Arc::new(Mutex::new(String::new()));
        let within = self.within.as_deref();
        let child = spawn(
            &dir,
            &self.flags,
            self.open_files,
            &self.env,
            within,
            &self.given,
            &said,
        );
        let mut instance = Instance {
            child,
            dir,
            knobs,
            address: ([127, 0, 0, 1], 0).into(),
            said,
            flags: self.flags,
            open_files: self.open_files,
            env: self.env,
            within: self.within,
            given: self.given,
        };
        instance.find_listener();
        instance
    }
}

fn spawn(
    dir: &tempfile::TempDir,
    flags: &[String],
    open_files: Option<u32>,
    env: &[(String, OsString)],
    within: Option<&Path>,
    given: &[(OwnedFd, String)],
    said: &Arc<Mutex<String>>,
) -> Child {
    let in_shell = |first: &str| {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("{first}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_remuda"));
        shell
    };
    let mut command = match (open_files, given) {
        (None, []) => Command::new(env!("CARGO_BIN_EXE_remuda")),
        (Some(limit), _) => in_shell(&format!("ulimit -n {limit}")),
        // The shell's pid is that of the program it becomes.
        (None, _) => in_shell("export LISTEN_PID=$$"),
    };
    hand_over(&mut command, given);
    if let Some(within) = within {
        command.current_dir(within);
    }
    let mut child = command
        .arg("run")
        .arg("-c")
        .arg(dir.path().join("remuda.toml"))
        .args(flags)
        .env("XDG_RUNTIME_DIR", dir.path().join("run"))
        .env_remove("RUNTIME_DIRECTORY")
        .env_remove("STATE_DIRECTORY")
        .env_remove("NOTIFY_SOCKET")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is built");
    listen_to(child.stderr.take().expect("piped"), said);
    listen_to(child.stdout.take().expect("piped"), said);
    child
}

/// From descriptor 3 on.
fn hand_over(command: &mut Command, given: &[(OwnedFd, String)]) {
    if given.is_empty() {
        return;
    }
    let names: Vec<&str> = given.iter().map(|(_, name)| name.as_str()).collect();
    command
        .env("LISTEN_FDS", names.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    // Above all numbers that are to be given.
    let above = |(fd, _): &(OwnedFd, String)| remuda::sys::copy_above(fd, 100).expect("a copy");
    let copies: Vec<OwnedFd> = given.iter().map(above).collect();
    let numbered = move || {
        for (number, copy) in (3..).zip(&copies) {
            // SAFETY: a child that is about to exec gives a descriptor another number.
            if unsafe { libc::dup2(copy.as_raw_fd(), number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: dup2 may be called between fork and exec.
    unsafe { command.pre_exec(numbered) };
}

fn listen_to(pipe: impl Read + Send + 'static, said: &Arc<Mutex<String>>) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let mut said = said.lock().expect("no panic holds it");
            if said.len() < 4 << 20 {
                said.push_str(&String::from_utf8_lossy(&line));
            }
            line.clear();
        }
    });
}

impl Instance {
    /// Starts it once more, with the same files and flags, after [`Instance::ended`].
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(
            &self.dir,
            &self.flags,
            self.open_files,
            &self.env,
            self.within.as_deref(),
            &self.given,
            &self.said,
        );
        self.find_listener();
    }

    fn find_listener(&mut self) {
        let pid = self.pid();
        let status = self.wait("a listener", |status| {
            let listeners = status["listeners"].as_array();
            status["pid"] == pid && listeners.is_some_and(|all| !all.is_empty())
        });
        let listener = status["listeners"][0]
            .as_str()
            .expect("an address")
            .to_owned();
        // A unix listener has no such address; its test knows its path.
        if !listener.starts_with("unix:") {
            self.address = listener
                .parse()
                .unwrap_or_else(|error| panic!("{listener}: {error}"));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("run/remuda/admin.sock")
    }

    /// What it wrote to stdout and stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("no panic holds it").clone()
    }

    /// A new client connection.
    pub(crate) fn client(&self) -> Client {
        Client::tcp(self.address).expect("the public port accepts")
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.client().get(target).expect("an answer")
    }

    /// A call of the admin API over the unix socket.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut client = Client::unix(&self.admin_socket()).expect("the admin socket accepts");
        client
            .request(
                method,
                path,
                &[("Content-Type", "application/json")],
                body.as_bytes(),
            )
            .expect("an answer")
    }

    pub(crate) fn status(&self) -> Value {
        self.admin("GET", "/v1/status", "").json()
    }

    /// Waits until the status is as told, and returns it.
    pub(crate) fn wait(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE * 3;
        let mut last = Value::Null;
        loop {
            if let Ok(mut client) = Client::unix(&self.admin_socket())
                && let Ok(answer) = client.get("/v1/status")
                && answer.status == 200
            {
                last = answer.json();
                if holds(&last) {
                    return last;
                }
            }
            if let Ok(Some(exit)) = self.child.try_wait() {
                panic!(
                    "waited for {what}, but remuda ended ({exit}):\n{}",
                    self.said()
                );
            }
            assert!(
                Instant::now() < deadline,
                "waited for {what} in vain; status:\n{last:#}\nsaid:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has written this text.
    pub(crate) fn wait_said(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE * 3;
        while !self.said().contains(text) {
            assert!(
                Instant::now() < deadline,
                "never said {text:?}:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("it lives");
    }

    /// Waits until the process itself ends.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE * 4;
        loop {
            if let Some(exit) = self.child.try_wait().expect("it is ours") {
                return exit;
            }
            assert!(Instant::now() < deadline, "does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The sum of a metric's series that bear these labels (`name="value"`).
    pub(crate) fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let page = self.admin("GET", "/metrics", "").text();
        page.lines()
            .filter(|line| {
                line.strip_prefix(family)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until a metric has this value.
    pub(crate) fn wait_metric(&self, family: &str, labels: &[&str], value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.metric(family, labels);
            if (now - value).abs() < 1e-9 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{family} {labels:?} is {now}, not {value}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every living process that this instance started, itself included: they all bear the runtime
    /// directory or the knobs' path in their environment.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        processes_of(self.dir.path())
    }
}

/// Living processes (no zombies) whose environment or command line names the directory.
pub(crate) fn processes_of(dir: &Path) -> Vec<(u32, String)> {
    let needle = dir.to_str().expect("ASCII").as_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")
        .expect("proc is mounted")
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // Gone meanwhile, or a zombie, which has neither.
        let of = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let (environment, command) = (of("environ"), of("cmdline"));
        let mut both = environment
            .windows(needle.len())
            .chain(command.windows(needle.len()));
        if both.any(|window| window == needle) {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- remuda said:\n{}", self.said());
        }
        for (pid, _) in self.processes() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
