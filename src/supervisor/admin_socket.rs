//! The admin socket and its path, private from its first moment (T2). Bound at the start and by whoever finds it gone;
//! dropping it removes the path.

use std::os::unix::net::UnixListener;
use std::path::Path;

use super::belonging::Belonging;
use super::unix_socket;

/// Admin connections that may wait.
const BACKLOG: i32 = 128;

/// The admin socket; dropping it removes the path.
#[derive(Debug)]
pub struct AdminSocket {
    /// Listening, non-blocking.
    pub listener: UnixListener,
    path: Belonging,
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
        (self.listener, AdminPath { path: self.path })
    }
}

/// Keeps the admin socket's path; dropping it removes the path.
#[derive(Debug)]
pub struct AdminPath {
    pub(super) path: Belonging,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::AdminSocket;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
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
        assert!(AdminSocket::bind(&long.join("admin.sock")).is_err());
    }
}
