//! Names of programs and directories, followed through symlinks as far as they may be: what a link such as `current`
//! leads to changes with a deploy, and a generation stays where it began (F62).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Only the directory's symlinks are resolved: a last link may be a program that looks at its own name
/// (an interpreter in a virtual environment, a multi-call binary).
pub(super) fn resolved_program(program: &str) -> OsString {
    let path = Path::new(program);
    if !path.is_absolute() {
        return program.into();
    }
    // What cannot be resolved is reported by the exec, exactly.
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return program.into();
    };
    match parent.canonicalize() {
        Ok(parent) => parent.join(name).into_os_string(),
        Err(_reported_by_the_exec) => program.into(),
    }
}

/// The directory that remuda was started in, by the name its shell had for it, if a symlink is on the way:
/// `current` is another directory after a deploy, and the kernel would go on with the old one. `None` if
/// the name is the directory's own, or another directory's than ours.
pub(super) fn started_in() -> Option<&'static Path> {
    static STARTED_IN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let named = || {
        let named = PathBuf::from(std::env::var_os("PWD")?);
        let ours = std::env::current_dir().ok()?;
        let is_ours = named.canonicalize().ok()? == ours;
        (is_ours && named != ours && named.is_absolute()).then_some(named)
    };
    STARTED_IN.get_or_init(named).as_deref()
}

/// A working directory, which must be there.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, String> {
    let resolved = path
        .canonicalize()
        .map_err(|error| format!("cannot use the working directory {path:?}: {error}"))?;
    if resolved.is_dir() {
        Ok(resolved)
    } else {
        Err(format!(
            "cannot use the working directory {path:?}: it is no directory"
        ))
    }
}
