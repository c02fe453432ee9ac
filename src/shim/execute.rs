//! The exec itself: finding the program with the worker's own `PATH`, and saying exactly why it did not run.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::execve;

use super::job::{Failure, Job};

/// Where programs are looked for if the worker's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Executes the job's program. If it returns, it failed.
pub(super) fn execute(job: &Job, env: Vec<(OsString, OsString)>) -> Failure {
    let candidates = candidates(&job.program, &env);
    let Some((argv, env)) = c_strings(&job.argv, env) else {
        return Failure("the command or its environment contains a NUL character".into());
    };
    // What a shell does: the first that can be executed; a refusal outlives "not found".
    let mut reason = (PathBuf::from(&job.program), Errno::ENOENT);
    for path in candidates {
        let Ok(file) = CString::new(path.as_os_str().as_bytes()) else {
            return Failure("the command contains a NUL character".into());
        };
        let Err(errno) = execve(&file, &argv, &env);
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

/// The files to try, in order.
fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Vec<PathBuf> {
    if !has_no_slash(program) {
        return vec![PathBuf::from(program)];
    }
    // The last one wins, as it does in the environment of a process.
    let path = env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str());
    std::env::split_paths(path)
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
