//! The keys: one table from which reading, did-you-mean, the reference file, the schema and
//! `check --resolved` all come, so that they cannot differ. Here is what a key is; which there are is in the file of
//! what they are about.

mod clients;
mod requests;
mod rollout;
mod service;
mod whole;

use super::value::Kind;

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Its default as it would stand in the file.
    pub(crate) default: Option<&'static str>,
    /// What to show in the reference where there is no default.
    pub(crate) example: &'static str,
    /// What it means, in one or two lines.
    pub(crate) doc: &'static str,
}

/// A table of keys. In the path, `*` stands for a service's name.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) path: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

/// The section of the services' own keys.
pub(crate) const SERVICE: &str = "services.*";

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        example: default,
        doc,
    }
}

const fn optional(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: None,
        example,
        doc,
    }
}

const TIME: Kind = Kind::Time(0);
const SOME_TIME: Kind = Kind::Time(1);

/// Every section, in the order of the reference.
pub(crate) const SECTIONS: &[Section] = &[
    whole::WHOLE,
    clients::LISTEN,
    clients::TLS,
    whole::ADMIN,
    whole::METRICS,
    whole::ACCESS_LOG,
    clients::TIMEOUTS,
    clients::LIMITS,
    service::OWN,
    service::HEALTH,
    rollout::ROLLOUT,
    rollout::JUDGE,
    rollout::DRAIN,
    rollout::RESTART,
    requests::PARKING,
    requests::QUEUE,
    requests::RETRY,
    requests::EJECTION,
    requests::TIMEOUTS,
    requests::HEADERS,
    requests::LIMITS,
];

/// Strategies that a later version brings.
pub(crate) const LATER_STRATEGIES: &[&str] = &["canary", "blue-green", "recreate"];

/// The section at a path with `*`.
pub(crate) fn section(path: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.path == path)
}

/// The key at a real path such as `services.app.drain.request`.
pub(crate) fn at(path: &str) -> Option<&'static Key> {
    let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut parts: Vec<&str> = table.split('.').collect();
    if parts.len() > 1 && parts[0] == "services" {
        parts[1] = "*";
    }
    section(&parts.join("."))?.key(name)
}

impl Section {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The section of this name directly below.
    pub(crate) fn below(&self, name: &str) -> Option<&'static Self> {
        section(&self.join(name))
    }

    /// Names that may stand here: keys, then tables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let tables = SECTIONS.iter().filter_map(|section| {
            let rest = match self.path {
                "" => section.path,
                path => section.path.strip_prefix(path)?.strip_prefix('.')?,
            };
            (!rest.is_empty() && !rest.contains('.')).then_some(rest)
        });
        let services = self.path.is_empty().then_some("services");
        self.keys
            .iter()
            .map(|key| key.name)
            .chain(tables)
            .chain(services)
    }

    fn join(&self, name: &str) -> String {
        match self.path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }
}

/// Where else a key of this name may stand.
pub(crate) fn elsewhere(name: &str) -> impl Iterator<Item = &'static Section> {
    SECTIONS
        .iter()
        .filter(move |section| section.key(name).is_some())
}
