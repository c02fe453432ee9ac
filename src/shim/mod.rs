//! The exec shim: `remuda shim`, a fresh process that becomes a worker.
//!
//! It owns the last steps between "a process exists" and "the operator's program runs", which need the
//! new process's own pid or would be unsafe after a fork. Only the supervisor starts it, with a channel
//! as its stdin; [`Job`] and descriptors come from there, an [`Answer`] goes back. It has one thread, no
//! runtime, and must never do anything after the exec, so nothing of it is left in the worker.

mod execute;
mod job;
mod program;
mod steps;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

pub(crate) use execute::candidates;
pub use job::{Answer, Failure, Identity, Job};
pub use program::{Bytes, Change, Kind, Mark, Program};

use crate::link::frame::{Decoder, encode};
use crate::sys::{recv_with_fds, send_with_fds};

/// The program ended before it began: what shells say for "cannot execute".
const CANNOT_EXECUTE: u8 = 127;

/// Runs the shim. Returns only if the worker could not be started.
#[must_use]
pub fn run() -> ExitCode {
    let Ok(channel) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::from(CANNOT_EXECUTE);
    };
    // Without a job nobody listens for a reason: the supervisor is gone, or a person typed this.
    let Ok((job, fds)) = receive(channel.as_fd()) else {
        return ExitCode::from(CANNOT_EXECUTE);
    };
    let (channel, failure) = steps::become_worker(&job, channel, fds);
    answer(channel.as_fd(), &Answer::Failed(failure));
    ExitCode::from(CANNOT_EXECUTE)
}

fn answer(channel: BorrowedFd<'_>, answer: &Answer) {
    if let Ok(frame) = encode(answer, 0) {
        // A short frame into a socket as good as empty: it is taken whole, or there is nobody to read it.
        let _ = send_with_fds(channel, &frame, &[]);
    }
}

fn receive(channel: BorrowedFd<'_>) -> io::Result<(Job, Vec<OwnedFd>)> {
    let mut decoder = Decoder::default();
    let mut scratch = vec![0; 16 << 10];
    loop {
        if let Some(job) = decoder.take()? {
            return Ok(job);
        }
        match recv_with_fds(channel, &mut scratch) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((length, fds)) => decoder.push(&scratch[..length], fds)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
