//! The reference file: every key at its default, with its comment. Written from the table of keys.

use std::fmt::Write;

use super::keys::SECTIONS;

/// The text of `config/reference.toml`.
#[must_use]
pub fn text() -> String {
    let mut out = String::from(
        "#:schema ./schema.json\n\
         #\n\
         # Every key of remuda at its default. Keys that have none are commented out, with an example.\n\
         # Texts may hold ${VAR} and ${VAR:-default}; $${ is a plain ${. Relative paths are taken from the\n\
         # directory of the file. This file is generated: `cargo test` says when it is stale.\n",
    );
    for section in SECTIONS {
        if !section.path.is_empty() {
            out.push('\n');
            for line in section.doc.lines() {
                let _ = writeln!(out, "# {line}");
            }
            let _ = match section.path {
                "listen" => writeln!(out, "[[listen]]"),
                // Without certificates there is none.
                "listen.tls" => writeln!(out, "# [listen.tls]"),
                path => writeln!(out, "[{}]", path.replace('*', "app")),
            };
        }
        for key in section.keys {
            if section.path.is_empty() {
                out.push('\n');
            }
            for line in key.doc.lines() {
                let _ = writeln!(out, "# {line}");
            }
            // A service must have one of two; the reference shows this one.
            let shown = key.default.is_some() || key.name == "command";
            let mark = if shown { "" } else { "# " };
            let _ = writeln!(out, "{mark}{} = {}", key.name, key.example);
        }
    }
    out
}
