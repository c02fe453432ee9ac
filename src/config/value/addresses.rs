//! Where somebody is reached, or may come from: addresses, ports, networks, names of hosts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::{Value, Wrong};
use crate::link::message::{HostPattern, Network, PublicListener, WorkerAddress};

/// Reads `IP:PORT` or `unix:PATH`.
pub(super) fn listener(text: &str) -> Result<PublicListener, Wrong> {
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

/// Reads `IP:PORT`, or `off`.
pub(super) fn address_or_off(text: &str) -> Result<Value, Wrong> {
    match text {
        "off" => Ok(Value::Off),
        text => address(text).map(Value::Address),
    }
}

/// Reads `IP:PORT` of this machine, or `off`.
pub(super) fn loopback(text: &str) -> Result<Value, Wrong> {
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

/// Reads `FIRST-LAST`.
pub(super) fn ports(text: &str) -> Result<Value, Wrong> {
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

/// Peers that are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peers {
    /// Those of this network.
    Network(Network),
    /// Those of unix listeners.
    Unix,
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(Network { address, prefix }) => write!(f, "{address}/{prefix}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Reads `10.0.0.0/8`, a single address, or `unix`.
pub(crate) fn peers(text: &str) -> Result<Peers, Wrong> {
    match text {
        "unix" => Ok(Peers::Unix),
        _ => network(text).map(Peers::Network),
    }
}

fn network(text: &str) -> Result<Network, Wrong> {
    let wrong = || {
        Wrong::new(format!("`{}` is not a network", text.escape_debug())).help(
            "write an address and the number of its leading bits that count, such as \"10.0.0.0/8\", \
             or \"unix\" for the peers of unix listeners",
        )
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

#[cfg(test)]
mod tests {
    use super::*;

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
