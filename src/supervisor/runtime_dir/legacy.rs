//! What a dead supervisor left in a runtime directory: who it was, which paths must go with it, and whose workers are
//! left to us. Only who holds the directory's lock removes anything.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::lock::{lock, soon};
use crate::supervisor::belonging::Belonging;

/// Longest list of paths that is read back; each listener and a few more have a line.
const INVENTORY: usize = 64 * 1024;

/// Removes what the named supervisor, which is dying or dead, left; nothing if another one has come since.
/// False if it is to be tried again: the kernel tells that a process is gone before it has let go of all
/// that it held, the lock for one.
pub(in crate::supervisor) fn clear_after(directory: &Path, supervisor: &str) -> bool {
    let is_his = |file: &File| inventory(file).is_some_and(|(name, _)| name == supervisor);
    // Without a lock file there is nothing to clear; none is made.
    let Ok(file) = File::open(directory.join("lock")) else {
        return true;
    };
    if !is_his(&file) {
        return true;
    }
    let Ok(Some(lock)) = lock(directory) else {
        return false;
    };
    if is_his(&lock) {
        clear(directory, &lock);
        if is_private(directory, supervisor) {
            let _ = fs::remove_dir_all(directory);
        }
    }
    true
}

/// Whether it was the directory of this supervisor alone.
fn is_private(directory: &Path, supervisor: &str) -> bool {
    let pid = supervisor.split('.').next().unwrap_or_default();
    directory.ends_with(format!("i-{pid}"))
}

/// For a start: removes what the last holder of the lock left. Returns its name if its workers are left to
/// us, because none of its planes lives.
pub(super) fn inherit(directory: &Path, lock: &Flock<File>) -> Option<String> {
    let (name, _) = inventory(lock)?;
    let is_deserted = soon(|| match File::open(directory.join("w")) {
        Ok(opened) => {
            let got = Flock::lock(opened, FlockArg::LockExclusiveNonblock);
            got.is_ok().then_some(())
        }
        Err(_gone) => Some(()),
    });
    clear(directory, lock);
    is_deserted.map(|()| name)
}

/// Removes `i-PID` directories that nobody holds any more. Returns whose workers are left to us.
pub(super) fn remove_dead_instances(directory: &Path) -> Vec<String> {
    let mut bereft = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_instance = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with("i-"));
        if is_instance && let Ok(Some(held)) = lock(&entry.path()) {
            bereft.extend(inherit(&entry.path(), &held));
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    bereft
}

/// Removes what the last holder of the lock left.
fn clear(directory: &Path, lock: &Flock<File>) {
    for line in inventory(lock).map(|(_, lines)| lines).unwrap_or_default() {
        drop(Belonging::of_line(&line));
    }
    let _ = fs::remove_dir_all(directory.join("w"));
    let _ = lock.set_len(0);
}

/// The process that holds the lock of a directory, as it wrote it down there itself.
pub(in crate::supervisor) fn holder(directory: &Path) -> Option<u32> {
    let (name, _) = inventory(&File::open(directory.join("lock")).ok()?)?;
    name.split('.').next()?.parse().ok()
}

/// Who held the lock last, and the lines of what must go with him; `None` if he left nothing.
fn inventory(lock: &File) -> Option<(String, Vec<Vec<u8>>)> {
    let mut text = vec![0; INVENTORY];
    let length = lock.read_at(&mut text, 0).ok()?;
    let mut lines = text[..length].split(|byte| *byte == b'\n');
    let name = String::from_utf8(lines.next()?.to_vec()).ok()?;
    // A pid and a time, or it would match the markers of others.
    let is_name = name
        .split_once('.')
        .is_some_and(|(pid, started)| pid.parse::<u32>().is_ok() && started.parse::<u64>().is_ok());
    is_name.then(|| (name, lines.map(<[u8]>::to_vec).collect()))
}
