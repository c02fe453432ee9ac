//! Values: what was read, and how it is written back. What kinds there are is in `kind`; how each is read from a
//! text, in `units`, `addresses` and `words`. Units are always visible: a bare number is never a time or a size.

mod addresses;
mod kind;
mod units;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::addresses::{Peers, host, peers, upstream};
pub(crate) use self::kind::Kind;
pub use self::units::parse_duration;
pub(crate) use self::units::time_text;
pub(crate) use self::words::path;

use self::units::size_text;
use super::{Listen, LogTarget, listener_names};
use crate::link::message::{HostPattern, LogFormat, WorkerAddress};
use crate::rollout::Amount;
/// Most workers of one service: far above sense, far below what makes sums overflow.
pub(crate) use crate::rollout::MAX_WORKERS;

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Path(PathBuf),
    Bool(bool),
    Count(u32),
    Time(Duration),
    Size(u64),
    Percent(u32),
    Amount(Amount),
    Listeners(Vec<Listen>),
    Address(SocketAddr),
    Off,
    Ports(u16, u16),
    Umask(u32),
    Texts(Vec<String>),
    Upstreams(Vec<WorkerAddress>),
    Peers(Vec<Peers>),
    Hosts(Vec<HostPattern>),
    Paths(Vec<PathBuf>),
    Pairs(Vec<(String, String)>),
    Files(Vec<(String, PathBuf)>),
    LogTarget(LogTarget),
    LogFormat(LogFormat),
}

impl Value {
    /// The value as it would stand in the file.
    pub(crate) fn toml(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Path(path) => quoted(&path.to_string_lossy()),
            Self::Bool(yes) => yes.to_string(),
            Self::Count(count) | Self::Amount(Amount::Count(count)) => count.to_string(),
            Self::Time(time) => quoted(&time_text(*time)),
            Self::Size(size) => quoted(&size_text(*size)),
            Self::Percent(part) | Self::Amount(Amount::Percent(part)) => {
                quoted(&format!("{part}%"))
            }
            Self::Listeners(list) => {
                let addresses: Vec<_> = list.iter().map(|one| one.address.clone()).collect();
                list_of(listener_names(&addresses).into_iter())
            }
            Self::Address(address) => quoted(&address.to_string()),
            Self::Off => quoted("off"),
            Self::Ports(first, last) => quoted(&format!("{first}-{last}")),
            Self::Umask(mask) => quoted(&format!("{mask:03o}")),
            Self::Texts(list) => list_of(list.iter().cloned()),
            Self::Upstreams(list) => list_of(list.iter().map(ToString::to_string)),
            Self::Peers(list) => list_of(list.iter().map(ToString::to_string)),
            Self::Hosts(list) => list_of(list.iter().map(ToString::to_string)),
            Self::Paths(list) => list_of(list.iter().map(|one| one.to_string_lossy().into_owned())),
            Self::Files(files) => {
                let inner = files.iter().map(|(key, path)| {
                    format!("{} = {}", quoted(key), quoted(&path.to_string_lossy()))
                });
                format!("{{ {} }}", inner.collect::<Vec<_>>().join(", "))
            }
            Self::LogTarget(LogTarget::Off) => quoted("off"),
            Self::LogTarget(LogTarget::Stdout) => quoted("stdout"),
            Self::LogTarget(LogTarget::Stderr) => quoted("stderr"),
            Self::LogTarget(LogTarget::File(path)) => quoted(&path.to_string_lossy()),
            Self::LogFormat(LogFormat::Json) => quoted("json"),
            Self::LogFormat(LogFormat::Common) => quoted("common"),
            Self::LogFormat(LogFormat::Combined) => quoted("combined"),
            Self::LogFormat(LogFormat::Template(text)) => quoted(text),
            // Values may be secrets, so only the names are shown.
            Self::Pairs(pairs) => {
                let inner = pairs
                    .iter()
                    .map(|(key, _)| format!("{} = \"(hidden)\"", quoted(key)));
                format!("{{ {} }}", inner.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list_of(items: impl Iterator<Item = String>) -> String {
    let items = items.map(|item| quoted(&item)).collect::<Vec<_>>();
    format!("[{}]", items.join(", "))
}

/// Why a value was not read: what is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// One line, as a flag's error shows it.
    fn line(self) -> String {
        match self.help {
            Some(help) => format!("{}; {help}", self.message),
            None => self.message,
        }
    }
}
