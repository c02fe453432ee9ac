//! `remuda run`: reads the config and becomes the supervisor.

use std::process::ExitCode;

use serde_json::json;

use super::check;
use super::exit::Code;
use super::out::Out;
use crate::config::{self, Loaded, RunFlags, paths};
use crate::supervisor;

/// Runs in the foreground until it is stopped.
pub(crate) fn run(out: &Out, flags: RunFlags) -> ExitCode {
    match config::load(&flags, &paths::environment()) {
        Ok(loaded) => {
            check::tell(out, &loaded.warnings);
            let again = Box::new(move || reread(&flags));
            supervisor::run(loaded, again, out.json())
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

fn reread(flags: &RunFlags) -> Result<Loaded, String> {
    config::load(flags, &paths::environment()).map_err(|problems| problems.render(false, None))
}
