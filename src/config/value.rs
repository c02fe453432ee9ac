//! Values: what kinds there are, how each is read from a TOML value or from a flag's text, and how it
//! is written back. Units are always visible: a bare number is never a time or a size.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Listen, LogTarget};
use crate::link::message::{
    AccessLog, HostPattern, LogFormat, Network, PublicListener, WorkerAddress,
};
use crate::proxy::{LOG_FIELDS, UnfitLogFormat};
use crate::rollout::Amount;

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
    /// A list of `IP/PREFIX` or `IP`.
    Networks,
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
    Networks(Vec<Network>),
    Hosts(Vec<HostPattern>),
    Paths(Vec<PathBuf>),
    Pairs(Vec<(String, String)>),
    Files(Vec<(String, PathBuf)>),
    LogTarget(LogTarget),
    LogFormat(LogFormat),
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
            Self::Networks => "a list of networks, such as [\"10.0.0.0/8\"]",
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
            | Self::Networks
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
            | Self::Networks
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

/// Most workers of one service: far above sense, far below what makes sums overflow.
pub(crate) use crate::rollout::MAX_WORKERS;
/// Longest time: a year; every sum of a few stays far from overflow.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads a time such as `30s`, `1m30s` or `250ms`; for flags of other commands too.
///
/// # Errors
///
/// One line that says what is wrong and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(Wrong::line)
}

fn duration(text: &str) -> Result<Duration, Wrong> {
    if text.trim().parse::<f64>().is_ok() {
        return Err(
            Wrong::new(format!("`{text}` is a time without its unit")).help(format!(
                "write \"{0}s\" for seconds or \"{0}ms\" for milliseconds",
                text.trim()
            )),
        );
    }
    let time = humantime::parse_duration(text).map_err(|_| {
        Wrong::new(format!("`{}` is not a time", text.escape_debug()))
            .help("write a number and its unit, such as \"250ms\", \"30s\" or \"1m30s\"")
    })?;
    if time > MAX_TIME {
        return Err(Wrong::new(format!(
            "`{text}` is too long: at most 365 days"
        )));
    }
    Ok(time)
}

fn at_least(time: Duration, least: u64) -> Result<Value, Wrong> {
    if time < Duration::from_millis(least) {
        return Err(Wrong::new("this time must be at least 1ms"));
    }
    Ok(Value::Time(time))
}

fn size(text: &str) -> Result<u64, Wrong> {
    let wrong = || {
        Wrong::new(format!("`{}` is not a size", text.escape_debug()))
            .help("write a number and its unit, such as \"512B\", \"64KiB\" or \"10MB\"")
    };
    if !text.ends_with(['B', 'b']) {
        return Err(wrong());
    }
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(wrong()),
    }
}

fn percent(text: &str) -> Result<u32, Wrong> {
    let digits = text.strip_suffix('%').map(str::trim);
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(part) if part <= 100 => Ok(part),
        Some(_) => Err(Wrong::new(format!("`{text}` is more than 100%"))),
        None => Err(
            Wrong::new(format!("`{}` is not a percentage", text.escape_debug()))
                .help("write a whole number and its sign, such as \"25%\""),
        ),
    }
}

/// A part of the workers, in a text: a count is written without quotes.
fn amount(text: &str) -> Result<u32, Wrong> {
    let number = text.trim().parse::<u32>();
    percent(text).map_err(|wrong| match number {
        Ok(number) => wrong.help(format!(
            "write {number} without quotes for workers, or \"{number}%\" for a part of them"
        )),
        Err(_) => wrong,
    })
}

