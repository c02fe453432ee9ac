//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy): what a load balancer sends before
//! a client's first byte, to say who the client is. Read strictly, from peers that are believed only (T7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, with its CRLF.
const MAX_TEXT: usize = 107;
/// Longest header of version 2 that is taken: addresses have 216 bytes at most, extensions hold a
/// certificate's name or an id of a cloud's endpoint.
const MAX_BINARY: usize = 4 << 10;

const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Header {
    /// Its length in bytes.
    pub(in crate::proxy) length: usize,
    /// The client's address. `None` if the balancer speaks for itself, as in a health check, or does not
    /// know: then the peer is the client.
    pub(in crate::proxy) client: Option<SocketAddr>,
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
    let client = source.map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
    Ok(Some(Header { length, client }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = BINARY.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        header.extend(body);
        header
    }

    fn client(header: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
        let behind = [header, b"GET / HTTP/1.1\r\n"].concat();
        let parsed = parse(&behind)?.ok_or("incomplete")?;
        assert_eq!(parsed.length, header.len(), "nothing behind it is taken");
        Ok(parsed.client)
    }

    #[test]
    fn a_line_names_the_client() {
        let v4 = Ok(Some(SocketAddr::from(([192, 0, 2, 7], 56_324))));
        let v6: Result<_, &str> = Ok("[2001:db8::7]:0".parse().ok());
        for (line, named) in [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n", v4),
            ("PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", v6),
            ("PROXY UNKNOWN\r\n", Ok(None)),
            ("PROXY UNKNOWN whatever it says\r\n", Ok(None)),
        ] {
            assert_eq!(client(line.as_bytes()), named, "{line:?}");
        }
    }

    #[test]
    fn t7_a_line_is_read_strictly() {
        for line in [
            "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443 1\r\n",
            "PROXY TCP4  192.0.2.7 192.0.2.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n",
            "PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY \r\n",
            "proxy UNKNOWN\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(client(line.as_bytes()).is_err(), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_TEXT));
        assert!(parse(long.as_bytes()).is_err());
    }

    #[test]
    fn a_binary_header_names_the_client() {
        let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 4, 1, 0xbb];
        let mut v6 = [0; 36];
        v6[33] = 80;
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().expect("one").octets());
        let with_extension = [&v4[..], &[4, 0, 1, 0]].concat();
        let named = Some(SocketAddr::from(([192, 0, 2, 7], 56_324)));
        assert_eq!(client(&binary(0x21, 0x11, &v4)), Ok(named));
        assert_eq!(client(&binary(0x21, 0x11, &with_extension)), Ok(named));
        let named = "[2001:db8::7]:80".parse().ok();
        assert_eq!(client(&binary(0x21, 0x21, &v6)), Ok(named));
        // A balancer's own health check, a client that it does not know, a unix socket.
        assert_eq!(client(&binary(0x20, 0x11, &v4)), Ok(None));
        assert_eq!(client(&binary(0x20, 0x00, &[])), Ok(None));
        assert_eq!(client(&binary(0x21, 0x00, &[1, 2, 3])), Ok(None));
        assert_eq!(client(&binary(0x21, 0x31, &[0; 216])), Ok(None));
    }

    #[test]
    fn t7_a_binary_header_is_read_strictly() {
        let v4 = [0; 12];
        assert!(client(&binary(0x21, 0x11, &v4[..11])).is_err());
        assert!(client(&binary(0x21, 0x12, &v4)).is_err(), "a datagram");
        assert!(client(&binary(0x22, 0x11, &v4)).is_err(), "a command");
        assert!(client(&binary(0x11, 0x11, &v4)).is_err(), "a version");
        assert!(client(&binary(0x21, 0x00, &[0; MAX_BINARY])).is_err());
    }

    proptest! {
        /// However it comes apart, nothing is decided before all of it is there, and then the same.
        #[test]
        fn a_header_in_two_pieces_is_the_same(
            extension in prop::collection::vec(any::<u8>(), 0..300),
            cut in any::<prop::sample::Index>(),
            as_text in any::<bool>(),
        ) {
            let header = match as_text {
                true => b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n".to_vec(),
                false => binary(0x21, 0x11, &[&[0; 12], &extension[..]].concat()),
            };
            let whole = parse(&header).expect("good").expect("whole");
            prop_assert_eq!(whole.length, header.len());
            prop_assert_eq!(parse(&header[..cut.index(header.len())]), Ok(None));
        }

        #[test]
        fn no_bytes_are_a_longer_header_than_there_are(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            signed in any::<bool>(),
        ) {
            let bytes = match signed {
                true => [&BINARY[..], &bytes[..]].concat(),
                false => bytes,
            };
            if let Ok(Some(header)) = parse(&bytes) {
                prop_assert!(header.length <= bytes.len());
            }
        }
    }
}
