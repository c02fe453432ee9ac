//! Which bytes a worker runs if its program's file has changed on disk since its generation began (F62).
//!
//! Decided here, in the shim, as the last thing before the exec and with the worker's own rights: between a
//! look of the supervisor and the exec lie milliseconds, in which a deploy may well move a file.

use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// The file that a generation began with. It comes with a descriptor of it, after the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What is executed: as the operator wrote it, or where it was found in the `PATH`.
    pub path: OsString,
    /// What it was then.
    pub mark: Mark,
    /// How the kernel runs it.
    pub kind: Kind,
}

/// What tells a file from another one, and from itself after it was written to.
///
/// Not the time of its last change of any kind: a `chown -R` by a deploy, another link and the very rename that
/// moves a file aside change it, and the bytes stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last write.
    written: (i64, i64),
}

/// How the kernel runs a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// By itself: a descriptor of it is enough.
    Image,
    /// Through another program that opens it by its name: a script, which also looks for its neighbours there.
    Named,
}

/// What is executed instead of the file under the name, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bytes {
    /// The file that the generation began with, though its name is another one's or nobody's by now.
    Kept,
    /// What is under the name now, which is not what the generation began with.
    Changed(Change),
}

/// What became of a program's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change {
    /// The name is another file's.
    Replaced,
    /// It is the same file with other bytes.
    WrittenOver,
}

impl Mark {
    /// Of a file that was looked at now.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
        }
    }

    fn is_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Program {
    /// What a worker is to run, if it is not simply the file under the name: `named` is what the name leads to
    /// now, `held` what became of the file that the generation began with.
    ///
    /// By the name as long as it is the same file: programs find what belongs to them by `/proc/self/exe`, which
    /// for a file without a name reads `… (deleted)`, and `ps` shows them by the name they were executed by.
    #[must_use]
    pub fn choose(&self, named: Option<Mark>, held: Option<Mark>) -> Option<Bytes> {
        match named {
            Some(now) if now == self.mark => None,
            Some(now) if now.is_file(self.mark) => Some(Bytes::Changed(Change::WrittenOver)),
            Some(_) | None => Some(match self.kind {
                Kind::Image if held == Some(self.mark) => Bytes::Kept,
                Kind::Image | Kind::Named => Bytes::Changed(Change::Replaced),
            }),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "replaced",
            Self::WrittenOver => "written over",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Change, Kind, Mark, Program};

    const BEGAN: Mark = Mark {
        device: 1,
        inode: 10,
        size: 100,
        written: (5, 0),
    };
    const ANOTHER: Mark = Mark { inode: 11, ..BEGAN };
    const WRITTEN: Mark = Mark {
        written: (5, 1),
        ..BEGAN
    };
    const LONGER: Mark = Mark { size: 101, ..BEGAN };

    fn choose(kind: Kind, named: Option<Mark>, held: Option<Mark>) -> Option<Bytes> {
        let program = Program {
            path: "./server".into(),
            mark: BEGAN,
            kind,
        };
        program.choose(named, held)
    }

    #[test]
    fn f62_what_has_not_changed_is_executed_by_its_name() {
        for kind in [Kind::Image, Kind::Named] {
            assert_eq!(choose(kind, Some(BEGAN), Some(BEGAN)), None);
        }
    }

    #[test]
    fn f62_an_image_under_another_name_or_none_is_kept_and_a_script_cannot_be() {
        let replaced = Some(Bytes::Changed(Change::Replaced));
        for named in [Some(ANOTHER), None] {
            assert_eq!(choose(Kind::Image, named, Some(BEGAN)), Some(Bytes::Kept));
            assert_eq!(choose(Kind::Named, named, Some(BEGAN)), replaced);
            // First written over, then replaced: what it began with is nowhere.
            assert_eq!(choose(Kind::Image, named, Some(WRITTEN)), replaced);
            assert_eq!(choose(Kind::Image, named, None), replaced);
        }
        // The number of a file that is gone may be another's on another device.
        let elsewhere = Mark { device: 2, ..BEGAN };
        let chosen = choose(Kind::Image, Some(elsewhere), Some(BEGAN));
        assert_eq!(chosen, Some(Bytes::Kept));
    }

    #[test]
    fn f62_a_file_that_was_written_over_is_seen() {
        let written_over = Some(Bytes::Changed(Change::WrittenOver));
        for kind in [Kind::Image, Kind::Named] {
            for now in [WRITTEN, LONGER] {
                assert_eq!(choose(kind, Some(now), Some(now)), written_over);
            }
        }
    }
}