fn address(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = Wrong::new(format!("`{}` is not an address", text.escape_debug()));
    if let Some(port) = text.strip_prefix("localhost:") {
        return Err(wrong.help(format!("write \"127.0.0.1:{port}\"")));
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    if port.parse::<u16>().is_ok() {
        return Err(wrong.help(format!(
            "write \"0.0.0.0:{port}\" for every interface or \"127.0.0.1:{port}\" for this machine"
        )));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(wrong.help("add the port, such as \"127.0.0.1:8080\""));
    }
    Err(wrong.help(
        "write IP:PORT, such as \"127.0.0.1:8080\" or \"[::1]:8080\"; names are not resolved",
    ))
}

fn listener(text: &str) -> Result<PublicListener, Wrong> {
    match text.strip_prefix("unix:") {
        Some("") => Err(Wrong::new("the path after `unix:` is missing")),
        Some(path) => Ok(PublicListener::Unix(PathBuf::from(path))),
        None => address(text).map(PublicListener::Tcp),
    }
}

/// Reads where a worker that somebody else runs listens.
pub(crate) fn upstream(text: &str) -> Result<WorkerAddress, Wrong> {
    match listener(text)? {
        PublicListener::Unix(path) => Ok(WorkerAddress::Unix(path)),
        PublicListener::Tcp(address) if address.port() == 0 => {
            Err(Wrong::new("port 0 is nobody's: name the worker's port"))
        }
        PublicListener::Tcp(address) => Ok(WorkerAddress::Tcp(address)),
    }
}

fn address_or_off(text: &str) -> Result<Value, Wrong> {
    match text {
        "off" => Ok(Value::Off),
        text => address(text).map(Value::Address),
    }
}

fn loopback(text: &str) -> Result<Value, Wrong> {
    let read = address_or_off(text)?;
    if let Value::Address(address) = &read
        && !address.ip().to_canonical().is_loopback()
    {
        return Err(
            Wrong::new(format!("`{address}` is not a loopback address")).help(
                "the admin side answers this machine only; `[metrics]` is what others may reach",
            ),
        );
    }
    Ok(read)
}

fn ports(text: &str) -> Result<Value, Wrong> {
    let read = text.split_once('-').and_then(|(first, last)| {
        Some((
            first.trim().parse::<u16>().ok()?,
            last.trim().parse::<u16>().ok()?,
        ))
    });
    match read {
        Some((first, last)) if first == 0 || first > last => Err(Wrong::new(format!(
            "`{text}` is not a range: it must rise and begin above 0"
        ))),
        Some((first, last)) => Ok(Value::Ports(first, last)),
        None => Err(
            Wrong::new(format!("`{}` is not a range of ports", text.escape_debug()))
                .help("write the first and the last, such as \"20000-29999\""),
        ),
    }
}

fn umask(text: &str) -> Result<Value, Wrong> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 && (3..=4).contains(&text.len()) => Ok(Value::Umask(mask)),
        _ => Err(
            Wrong::new(format!("`{}` is not a file mode mask", text.escape_debug()))
                .help("write three octal digits, such as \"022\""),
        ),
    }
}

fn url_path(text: &str) -> Result<Value, Wrong> {
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

fn word(text: &str, words: &[&str]) -> Result<Value, Wrong> {
    if words.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let wrong = Wrong::new(format!("`{}` is not known here", text.escape_debug()));
    let list = words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ");
    Err(match super::suggest::nearest(text, words.iter().copied()) {
        Some(near) => wrong.help(format!("did you mean \"{near}\"? Possible are {list}")),
        None => wrong.help(format!("possible are {list}")),
    })
}

fn log_target(text: &str) -> Result<LogTarget, Wrong> {
    Ok(match text {
        "" => return Err(Wrong::new("the path is empty").help("write \"off\" for no access log")),
        "off" => LogTarget::Off,
        "stdout" => LogTarget::Stdout,
        "stderr" => LogTarget::Stderr,
        path => LogTarget::File(PathBuf::from(path)),
    })
}

fn log_format(text: &str) -> Result<LogFormat, Wrong> {
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
            match super::suggest::nearest(text, words.into_iter()) {
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
            match super::suggest::nearest(&name, known) {
                Some(near) => wrong.help(format!("did you mean `{{{near}}}`?")),
                None => wrong.help(format!("fields are {}", LOG_FIELDS.join(", "))),
            }
        }
    };
    Err(wrong)
}

/// Reads `10.0.0.0/8`, or a single address.
pub(crate) fn network(text: &str) -> Result<Network, Wrong> {
    let wrong = || {
        Wrong::new(format!("`{}` is not a network", text.escape_debug()))
            .help("write an address and the number of its leading bits that count, such as \"10.0.0.0/8\"")
    };
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    match prefix.unwrap_or(bits) {
        prefix if prefix <= bits => Ok(Network { address, prefix }),
        _ => Err(wrong()),
    }
}

