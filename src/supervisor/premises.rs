//! What is ours in the file system while we run: the runtime directory with its lock and token, the admin socket,
//! the pid file; public sockets are with the [`super::listeners`]. Somebody who tidies up `/tmp` or `/run` may take it from under us, so it is looked after, and
//! what is gone is made again (F68). Dropped at the very end, it goes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;
use tracing::Level;

use super::admin_socket::{AdminPath, AdminSocket};
use super::belonging::Belonging;
use super::control::Supervisor;
use super::pid_file;
use super::runtime_dir::RuntimeDir;
use crate::admin::{Door, Token};
use crate::metrics::Restored;
use crate::rollout::Moment;

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

/// The pid file, if the operator wants one.
#[derive(Debug)]
pub(super) struct OwnPidFile {
    pub(super) path: PathBuf,
    /// `None` while it could not be made again.
    pub(super) kept: Option<Belonging>,
}

/// What was found gone by one look at it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// It was made again.
    pub(super) made: Vec<(Restored, PathBuf)>,
    /// It could not be, and why.
    pub(super) missing: Vec<String>,
}

/// What is to be said of a look, if it is news.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) made: Option<String>,
    pub(super) missing: Option<String>,
}

/// All of it. The fields go in this order: the directory's lock last, for what it guards.
#[derive(Debug)]
pub(super) struct Premises {
    pub(super) pid_file: Option<OwnPidFile>,
    pub(super) entry: Entry,
    pub(super) token: Option<OwnToken>,
    pub(super) runtime: RuntimeDir,
    /// What could not be made again, and was said.
    pub(super) trouble: Vec<String>,
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
        let pid_file = self.pid_file.as_ref().and_then(|file| file.kept.as_ref());
        let socket = self.entry.kept.as_ref().map(|kept| &kept.path);
        let ours = [token, pid_file, socket];
        let mut all: Vec<&Belonging> = ours.into_iter().flatten().collect();
        all.extend(others.map(|other| -> &Belonging { other }));
        self.runtime.write_down(all.into_iter())
    }

    /// Makes again what is gone.
    pub(super) fn look_after(&mut self) -> Found {
        let mut found = Found::default();
        if let Err(why) = self.restore(&mut found) {
            found.missing.push(why);
        }
        if let Err(why) = self.restore_pid_file(&mut found) {
            found.missing.push(why);
        }
        found
    }

    /// Writes down what was made, and says what is news: of what was made all, of what is missing only what was
    /// not missing a moment ago.
    pub(super) fn tell<'a>(
        &mut self,
        found: Found,
        others: impl Iterator<Item = &'a Belonging>,
    ) -> News {
        let Found { made, mut missing } = found;
        if !made.is_empty()
            && let Err(error) = self.write_down(others)
        {
            missing.push(format!(
                "nobody will tidy up after us should we be killed: {error}"
            ));
        }
        let paths: Vec<String> = made.iter().map(|(_, path)| shown(path)).collect();
        let made = (!paths.is_empty()).then(|| {
            format!(
                "somebody removed what we need: made again {}",
                paths.join(", ")
            )
        });
        let is_new = !missing.is_empty() && missing != self.trouble;
        let told = is_new.then(|| missing.join("; "));
        self.trouble = missing;
        News {
            made,
            missing: told,
        }
    }

    fn restore(&mut self, found: &mut Found) -> Result<(), String> {
        // First of all: whoever has the lock of the directory by now owns what is in it.
        if self.runtime.restore()? {
            let lock = self.runtime.path().join("lock");
            found.made.push((Restored::RuntimeDir, lock));
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
            found.made.push((Restored::Token, own.path.clone()));
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
            let path = self.entry.path.clone();
            found.made.push((Restored::AdminSocket, path));
        }
        Ok(())
    }

    fn restore_pid_file(&mut self, found: &mut Found) -> Result<(), String> {
        let Some(own) = &mut self.pid_file else {
            return Ok(());
        };
        // What another has written there since is his, a successor's for one.
        if !is_free(&own.path) {
            return Ok(());
        }
        own.kept = None;
        own.kept = Some(pid_file::write(&own.path)?);
        found.made.push((Restored::PidFile, own.path.clone()));
        Ok(())
    }
}

