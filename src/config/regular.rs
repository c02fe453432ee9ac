//! The one way to open a file that somebody named: it never waits, whatever stands under the name. Only who has
//! nothing else to do may wait for a pipe.
//!
//! Files are read by the supervisor's only thread, also while it runs. A FIFO without a writer would hold up the
//! whole loop at its opening, a device at its reading.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::makedev;

/// What we are given to read is short; more is a mistake, or somebody who wants our memory.
const LARGEST: u64 = 1 << 20;

/// Opens a regular file for reading. Links are followed; `/dev/null` is the empty file that it stands for.
///
/// # Errors
/// The system's, or `InvalidInput` with a sentence for what is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Nobody's terminal becomes ours, and no FIFO waits for its writer.
    let waits_not = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(waits_not.bits())
        .open(path)?;
    let found = file.metadata()?;
    let kind = found.file_type();
    let is = if kind.is_file() || (kind.is_char_device() && found.rdev() == makedev(1, 3)) {
        return Ok(file);
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    };
    let message = format!("it is {is}, not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Whether a pipe is at the path, by a name or by a descriptor's.
pub(super) fn is_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// Reads a regular file whole.
///
/// # Errors
/// A sentence without the file's name.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    whole(open(path))
}

/// Reads a regular file or a pipe whole, and waits for whoever writes into it.
///
/// # Errors
/// A sentence without the file's name.
pub(super) fn read_once(path: &Path) -> Result<Vec<u8>, String> {
    match is_pipe(path) {
        true => whole(File::open(path)),
        false => read(path),
    }
}

fn whole(file: io::Result<File>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| reason(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err("it is larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}

/// Why a file cannot be opened or read.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use nix::sys::stat::Mode;

    use super::read;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("tempdir");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("made");
        let link = directory.path().join("link");
        symlink(&fifo, &link).expect("made");
        for (path, is) in [
            (fifo.as_path(), "it is a pipe"),
            (&link, "it is a pipe"),
            (directory.path(), "it is a directory"),
            (Path::new("/dev/zero"), "it is a device"),
        ] {
            let why = read(path).expect_err("refused");
            assert!(why.starts_with(is), "{path:?}: {why}");
        }
        assert!(read(&directory.path().join("none")).is_err());
    }

    #[test]
    fn links_to_files_and_the_empty_device_are_read() {
        let directory = tempfile::tempdir().expect("tempdir");
        let file = directory.path().join("file");
        fs::write(&file, "A=1").expect("written");
        let link = directory.path().join("link");
        symlink(&file, &link).expect("made");
        assert_eq!(read(&link).expect("read"), b"A=1");
        assert_eq!(read(Path::new("/dev/null")).expect("read"), b"");
        fs::write(&file, vec![b'x'; (1 << 20) + 1]).expect("written");
        assert!(read(&file).expect_err("large").contains("larger"));
    }
}
