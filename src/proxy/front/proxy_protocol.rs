//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy): what a load balancer sends before
//! a client's first byte, to say who the client is. Read strictly, from peers that are believed only (T7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};

/// Longest header of version 1, with its CRLF.
const MAX_TEXT: usize = 107;
/// Longest header of version 2 that is taken: addresses have 216 bytes at most, extensions hold a
/// certificate's name or an id of a cloud's endpoint.
const MAX_BINARY: usize = 4 << 10;

const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The extension that holds a checksum of the whole header (§2.2.4 there), and how it is computed.
const CHECKSUM: u8 = 0x03;
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The extension about the client's TLS (§2.2.6 there): a byte of flags, whether its certificate was verified, and
/// extensions of its own.
const TLS: u8 = 0x20;
const TLS_LEAST: usize = 5;
/// The flag that it came by TLS.
const BY_TLS: u8 = 0x01;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Header {
    /// Its length in bytes.
    pub(in crate::proxy) length: usize,
    /// The client's address. `None` if the balancer speaks for itself, as in a health check, or does not
    /// know: then the peer is the client.
    pub(in crate::proxy) client: Option<SocketAddr>,
    /// The client came by TLS, which the balancer has ended.
    pub(in crate::proxy) tls: bool,
}

/// The header at the beginning of `bytes`; `None` if more of them are needed.
///
/// # Errors
/// Why there is none: the connection must be closed, as what follows may be anything.
pub(in crate::proxy) fn parse(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    if begins(bytes, BINARY) {
        return binary(bytes);
    }
    if begins(bytes, TEXT) {
        return text(bytes);
    }
    Err("no PROXY protocol header")
}

/// So far it is, or could still become, what begins like this.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let common = bytes.len().min(with.len());
    bytes[..common] == with[..common]
}

/// Version 1: one line.
fn text(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let line = &bytes[..bytes.len().min(MAX_TEXT)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        return match line.len() {
            MAX_TEXT => Err("PROXY line too long"),
            _ => Ok(None),
        };
    };
    let line = line[..end].strip_suffix(b"\r");
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.ok_or("malformed PROXY line")?.split(' ').skip(1);
    let client = match words.next() {
        // Whatever else the line says is to be ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(source::<Ipv4Addr>(&mut words)?),
        Some("TCP6") => Some(source::<Ipv6Addr>(&mut words)?),
        _ => return Err("family of a PROXY line"),
    };
    Ok(Some(Header {
        length: end + 1,
        client,
        tls: false,
    }))
}

/// The source of source, destination, source's port and destination's port; nothing is behind them.
fn source<'a, A: std::str::FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<SocketAddr, &'static str> {
    let mut read = || {
        let source = words.next()?.parse::<A>().ok()?;
        words.next()?.parse::<A>().ok()?;
        let from = port(words.next()?)?;
        port(words.next()?)?;
        let address = SocketAddr::new(source.into().to_canonical(), from);
        words.next().is_none().then_some(address)
    };
    read().ok_or("malformed PROXY line")
}

/// Decimal, no sign, no zero in front.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    plain.then(|| text.parse().ok())?
}

/// Version 2: twelve fixed bytes, version and command, family, length, then addresses and extensions.
fn binary(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else {
        return Ok(None);
    };
    let (command, family) = (head[12], head[13]);
    let size = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let length = head.len() + size;
    if length > MAX_BINARY {
        return Err("PROXY header too long");
    }
    let needed = match (command, family) {
        // The balancer's own connection; whatever else it says is to be skipped.
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, 0x31) => 216,
        (0x21, _) => return Err("family of a PROXY header"),
        (0x22..=0x2f, _) => return Err("command of a PROXY header"),
        _ => return Err("version of a PROXY header"),
    };
    if size < needed {
        return Err("PROXY header too short for its addresses");
    }
    let Some(body) = rest.get(..size) else {
        return Ok(None);
    };
    let port = |at: usize| {
        let bytes = body.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*bytes))
    };
    let source = match needed {
        12 => body
            .first_chunk::<4>()
            .map(|ip| IpAddr::from(*ip))
            .zip(port(8)),
        36 => body
            .first_chunk::<16>()
            .map(|ip| IpAddr::from(*ip))
            .zip(port(32)),
        _ => None,
    };
    let tls = needed > 0 && extensions(&bytes[..length], head.len() + needed)?;
    let client = source.map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
    Ok(Some(Header {
        length,
        client,
        tls,
    }))
}

/// What follows a header's addresses from `begin` on: each a type, a length of two bytes and a value. Whether one says
/// that the client came by TLS is of use here, and a checksum that is wrong means that the rest is not what was sent.
fn extensions(header: &[u8], begin: usize) -> Result<bool, &'static str> {
    let mut tls = false;
    let mut at = begin;
    while at < header.len() {
        let rest = &header[at..];
        let Some(([kind, high, low], rest)) = rest.split_first_chunk() else {
            return Err("extension of a PROXY header");
        };
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..size).ok_or("extension of a PROXY header")?;
        at += 3;
        if *kind == CHECKSUM {
            // Of all of it, with zeros where it is itself.
            let mut digest = CRC32C.digest();
            digest.update(&header[..at]);
            digest.update(&[0; 4]);
            digest.update(header.get(at + 4..).unwrap_or_default());
            if value != digest.finalize().to_be_bytes() {
                return Err("checksum of a PROXY header");
            }
        }
        if *kind == TLS {
            let whole = value.len() >= TLS_LEAST;
            let flags = value.first().filter(|_| whole);
            tls |= flags.ok_or("extension of a PROXY header")? & BY_TLS != 0;
        }
        at += size;
    }
    Ok(tls)
}

#[cfg(test)]
mod tests;
