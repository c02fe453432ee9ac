//! What the demo stands on: a temporary directory with three releases, free ports, and a real supervisor
//! as a child process. Leaves nothing behind, however the demo ends.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::worker::RELEASE_FILE;

/// Workers of the demo's service.
pub(super) const WORKERS: u32 = 4;
/// The service's name.
pub(super) const SERVICE: &str = "demo";
/// What can be rolled out; the last one is broken.
pub(super) const RELEASES: [&str; 3] = ["v1", "v2", "v3"];

/// First of the public and of the admin ports to try.
const PUBLIC_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9900;
/// How many ports to try after the first.
const PORTS: u16 = 50;
/// How long a stop may take before the supervisor is killed.
const STOP: Duration = Duration::from_secs(10);

/// The demo's supervisor and all that belongs to it.
#[derive(Debug)]
pub(super) struct Stage {
    // Dropped before the directory that it works in.
    child: Guarded,
    dir: Dir,
    /// Where clients come in.
    pub(super) public: SocketAddr,
    /// Where the page is.
    pub(super) admin: SocketAddr,
}

impl Stage {
    /// Sets everything up and starts the supervisor with the first release.
    pub(super) fn set() -> io::Result<Self> {
        let dir = Dir::make()?;
        for release in RELEASES {
            let home = dir.path().join(release);
            fs::create_dir(&home)?;
            fs::write(home.join(RELEASE_FILE), format!("{release}\n"))?;
        }
        symlink("v1", dir.path().join("current"))?;
        let public = free(PUBLIC_PORT)?;
        let admin = free(ADMIN_PORT)?;
        fs::write(dir.path().join("remuda.toml"), config(&dir, public, admin)?)?;
        let log = File::create(dir.path().join("remuda.log"))?;
        let mut command = guarded(["run", "-c"])?;
        command
            .arg(dir.path().join("remuda.toml"))
            .arg("--admin-socket")
            .arg(socket_in(&dir))
            .stdout(log.try_clone()?)
            .stderr(log);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("REMUDA_") {
                command.env_remove(name);
            }
        }
        let child = Guarded::spawn(&mut command)?;
        Ok(Self {
            child,
            dir,
            public,
            admin,
        })
    }

    /// The supervisor's admin socket.
    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.dir)
    }

    /// The supervisor's pid.
    pub(super) fn pid(&self) -> u32 {
        self.child.child.id()
    }

    /// How the supervisor ended, if it has; it should not before it is told to.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.child.try_wait().ok().flatten()
    }

    /// The supervisor's last words.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(self.dir.path().join("remuda.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// What a deploy does: points `current` at a release, in one step.
    pub(super) fn deploy(&self, release: &str) -> io::Result<()> {
        let next = self.dir.path().join("next");
        symlink(release, &next)?;
        fs::rename(next, self.dir.path().join("current"))
    }

    /// Signals the supervisor, as `kill -USR2 PID` would.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal)
    }

    /// Stops the supervisor and everything under it by this signal; kills what does not stop.
    pub(super) async fn clear(mut self, signal: Signal) -> io::Result<()> {
        self.child.stop(signal, STOP).await
    }
}

/// A sample worker on its own, as it would run without remuda.
#[derive(Debug)]
pub(super) struct Alone {
    child: Guarded,
}

impl Alone {
    /// Starts a release on this port.
    pub(super) fn start(stage: &Stage, release: &str, port: u16) -> io::Result<Self> {
        let mut command = guarded(["demo-worker"])?;
        command
            .current_dir(stage.dir.path().join(release))
            .env("PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = Guarded::spawn(&mut command)?;
        Ok(Self { child })
    }

    /// Kills it as a naive restart does.
    pub(super) async fn kill(mut self) -> io::Result<()> {
        self.child.stop(Signal::SIGTERM, STOP).await
    }
}

/// A port that nobody listens on now.
pub(super) fn free(first: u16) -> io::Result<SocketAddr> {
    let mut last = None;
    for port in first..=first.saturating_add(PORTS) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// The hidden command under which the demo starts its children: it asks the kernel for a SIGTERM when
/// the demo, named by its pid, dies, and becomes the program that the other arguments name.
#[must_use]
pub fn become_child() -> ExitCode {
    let mut args = std::env::args_os().skip(2);
    let owner = args.next();
    let guarded = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    // The demo may have died before the kernel was asked.
    let orphaned = owner.is_none_or(|pid| pid != nix::unistd::getppid().to_string().as_str());
    if let (Ok(()), false, Ok(program)) = (guarded, orphaned, std::env::current_exe()) {
        // Comes back only if it failed.
        let _ = Command::new(program).args(args).exec();
    }
    ExitCode::FAILURE
}

fn guarded<const N: usize>(args: [&str; N]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    // A group of its own: Ctrl-C is for the demo, which then stops the others in order.
    command
        .arg("demo-child")
        .arg(std::process::id().to_string())
        .args(args)
        .stdin(Stdio::null())
        .process_group(0);
    Ok(command)
}

/// A child that does not outlive its owner.
#[derive(Debug)]
struct Guarded {
    child: Child,
}

impl Guarded {
    fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(|child| Self { child })
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), signal).map_err(io::Error::from)
    }

    async fn stop(&mut self, signal: Signal, patience: Duration) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal(signal)?;
        let give_up = Instant::now() + patience;
        while Instant::now() < give_up {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Guarded {
    /// After a clean end there is nothing left to do here. After an unclean one the supervisor gets the
    /// time it needs to take its workers along.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = self.signal(Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

/// A directory that goes when its owner goes.
#[derive(Debug)]
struct Dir(PathBuf);

impl Dir {
    fn make() -> io::Result<Self> {
        // Not `TMPDIR`: a socket's path must be short.
        let path = PathBuf::from(format!("/tmp/remuda-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What cannot be removed now cannot be removed later.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn socket_in(dir: &Dir) -> PathBuf {
    dir.path().join("run/admin.sock")
}

fn config(dir: &Dir, public: SocketAddr, admin: SocketAddr) -> io::Result<String> {
    let program = std::env::current_exe()?;
    let quoted = |path: &Path| toml::Value::from(&*path.to_string_lossy()).to_string();
    DirBuilder::new()
        .mode(0o700)
        .create(dir.path().join("run"))?;
    Ok(format!(
        r#"[[listen]]
address = "{public}"

[admin]
address = "{admin}"

[services.{SERVICE}]
command = [{program}, "demo-worker", "{{socket}}"]
workers = {WORKERS}
cwd = {current}
health = {{ path = "/healthz", start_timeout = "4s" }}

[services.{SERVICE}.rollout]
max_surge = "50%"
ramp = "1s"
soak = "2s"
"#,
        program = quoted(&program),
        current = quoted(&dir.path().join("current")),
    ))
}
