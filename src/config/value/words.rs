//! Texts that must be one of a few, or have a form: words, paths, masks, formats of a log.

use std::path::PathBuf;

use super::{Value, Wrong};
use crate::config::LogTarget;
use crate::config::suggest::nearest;
use crate::link::message::{AccessLog, LogFormat};
use crate::proxy::{LOG_FIELDS, UnfitLogFormat};

/// Reads one of these.
pub(super) fn word(text: &str, words: &[&str]) -> Result<Value, Wrong> {
    if words.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let wrong = Wrong::new(format!("`{}` is not known here", text.escape_debug()));
    let list = words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ");
    Err(match nearest(text, words.iter().copied()) {
        Some(near) => wrong.help(format!("did you mean \"{near}\"? Possible are {list}")),
        None => wrong.help(format!("possible are {list}")),
    })
}

/// A path, not empty.
pub(crate) fn path(text: &str) -> Result<PathBuf, Wrong> {
    match text.is_empty() {
        true => Err(Wrong::new("the path is empty")),
        false => Ok(PathBuf::from(text)),
    }
}

/// Reads what begins with `/`.
pub(super) fn url_path(text: &str) -> Result<Value, Wrong> {
    if text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(
        Wrong::new(format!("`{}` is not a path of a URL", text.escape_debug()))
            .help("begin with `/` and use no spaces, such as \"/healthz\""),
    )
}

/// Reads three or four octal digits.
pub(super) fn umask(text: &str) -> Result<Value, Wrong> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 && (3..=4).contains(&text.len()) => Ok(Value::Umask(mask)),
        _ => Err(
            Wrong::new(format!("`{}` is not a file mode mask", text.escape_debug()))
                .help("write three octal digits, such as \"022\""),
        ),
    }
}

/// Reads where the access log goes.
pub(super) fn log_target(text: &str) -> Result<LogTarget, Wrong> {
    Ok(match text {
        "" => return Err(Wrong::new("the path is empty").help("write \"off\" for no access log")),
        "off" => LogTarget::Off,
        "stdout" => LogTarget::Stdout,
        "stderr" => LogTarget::Stderr,
        path => LogTarget::File(PathBuf::from(path)),
    })
}

/// Reads how the access log looks.
pub(super) fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    let format = match text {
        "json" => LogFormat::Json,
        "common" => LogFormat::Common,
        "combined" => LogFormat::Combined,
        template => LogFormat::Template(template.to_owned()),
    };
    let checked = crate::proxy::LogFormat::new(&AccessLog {
        format: format.clone(),
        query: false,
    });
    let wrong = match checked {
        Ok(_) => return Ok(format),
        Err(UnfitLogFormat::NoField) => {
            let words = ["json", "common", "combined"];
            let wrong = Wrong::new(format!(
                "`{}` is no format, and no template without a `{{field}}`",
                text.escape_debug()
            ));
            match nearest(text, words.into_iter()) {
                Some(near) => wrong.help(format!("did you mean \"{near}\"?")),
                None => wrong.help("write \"json\", \"common\", \"combined\" or a template"),
            }
        }
        Err(UnfitLogFormat::Brace) => Wrong::new("a brace without its other half")
            .help("write `{{` and `}}` for braces themselves"),
        Err(UnfitLogFormat::Control) => {
            Wrong::new("a line break or another control character is not allowed")
        }
        Err(UnfitLogFormat::Unknown(name)) => {
            let known = LOG_FIELDS.iter().copied();
            let wrong = Wrong::new(format!("no field is called `{}`", name.escape_debug()));
            match nearest(&name, known) {
                Some(near) => wrong.help(format!("did you mean `{{{near}}}`?")),
                None => wrong.help(format!("fields are {}", LOG_FIELDS.join(", "))),
            }
        }
    };
    Err(wrong)
}
