//! A generation's recipe, resolved once: every worker of the generation runs in the same directory, the same
//! program and environment, whatever is changed on disk meanwhile (F62).

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use nix::unistd::{Group, User, getgrouplist};

use super::program::Held;
use super::remains::our_name;
use crate::config::{Connect, Recipe, regular};
use crate::link::message::{Protocol, WorkerAddress};
use crate::rollout::{Generation, ServiceName, Slot, WorkerId};
use crate::shim::{Identity, Job};

/// Set in every worker's environment, and so in what it leaves behind: `PID.START-WORKER`, our pid
/// and start and the worker's id. [`super::remains`] finds its processes by it.
pub const MARKER: &str = "REMUDA_WORKER";

/// Prefixes of variables that are addressed to us and not to workers.
const NOT_HANDED_DOWN: [&str; 5] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_",
    "LISTEN_",
    "JOURNAL_STREAM",
    "REMUDA_",
];

/// The resolved recipe of one generation.
#[derive(Debug)]
pub struct Spec {
    service: ServiceName,
    release: String,
    /// As it was in the config.
    recipe: Recipe,
    program: OsString,
    cwd: Option<PathBuf>,
    /// Inherited and from the file, as they are.
    base: Vec<(OsString, OsString)>,
    identity: Option<Identity>,
    /// What the program's name led to at the first start.
    held: RefCell<Option<Rc<Held>>>,
    /// A worker of it has answered.
    proven: Cell<bool>,
}

/// What differs from worker to worker.
#[derive(Debug, Clone, Copy)]
pub struct Individual<'a> {
    /// Which worker.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: Slot,
    /// Its generation.
    pub generation: Generation,
    /// Where it is to listen.
    pub address: &'a WorkerAddress,
    /// Its own notify socket.
    pub notify: &'a Path,
}

impl Spec {
    /// Resolves a recipe now: directory through its symlinks, environment file, user.
    ///
    /// # Errors
    /// A sentence.
    pub fn resolve(service: &ServiceName, release: &str, recipe: &Recipe) -> Result<Self, String> {
        let Some(program) = recipe.command.first() else {
            return Err(format!("service `{service}` has an empty command"));
        };
        let named: Option<&Path> = recipe.cwd.as_deref();
        let cwd = named.or(started_in()).map(canonical).transpose()?;
        let mut base = if recipe.env_clear {
            Vec::new()
        } else {
            std::env::vars_os()
                .filter(|(name, _)| is_handed_down(name))
                .collect()
        };
        if let Some(path) = &recipe.env_file {
            for pair in env_file(path)? {
                set(&mut base, pair);
            }
        }
        let identity = identity(recipe.user.as_deref(), recipe.group.as_deref())?;
        Ok(Self {
            service: service.clone(),
            release: release.to_owned(),
            program: resolved_program(program),
            recipe: recipe.clone(),
            cwd,
            base,
            identity,
            held: RefCell::default(),
            proven: Cell::new(false),
        })
    }

    /// The program that all its workers run, opened now if it is not held yet.
    pub fn program(&self) -> Option<Rc<Held>> {
        let mut held = self.held.borrow_mut();
        if held.is_none() {
            let path = self.path_variable();
            *held = Held::open(&self.program, path.as_deref(), self.cwd.as_deref()).map(Rc::new);
        }
        held.clone()
    }

    /// Nothing of it runs. If nothing of it has ever answered, the next start takes what is on disk then: a
    /// first release that cannot serve is put right by putting a better file in its place.
    pub(super) fn begin_anew(&self) {
        if !self.proven.get() {
            self.held.take();
        }
    }

    /// A worker of it has answered: from here on every other one runs the same.
    pub(super) fn prove(&self) {
        self.proven.set(true);
    }

    /// Where a worker looks for a program without a slash. Of the placeholders only those are filled that are
    /// the same for all.
    fn path_variable(&self) -> Option<OsString> {
        let words = [("{release}", self.release.as_str())];
        let own = self
            .recipe
            .env
            .iter()
            .rev()
            .find(|(name, _)| name == "PATH");
        let inherited = self.base.iter().find(|(name, _)| name == "PATH");
        match own {
            Some((_, value)) => Some(fill(value, &words).into()),
            None => inherited.map(|(_, value)| value.clone()),
        }
    }

