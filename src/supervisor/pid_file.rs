//! The file that tells scripts whom to signal: written whole when the start has succeeded, removed at the
//! end. It is for people and never read by us (F29).

use std::fs;
use std::path::{Path, PathBuf};

/// A written pid file; dropping it removes it.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes our pid.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn write(path: &Path) -> Result<Self, String> {
        let wrong = |error: std::io::Error| {
            format!("cannot write the pid file {}: {error}", path.display())
        };
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        fs::write(&new, format!("{}\n", std::process::id())).map_err(wrong)?;
        fs::rename(&new, path).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A successor may have written its own pid meanwhile: that one stays.
        let ours = std::process::id().to_string();
        if fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
