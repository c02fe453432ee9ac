//! What a key holds: how it is called, and how it is read from a text or a number.

use super::addresses::{address_or_off, listener, loopback, ports};
use super::units::{amount, at_least, duration, percent, size};
use super::words::{log_format, log_target, path, umask, url_path, word};
use super::{Value, Wrong};
use crate::rollout::{Amount, MAX_WORKERS};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text without a NUL.
    Text,
    /// A path; relative ones in the file are relative to the file's directory.
    Path,
    /// `true` or `false`.
    Bool,
    /// A whole number of things, from the first to the second.
    Count(u32, u32),
    /// A time from the first on, in milliseconds: 0 or 1.
    Time(u64),
    /// A number of bytes.
    Size,
    /// A part of a hundred.
    Percent,
    /// A count, or a part of the wanted workers.
    Amount,
    /// `IP:PORT` or `unix:PATH`, where clients come in.
    Listener,
    /// `IP:PORT`, or `off`.
    Address,
    /// `IP:PORT` on loopback, or `off`.
    Loopback,
    /// `FIRST-LAST`.
    Ports,
    /// Three or four octal digits.
    Umask,
    /// A path in a URL.
    UrlPath,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of texts, not empty.
    Texts,
    /// A list of `IP:PORT` or `unix:PATH`, not empty.
    Upstreams,
    /// A list of `IP/PREFIX`, `IP` or `unix`.
    Peers,
    /// A list of names of hosts or `*.SUFFIX`, not empty.
    Hosts,
    /// A path, or a list of paths, not empty.
    Paths,
    /// A table of texts.
    Pairs,
    /// A table of paths.
    Files,
    /// `off`, `stdout`, `stderr` or a path.
    LogTarget,
    /// A name of a format, or a template.
    LogFormat,
}

