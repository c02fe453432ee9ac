//! `remuda check`: everything that is wrong with a config, before anything is touched.

use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches};
use serde_json::json;

use super::exit::Code;
use super::fold;
use super::out::Out;
use super::words;
use crate::config::{self, Config, Env, Loaded, Problems, RunFlags, Workers, schema};

/// What `remuda check` takes.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Config files, or pipes such as /dev/stdin and `<(…)`, whose relative paths begin at the current
    /// directory [default: `REMUDA_CONFIG`, else remuda.toml]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A config file or pipe, named as `remuda run` takes it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the JSON Schema of the config, for editors, and do nothing else
    #[arg(long, conflicts_with_all = ["files", "config", "resolved", "plan"])]
    schema: bool,
    /// Ask the running instance what `remuda reload` would do now: it reads its config, and changes nothing
    #[arg(long, conflicts_with_all = ["files", "config", "resolved"])]
    pub(super) plan: bool,
    /// Print every value in effect as TOML, each with where it comes from
    #[arg(long)]
    resolved: bool,
}

/// Checks each file as `remuda run` would read it, `REMUDA_…` variables included.
pub(crate) fn check(out: &Out, args: CheckArgs) -> Code {
    if args.schema {
        out.raw(schema::text().as_bytes());
        return Code::Done;
    }
    let variables = match variables() {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return Code::Usage;
        }
    };
    let mut files: Vec<PathBuf> = args.config.into_iter().chain(args.files).collect();
    if files.is_empty() {
        let named = variables.config.clone();
        files.push(named.unwrap_or_else(|| "remuda.toml".into()));
    }
    let env = config::paths::environment();
    let mut invalid = 0;
    for file in &files {
        if !one(out, file.clone(), &variables, &env, args.resolved) {
            invalid += 1;
        }
    }
    let code = if invalid == 0 {
        Code::Done
    } else {
        Code::ConfigInvalid
    };
    out.result(json!({
        "result": if invalid == 0 { "valid" } else { "invalid" },
        "exit_code": code.number(),
        "message": format!("{invalid} of {} invalid", words::counted(files.len() as u64, "file")),
        "problem": null,
        "files": files.len(),
        "invalid": invalid,
    }));
    code
}

/// The flags of `run` as far as the environment sets them.
fn variables() -> Result<RunFlags, clap::Error> {
    let line = RunFlags::augment_args(Command::new("remuda check"));
    RunFlags::from_arg_matches(&line.try_get_matches_from(["remuda check"])?)
}

/// Whether this file is valid.
fn one(out: &Out, file: PathBuf, variables: &RunFlags, env: &Env, resolved: bool) -> bool {
    let name = file.display().to_string();
    let flags = RunFlags {
        config: Some(file),
        ..variables.clone()
    };
    match config::examine(&flags, env) {
        Ok(loaded) => {
            tell(out, &loaded.warnings);
            if resolved {
                out.event(
                    "resolved",
                    json!({ "file": name, "toml": loaded.resolved() }),
                );
                out.line(loaded.resolved().trim());
            } else {
                out.text(&summary(&name, &loaded));
            }
            true
        }
        Err(problems) => {
            tell(out, &problems);
            let errors = problems.errors();
            let mistakes = words::counted(errors as u64, "mistake");
            let warnings = warnings(problems.list().len() - errors);
            out.say(&format!("{name}: invalid, {mistakes}{warnings}"));
            false
        }
    }
}

/// Shows problems: to people on stderr, to tools one object a line.
pub(super) fn tell(out: &Out, problems: &Problems) {
    for report in problems.reports() {
        out.event("problem", report);
    }
    if !problems.is_empty() {
        let shown = problems.render(out.stderr_colored(), out.stderr_width());
        out.say(&fold::findings(shown.trim_end(), out.stderr_width()));
        out.say("");
    }
}

fn summary(name: &str, loaded: &Loaded) -> String {
    let Config {
        listen, services, ..
    } = &loaded.config;
    let services = services.iter().map(|service| {
        let count = service.settings.wanted;
        let noun = if count == 1 { "worker" } else { "workers" };
        match &service.workers {
            Workers::Managed(recipe) => {
                format!(
                    "service `{}` with {count} {noun} of `{}`",
                    service.name,
                    recipe.command.join(" ")
                )
            }
            Workers::Unmanaged(_) => {
                format!(
                    "service `{}` with {count} {noun} that somebody else runs",
                    service.name
                )
            }
        }
    });
    let services = services.collect::<Vec<_>>().join(", ");
    let listen = config::listener_names(listen).join(", ");
    let warnings = warnings(loaded.warnings.list().len());
    format!("{name}: valid: {services} on {listen}{warnings}")
}

/// How many there are, for the end of a sentence.
fn warnings(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(", {}", words::counted(count as u64, "warning")),
    }
}
