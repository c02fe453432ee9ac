//! The directory of everything that lives as long as we: lock, workers' directories; and the admin
//! socket. Nobody but us may write in it; all of it goes at exit.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::unix_socket::{self, BoundPath};

/// Admin connections that may wait.
const BACKLOG: i32 = 128;

/// Our runtime directory, locked.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Held as long as we live: who holds it owns the directory.
    _lock: Flock<File>,
    /// We could not have the shared one, so this one is removed whole.
    is_private: bool,
}

impl RuntimeDir {
    /// Makes or checks `wanted` and locks it. If another live instance has it, ours is `wanted/i-PID`, so
    /// that two instances with admin sockets of their own can share a default. What dead ones left is removed.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(wanted: &Path) -> Result<Self, String> {
        make_directory(wanted)?;
        let (path, lock, is_private) = match lock(wanted)? {
            Some(lock) => {
                remove_dead_instances(wanted);
                (wanted.to_owned(), lock, false)
            }
            None => {
                let path = wanted.join(format!("i-{}", std::process::id()));
                make_directory(&path)?;
                let lock = lock(&path)?
                    .ok_or_else(|| format!("the runtime directory {} is locked", path.display()))?;
                (path, lock, true)
            }
        };
        let dir = Self {
            path,
            _lock: lock,
            is_private,
        };
        // The longest path below us, for numbers that will not be reached.
        unix_socket::check_length(&dir.workers().join("9999-999999999/notify"))?;
        let workers = dir.workers();
        let fresh = match fs::remove_dir_all(&workers) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => DirBuilder::new().mode(0o700).create(&workers),
        };
        fresh.map_err(|error| format!("cannot make {}: {error}", workers.display()))?;
        Ok(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the workers' own directories.
    #[must_use]
    pub fn workers(&self) -> PathBuf {
        self.path.join("w")
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next start.
        if self.is_private {
            let _ = fs::remove_dir_all(&self.path);
            return;
        }
        let _ = fs::remove_dir_all(self.workers());
        // The lock file stays: removing it would let two hold "the" lock. An empty file hurts nobody.
    }
}

/// The admin socket; dropping it removes the path.
#[derive(Debug)]
pub struct AdminSocket {
    /// Listening, non-blocking.
    pub listener: UnixListener,
    path: BoundPath,
}

impl AdminSocket {
    /// Binds it, mode 0600 from its first moment (T2). A live one is refused, a stale one taken over.
    ///
    /// # Errors
    /// A sentence.
    pub fn bind(path: &Path) -> Result<Self, String> {
        let (listener, path) = unix_socket::bind(path, 0o600, BACKLOG).map_err(|error| {
            let live = error.ends_with("another process listens there");
            let hint = if live {
                "; give this instance its own `--admin-socket`"
            } else {
                ""
            };
            format!("{error}{hint}")
        })?;
        Ok(Self { listener, path })
    }

    /// The listener, and what keeps the path.
    #[must_use]
    pub fn into_parts(self) -> (UnixListener, AdminPath) {
        (self.listener, AdminPath { _path: self.path })
    }
}

/// Keeps the admin socket's path; dropping it removes the path.
#[derive(Debug)]
pub struct AdminPath {
    _path: BoundPath,
}

fn make_directory(path: &Path) -> Result<(), String> {
    let shown = path.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| format!("cannot make the runtime directory {shown}: {error}"))?;
    let found = fs::symlink_metadata(path)
        .map_err(|error| format!("cannot look at the runtime directory {shown}: {error}"))?;
    let wrong = if !found.is_dir() {
        "it is no directory"
    } else if found.uid() != geteuid().as_raw() {
        "it belongs to another user"
    } else if found.mode() & 0o022 != 0 {
        // Readable is harmless: everything in it has a mode of its own. Writable is not.
        "others may write in it"
    } else {
        return Ok(());
    };
    Err(format!(
        "cannot use {shown} as runtime directory: {wrong}; set `XDG_RUNTIME_DIR` or name another"
    ))
}

fn lock(directory: &Path) -> Result<Option<Flock<File>>, String> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
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

/// Removes `i-PID` directories that nobody holds any more.
fn remove_dead_instances(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_instance = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with("i-"));
        if is_instance && let Ok(Some(_held)) = lock(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{AdminSocket, RuntimeDir};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn the_second_instance_gets_its_own_directory_and_nothing_is_left() {
        let directory = tempfile::tempdir().expect("tempdir");
        let wanted = directory.path().join("remuda");
        let first = RuntimeDir::open(&wanted).expect("first");
        assert_eq!((first.path(), mode(&wanted)), (wanted.as_path(), 0o700));
        let second = RuntimeDir::open(&wanted).expect("second");
        assert!(second.path().starts_with(&wanted) && second.path() != wanted);
        assert!(second.workers().is_dir());
        drop(second);
        // As a killed instance leaves it.
        fs::create_dir_all(wanted.join("i-1/w/0-1")).expect("mkdir");
        drop(first);
        drop(RuntimeDir::open(&wanted).expect("third"));
        let left: Vec<_> = fs::read_dir(&wanted).expect("list").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].file_name(), "lock");
    }

    #[test]
    fn t21_a_directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        let open = directory.path().join("open");
        fs::create_dir(&open).expect("mkdir");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("chmod");
        let error = RuntimeDir::open(&open).expect_err("writable");
        assert!(error.contains("others may write"), "{error}");
    }

    #[test]
    fn t2_the_admin_socket_is_private_from_its_first_moment() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).expect("binds");
        assert_eq!(mode(&path), 0o600);
        let error = AdminSocket::bind(&path).expect_err("live");
        assert!(error.contains("--admin-socket"), "{error}");
        let (listener, kept) = socket.into_parts();
        drop(listener);
        assert!(path.exists());
        AdminSocket::bind(&path).expect("stale");
        drop(kept);

        // Whatever is seen while it is made again and again, no mode but 0600.
        let watched = directory.path().to_owned();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut seen = std::collections::BTreeSet::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for entry in fs::read_dir(&watched).into_iter().flatten().flatten() {
                        if let Ok(found) = entry.metadata() {
                            seen.insert(found.permissions().mode() & 0o777);
                        }
                    }
                }
                seen
            })
        };
        for _ in 0..200 {
            AdminSocket::bind(&path).expect("binds");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = seen.join().expect("no panic");
        assert!(seen.iter().all(|mode| *mode == 0o600), "{seen:?}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_an_error_at_start() {
        let directory = tempfile::tempdir().expect("tempdir");
        let long = directory.path().join("x".repeat(90));
        let error = RuntimeDir::open(&long).expect_err("too long");
        assert!(error.contains("107"), "{error}");
        assert!(AdminSocket::bind(&long.join("admin.sock")).is_err());
    }
}
