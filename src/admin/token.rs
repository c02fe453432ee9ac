//! The bearer token of the TCP listener.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use subtle::ConstantTimeEq;

use crate::config::regular;

/// Bytes of chance in a token of ours: 256 bit.
const CHANCE: usize = 32;
/// The shortest token accepted from a file: 128 bit in base64.
const SHORTEST: usize = 22;
/// More than this is no token.
const LONGEST: usize = 4096;

/// A secret that is compared in constant time and never printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Makes a fresh token and writes it to `path`, mode 0600, in the place of what is there. The file
    /// appears whole under its name or not at all. Whoever calls this removes the file at exit.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut chance = [0; CHANCE];
        File::open("/dev/urandom")?.read_exact(&mut chance)?;
        let token = Self(chance.iter().map(|byte| format!("{byte:02x}")).collect());
        token.write(path)?;
        Ok(token)
    }

    /// Writes it to `path` as [`Self::create`] does.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = Path::new(&name);
        // Left by a process of the same number that was killed right here.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)?;
        writeln!(file, "{}", self.0)?;
        fs::rename(temporary, path)
    }

    /// Reads the operator's token from its file. Refused: a file that others may read or write, that
    /// belongs to another user than us or root, or whose content is no token of 128 bit or more.
    ///
    /// # Errors
    /// The system's, or `InvalidData` with a sentence for the operator.
    pub fn read(path: &Path) -> io::Result<Self> {
        let (token, owner) = Self::of_file(path)?;
        if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
            let message = format!("token file `{}` belongs to another user", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(token)
    }

    /// The token in a file, and the file's owner, whoever that is: the user who checks a config need not be the one
    /// who runs it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn of_file(path: &Path) -> io::Result<(Self, u32)> {
        let refused = |why: &str| {
            let message = format!("token file `{}` {why}", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        };
        let file = regular::open(path).map_err(|error| {
            let message = format!("cannot read the token file `{}`: {error}", path.display());
            io::Error::new(error.kind(), message)
        })?;
        let status = file.metadata()?;
        if status.mode() & 0o026 != 0 {
            return refused("may be read or written by others; `chmod 600` it");
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let token = text.trim();
        if token.len() < SHORTEST {
            return refused(
                "holds fewer than 22 characters; `openssl rand -hex 32` makes a good one",
            );
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused("holds something else than one word of visible ASCII characters");
        }
        Ok((Self(token.to_owned()), status.uid()))
    }

    /// Whether this is the token.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::Token;

    #[test]
    fn a_fresh_token_is_private_and_can_be_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        fs::write(&path, "old").expect("written");
        let token = Token::create(&path).expect("created");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Token::read(&path).expect("readable");
        assert!(token.is(again.0.as_bytes()));
        assert!(!token.is(b""));
        assert_eq!(token.0.len(), 64);
        assert!(!token.is(Token::create(&path).expect("another").0.as_bytes()));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn t21_a_token_file_that_others_may_read_or_write_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        fs::write(&path, "0123456789abcdef0123456789abcdef\n").expect("written");
        for mode in [0o604, 0o620, 0o602, 0o644, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            assert!(Token::read(&path).is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        assert!(Token::read(&path).is_ok());
        fs::write(&path, "short\n").expect("written");
        assert!(Token::read(&path).is_err());
    }
}