/// Whether nothing at all is at the path, not even a link that leads nowhere.
pub(super) fn is_free(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Supervisor {
    /// Makes again what is gone of what is ours in the file system.
    pub(super) fn tick_premises(&mut self, now: Moment) {
        if self.stopping.is_some() {
            return;
        }
        // The directory first: a public socket may be in it.
        let mut found = self.premises.look_after();
        self.planes.look_after(&mut found);
        for (what, _) in &found.made {
            self.metrics.restored(*what);
        }
        let news = self.premises.tell(found, self.planes.paths());
        for (level, kind, text) in [
            (Level::WARN, "premises_restored", news.made),
            (Level::ERROR, "premises_lost", news.missing),
        ] {
            if let Some(text) = text {
                self.journal.note(now, level, kind, &text, json!({}));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::iter::empty;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use tokio::net::{UnixListener, UnixStream};

    use super::{
        AdminSocket, Belonging, Door, Entry, News, OwnPidFile, OwnToken, Premises, Restored,
        RuntimeDir, Token, pid_file,
    };

    fn look(premises: &mut Premises) -> (Vec<Restored>, News) {
        let found = premises.look_after();
        let made = found.made.iter().map(|(what, _)| *what).collect();
        (made, premises.tell(found, empty()))
    }

    fn nothing() -> (Vec<Restored>, News) {
        (Vec::new(), News::default())
    }

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
            trouble: Vec::new(),
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
        assert_eq!(look(&mut premises), nothing(), "nothing is gone");

        fs::remove_dir_all(&directory).expect("removed");
        let (made, news) = look(&mut premises);
        let all = [Restored::RuntimeDir, Restored::Token, Restored::AdminSocket];
        assert_eq!(made, all);
        assert_eq!(news.missing, None);
        let said = news.made.expect("news");
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
        assert_eq!(look(&mut premises), nothing());

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
        let (made, news) = look(&mut premises);
        assert_eq!((made, news.made), (Vec::new(), None));
        let said = news.missing.expect("taken");
        assert!(said.contains("another instance"), "{said}");
        assert_eq!(look(&mut premises), nothing(), "said once");
        drop(premises);
        assert_eq!(fs::read(directory.join("token")).expect("there"), token);
        assert!(other.entry.path.exists() && other.runtime.workers().is_dir());
    }

    #[tokio::test]
    async fn f68_a_pid_file_is_written_again_where_its_place_is_free() {
        let parent = tempfile::tempdir().expect("tempdir");
        let (mut premises, _door) = premises(&parent.path().join("remuda"));
        let directory = parent.path().join("run");
        fs::create_dir(&directory).expect("made");
        let path = directory.join("pid");
        let kept = pid_file::write(&path).ok();
        let own = OwnPidFile {
            path: path.clone(),
            kept,
        };
        premises.pid_file = Some(own);
        assert_eq!(look(&mut premises), nothing());
        let ours = fs::read(&path).expect("there");

        fs::remove_dir_all(&directory).expect("removed");
        let (made, news) = look(&mut premises);
        assert_eq!((made, news.made), (Vec::new(), None));
        assert!(news.missing.is_some_and(|why| why.contains("pid file")));
        assert_eq!(look(&mut premises), nothing(), "said once");
        fs::create_dir(&directory).expect("made");
        let (made, news) = look(&mut premises);
        assert_eq!((made, news.missing), (vec![Restored::PidFile], None));
        assert!(news.made.is_some_and(|said| said.contains("run/pid")));
        assert_eq!(fs::read(&path).expect("again"), ours);

        fs::write(directory.join("other"), "7\n").expect("written");
        fs::rename(directory.join("other"), &path).expect("moved");
        assert_eq!(look(&mut premises), nothing(), "a successor's");
        drop(premises);
        assert_eq!(fs::read(&path).expect("there"), b"7\n");
    }
}
