//! Where the runtime directory and the admin socket are, for `run` and for every command that looks
//! for a running instance. Only names paths; makes and checks nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// An environment, as an argument so that tests can have their own.
pub type Env = BTreeMap<String, String>;

/// Our environment; what is not UTF-8 is left out.
#[must_use]
pub fn environment() -> Env {
    let text = |(key, value): (OsString, OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// The admin socket of an instance that systemd started by our unit, whose environment others do not have.
pub(crate) const OF_SYSTEMD: &str = "/run/remuda/admin.sock";

/// `$RUNTIME_DIRECTORY`, else `$XDG_RUNTIME_DIR/remuda`, else the named admin socket's path with `.d`
/// (so that two instances with sockets of their own never share one), else `/tmp/remuda-UID`.
#[must_use]
pub fn runtime_dir(env: &Env, named_socket: Option<&Path>) -> PathBuf {
    let set = |key: &str| env.get(key).filter(|value| !value.is_empty());
    if let Some(list) = set("RUNTIME_DIRECTORY") {
        // systemd writes several with colons between them.
        return PathBuf::from(list.split(':').next().unwrap_or(list));
    }
    if let Some(xdg) = set("XDG_RUNTIME_DIR") {
        return Path::new(xdg).join("remuda");
    }
    if let Some(socket) = named_socket {
        let mut name = socket.as_os_str().to_owned();
        name.push(".d");
        return PathBuf::from(name);
    }
    PathBuf::from(format!("/tmp/remuda-{}", nix::unistd::geteuid()))
}

/// The admin socket where none is named.
#[must_use]
pub fn admin_socket(env: &Env) -> PathBuf {
    runtime_dir(env, None).join("admin.sock")
}

/// The admin socket of an instance started by the same user with nothing named.
#[must_use]
pub fn default_admin_socket() -> PathBuf {
    admin_socket(&environment())
}

/// The variable that names the admin socket; none if it is set to nothing, which is as good as unset.
pub(crate) fn socket_variable() -> Option<&'static str> {
    const NAME: &str = "REMUDA_ADMIN_SOCKET";
    let is_empty = std::env::var_os(NAME).is_some_and(|value| value.is_empty());
    (!is_empty).then_some(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_first_that_is_set_wins() {
        let both = env(&[
            ("RUNTIME_DIRECTORY", "/run/a:/run/b"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
        ]);
        assert_eq!(admin_socket(&both), Path::new("/run/a/admin.sock"));
        let xdg = env(&[
            ("RUNTIME_DIRECTORY", ""),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
        ]);
        assert_eq!(
            admin_socket(&xdg),
            Path::new("/run/user/1/remuda/admin.sock")
        );
        let none = admin_socket(&Env::new());
        assert!(none.starts_with("/tmp") && none.to_string_lossy().contains("remuda-"));
        let named = runtime_dir(&Env::new(), Some(Path::new("/tmp/x.sock")));
        assert_eq!(named, Path::new("/tmp/x.sock.d"));
    }
}
