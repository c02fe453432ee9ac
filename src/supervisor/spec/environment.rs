//! The environment workers start from: what of ours is handed down, and the operator's file. Read once for each
//! generation; a value is never repeated in a message, because it may be a secret (T14).

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::config::regular;

/// Prefixes of variables that are addressed to us and not to workers.
const NOT_HANDED_DOWN: [&str; 5] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_",
    "LISTEN_",
    "JOURNAL_STREAM",
    "REMUDA_",
];

/// Whether a variable of ours is one for workers, too. `PORT` names where we were to listen, and a program that
/// believes it would not listen where it is looked for.
pub(super) fn is_handed_down(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let mut ours = NOT_HANDED_DOWN.iter();
    name != b"PORT" && !ours.any(|ours| name.starts_with(ours.as_bytes()))
}

/// Sets a variable, in its former place if there is one.
pub(super) fn set(env: &mut Vec<(OsString, OsString)>, pair: (OsString, OsString)) {
    match env.iter_mut().find(|(name, _)| *name == pair.0) {
        Some(found) => found.1 = pair.1,
        None => env.push(pair),
    }
}

/// `KEY=value` lines. Blank lines and lines that begin with `#` are skipped, `export ` before a key and one
/// pair of quotes around a value are taken off; nothing is expanded.
pub(super) fn env_file(path: &Path) -> Result<Vec<(OsString, OsString)>, String> {
    let text = regular::read(path)
        .map_err(|why| format!("cannot read the environment file {path:?}: {why}"))?;
    let mut pairs = Vec::new();
    let mut mistakes = String::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        let equals = line.iter().position(|byte| *byte == b'=');
        let Some((name, value)) = equals.map(|at| (line[..at].trim_ascii(), &line[at + 1..]))
        else {
            // The line's text is not repeated: it may be a secret (T14).
            let _ = write!(mistakes, "; line {} is no `KEY=value`", index + 1);
            continue;
        };
        if name.is_empty() || line.contains(&0) {
            let _ = write!(mistakes, "; line {} has no usable key", index + 1);
            continue;
        }
        let value = unquoted(value.trim_ascii());
        pairs.push((
            OsString::from_vec(name.to_vec()),
            OsString::from_vec(value.to_vec()),
        ));
    }
    if mistakes.is_empty() {
        Ok(pairs)
    } else {
        Err(format!(
            "cannot use the environment file {path:?}{mistakes}"
        ))
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    }
}
