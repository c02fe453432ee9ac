//! Who tidies up after a supervisor that was killed: `remuda cleanup`, a process beside each plane that waits
//! for its word.
//!
//! A plane reads what strangers send, so it may open no file and signal nobody (T16), and what it would have to
//! open and signal here is all that is the operator's. This one sees no client's byte. It takes no order
//! either: the word only means that the plane has finished, and is believed if the supervisor is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use nix::fcntl::Flock;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

use super::orphans::Estate;
use super::{protect, runtime_dir};

/// A plane's end of it.
#[derive(Debug)]
pub(crate) struct Cleanup {
    process: Child,
    word: PipeWriter,
    /// As long as it is held, whoever starts next leaves the workers to us.
    _hold: Option<Flock<File>>,
}

impl Cleanup {
    /// Starts it, with what the supervisor told the plane: its name, and its runtime directory.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(supervisor: &OsString, directory: &OsString) -> io::Result<Self> {
        let hold = runtime_dir::hold(Path::new(directory));
        let (theirs, word) = io::pipe()?;
        // The bytes that we run, whatever is under their name by now (T13).
        let process = Command::new("/proc/self/exe")
            .arg0("remuda")
            .arg("cleanup")
            .args([supervisor, directory])
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self {
            process,
            word,
            _hold: hold,
        })
    }

    /// Resolves with how it ended, if it does though nobody told it to; it is reaped then.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let mut children = signal(SignalKind::child())?;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            children.recv().await;
        }
    }

    /// Everything in flight has ended and the supervisor is gone: has the workers ended and the paths removed.
    /// Blocks until that is done.
    pub(crate) fn settle(mut self) {
        if self.word.write_all(&[1]).is_ok() {
            let _ = self.process.wait();
        }
    }

    /// There is nothing to tidy up. Nobody else shall find the process.
    pub(crate) fn dismiss(mut self) {
        drop(self.word);
        let _ = self.process.wait();
    }
}

/// `remuda cleanup`: the life of that process.
#[must_use]
pub fn run() -> ExitCode {
    let _ = prctl::set_name(c"remuda-cleanup");
    protect::secrets();
    // People signal `remuda` by its name. We go with the plane: by the end of its pipe, and by this.
    SigSet::all().thread_block().ok();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let Some(estate) = Estate::told(std::env::args_os().skip(2)) else {
        return ExitCode::FAILURE;
    };
    match io::stdin().read(&mut [0]) {
        Ok(1) => {}
        // The plane has gone without a word.
        Ok(_) | Err(_) => return ExitCode::SUCCESS,
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    match runtime {
        Ok(runtime) => {
            runtime.block_on(estate.settle());
            ExitCode::SUCCESS
        }
        Err(_nothing_left) => ExitCode::FAILURE,
    }
}
