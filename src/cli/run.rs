//! `remuda run`: reads the config and becomes the supervisor.

use std::process::ExitCode;

use serde_json::json;

use super::check;
use super::exit::Code;
use super::out::Out;
use crate::config::{self, Config, RunFlags, paths};
use crate::supervisor;

/// Runs in the foreground until it is stopped.
pub(crate) fn run(out: &Out, flags: RunFlags) -> ExitCode {
    match config::load(&flags, &paths::environment()) {
        Ok(loaded) => {
            check::tell(out, &loaded.warnings);
            let again = Box::new(move || reread(&flags));
            supervisor::run(loaded.config, again, out.json())
        }
        Err(problems) => {
            check::tell(out, &problems);
            let code = Code::ConfigInvalid;
            out.result(json!({
                "result": code.name(),
                "exit_code": code.number(),
                "message": "the config is invalid",
                "problem": null,
            }));
            code.into()
        }
    }
}

fn reread(flags: &RunFlags) -> Result<Config, String> {
    match config::load(flags, &paths::environment()) {
        Ok(loaded) => Ok(loaded.config),
        Err(problems) => Err(problems.render(false, None)),
    }
}
