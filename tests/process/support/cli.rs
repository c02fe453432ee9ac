//! The command line as people use it: the real binary against one instance, with its exit code.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::http::PATIENCE;
use super::instance::Instance;

/// A command that still runs.
pub(crate) struct Running {
    child: Option<Child>,
    words: String,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Instance {
    /// Runs a command to its end.
    pub(crate) fn cli(&self, words: &[&str]) -> Ended {
        self.cli_begin(words).end()
    }

    /// Begins a command.
    pub(crate) fn cli_begin(&self, words: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
        command
            .args(words)
            .arg("--admin-socket")
            .arg(self.admin_socket());
        Running::begin(&mut command)
    }
}

/// Runs remuda in a directory of its own, to its end.
pub(crate) fn run_in(dir: &Path, words: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
    command
        .args(words)
        .current_dir(dir)
        .env("XDG_RUNTIME_DIR", dir)
        .env_remove("RUNTIME_DIRECTORY")
        .env_remove("STATE_DIRECTORY");
    Running::begin(&mut command).end()
}

impl Running {
    fn begin(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        Self {
            child: Some(child),
            words: format!("{command:?}"),
        }
    }

    /// Waits for its end; what it writes is little enough for a pipe.
    pub(crate) fn end(mut self) -> Ended {
        let mut child = self.child.take().expect("it is taken once");
        let deadline = Instant::now() + PATIENCE * 3;
        while child.try_wait().expect("it is ours").is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let output = child.wait_with_output();
                panic!("`{}` does not end: {output:?}", self.words);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ended::of(&child.wait_with_output().expect("it has ended"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it has not ended");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, signal).expect("it is ours");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless it ended so.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless it said all of this, on either stream.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(
                self.out.contains(word) || self.err.contains(word),
                "not said: {word:?}\n{}\n{}",
                self.out,
                self.err
            );
        }
        self
    }

    /// Fails the test if it said any of this, on either stream.
    #[track_caller]
    pub(crate) fn says_none_of(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(
                !self.out.contains(word) && !self.err.contains(word),
                "said: {word:?}\n{}\n{}",
                self.out,
                self.err
            );
        }
        self
    }
}