    /// What it was resolved from.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How its workers are reached.
    #[must_use]
    pub fn connect(&self) -> Connect {
        self.recipe.connect
    }

    /// What its workers speak.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.recipe.protocol
    }

    /// The user its workers run as, if it is another one than ours.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// What one worker is to become.
    #[must_use]
    pub fn job(&self, individual: Individual<'_>) -> Job {
        let port = match individual.address {
            WorkerAddress::Tcp(address) => address.port().to_string(),
            WorkerAddress::Unix(_) => String::new(),
        };
        let socket = match individual.address {
            WorkerAddress::Tcp(_) => String::new(),
            WorkerAddress::Unix(path) => path.display().to_string(),
        };
        let (slot, generation) = (
            individual.slot.to_string(),
            individual.generation.to_string(),
        );
        let words = [
            ("{port}", port.as_str()),
            ("{socket}", &socket),
            ("{slot}", &slot),
            ("{generation}", &generation),
            ("{release}", &self.release),
        ];

        let mut env = self.base.clone();
        for (name, value) in &self.recipe.env {
            set(&mut env, (name.into(), fill(value, &words).into()));
        }
        // `PORT` is set for unix sockets too if the operator set it; else it would mislead.
        if matches!(self.recipe.connect, Connect::Port) {
            set(&mut env, ("PORT".into(), port.clone().into()));
        }
        let marker = marker(individual.worker);
        for (name, value) in [
            ("REMUDA_SERVICE", self.service.to_string()),
            ("REMUDA_SLOT", slot.clone()),
            ("REMUDA_GENERATION", generation.clone()),
            ("REMUDA_RELEASE", self.release.clone()),
            (MARKER, marker),
        ] {
            set(&mut env, (name.into(), value.into()));
        }
        set(&mut env, ("NOTIFY_SOCKET".into(), individual.notify.into()));

        let listeners = match self.recipe.connect {
            Connect::Fd => vec!["http".to_owned()],
            Connect::Port | Connect::Socket => Vec::new(),
        };
        Job {
            parent: std::process::id(),
            program: self.program.clone(),
            // The spawn's, which has the descriptor.
            begun: None,
            argv: self
                .recipe
                .command
                .iter()
                .map(|word| fill(word, &words).into())
                .collect(),
            env,
            cwd: self.cwd.as_ref().map(|path| path.clone().into_os_string()),
            identity: self.identity.clone(),
            umask: self.recipe.umask,
            open_files: None,
            listeners,
        }
    }
}

/// The value of [`MARKER`] for a worker of ours.
pub(super) fn marker(worker: WorkerId) -> String {
    format!("{}-{}", our_name(), worker.0)
}

/// Placeholders replaced; one pass, so that a value that looks like a placeholder stays as it is.
fn fill(text: &str, words: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    'text: while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        for (word, value) in words {
            if let Some(after) = rest.strip_prefix(word) {
                filled.push_str(value);
                rest = after;
                continue 'text;
            }
        }
        filled.push('{');
        rest = &rest[1..];
    }
    filled.push_str(rest);
    filled
}

/// Only the directory's symlinks are resolved: a last link may be a program that looks at its own name
/// (an interpreter in a virtual environment, a multi-call binary).
fn resolved_program(program: &str) -> OsString {
    let path = Path::new(program);
    if !path.is_absolute() {
        return program.into();
    }
    // What cannot be resolved is reported by the exec, exactly.
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return program.into();
    };
    match parent.canonicalize() {
        Ok(parent) => parent.join(name).into_os_string(),
        Err(_reported_by_the_exec) => program.into(),
    }
}

/// The directory that remuda was started in, by the name its shell had for it, if a symlink is on the way:
/// `current` is another directory after a deploy, and the kernel would go on with the old one. `None` if
/// the name is the directory's own, or another directory's than ours.
fn started_in() -> Option<&'static Path> {
    static STARTED_IN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let named = || {
        let named = PathBuf::from(std::env::var_os("PWD")?);
        let ours = std::env::current_dir().ok()?;
        let is_ours = named.canonicalize().ok()? == ours;
        (is_ours && named != ours && named.is_absolute()).then_some(named)
    };
    STARTED_IN.get_or_init(named).as_deref()
}