impl Kind {
    /// What to call it: "expected …".
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Path => "a path in quotes",
            Self::Bool => "`true` or `false`",
            Self::Count(..) => "a whole number",
            Self::Time(_) => "a time with its unit, such as \"30s\"",
            Self::Size => "a size with its unit, such as \"10MB\"",
            Self::Percent => "a percentage, such as \"20%\"",
            Self::Amount => "a number of workers, or a percentage such as \"25%\"",
            Self::Listener => "an address, such as \"0.0.0.0:8080\" or \"unix:/run/app.sock\"",
            Self::Address => "an address, such as \"0.0.0.0:9901\", or \"off\"",
            Self::Loopback => "a loopback address, such as \"127.0.0.1:9900\", or \"off\"",
            Self::Ports => "a range of ports, such as \"20000-29999\"",
            Self::Umask => "an octal mask in quotes, such as \"022\"",
            Self::UrlPath => "a path that begins with `/`, such as \"/healthz\"",
            Self::Word(_) => "one of these words in quotes",
            Self::Texts => "a list of texts, such as [\"./server\", \"--port\", \"{port}\"]",
            Self::Upstreams => "a list of addresses, such as [\"127.0.0.1:9000\"]",
            Self::Peers => "a list of networks, such as [\"10.0.0.0/8\"]",
            Self::Hosts => "a list of names of hosts, such as [\"shop.example\"]",
            Self::Paths => "a path in quotes, or a list of paths",
            Self::Files => "a table of paths, such as { 503 = \"503.html\" }",
            Self::Pairs => "a table of texts, such as { MODE = \"production\" }",
            Self::LogTarget => "\"off\", \"stdout\", \"stderr\" or a path in quotes",
            Self::LogFormat => "\"json\", \"common\", \"combined\" or a template in quotes",
        }
    }

    /// Reads a text: a TOML string, or a flag's value.
    pub(crate) fn text(self, text: &str) -> Result<Value, Wrong> {
        if text.contains('\0') {
            return Err(Wrong::new("a NUL character is not allowed"));
        }
        match self {
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Path => path(text).map(Value::Path),
            Self::Paths => path(text).map(|path| Value::Paths(vec![path])),
            Self::Time(least) => duration(text).and_then(|time| at_least(time, least)),
            Self::Size => size(text).map(Value::Size),
            Self::Percent => percent(text).map(Value::Percent),
            Self::Amount => amount(text).map(|part| Value::Amount(Amount::Percent(part))),
            Self::Listener => listener(text).map(|address| Value::Listeners(vec![address.into()])),
            Self::Address => address_or_off(text),
            Self::Loopback => loopback(text),
            Self::Ports => ports(text),
            Self::Umask => umask(text),
            Self::UrlPath => url_path(text),
            Self::Word(words) => word(text, words),
            Self::LogTarget => log_target(text).map(Value::LogTarget),
            Self::LogFormat => log_format(text).map(Value::LogFormat),
            Self::Bool
            | Self::Count(..)
            | Self::Texts
            | Self::Upstreams
            | Self::Peers
            | Self::Hosts
            | Self::Files
            | Self::Pairs => Err(Wrong::new(format!(
                "expected {}, found a text",
                self.noun()
            ))),
        }
    }

    /// Reads a whole number.
    pub(crate) fn number(self, number: u64) -> Result<Value, Wrong> {
        match self {
            Self::Count(least, most) => match u32::try_from(number) {
                Ok(count) if (least..=most).contains(&count) => Ok(Value::Count(count)),
                _ => Err(self.out_of_range(&number.to_string())),
            },
            Self::Amount => match u32::try_from(number) {
                Ok(count) if count <= MAX_WORKERS => Ok(Value::Amount(Amount::Count(count))),
                _ => Err(self.out_of_range(&number.to_string())),
            },
            Self::Time(_) => Err(Wrong::new("a time needs its unit").help(format!(
                "write \"{number}s\" for seconds or \"{number}ms\" for milliseconds"
            ))),
            Self::Size => Err(Wrong::new("a size needs its unit").help(format!(
                "write \"{number}B\", \"{number}KiB\" or \"{number}MB\""
            ))),
            Self::Percent => {
                Err(Wrong::new("a percentage needs its sign").help(format!("write \"{number}%\"")))
            }
            Self::Umask => Err(Wrong::new("an octal mask is written in quotes")
                .help(format!("write \"{number:03}\""))),
            Self::Text
            | Self::Path
            | Self::Bool
            | Self::Listener
            | Self::Address
            | Self::Loopback
            | Self::Ports
            | Self::UrlPath
            | Self::Word(_)
            | Self::Texts
            | Self::Upstreams
            | Self::Peers
            | Self::Hosts
            | Self::Paths
            | Self::Files
            | Self::Pairs
            | Self::LogTarget
            | Self::LogFormat => Err(Wrong::new(format!(
                "expected {}, found a number",
                self.noun()
            ))),
        }
    }

    /// What is wrong with a number, negative ones included.
    pub(crate) fn out_of_range(self, number: &str) -> Wrong {
        match self {
            Self::Count(least, most) => {
                Wrong::new(format!("{number} is out of range: {least} to {most}"))
            }
            Self::Amount => Wrong::new(format!("{number} is out of range: 0 to {MAX_WORKERS}")),
            _ => Wrong::new(format!("expected {}, found {number}", self.noun())),
        }
    }

    /// Reads a flag's text, where numbers need no other form.
    pub(crate) fn flag(self, text: &str) -> Result<Value, Wrong> {
        let number = text.parse::<u64>().ok();
        match (self, number) {
            (Self::Count(..), Some(number)) | (Self::Amount | Self::Time(_), Some(number)) => {
                self.number(number)
            }
            (Self::Count(..), None) => Err(Wrong::new(format!("`{text}` is not a whole number"))),
            _ => self.text(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quoted;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let cases = [
            (Kind::Time(0), "1m30s"),
            (Kind::Time(0), "0s"),
            (Kind::Size, "64KiB"),
            (Kind::Percent, "20%"),
            (Kind::Amount, "25%"),
            (Kind::Address, "[::1]:80"),
            (Kind::Address, "off"),
            (Kind::Loopback, "off"),
            (Kind::Ports, "20000-29999"),
            (Kind::Umask, "022"),
            (Kind::UrlPath, "/healthz?full=1"),
        ];
        for (kind, text) in cases {
            let value = kind.text(text).unwrap();
            assert_eq!(value.toml(), quoted(text));
        }
    }
}
