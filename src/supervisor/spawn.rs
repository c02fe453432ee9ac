//! Starting a worker: pipes for its output, the exec shim, the job over the shim's stdin.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::net::unix::pipe;

use super::image::Image;
use super::program::Held;
use super::reaper::Reaper;
use crate::link::channel::Channel;
use crate::shim::{Answer, Bytes, Failure, Job};

/// Resolves when the shim has become the worker, or with a sentence that says why it has not. What it runs is
/// said if that is not simply the file under its program's name, as its generation began with it. The process
/// must be reaped in either case.
pub type Outcome = Pin<Box<dyn Future<Output = Result<Option<Bytes>, String>>>>;

/// A process that is about to be a worker.
pub struct Spawned {
    /// Its pid, and its session and group once it has one.
    pub pid: u32,
    /// Whether it became the worker. Must be polled for the start to go on: it sends the job.
    pub outcome: Outcome,
    /// What the worker prints.
    pub stdout: pipe::Receiver,
    /// What the worker prints as errors.
    pub stderr: pipe::Receiver,
}

impl fmt::Debug for Spawned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Starts the shim, registers it with the reaper and returns at once. `listeners` are those that
/// `job.listeners` names; our copies are closed as soon as the shim has been sent them. `program` is what the
/// worker's generation began with.
///
/// # Errors
/// A sentence; nothing was started then.
pub fn spawn(
    image: &Image,
    reaper: &mut Reaper,
    mut job: Job,
    listeners: Vec<OwnedFd>,
    program: Option<Rc<Held>>,
) -> Result<Spawned, String> {
    job.begun = program.as_ref().map(|held| held.program());
    let start = || -> io::Result<_> {
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        let (channel, shim_end) = Channel::pair()?;
        let pid = image.spawn_self(&["shim"], shim_end, &[])?;
        reaper.watch(pid);
        let mut fds = vec![stdout_end, stderr_end];
        fds.extend(listeners);
        Ok(Spawned {
            pid,
            outcome: Box::pin(hand_over(channel, job, fds, program)),
            stdout,
            stderr,
        })
    };
    start().map_err(|error| format!("cannot start a process: {error}"))
}

async fn hand_over(
    channel: Channel,
    job: Job,
    fds: Vec<OwnedFd>,
    program: Option<Rc<Held>>,
) -> Result<Option<Bytes>, String> {
    let (mut receiver, mut sender) = channel.split();
    let mut borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    borrowed.extend(program.iter().map(|held| held.as_fd()));
    sender
        .send(&job, &borrowed)
        .await
        .map_err(|error| format!("cannot hand the job to the new process: {error}"))?;
    drop(borrowed);
    // In flight to the shim or held by it: a listener's life is the worker's from here.
    drop(fds);
    let mut runs = None;
    loop {
        match receiver.recv::<Answer>().await {
            Ok(None) => return Ok(runs),
            Ok(Some((Answer::Executes(bytes), _no_fds))) => runs = Some(bytes),
            Ok(Some((Answer::Failed(Failure(sentence)), _no_fds))) => return Err(sentence),
            Err(error) => return Err(format!("the new process answered nonsense: {error}")),
        }
    }
}

/// A pipe: our end non-blocking, the worker's end blocking as programs expect.
fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(ours)?, theirs))
}
