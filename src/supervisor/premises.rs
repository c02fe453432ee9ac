//! What is ours in the file system while we run: the runtime directory with its lock and token, the admin socket,
//! the pid file. Somebody who tidies up `/tmp` or `/run` may take it from under us, so it is looked after, and
//! what is gone is made again (F68). Dropped at the very end, it goes.

use std::path::{Path, PathBuf};

use super::belonging::Belonging;
use super::runtime_dir::{AdminPath, AdminSocket, RuntimeDir};
use crate::admin::{Door, Token};

/// The admin socket as it was bound.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// `None` while it could not be made again.
    pub(super) kept: Option<AdminPath>,
    pub(super) door: Door,
}

/// The token that we made; an operator's own file is none of our business.
#[derive(Debug)]
pub(super) struct OwnToken {
    pub(super) path: PathBuf,
    pub(super) token: Token,
    /// `None` while it could not be made again.
    pub(super) kept: Option<Belonging>,
}

/// All of it. The fields go in this order: the directory's lock last, for what it guards.
#[derive(Debug)]
pub(super) struct Premises {
    pub(super) pid_file: Option<Belonging>,
    pub(super) entry: Entry,
    pub(super) token: Option<OwnToken>,
    pub(super) runtime: RuntimeDir,
    /// What could not be made again, and was said.
    pub(super) trouble: Option<String>,
}

