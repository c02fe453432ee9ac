//! The directory of everything that lives as long as we: lock, workers' directories. Nobody but us may write in it;
//! all of it goes at exit.
//!
//! Who holds the lock owns the directory, and writes into the lock file who he is and which paths must go
//! with him. If he is killed, whoever gets the lock next removes them: his plane once it has finished, or
//! the next start. So a successor is never robbed: either it has the lock, or its paths are not there yet.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use nix::unistd::geteuid;

use super::belonging::Belonging;
use super::remains::our_name;
use super::unix_socket;

mod legacy;
mod lock;

pub(super) use self::legacy::{clear_after, holder};
use self::legacy::{inherit, remove_dead_instances};
use self::lock::lock;
pub(super) use self::lock::{hold, lock_soon};

/// Our runtime directory, locked.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Held as long as we live.
    lock: Flock<File>,
    /// We could not have the shared one, so this one is removed whole.
    is_private: bool,
    bereft: Vec<String>,
}

impl RuntimeDir {
    /// Makes or checks `wanted` and locks it. If another live instance has it, ours is `wanted/i-PID`, so
    /// that two instances with admin sockets of their own can share a default. What dead ones left is removed.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(wanted: &Path) -> Result<Self, String> {
        make_directory(wanted)?;
        let mut bereft = Vec::new();
        let (path, lock, is_private) = match lock_soon(wanted)? {
            Some(lock) => {
                bereft.extend(inherit(wanted, &lock));
                bereft.extend(remove_dead_instances(wanted));
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
            lock,
            is_private,
            bereft,
        };
        // The longest path below us, for numbers that will not be reached. Directories of several services
        // are asked for when the config is checked.
        unix_socket::check_length(&dir.workers().join("9999-999999999/notify"))?;
        let workers = dir.workers();
        let fresh = match fs::remove_dir_all(&workers) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => DirBuilder::new().mode(0o700).create(&workers),
        };
        fresh.map_err(|error| format!("cannot make {}: {error}", workers.display()))?;
        dir.write_down(std::iter::empty())
            .map_err(|error| format!("cannot write in {}: {error}", dir.path.display()))?;
        Ok(dir)
    }

    /// Notes who we are and what must go with us.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write_down<'a>(
        &self,
        belongings: impl Iterator<Item = &'a Belonging>,
    ) -> io::Result<()> {
        let mut text = our_name().into_bytes();
        text.push(b'\n');
        for line in belongings.filter_map(Belonging::line) {
            text.extend(line);
            text.push(b'\n');
        }
        self.lock.set_len(0)?;
        self.lock.write_all_at(&text, 0)
    }

    /// Makes it again if its lock file is gone: somebody removed it while we run. True if there was need to.
    ///
    /// # Errors
    /// A sentence; another instance has it by now, for one.
    pub(super) fn restore(&mut self) -> Result<bool, String> {
        if self.lock_file() == LockFile::Ours {
            return Ok(false);
        }
        make_directory(&self.path)?;
        let shown = self.path.display();
        self.lock = lock(&self.path)?.ok_or_else(|| {
            format!("the runtime directory {shown} was removed, and another instance has it since")
        })?;
        // Each worker's own directory is made with it; a next plane holds this one.
        let _ = DirBuilder::new().mode(0o700).create(self.workers());
        Ok(true)
    }

    fn lock_file(&self) -> LockFile {
        let Ok(found) = fs::symlink_metadata(self.path.join("lock")) else {
            return LockFile::Gone;
        };
        let is_ours = |ours: &fs::Metadata| (found.dev(), found.ino()) == (ours.dev(), ours.ino());
        match self.lock.metadata() {
            Ok(ours) if is_ours(&ours) => LockFile::Ours,
            Ok(_) | Err(_) => LockFile::Another,
        }
    }

    /// The dead supervisors whose workers nobody else ends.
    #[must_use]
    pub(super) fn bereft(&self) -> &[String] {
        &self.bereft
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

/// What is under the lock file's name by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockFile {
    Ours,
    Another,
    Gone,
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next start.
        if self.is_private {
            let _ = fs::remove_dir_all(&self.path);
            return;
        }
        // Removed from under us, and made again by somebody who runs workers there.
        if self.lock_file() != LockFile::Another {
            let _ = fs::remove_dir_all(self.workers());
        }
        // The lock file stays: removing it would let two hold "the" lock. An empty file hurts nobody.
        let _ = self.lock.set_len(0);
    }
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::mem::ManuallyDrop;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{RuntimeDir, clear_after};
    use crate::supervisor::belonging::Belonging;
    use crate::supervisor::remains::our_name;

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
    fn what_a_killed_one_left_is_removed_once_it_has_let_go_and_only_if_nobody_came_since() {
        let directory = tempfile::tempdir().expect("tempdir");
        let wanted = directory.path().join("remuda");
        // A killed one drops nothing.
        let dir = ManuallyDrop::new(RuntimeDir::open(&wanted).expect("opens"));
        let file = directory.path().join("pid");
        fs::write(&file, "1").expect("write");
        let pid_file = ManuallyDrop::new(Belonging::at(&file).expect("there"));
        dir.write_down(std::iter::once(&*pid_file)).expect("writes");
        let name = our_name();
        assert!(!clear_after(&wanted, &name), "it still holds the lock");
        assert!(clear_after(&wanted, "7.7"), "another one has come");
        assert!(file.exists() && dir.workers().is_dir());
        File::unlock(&dir.lock).expect("unlocks");
        assert!(clear_after(&wanted, &name));
        assert!(!file.exists() && !dir.workers().exists());
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
    fn a_path_too_long_for_a_socket_is_an_error_at_start() {
        let directory = tempfile::tempdir().expect("tempdir");
        let long = directory.path().join("x".repeat(90));
        let error = RuntimeDir::open(&long).expect_err("too long");
        assert!(error.contains("107"), "{error}");
    }
}
