//! Generation numbers across restarts, so that one is never used twice: `STATE_DIR/state.json`.
//!
//! Written whole to another name, synced and renamed, so that a crash leaves the old or the new file (F64).
//! A file that cannot be understood never stops a start: it is set aside with a message. The directory is
//! for one instance at a time: two would give the same numbers.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::remains::our_name;
use super::runtime_dir::{holder, lock_soon};
use crate::config::regular;
use crate::rollout::{Generation, ServiceName};

/// Version of the file's shape.
const VERSION: u32 = 1;
/// Largest file read; ours is far below.
const LARGEST: u64 = 1 << 20;
/// Largest number believed: JSON's exact integers end at 2^53.
const LARGEST_GENERATION: u64 = 1 << 53;

/// The newest generation number of each service.
#[derive(Debug)]
pub struct State {
    directory: Option<PathBuf>,
    file: Shape,
    /// There are numbers that the file has not.
    is_behind: bool,
    /// Held as long as we live.
    lock: Option<Flock<File>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    version: u32,
    generations: BTreeMap<String, u64>,
}

impl State {
    /// Reads what an earlier life left. Without a directory every life starts at 1. The sentence says what
    /// could not be used and what became of it.
    ///
    /// # Errors
    /// A sentence, if the directory cannot be used at all.
    pub fn load(directory: Option<&Path>) -> Result<(Self, Option<String>), String> {
        let mut state = Self {
            directory: directory.map(Path::to_owned),
            file: Shape {
                version: VERSION,
                generations: BTreeMap::new(),
            },
            is_behind: false,
            lock: None,
        };
        let Some(directory) = directory else {
            return Ok((state, None));
        };
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|error| {
            format!(
                "cannot make the state directory {}: {error}",
                directory.display()
            )
        })?;
        let unlocked = match take(directory)? {
            Ok(lock) => {
                state.lock = Some(lock);
                None
            }
            Err(remark) => Some(remark),
        };
        let path = directory.join("state.json");
        let problem = match read(&path) {
            Ok(Some(file)) => {
                state.file = file;
                return Ok((state, unlocked));
            }
            Ok(None) => return Ok((state, unlocked)),
            Err(problem) => problem,
        };
        let aside = directory.join("state.json.unusable");
        fs::rename(&path, &aside).map_err(|error| {
            format!(
                "cannot use {} ({problem}) nor set it aside: {error}",
                path.display()
            )
        })?;
        let message = format!(
            "{} could not be used ({problem}); it is now {}, and generations are numbered from 1 again",
            path.display(),
            aside.display()
        );
        Ok((state, Some(message)))
    }

    /// The number for the first generation of this life.
    #[must_use]
    pub fn first(&self, service: &ServiceName) -> Generation {
        let newest = self.file.generations.get(&*service.0).copied().unwrap_or(0);
        Generation(newest + 1)
    }

    /// Keeps the number of a new generation; older ones change nothing. To be called before it is used.
    ///
    /// # Errors
    /// A sentence; serving can go on, but the number may be used again after a restart (F65).
    pub fn record(&mut self, service: &ServiceName, generation: Generation) -> Result<(), String> {
        let newest = self
            .file
            .generations
            .entry(service.to_string())
            .or_insert(0);
        if generation.0 <= *newest {
            return Ok(());
        }
        *newest = generation.0;
        self.save()
    }

    /// Whether there are numbers that could not be kept.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Writes what is known now. To be called again as long as it [`is_behind`](Self::is_behind).
    ///
    /// # Errors
    /// A sentence, as for [`record`](Self::record).
    pub fn save(&mut self) -> Result<(), String> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let written = write(directory, &self.file);
        self.is_behind = written.is_err();
        written.map_err(|error| {
            format!(
                "cannot keep the numbers of generations in {}: {error}; they may be used again after a restart",
                directory.display()
            )
        })
    }
}

/// The directory's lock, or why there is none: a directory that we may not write in is of little use, but no
/// reason not to serve.
///
/// # Errors
/// A sentence, if another instance has it.
fn take(directory: &Path) -> Result<Result<Flock<File>, String>, String> {
    let shown = directory.display();
    let lock = match lock_soon(directory) {
        Err(error) => {
            return Ok(Err(format!(
                "nobody is kept out of the state directory: {error}"
            )));
        }
        Ok(Some(lock)) => lock,
        Ok(None) => {
            let who = holder(directory).map_or_else(String::new, |pid| format!(" (pid {pid})"));
            return Err(format!(
                "another remuda{who} uses the state directory {shown}; give each instance its own `state_dir`"
            ));
        }
    };
    let name = format!("{}\n", our_name());
    let written = lock
        .set_len(0)
        .and_then(|()| lock.write_all_at(name.as_bytes(), 0));
    if let Err(error) = written {
        // Who is turned away does not learn our pid.
        tracing::debug!(%error, "the lock of {shown} does not name us");
    }
    Ok(Ok(lock))
}