impl Premises {
    /// Notes in the lock file what must go with us: this and the `others`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write_down<'a>(
        &self,
        others: impl Iterator<Item = &'a Belonging>,
    ) -> std::io::Result<()> {
        let token = self.token.as_ref().and_then(|token| token.kept.as_ref());
        let socket = self.entry.kept.as_ref().map(|kept| &kept.path);
        let ours = [token, self.pid_file.as_ref(), socket];
        let mut all: Vec<&Belonging> = ours.into_iter().flatten().collect();
        all.extend(others.map(|other| -> &Belonging { other }));
        self.runtime.write_down(all.into_iter())
    }

    /// Makes again what is gone. What is to be said about it, if it is news: what was made, or what could not be.
    pub(super) fn look_after<'a>(
        &mut self,
        others: impl Iterator<Item = &'a Belonging>,
    ) -> Option<Result<String, String>> {
        match self.restore(others) {
            Ok(made) => {
                self.trouble = None;
                let gone = || {
                    format!(
                        "somebody removed what we need: made again {}",
                        made.join(", ")
                    )
                };
                (!made.is_empty()).then(|| Ok(gone()))
            }
            Err(why) if self.trouble.as_ref() == Some(&why) => None,
            Err(why) => {
                self.trouble = Some(why.clone());
                Some(Err(why))
            }
        }
    }

    fn restore<'a>(
        &mut self,
        others: impl Iterator<Item = &'a Belonging>,
    ) -> Result<Vec<String>, String> {
        let mut made = Vec::new();
        let shown = |path: &Path| path.display().to_string();
        // First of all: whoever has the lock of the directory by now owns what is in it.
        if self.runtime.restore()? {
            made.push(shown(&self.runtime.path().join("lock")));
        }
        if let Some(own) = &mut self.token
            && !own.kept.as_ref().is_some_and(Belonging::is_there)
        {
            // Before another is made, which may get the number of the one that is gone.
            own.kept = None;
            let kept = own.token.write(&own.path);
            let kept = kept.and_then(|()| Belonging::at(&own.path));
            own.kept = Some(kept.map_err(|error| {
                format!(
                    "cannot write the token file {} again: {error}",
                    shown(&own.path)
                )
            })?);
            made.push(shown(&own.path));
        }
        if !self
            .entry
            .kept
            .as_ref()
            .is_some_and(|kept| kept.path.is_there())
        {
            self.entry.kept = None;
            let (unix, kept) = AdminSocket::bind(&self.entry.path)?.into_parts();
            let unix = tokio::net::UnixListener::from_std(unix).map_err(|error| {
                format!("cannot listen on {}: {error}", shown(&self.entry.path))
            })?;
            self.entry.door.move_to(unix);
            self.entry.kept = Some(kept);
            made.push(shown(&self.entry.path));
        }
        if !made.is_empty() {
            self.write_down(others).map_err(|error| {
                format!("nobody will tidy up after us should we be killed: {error}")
            })?;
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::iter::empty;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use tokio::net::{UnixListener, UnixStream};

    use super::{AdminSocket, Belonging, Door, Entry, OwnToken, Premises, RuntimeDir, Token};

    fn premises(
        directory: &Path,
    ) -> (
        Premises,
        tokio::sync::watch::Receiver<std::sync::Arc<UnixListener>>,
    ) {
        let runtime = RuntimeDir::open(directory).expect("opens");
        let path = directory.join("admin.sock");
        let (unix, kept) = AdminSocket::bind(&path).expect("binds").into_parts();
        let (door, seen) = Door::new(UnixListener::from_std(unix).expect("usable"));
        let entry = Entry {
            path,
            kept: Some(kept),
            door,
        };
        let path = directory.join("token");
        let token = Token::create(&path).expect("made");
        let kept = Belonging::at(&path).ok();
        let token = Some(OwnToken { path, token, kept });
        let premises = Premises {
            pid_file: None,
            entry,
            token,
            runtime,
            trouble: None,
        };
        (premises, seen)
    }

    #[tokio::test]
    async fn f68_what_somebody_removed_is_made_again_and_said_once() {
        let parent = tempfile::tempdir().expect("tempdir");
        let directory = parent.path().join("remuda");
        let (mut premises, door) = premises(&directory);
        premises.write_down(empty()).expect("writes");
        let token = fs::read(directory.join("token")).expect("there");
        let lock = fs::read(directory.join("lock")).expect("there");
        assert_eq!(premises.look_after(empty()), None, "nothing is gone");

        fs::remove_dir_all(&directory).expect("removed");
        let said = premises.look_after(empty()).expect("news").expect("made");
        for name in ["lock", "token", "admin.sock"] {
            assert!(said.contains(name), "{said}");
            let mode = fs::metadata(directory.join(name))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(
            fs::read(directory.join("token")).expect("there"),
            token,
            "the same"
        );
        let again = fs::read(directory.join("lock")).expect("there");
        assert_eq!(
            again.split(|byte| *byte == b'\n').count(),
            lock.split(|byte| *byte == b'\n').count()
        );
        let listener = std::sync::Arc::clone(&door.borrow());
        let connect = UnixStream::connect(directory.join("admin.sock"));
        let (client, served) = tokio::join!(connect, listener.accept());
        assert!(client.is_ok() && served.is_ok());
        assert_eq!(premises.look_after(empty()), None);

        drop(premises);
        let left: Vec<_> = fs::read_dir(&directory)
            .expect("listed")
            .flatten()
            .collect();
        assert_eq!(left.len(), 1, "the lock: {left:?}");
    }

    #[tokio::test]
    async fn f68_what_another_instance_took_since_stays_its_own() {
        let parent = tempfile::tempdir().expect("tempdir");
        let directory = parent.path().join("remuda");
        let (mut premises, _door) = premises(&directory);
        fs::remove_dir_all(&directory).expect("removed");
        let (other, _its_door) = self::premises(&directory);
        let token = fs::read(directory.join("token")).expect("there");
        let said = premises
            .look_after(empty())
            .expect("news")
            .expect_err("taken");
        assert!(said.contains("another instance"), "{said}");
        assert_eq!(premises.look_after(empty()), None, "said once");
        drop(premises);
        assert_eq!(fs::read(directory.join("token")).expect("there"), token);
        assert!(other.entry.path.exists() && other.runtime.workers().is_dir());
    }
}
