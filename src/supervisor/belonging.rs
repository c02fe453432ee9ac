//! A path that is ours as long as we live: socket, token, pid file. It is known by the file that we put
//! there and not by its name alone, so that what a successor put in its place stays (F04).

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A path and which file it is; dropping it removes the path if it is still that file.
#[derive(Debug)]
pub(super) struct Belonging {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Belonging {
    /// What is at `path` now.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::known_as(path, &fs::symlink_metadata(path)?))
    }

    /// The file with this metadata, which is or will be at `path`.
    pub(super) fn known_as(path: &Path, found: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
        }
    }

    /// Whether the path still has that file.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }

    /// One line from which somebody else can remove it; `None` if no line can hold the path, which is
    /// then removed by the next start alone.
    pub(super) fn line(&self) -> Option<Vec<u8>> {
        let path = std::path::absolute(&self.path).ok()?.into_os_string();
        if path.as_bytes().contains(&b'\n') {
            return None;
        }
        let mut line = format!("{} {} ", self.device, self.inode).into_bytes();
        line.extend_from_slice(path.as_bytes());
        Some(line)
    }

    /// The reverse of [`Self::line`]; `None` if it is no such line.
    pub(super) fn of_line(line: &[u8]) -> Option<Self> {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
        let (device, inode) = (number()?, number()?);
        Some(Self {
            path: OsStr::from_bytes(words.next()?).into(),
            device,
            inode,
        })
    }
}

impl Drop for Belonging {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Belonging;

    #[test]
    fn f04_what_another_put_in_its_place_stays_however_it_is_told() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("a b");
        fs::write(&path, "ours").expect("write");
        let line = Belonging::at(&path).map(|ours| ours.line());
        assert!(!path.exists(), "dropped");
        let line = line.expect("was there").expect("no newline in it");

        fs::write(directory.path().join("keeps the inode busy"), "").expect("write");
        fs::write(&path, "ours").expect("write");
        let ours = Belonging::at(&path).expect("there");
        let new = directory.path().join("new");
        fs::write(&new, "theirs").expect("write");
        fs::rename(&new, &path).expect("rename");
        let told = ours.line().expect("no newline in it");
        drop(ours);
        drop(Belonging::of_line(&told).expect("a line"));
        assert_eq!(fs::read_to_string(&path).expect("stays"), "theirs");

        let theirs = Belonging::at(&path).expect("there");
        let told = theirs.line().expect("no newline in it");
        drop(Belonging::of_line(&told).expect("a line"));
        assert!(!path.exists());
        for nonsense in [&b""[..], b"1", b"1 2", b"x 2 /a", &line[..3]] {
            assert!(Belonging::of_line(nonsense).is_none(), "{nonsense:?}");
        }
    }
}
