//! The program file of a generation, held open from its first start on, so that every later one can run the
//! same bytes whatever its name leads to by then (F62). One descriptor for each resolved recipe.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access};

use crate::shim::{Kind, Mark, Program, candidates};

/// So many workers in a row may fail that run a file by its descriptor before one of them has answered.
const TRIES: u32 = 2;

/// A program and the file that it was when its generation began.
#[derive(Debug)]
pub struct Held {
    program: Program,
    file: File,
    without_name: Cell<WithoutName>,
}

/// Whether the program runs though its name is another file's. Some do not: they start themselves again, or find
/// their parts, by `/proc/self/exe`, which then names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutName {
    /// Not known; so many have failed.
    Untried(u32),
    /// One that ran so has answered: what fails later fails for another reason.
    Runs,
}

impl Held {
    /// Opens what a worker in the directory `cwd` with this `PATH` would run. `None` if there is nothing to
    /// hold: why a program cannot be executed is said by the exec, exactly.
    pub(super) fn open(program: &OsStr, path: Option<&OsStr>, cwd: Option<&Path>) -> Option<Self> {
        candidates(program, path).into_iter().find_map(|candidate| {
            let at = cwd.unwrap_or(Path::new("")).join(&candidate);
            Self::open_file(&at, candidate.into_os_string()).ok()
        })
    }

    fn open_file(at: &Path, path: OsString) -> io::Result<Self> {
        // It needs no right to read, does not wait, and wakes up no device.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits())
            .open(at)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // A search of the `PATH` goes past what may not be executed.
        let this = format!("/proc/self/fd/{}", file.as_raw_fd());
        access(this.as_str(), AccessFlags::X_OK)?;
        let program = Program {
            path,
            mark: Mark::of(&found),
            kind: kind(Path::new(&this)),
        };
        Ok(Self {
            program,
            file,
            without_name: Cell::new(WithoutName::Untried(0)),
        })
    }

    /// What a worker that starts now is to run.
    pub(super) fn program(&self) -> Program {
        let mut program = self.program.clone();
        if !self.runs_without_name() {
            program.kind = Kind::Named;
        }
        program
    }

    /// A worker that ran it by its descriptor has answered.
    pub(super) fn ran(&self) {
        if self.runs_without_name() {
            self.without_name.set(WithoutName::Runs);
        }
    }

    /// Such a worker has ended by itself before it answered. Other bytes are better than no worker: returns true
    /// if it is by its name from now on.
    pub(super) fn failed(&self) -> bool {
        match self.without_name.get() {
            WithoutName::Untried(failures) if failures < TRIES => {
                self.without_name.set(WithoutName::Untried(failures + 1));
                failures + 1 == TRIES
            }
            WithoutName::Untried(_) | WithoutName::Runs => false,
        }
    }

    fn runs_without_name(&self) -> bool {
        match self.without_name.get() {
            WithoutName::Untried(failures) => failures < TRIES,
            WithoutName::Runs => true,
        }
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// By its first bytes. What may not be read is an image: whoever runs a script must read it.
fn kind(file: &Path) -> Kind {
    let mut magic = [0; 4];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) if magic == *b"\x7fELF" => Kind::Image,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Kind::Image,
        Ok(()) | Err(_) => Kind::Named,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::Held;
    use crate::shim::Kind;

    #[test]
    fn f62_what_never_runs_without_its_name_is_run_by_it_and_what_once_did_never() {
        let open = || Held::open(OsStr::new("/proc/self/exe"), None, None).expect("this runs");
        let held = open();
        assert!(!held.failed());
        assert_eq!(held.program().kind, Kind::Image);
        assert!(held.failed(), "the second in a row");
        assert_eq!(held.program().kind, Kind::Named);
        // Late news of the first.
        held.ran();
        assert!(!held.failed());
        assert_eq!(held.program().kind, Kind::Named);

        let held = open();
        assert!(!held.failed());
        held.ran();
        for _ in 0..5 {
            assert!(!held.failed(), "for another reason");
        }
        assert_eq!(held.program().kind, Kind::Image);
    }

    #[test]
    fn the_file_that_would_be_executed_is_held() {
        let directory = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| directory.path().join(name);
        for place in ["first", "second"] {
            fs::create_dir(at(place)).expect("made");
        }
        let make = |name: &str, text: &[u8], mode: u32| {
            fs::write(at(name), text).expect("written");
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(at(name), mode).expect("set");
        };
        make("first/server", b"#!/bin/sh\n", 0o644);
        make("second/server", b"\x7fELF...", 0o755);
        make("second/script", b"#!/bin/sh\n", 0o755);
        make("second/short", b"#!", 0o755);
        nix::unistd::mkfifo(&at("second/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");

        let path = std::env::join_paths([at("first"), at("second")]).expect("joins");
        let found = |program: &str| {
            let held = Held::open(OsStr::new(program), Some(&path), None)?;
            Some((held.program.path, held.program.kind))
        };
        let second = |name: &str| at("second").join(name).into_os_string();
        assert_eq!(found("server"), Some((second("server"), Kind::Image)));
        assert_eq!(found("script"), Some((second("script"), Kind::Named)));
        assert_eq!(found("short"), Some((second("short"), Kind::Named)));
        for nothing in ["fifo", "none", "", "/", "\0"] {
            assert_eq!(found(nothing), None, "{nothing:?}");
        }
        // By the name as it is written, from the worker's directory.
        let held = Held::open(OsStr::new("./server"), None, Some(&at("second")));
        let program = held.map(|held| held.program).expect("it is there");
        assert_eq!(Path::new(&program.path), Path::new("./server"));
    }
}
