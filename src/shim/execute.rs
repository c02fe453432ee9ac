//! The exec itself: finding the program with the worker's own `PATH`, running the bytes that its generation
//! began with, and saying exactly why it did not run.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{execve, execveat};

use super::job::{Failure, Job};
use super::program::{Bytes, Change, Mark, Program};

/// Where programs are looked for if the worker's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The program that the worker's generation began with, held.
#[derive(Debug)]
pub(super) struct Begun<'a> {
    pub(super) program: &'a Program,
    pub(super) file: OwnedFd,
}

impl Begun<'_> {
    fn choose(&self) -> Option<Bytes> {
        let named = fs::metadata(&self.program.path);
        let held = fs::metadata(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let mark = |found: std::io::Result<_>| found.ok().map(|found| Mark::of(&found));
        self.program.choose(mark(named), mark(held))
    }
}

/// Executes the job's program. If it returns, it failed. What is `told` before is what it executes, if that is
/// not simply the file under the program's name.
pub(super) fn execute(
    job: &Job,
    begun: Option<&Begun<'_>>,
    env: Vec<(OsString, OsString)>,
    told: impl Fn(Bytes),
) -> Failure {
    // The last one wins, as it does in the environment of a process.
    let path = env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, value)| value.as_os_str());
    let mut candidates = candidates(&job.program, path);
    if let Some(begun) = begun.filter(|_| has_no_slash(&job.program)) {
        // What was found first then is first still.
        candidates.insert(0, PathBuf::from(&begun.program.path));
    }
    let Some((argv, env)) = c_strings(&job.argv, env) else {
        return Failure("the command or its environment contains a NUL character".into());
    };
    // What a shell does: the first that can be executed; a refusal outlives "not found".
    let mut reason = (PathBuf::from(&job.program), Errno::ENOENT);
    for path in candidates {
        let Ok(file) = CString::new(path.as_os_str().as_bytes()) else {
            return Failure("the command contains a NUL character".into());
        };
        let begun = begun.filter(|begun| path.as_os_str() == begun.program.path);
        let Err(errno) = run(&file, begun, (&argv, &env), &told);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if !path.exists() => {}
            Errno::EACCES if has_no_slash(&job.program) => reason = (path, errno),
            _ => {
                reason = (path, errno);
                break;
            }
        }
    }
    explain(job, &reason.0, reason.1)
}

fn run(
    file: &CString,
    begun: Option<&Begun<'_>>,
    (argv, env): (&[CString], &[CString]),
    told: impl Fn(Bytes),
) -> Result<Infallible, Errno> {
    let chosen = begun.and_then(|begun| Some((begun, begun.choose()?)));
    if let Some((begun, bytes)) = chosen {
        told(bytes);
        if bytes == Bytes::Kept {
            let Err(_errno) = execveat(&begun.file, c"", argv, env, AtFlags::AT_EMPTY_PATH);
            // Forbidden, or for an emulator that wants a name. A worker with other bytes is better than none.
            told(Bytes::Changed(Change::Replaced));
        }
    }
    execve(file, argv, env)
}

/// The files to try, in order.
pub(crate) fn candidates(program: &OsStr, path: Option<&OsStr>) -> Vec<PathBuf> {
    if !has_no_slash(program) {
        return vec![PathBuf::from(program)];
    }
    std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH)))
        .map(|directory| directory.join(program))
        .collect()
}

fn has_no_slash(program: &OsStr) -> bool {
    !program.as_bytes().contains(&b'/')
}

fn c_strings(
    argv: &[OsString],
    env: Vec<(OsString, OsString)>,
) -> Option<(Vec<CString>, Vec<CString>)> {
    let argv = argv
        .iter()
        .map(|argument| CString::new(argument.as_bytes()).ok());
    let env = env.into_iter().map(|(name, value)| {
        let mut pair = name.into_vec();
        pair.push(b'=');
        pair.extend(value.into_vec());
        CString::new(pair).ok()
    });
    Some((argv.collect::<Option<_>>()?, env.collect::<Option<_>>()?))
}

/// The sentence for the operator (F37).
fn explain(job: &Job, path: &Path, errno: Errno) -> Failure {
    let name = job.argv.first().unwrap_or(&job.program);
    let error = std::io::Error::from(errno);
    let hint = match errno {
        Errno::ENOENT if path.exists() => Some(match interpreter(path) {
            Some(interpreter) => {
                format!(
                    "the file exists, but its first line asks for {interpreter:?}, which does not"
                )
            }
            None => "the file exists, but the loader or a library it is linked to does not".into(),
        }),
        Errno::ENOENT if has_no_slash(&job.program) => {
            Some("it is in none of the directories of the worker's PATH".into())
        }
        Errno::ENOENT | Errno::ENOTDIR if path.is_relative() => std::env::current_dir()
            .ok()
            .map(|directory| format!("looked for in {}", directory.display())),
        Errno::ENOEXEC => Some(
            "it is no program for this machine; a script needs a first line such as `#!/bin/sh`"
                .into(),
        ),
        Errno::EACCES if path.is_dir() => Some("it is a directory".into()),
        Errno::EACCES if path.is_file() => Some(format!("try `chmod +x {}`", path.display())),
        Errno::E2BIG => Some("arguments and environment are too long together".into()),
        _ => None,
    };
    let hint = hint.map_or(String::new(), |hint| format!("; {hint}"));
    Failure(format!("cannot execute {name:?}: {error}{hint}"))
}

/// The program that a script's first line asks for.
fn interpreter(path: &Path) -> Option<OsString> {
    let mut line = Vec::new();
    // The kernel reads no more than 256 bytes of that line either.
    let file = File::open(path).ok()?.take(256);
    BufReader::new(file).read_until(b'\n', &mut line).ok()?;
    let rest = line.strip_prefix(b"#!")?;
    let first = rest
        .split(u8::is_ascii_whitespace)
        .find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(first).to_owned())
}