impl Drop for State {
    fn drop(&mut self) {
        // The file stays: removing it would let two hold "the" lock.
        if let Some(lock) = &self.lock {
            let _ = lock.set_len(0);
        }
    }
}

fn read(path: &Path) -> Result<Option<Shape>, String> {
    let file = match regular::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    let shape: Shape = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if shape.version != VERSION {
        return Err(format!(
            "it is of version {}, ours is {VERSION}",
            shape.version
        ));
    }
    if shape
        .generations
        .values()
        .any(|number| *number > LARGEST_GENERATION)
    {
        return Err("a number in it is too large".to_owned());
    }
    Ok(Some(shape))
}

fn write(directory: &Path, file: &Shape) -> io::Result<()> {
    let temporary = directory.join("state.json.new");
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    new.write_all(&serde_json::to_vec_pretty(file)?)?;
    new.sync_all()?;
    fs::rename(&temporary, directory.join("state.json"))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::State;
    use crate::rollout::{Generation, ServiceName};

    #[test]
    fn numbers_go_on_across_lives() {
        let directory = tempfile::tempdir().expect("tempdir");
        let app = ServiceName::new("app");
        let (mut state, message) = State::load(Some(directory.path())).expect("loads");
        assert_eq!((state.first(&app), message), (Generation(1), None));
        state.record(&app, Generation(7)).expect("kept");
        state.record(&app, Generation(3)).expect("older");
        drop(state);
        let (state, _) = State::load(Some(directory.path())).expect("loads");
        assert_eq!(state.first(&app), Generation(8));
        assert_eq!(state.first(&ServiceName::new("other")), Generation(1));
        let (state, _) = State::load(None).expect("loads");
        assert_eq!(state.first(&app), Generation(1));
    }

    #[test]
    fn f65_a_number_that_could_not_be_kept_is_kept_later() {
        let directory = tempfile::tempdir().expect("tempdir");
        let app = ServiceName::new("app");
        let (mut state, _) = State::load(Some(directory.path())).expect("loads");
        state.record(&app, Generation(1)).expect("kept");
        assert!(!state.is_behind());
        // What is in the way here is in root's way too, as a full disk is.
        let in_the_way = directory.path().join("state.json.new");
        fs::create_dir(&in_the_way).expect("made");
        let said = state.record(&app, Generation(2)).expect_err("no room");
        assert!(said.contains("may be used again"), "{said}");
        assert!(state.is_behind());
        state.save().expect_err("still no room");
        assert!(state.is_behind());
        fs::remove_dir(&in_the_way).expect("removed");
        state.save().expect("kept");
        assert!(!state.is_behind());
        drop(state);
        let (state, _) = State::load(Some(directory.path())).expect("loads");
        assert_eq!(state.first(&app), Generation(3));
    }

    #[test]
    fn two_instances_never_number_from_one_directory() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (first, remark) = State::load(Some(directory.path())).expect("loads");
        assert_eq!(remark, None);
        let error = State::load(Some(directory.path())).expect_err("it is in use");
        let pid = format!("another remuda (pid {})", std::process::id());
        assert!(error.contains(&pid), "{error}");
        assert!(error.contains("its own `state_dir`"), "{error}");
        drop(first);
        State::load(Some(directory.path())).expect("nobody has it any more");
    }

    #[test]
    fn f64_a_file_cut_anywhere_is_set_aside_with_a_message() {
        let directory = tempfile::tempdir().expect("tempdir");
        let app = ServiceName::new("app");
        let path = directory.path().join("state.json");
        let (mut state, _) = State::load(Some(directory.path())).expect("loads");
        state.record(&app, Generation(7)).expect("kept");
        let whole = fs::read(&path).expect("there");
        drop(state);
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("write");
            let (state, message) = State::load(Some(directory.path())).expect("loads");
            assert!(message.is_some_and(|message| message.contains("numbered from 1")));
            assert_eq!(state.first(&app), Generation(1));
            assert!(!path.exists());
        }
        for foreign in [
            r#"{"version":2,"generations":{}}"#,
            r#"{"version":1,"generations":{"app":18446744073709551615}}"#,
            r#"{"version":1,"generations":{"app":-1}}"#,
            "[]",
        ] {
            fs::write(&path, foreign).expect("write");
            let (_, message) = State::load(Some(directory.path())).expect("loads");
            assert!(message.is_some(), "{foreign}");
        }
    }
}
