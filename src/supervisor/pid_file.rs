//! The file that tells scripts whom to signal: written whole when the start has succeeded, removed at the
//! end. It is for people and never read by us (F29).

use std::fs;
use std::path::Path;

use super::belonging::Belonging;

/// Writes our pid.
///
/// # Errors
/// A sentence.
pub(super) fn write(path: &Path) -> Result<Belonging, String> {
    let wrong =
        |error: std::io::Error| format!("cannot write the pid file {}: {error}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    fs::write(&new, format!("{}\n", std::process::id())).map_err(wrong)?;
    let made = fs::symlink_metadata(&new).map_err(wrong)?;
    fs::rename(&new, path).map_err(wrong)?;
    Ok(Belonging::known_as(path, &made))
}