fn canonical(path: &Path) -> Result<PathBuf, String> {
    let resolved = path
        .canonicalize()
        .map_err(|error| format!("cannot use the working directory {path:?}: {error}"))?;
    if resolved.is_dir() {
        Ok(resolved)
    } else {
        Err(format!(
            "cannot use the working directory {path:?}: it is no directory"
        ))
    }
}

fn is_handed_down(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !NOT_HANDED_DOWN
        .iter()
        .any(|ours| name.starts_with(ours.as_bytes()))
}

fn set(env: &mut Vec<(OsString, OsString)>, pair: (OsString, OsString)) {
    match env.iter_mut().find(|(name, _)| *name == pair.0) {
        Some(found) => found.1 = pair.1,
        None => env.push(pair),
    }
}

/// `KEY=value` lines. Blank lines and lines that begin with `#` are skipped, `export ` before a key and one
/// pair of quotes around a value are taken off; nothing is expanded.
fn env_file(path: &Path) -> Result<Vec<(OsString, OsString)>, String> {
    let text = regular::read(path)
        .map_err(|why| format!("cannot read the environment file {path:?}: {why}"))?;
    let mut pairs = Vec::new();
    let mut mistakes = String::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        let equals = line.iter().position(|byte| *byte == b'=');
        let Some((name, value)) = equals.map(|at| (line[..at].trim_ascii(), &line[at + 1..]))
        else {
            // The line's text is not repeated: it may be a secret (T14).
            let _ = write!(mistakes, "; line {} is no `KEY=value`", index + 1);
            continue;
        };
        if name.is_empty() || line.contains(&0) {
            let _ = write!(mistakes, "; line {} has no usable key", index + 1);
            continue;
        }
        let value = unquoted(value.trim_ascii());
        pairs.push((
            OsString::from_vec(name.to_vec()),
            OsString::from_vec(value.to_vec()),
        ));
    }
    if mistakes.is_empty() {
        Ok(pairs)
    } else {
        Err(format!(
            "cannot use the environment file {path:?}{mistakes}"
        ))
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    }
}

/// The user and group to become. A named user brings its groups; a group alone keeps our user.
fn identity(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, String> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let gid = group.map(find_group).transpose()?;
    let Some(name) = user else {
        let gid = gid.unwrap_or_else(nix::unistd::getgid);
        let uid = nix::unistd::geteuid().as_raw();
        let groups = vec![gid.as_raw()];
        return Ok(Some(Identity {
            uid,
            gid: gid.as_raw(),
            groups,
        }));
    };
    let found = match name.parse::<u32>() {
        Ok(number) => User::from_uid(number.into()),
        Err(_a_name) => User::from_name(name),
    };
    let found = found.map_err(|errno| format!("cannot look up the user `{name}`: {errno}"))?;
    let identity = match (found, name.parse::<u32>()) {
        (Some(user), _) => {
            let gid = gid.unwrap_or(user.gid);
            let groups = std::ffi::CString::new(user.name)
                .ok()
                .and_then(|name| getgrouplist(&name, gid).ok())
                .unwrap_or_else(|| vec![gid]);
            Identity {
                uid: user.uid.as_raw(),
                gid: gid.as_raw(),
                groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
            }
        }
        // A number that no user has is fine if the group is said as well.
        (None, Ok(uid)) => {
            let Some(gid) = gid else {
                return Err(format!(
                    "no user has the number {uid}; name a `group` as well"
                ));
            };
            Identity {
                uid,
                gid: gid.as_raw(),
                groups: vec![gid.as_raw()],
            }
        }
        (None, Err(_)) => return Err(format!("there is no user `{name}`")),
    };
    Ok(Some(identity))
}

