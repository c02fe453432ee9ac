//! What a reload says of itself, and which keys it says it of.

use crate::config::Upstream;
use crate::rollout::Refusal;

/// The note of a config that could not be read.
pub(super) const INVALID: &str =
    "the config was not reloaded, and the one before stays in use; `remuda check -c FILE` says why";

/// Keys of a service that are a generation's own, or of somebody else's workers.
pub(super) const OF_A_GENERATION: [&str; 12] = [
    "command",
    "upstream",
    "connect",
    "protocol",
    "cwd",
    "env",
    "env_file",
    "env_clear",
    "user",
    "group",
    "umask",
    "release",
];

/// Keys of a service by which its workers are asked for their health.
pub(super) const OF_PROBES: [&str; 5] = [
    "health.path",
    "health.interval",
    "health.timeout",
    "health.notify",
    "health.rise",
];

/// What the note of a config says that was read and not taken.
pub(super) fn not_reloaded(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Conflict(why) => format!("the config was not reloaded: {why}"),
        _ => format!("the config was not reloaded, and the one before stays in use: {refusal}"),
    }
}

/// Keys as they are shown.
pub(super) fn named(keys: &[&str]) -> String {
    format!("`{}`", keys.join("`, `"))
}

/// Which addresses went, and which came, and whether they are spoken to otherwise.
pub(super) fn moves(was: &[Upstream], is: &[Upstream]) -> String {
    let only_in = |one: &[Upstream], other: &[Upstream], verb: &str| {
        let is_there = |one: &Upstream| other.iter().any(|of| of.address == one.address);
        let rest = one.iter().filter(|of| !is_there(of));
        let names: Vec<String> = rest.map(|of| of.address.to_string()).collect();
        let s = if names.len() == 1 { "s" } else { "" };
        (!names.is_empty()).then(|| format!("{} {verb}{s}", names.join(", ")))
    };
    let parts = [only_in(is, was, "join"), only_in(was, is, "leave")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let speaks = |of: &[Upstream]| of.first().map(|one| one.protocol);
    match (parts.is_empty(), speaks(was) == speaks(is)) {
        (false, true) => format!("`upstream`: {}", parts.join(", ")),
        (false, false) => format!("`upstream` and `protocol`: {}", parts.join(", ")),
        (true, false) => "`protocol` changed".to_owned(),
        (true, true) => "`upstream` is in another order".to_owned(),
    }
}
