//! The effective values as TOML, each with where it comes from.

use std::fmt::Write;

use super::check;
use super::file::{Source, Values};
use super::keys::{SECTIONS, Section};
use super::value::{Value, quoted};
use super::{Config, TlsFiles};

/// Writes every key that has a value.
pub(crate) fn write(values: &Values, config: &Config, file: Option<&str>) -> String {
    let mut out = String::new();
    for section in SECTIONS {
        if section.path == "listen.tls" {
            // It is shown with its listener.
        } else if section.path.contains('*') {
            for service in &config.services {
                let at = section.path.replace('*', &service.name.0);
                table(&mut out, section, &at, values, file);
            }
        } else {
            table(&mut out, section, section.path, values, file);
        }
    }
    out
}

fn table(out: &mut String, section: &Section, at: &str, values: &Values, file: Option<&str>) {
    let mut lines = String::new();
    for key in section.keys {
        let path = if at.is_empty() {
            key.name.to_owned()
        } else {
            format!("{at}.{}", key.name)
        };
        let (value, from) = match values.found.get(&path) {
            Some(found) => (found.value.clone(), origin(&found.source, file)),
            None => match check::default(&path) {
                Some(value) => (value, "default".to_owned()),
                None => continue,
            },
        };
        if section.path == "listen" {
            // All of a listener's keys at its address.
            listeners(&mut lines, &value, &from);
        } else {
            let _ = writeln!(lines, "{} = {} # {from}", key.name, value.toml());
        }
    }
    if lines.is_empty() {
        return;
    }
    match at {
        "" | "listen" => {}
        at => {
            let _ = writeln!(out, "\n[{at}]");
        }
    }
    out.push_str(&lines);
}

fn listeners(lines: &mut String, value: &Value, from: &str) {
    let Value::Listeners(all) = value else {
        return;
    };
    for one in all {
        let address = super::listener_names(std::slice::from_ref(&one.address)).concat();
        let entrance = one.entrance;
        let _ = writeln!(
            lines,
            "\n[[listen]]\naddress = {} # {from}\nproxy_protocol = {}\nhttp2 = {}",
            quoted(&address),
            entrance.proxy_protocol,
            entrance.http2,
        );
        if let Some(port) = entrance.redirect {
            let _ = writeln!(lines, "redirect_https = {port}");
        }
        if let Some(files) = &one.tls {
            tls(lines, files);
        }
    }
}

fn tls(lines: &mut String, files: &TlsFiles) {
    let (certs, keys) = files.pairs.iter().cloned().unzip();
    let (certs, keys) = (Value::Paths(certs).toml(), Value::Paths(keys).toml());
    let _ = write!(lines, "tls = {{ cert = {certs}, key = {keys}");
    if let Some(file) = &files.client_ca {
        let file = Value::Path(file.clone()).toml();
        let word = match files.client_required {
            true => "required",
            false => "optional",
        };
        let _ = write!(lines, ", client_ca = {file}, client_cert = \"{word}\"");
    }
    lines.push_str(" }\n");
}

fn origin(source: &Source, file: Option<&str>) -> String {
    match source {
        Source::File(_) => file.unwrap_or("file").escape_debug().to_string(),
        Source::Flag(flag) => match flag
            .strip_prefix("--")
            .filter(|name| !name.starts_with(' '))
        {
            Some(name) => {
                let variable = name.replace('-', "_").to_uppercase();
                format!("flag --{name} or REMUDA_{variable}")
            }
            None => format!("flag {flag}"),
        },
    }
}
