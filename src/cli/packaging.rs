//! `completions` and `man`: from the same tree as the parser, so that they cannot differ from it; and `socket`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use super::args::Cli;
use super::exit::{Code, Failure};
use super::out::Out;

/// Prints a completion script.
pub(crate) fn completions(out: &Out, shell: Shell) -> Code {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "remuda", &mut script);
    out.raw(&script);
    Code::Done
}

/// Prints the manual page, or writes all of them.
pub(crate) fn man(out: &Out, dir: Option<&Path>) -> Result<Code, Failure> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
            .map_err(|error| {
                let message = format!("cannot write to `{}`: {error}", dir.display());
                Failure::new(Code::Failed, message)
            })?;
        out.say(&format!("manual pages are in `{}`", dir.display()));
        return Ok(Code::Done);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    out.raw(&page);
    Ok(Code::Done)
}

/// Prints where every command looks for the instance.
pub(crate) fn socket(out: &Out, path: &Path) -> Code {
    if !out.json() {
        // As it is: it may be no UTF-8, and it goes to another program.
        out.raw(&[path.as_os_str().as_bytes(), b"\n"].concat());
    }
    out.result(json!({ "socket": path.to_string_lossy() }));
    Code::Done
}
