//! A generation's recipe, resolved once: every worker of the generation runs in the same directory, the same
//! program and environment, whatever is changed on disk meanwhile (F62).

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::program::Held;
use super::remains::our_name;
use crate::config::{Connect, Recipe};
use crate::link::message::{Protocol, WorkerAddress};
use crate::rollout::{Generation, ServiceName, Slot, WorkerId};
use crate::shim::{Identity, Job};

mod environment;
mod paths;
mod user;

use self::environment::{env_file, is_handed_down, set};
use self::paths::{canonical, resolved_program, started_in};
use self::user::identity;

/// Set in every worker's environment, and so in what it leaves behind: `PID.START-WORKER`, our pid
/// and start and the worker's id. [`super::remains`] finds its processes by it.
pub const MARKER: &str = "REMUDA_WORKER";

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
            program: resolved_program(program, cwd.as_deref()),
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
        // Else it is only there if the operator set it.
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
