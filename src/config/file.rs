//! From TOML text to values with their places. Reads on after a mistake, so that all are found.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnose::Problems;
use super::keys::{self, Key, SERVICE, Section};
use super::paths::Env;
use super::suggest::nearest;
use super::value::{Value, Wrong};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The file, at these bytes.
    File(Range<usize>),
    /// A flag or its environment variable, by name.
    Flag(&'static str),
}

/// A value with its source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) value: Value,
    pub(crate) source: Source,
}

/// All values that were given, by their path, such as `services.app.drain.request`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Values {
    pub(crate) found: BTreeMap<String, Found>,
    /// The services, with the place of their name in the file.
    pub(crate) services: BTreeMap<String, Option<Range<usize>>>,
    /// Paths that were given, and could not be read.
    pub(crate) refused: BTreeSet<String>,
}

impl Values {
    pub(crate) fn put(&mut self, path: String, value: Value, source: Source) {
        self.found.insert(path, Found { value, source });
    }

    /// The place of a value in the file, if it is from there.
    pub(crate) fn span(&self, path: &str) -> Option<Range<usize>> {
        match &self.found.get(path)?.source {
            Source::File(span) => Some(span.clone()),
            Source::Flag(_) => None,
        }
    }
}

/// Reads a text. Relative paths are taken from `base`.
pub(crate) fn read(text: &str, base: &Path, env: &Env, problems: &mut Problems) -> Values {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        problems.error("syntax", error.span(), error.message(), None);
    }
    let mut reader = Reader {
        base,
        env,
        problems,
        values: Values::default(),
    };
    if let Some(top) = keys::section("") {
        reader.section(top, "", table.get_ref());
    }
    reader.values
}

/// Reads one file.
pub(super) struct Reader<'a> {
    /// Where relative paths begin.
    pub(super) base: &'a Path,
    /// What variables in texts stand for.
    pub(super) env: &'a Env,
    /// What is wrong so far.
    pub(super) problems: &'a mut Problems,
    /// What was read so far.
    pub(super) values: Values,
}

impl Reader<'_> {
    pub(super) fn section(&mut self, section: &'static Section, at: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = join(at, name.get_ref());
            if let Some(key) = section.key(name.get_ref()) {
                match self.value(key, value) {
                    Some(read) => self.values.put(path, read, Source::File(value.span())),
                    None => {
                        self.values.refused.insert(path);
                    }
                }
            } else if section.path.is_empty() && name.get_ref() == "services" {
                self.services(value);
            } else if section.path.is_empty() && name.get_ref() == "listen" {
                self.listeners(value);
            } else if let Some(below) = section.below(name.get_ref()) {
                match value.get_ref() {
                    DeValue::Table(table) => self.section(below, &path, table),
                    _ => self.not_a_table(name.get_ref(), value.span()),
                }
            } else {
                self.unknown(section, at, name);
            }
        }
    }

    fn services(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(services) = value.get_ref() else {
            let help = "write a table for each, such as `[services.app]`".to_owned();
            self.problems.error(
                "type",
                Some(value.span()),
                "`services` is a table of services",
                Some(help),
            );
            self.values.refused.insert("services".to_owned());
            return;
        };
        let Some(section) = keys::section(SERVICE) else {
            return;
        };
        for (name, value) in services {
            let fine = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
            };
            let text = name.get_ref();
            if text.is_empty() || text.len() > 63 || !text.bytes().all(fine) {
                let message = format!("`{}` cannot be the name of a service", text.escape_debug());
                let help = "use 1 to 63 of a-z, 0-9, `_` and `-`".to_owned();
                self.problems
                    .error("service-name", Some(name.span()), message, Some(help));
                self.values.refused.insert("services".to_owned());
                continue;
            }
            self.values
                .services
                .insert(text.to_string(), Some(name.span()));
            match value.get_ref() {
                DeValue::Table(table) => self.section(section, &join("services", text), table),
                _ => {
                    // Nobody needs to hear what is missing in it.
                    self.values
                        .refused
                        .insert(format!("services.{text}.command"));
                    self.not_a_table(text, value.span());
                }
            }
        }
    }

    fn not_a_table(&mut self, name: &str, span: Range<usize>) {
        let message = format!("`{}` is a table", name.escape_debug());
        let help = format!(
            "write `[…{0}]` above its keys, or `{0} = {{ … }}`",
            name.escape_debug()
        );
        self.problems.error("type", Some(span), message, Some(help));
    }

    fn unknown(
        &mut self,
        section: &'static Section,
        at: &str,
        name: &Spanned<std::borrow::Cow<'_, str>>,
    ) {
        let word = name.get_ref().as_ref();
        let shown = word.escape_debug();
        let table = match section.path {
            "" => "at the top level".to_owned(),
            "listen" => "in `[[listen]]`".to_owned(),
            path => format!("in `[{}]`", path.replace('*', "NAME")),
        };
        let place = |section: &Section| match section.path {
            "" => "the top level, above the first table".to_owned(),
            path => format!("`[{}]`", path.replace('*', "NAME")),
        };
        let help = if let Some(near) = nearest(word, section.names()) {
            // Probably given, so nobody needs to hear that it is missing too.
            self.values.refused.insert(join(at, near));
            format!("did you mean `{near}`?")
        } else if let Some(other) = keys::elsewhere(word).next() {
            format!("`{shown}` belongs to {}", place(other))
        } else {
            format!("known here are {}", listed(section.names()))
        };
        let message = format!("unknown key `{shown}` {table}");
        self.problems
            .error("unknown-key", Some(name.span()), message, Some(help));
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        match self.convert(key, value.get_ref()) {
            Ok(value) => Some(value),
            Err(mistakes) => {
                for (part, Wrong { message, help }) in mistakes {
                    let place = part.unwrap_or_else(|| value.span());
                    let message = format!("`{}`: {message}", key.name);
                    self.problems.error("value", Some(place), message, help);
                }
                None
            }
        }
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        return name.to_owned();
    }
    format!("{at}.{name}")
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
