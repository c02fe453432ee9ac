//! Whom a proxy that is believed says that it speaks for: the access log's client.

use std::net::{IpAddr, SocketAddrV4};

use super::fields::list;
use crate::link::message::Front;
use crate::proxy::head::Fields;

/// The client by the fields of a trusted peer, which each proxy on the way adds to at the end: of those named, from the
/// end on, the first that is no trusted proxy itself, and else the first of all. What stands before a word that is no
/// address could be anybody's. `Forwarded` counts where there is no `X-Forwarded-For`.
pub(in crate::proxy) fn client(fields: &Fields, front: &Front) -> Option<IpAddr> {
    let mut named: Vec<&[u8]> = fields.all(b"x-forwarded-for").flat_map(list).collect();
    if named.is_empty() {
        let elements = fields.all(b"forwarded").flat_map(list);
        named = elements.map(said_for).collect();
    }
    let mut client = None;
    for name in named.into_iter().rev() {
        let Some(address) = address(name) else {
            break;
        };
        client = Some(address);
        if !front.trusts(address) {
            break;
        }
    }
    client
}

/// The value of `for` in an element of `Forwarded` (RFC 7239 §4); empty without one.
fn said_for(element: &[u8]) -> &[u8] {
    let mut pairs = element.split(|byte| *byte == b';');
    let value = pairs.find_map(|pair| {
        let (name, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
        name.trim_ascii()
            .eq_ignore_ascii_case(b"for")
            .then_some(&value[1..])
    });
    value.unwrap_or_default().trim_ascii()
}

/// An address, with or without a port, quotes or brackets.
fn address(name: &[u8]) -> Option<IpAddr> {
    let name = str::from_utf8(name).ok()?;
    let name = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .unwrap_or(name);
    let address = match name.strip_prefix('[') {
        Some(literal) => literal.split(']').next()?.parse().ok()?,
        None => match name.parse() {
            Ok(address) => address,
            Err(_) => IpAddr::V4(*name.parse::<SocketAddrV4>().ok()?.ip()),
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message::Network;

    fn told(fields: &[(&str, &str)]) -> Option<String> {
        let front = Front {
            trusted: vec![Network {
                address: [10, 0, 0, 0].into(),
                prefix: 8,
            }],
            ..Front::default()
        };
        let client = client(&Fields::from_pairs(fields.iter().copied()), &front);
        client.map(|address| address.to_string())
    }

    #[test]
    fn t7_the_client_is_the_last_that_is_no_proxy_of_ours() {
        for (value, client) in [
            ("192.0.2.7", Some("192.0.2.7")),
            // Who is not believed may have said what stands before it.
            ("1.1.1.1, 192.0.2.7", Some("192.0.2.7")),
            ("1.1.1.1, 192.0.2.7,10.1.1.1 , 10.2.2.2", Some("192.0.2.7")),
            ("10.1.1.1, 10.2.2.2", Some("10.1.1.1")),
            ("1.1.1.1, unknown, 10.2.2.2", Some("10.2.2.2")),
            ("1.1.1.1, _secret", None),
            ("192.0.2.7:4711", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("\"[2001:db8::1]\"", Some("2001:db8::1")),
            ("", None),
        ] {
            let told = told(&[("x-forwarded-for", value)]);
            assert_eq!(told.as_deref(), client, "{value}");
        }
        let lines = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "10.0.0.1"),
        ];
        assert_eq!(told(&lines).as_deref(), Some("1.1.1.1"));
        for (value, client) in [
            ("for=192.0.2.7;proto=https;by=10.0.0.1", Some("192.0.2.7")),
            (
                "for=1.1.1.1, proto=http; For=\"[2001:db8::1]:4711\"",
                Some("2001:db8::1"),
            ),
            ("for=1.1.1.1, proto=https", None),
            ("for=\"1.1.1.1:80\", for=10.0.0.1", Some("1.1.1.1")),
        ] {
            let told = told(&[("forwarded", value)]);
            assert_eq!(told.as_deref(), client, "{value}");
        }
        let both = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        assert_eq!(told(&both).as_deref(), Some("192.0.2.7"));
        assert_eq!(told(&[]), None);
    }
}
