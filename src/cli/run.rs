//! `remuda run`: reads the config and becomes the supervisor.

use std::process::ExitCode;

use super::out::Out;
use crate::config::{self, Config, Problems, RunFlags, paths};
use crate::supervisor;

/// The config is not valid (sysexits' EX_CONFIG).
const INVALID: u8 = 78;

/// Runs in the foreground until it is stopped.
pub(crate) fn run(out: &Out, flags: RunFlags) -> ExitCode {
    match config::load(&flags, &paths::environment()) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                out.complain(&render(out, &loaded.warnings));
            }
            supervisor::run(loaded.config, Box::new(move || reread(&flags)))
        }
        Err(problems) => {
            out.complain(&render(out, &problems));
            ExitCode::from(INVALID)
        }
    }
}

fn render(out: &Out, problems: &Problems) -> String {
    problems.render(out.colours())
}

fn reread(flags: &RunFlags) -> Result<Config, String> {
    match config::load(flags, &paths::environment()) {
        Ok(loaded) => Ok(loaded.config),
        Err(problems) => Err(problems.render(false)),
    }
}