fn find_group(name: &str) -> Result<nix::unistd::Gid, String> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number.into());
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(format!("there is no group `{name}`")),
        Err(errno) => Err(format!("cannot look up the group `{name}`: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Individual, MARKER, Spec, fill, our_name};
    use crate::config::{Connect, Recipe};
    use crate::link::message::{Protocol, WorkerAddress};
    use crate::rollout::{Generation, ServiceName, Slot, WorkerId};

    fn recipe(command: &[&str]) -> Recipe {
        Recipe {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            connect: Connect::Port,
            protocol: Protocol::Http1,
            cwd: None,
            env: Vec::new(),
            env_file: None,
            env_clear: false,
            user: None,
            group: None,
            umask: None,
        }
    }

    fn job(recipe: &Recipe) -> Result<crate::shim::Job, String> {
        let spec = Spec::resolve(&ServiceName::new("app"), "v1", recipe)?;
        Ok(spec.job(Individual {
            worker: WorkerId(7),
            slot: Slot(2),
            generation: Generation(3),
            address: &WorkerAddress::Tcp(([127, 0, 0, 1], 20_001).into()),
            notify: Path::new("/run/n"),
        }))
    }

    fn value<'a>(job: &'a crate::shim::Job, name: &str) -> Option<&'a str> {
        let (_, value) = job.env.iter().find(|(key, _)| key == name)?;
        value.to_str()
    }

    #[test]
    fn placeholders_are_filled_once() {
        let words = [("{port}", "{slot}"), ("{slot}", "1")];
        assert_eq!(fill("a{port}{slot}{x}{", &words), "a{slot}1{x}{");
    }

    #[test]
    fn a_job_says_everything_about_its_worker() {
        let mut recipe = recipe(&["./run", "--port={port}", "{slot}.{generation}"]);
        recipe.env.push(("AT".into(), "{release}:{port}".into()));
        let job = job(&recipe).expect("resolves");
        assert_eq!(job.argv, ["./run", "--port=20001", "2.3"]);
        for (name, expected) in [
            ("AT", "v1:20001"),
            ("PORT", "20001"),
            ("REMUDA_SERVICE", "app"),
            ("REMUDA_SLOT", "2"),
            ("REMUDA_GENERATION", "3"),
            ("REMUDA_RELEASE", "v1"),
            ("NOTIFY_SOCKET", "/run/n"),
        ] {
            assert_eq!(value(&job, name), Some(expected), "{name}");
        }
        assert_eq!(
            value(&job, MARKER),
            Some(format!("{}-7", our_name()).as_str())
        );
    }

    #[test]
    fn a_cleared_environment_has_only_what_is_said() {
        let mut recipe = recipe(&["x"]);
        recipe.env_clear = true;
        let job = job(&recipe).expect("resolves");
        assert!(value(&job, "PATH").is_none());
        assert_eq!(value(&job, "PORT"), Some("20001"));
    }

    #[test]
    fn the_environment_file_is_read_and_its_mistakes_named_without_their_text() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("env");
        std::fs::write(&path, "# c\nexport A=\"x y\"\n\nB = z\n").expect("write");
        let mut recipe = recipe(&["x"]);
        recipe.env_file = Some(path.clone());
        let job = job(&recipe).expect("resolves");
        assert_eq!(
            (value(&job, "A"), value(&job, "B")),
            (Some("x y"), Some("z"))
        );

        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
        recipe.env_file = Some(fifo);
        let error = self::job(&recipe).expect_err("nobody writes to it");
        assert!(error.contains("a pipe"), "{error}");
        recipe.env_file = Some(path.clone());

        std::fs::write(&path, "A=1\nhunter2\n").expect("write");
        let error = self::job(&recipe).expect_err("a mistake");
        assert!(
            error.contains("line 2") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn the_directory_is_resolved_through_its_symlink_once() {
        let directory = tempfile::tempdir().expect("tempdir");
        let real = directory.path().join("release-1");
        std::fs::create_dir(&real).expect("mkdir");
        let link = directory.path().join("current");
        std::os::unix::fs::symlink(&real, &link).expect("symlink");
        let mut recipe = recipe(&["x"]);
        recipe.cwd = Some(link);
        let job = job(&recipe).expect("resolves");
        let expected = real.canonicalize().expect("exists");
        assert_eq!(job.cwd.as_deref(), Some(expected.as_os_str()));
    }
}
