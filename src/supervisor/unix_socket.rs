//! Binding a unix socket path without a window: made under another name with its final mode, then renamed
//! over what was there (F04, T2). Used for public sockets and for the admin socket.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use super::belonging::Belonging;

/// Longest path of a unix socket: `sun_path` holds 108 bytes, the last of them zero.
pub(super) const MAX_PATH: usize = 107;

/// A listening, non-blocking socket at `path` with this mode.
pub(super) fn bind(
    path: &Path,
    mode: u32,
    backlog: i32,
) -> Result<(UnixListener, Belonging), String> {
    let shown = path.display();
    check_length(path)?;
    refuse_what_lives(path)?;
    let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return Err(format!(
            "cannot listen on {shown}: give the path with its directory"
        ));
    };
    let temporary = directory.join(format!(".r{}", std::process::id()));
    let bound = || -> io::Result<_> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Before the bind: the path is made with the socket's mode, so there is no moment with another.
        fchmod(socket.as_fd(), Mode::from_bits_truncate(mode))?;
        socket.bind(&SockAddr::unix(&temporary)?)?;
        let made = fs::symlink_metadata(&temporary)?;
        // The umask took its part; the operator's mode is the one that counts for public sockets.
        fs::set_permissions(
            &temporary,
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )?;
        socket.listen(backlog)?;
        socket.set_nonblocking(true)?;
        fs::rename(&temporary, path)?;
        let path = Belonging::known_as(path, &made);
        Ok((UnixListener::from(std::os::fd::OwnedFd::from(socket)), path))
    };
    bound().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        match error.kind() {
            io::ErrorKind::NotFound => {
                format!(
                    "cannot listen on {shown}: the directory {} does not exist",
                    directory.display()
                )
            }
            io::ErrorKind::PermissionDenied => format!(
                "cannot listen on {shown}: {error}; we need to write in {}",
                directory.display()
            ),
            _ => format!("cannot listen on {shown}: {error}"),
        }
    })
}

/// A sentence if a socket path is too long to be one.
pub(super) fn check_length(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length <= MAX_PATH {
        return Ok(());
    }
    Err(format!(
        "the socket path {} has {length} bytes, but a unix socket's may have {MAX_PATH}; choose a shorter directory",
        path.display()
    ))
}

fn refuse_what_lives(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(_nothing_there) => return Ok(()),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(format!(
                "cannot listen on {shown}: something that is no socket is there"
            ));
        }
    }
    // It is not waited for, or a full queue would hold us up.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connect() {
        // Stale: whoever made it is gone.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!(
            "cannot listen on {shown}: a socket of another user is there"
        )),
        // Accepted, or the queue is full: somebody listens.
        Ok(_) | Err(_) => Err(format!(
            "cannot listen on {shown}: another process listens there"
        )),
    }
}