/// Reads a host's name, or `*.` and what its names end in. A request's Host is compared with it without
/// its port, so a port here would fit nothing.
pub(crate) fn host(text: &str) -> Result<HostPattern, Wrong> {
    let wrong = |help: &str| {
        let wrong = Wrong::new(format!(
            "`{}` is not the name of a host",
            text.escape_debug()
        ));
        Err(wrong.help(help))
    };
    if text == "*" {
        return wrong("leave `hosts` out to get the requests of every host");
    }
    if text.contains("://") {
        return wrong("write the name alone, without `http://`");
    }
    let lower = text.to_ascii_lowercase();
    if let Some(inner) = lower
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match inner.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(HostPattern::Exact(lower)),
            Err(_) => wrong("write an address of IPv6 in brackets, such as \"[::1]\""),
        };
    }
    if lower.contains(':') {
        return wrong("write the name alone: a request's port is not compared");
    }
    let (name, is_below) = match lower.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (&*lower, false),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_ok = |label: &str| {
        let byte_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(byte_ok)
    };
    if name.len() > 253 || !name.split('.').all(label_ok) {
        return wrong(
            "write a name such as \"shop.example\" or \"*.shop.example\"; other alphabets as `xn--`",
        );
    }
    Ok(match is_below {
        true => HostPattern::Below(name.to_owned()),
        false => HostPattern::Exact(name.to_owned()),
    })
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
                list_of(super::listener_names(&addresses).into_iter())
            }
            Self::Address(address) => quoted(&address.to_string()),
            Self::Off => quoted("off"),
            Self::Ports(first, last) => quoted(&format!("{first}-{last}")),
            Self::Umask(mask) => quoted(&format!("{mask:03o}")),
            Self::Texts(list) => list_of(list.iter().cloned()),
            Self::Upstreams(list) => list_of(list.iter().map(ToString::to_string)),
            Self::Networks(list) => list_of(
                list.iter()
                    .map(|net| format!("{}/{}", net.address, net.prefix)),
            ),
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

/// A path, not empty.
pub(crate) fn path(text: &str) -> Result<PathBuf, Wrong> {
    match text.is_empty() {
        true => Err(Wrong::new("the path is empty")),
        false => Ok(PathBuf::from(text)),
    }
}

/// A time as `1m30s`.
pub(crate) fn time_text(time: Duration) -> String {
    if time.is_zero() {
        return "0s".to_owned();
    }
    humantime::format_duration(time)
        .to_string()
        .replace(' ', "")
}

fn size_text(size: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units
        .into_iter()
        .find(|(_, unit)| size > 0 && size.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_unit() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["30", "1.5", "", "s", "30 parsecs", "-1s", "900000days"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_duration("30").is_err_and(|line| line.contains("\"30s\"")));
    }

    #[test]
    fn a_size_needs_its_unit() {
        assert_eq!(size("10MB"), Ok(10_000_000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("0B"), Ok(0));
        for bad in ["10", "10M", "MB", "", "-1B", "10 elephantsB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

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

    #[test]
    fn addresses_say_what_to_write() {
        for (text, help) in [
            (":8080", "0.0.0.0:8080"),
            ("8080", "0.0.0.0:8080"),
            ("localhost:80", "127.0.0.1:80"),
            ("127.0.0.1", "add the port"),
            ("example.org:80", "names are not resolved"),
        ] {
            let wrong = address(text).unwrap_err();
            assert!(wrong.help.is_some_and(|text| text.contains(help)), "{text}");
        }
        assert!(loopback("0.0.0.0:9900").is_err());
        assert!(upstream("127.0.0.1:0").is_err());
        assert!(upstream("unix:/run/x.sock").is_ok());
    }

    #[test]
    fn hosts() {
        let read = |text: &str| host(text).map(|host| host.to_string()).ok();
        assert_eq!(read("Shop.Example."), Some("shop.example".to_owned()));
        assert_eq!(read("*.shop.example"), Some("*.shop.example".to_owned()));
        assert_eq!(read("[::1]"), Some("[::1]".to_owned()));
        assert_eq!(read("127.0.0.1"), Some("127.0.0.1".to_owned()));
        for bad in [
            "*", "", "*.", "a..b", "*.*.a", "a.*.b", "http://a", "a:80", "[::g]", "a b", "é",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(network("10.0.0.0/8").unwrap().prefix, 8);
        assert_eq!(network("::1").unwrap().prefix, 128);
        for bad in ["10.0.0.0/33", "10/8", "", "10.0.0.0/", "x"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }
}
