//! Names of programs and directories, followed through symlinks as far as they may be: what a link such as `current`
//! leads to changes with a deploy, and a generation stays where it began (F62).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Only the directory's symlinks are resolved: a last link may be a program that looks at its own name
/// (an interpreter in a virtual environment, a multi-call binary). A relative name is looked for from the
/// worker's directory, `cwd` or ours; one without a slash in the `PATH`. What leads through no symlink stays as
/// it is written.
pub(super) fn resolved_program(program: &str, cwd: Option<&Path>) -> OsString {
    let path = Path::new(program);
    // What cannot be resolved is reported by the exec, exactly.
    let (true, Some(parent), Some(name)) = (program.contains('/'), path.parent(), path.file_name())
    else {
        return program.into();
    };
    let from = match cwd {
        Some(cwd) => cwd.to_owned(),
        None => std::env::current_dir().unwrap_or_default(),
    };
    let named = from.join(parent);
    match named.canonicalize() {
        Ok(resolved) if resolved != named => resolved.join(name).into_os_string(),
        Ok(_) | Err(_) => program.into(),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::resolved_program;

    #[test]
    fn f62_a_program_is_followed_to_its_directory_and_no_further() {
        let directory = tempfile::tempdir().expect("tempdir");
        let place = directory.path().canonicalize().expect("it is there");
        std::fs::create_dir_all(place.join("v1/bin")).expect("writable");
        std::os::unix::fs::symlink("v1", place.join("current")).expect("writable");
        std::os::unix::fs::symlink("elsewhere", place.join("v1/bin/app")).expect("writable");
        let resolved = |program: &str, cwd: Option<&Path>| {
            let program = resolved_program(program, cwd);
            program.into_string().expect("UTF-8")
        };
        let at = |name: &str| place.join(name).to_str().expect("UTF-8").to_owned();
        let within = Some(place.as_path());
        assert_eq!(resolved("current/bin/app", within), at("v1/bin/app"));
        assert_eq!(resolved(&at("current/bin/app"), None), at("v1/bin/app"));
        for as_written in [
            "app",
            "./app",
            "v1/bin/app",
            "none/app",
            "/bin/../none/app",
            "current/..",
        ] {
            assert_eq!(resolved(as_written, within), as_written);
        }
        // From our own directory.
        assert_eq!(resolved("src/lib.rs", None), "src/lib.rs");
    }
}
