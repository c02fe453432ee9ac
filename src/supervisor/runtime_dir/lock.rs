//! The lock of a runtime directory: whoever has it owns the directory. Taken, or tried for a moment; the kernel lets
//! go of it when its holder ends, whatever way.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

/// How often, and how far apart, a lock is tried at a start.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(5);

/// The lock of a directory, if nobody holds it.
pub(in crate::supervisor) fn lock_soon(directory: &Path) -> Result<Option<Flock<File>>, String> {
    soon(|| lock(directory).transpose()).transpose()
}

/// Tries for a moment: who clears after a dead one has the lock so long, and who was killed dies so long.
pub(super) fn soon<T>(attempt: impl Fn() -> Option<T>) -> Option<T> {
    for _ in 1..TRIES {
        if let Some(got) = attempt() {
            return Some(got);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing runs yet that it could hold up"
        )]
        std::thread::sleep(BETWEEN);
    }
    attempt()
}

/// The same without a moment.
pub(super) fn lock(directory: &Path) -> Result<Option<Flock<File>>, String> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_file, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_file, errno)) => Err(format!("cannot lock {}: {errno}", path.display())),
    }
}

/// For a plane: tells whoever starts after its supervisor's death that it still serves.
pub(in crate::supervisor) fn hold(directory: &Path) -> Option<Flock<File>> {
    let workers = File::open(directory.join("w")).ok()?;
    Flock::lock(workers, FlockArg::LockSharedNonblock).ok()
}
