//! Headers of either version, good, bad and in pieces.

use super::*;
use crate::fuzz::{self, Choices, Cut, Tally};

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

#[test]
fn t7_an_extension_says_that_the_client_came_by_tls() {
    let tls = |command, extensions: &[u8]| {
        let header = binary(command, 0x11, &[&[0; 12][..], extensions].concat());
        parse(&header).map(|header| header.expect("whole").tls)
    };
    let version = [
        0x20, 0, 15, 1, 0, 0, 0, 0, 0x21, 0, 7, b'T', b'L', b'S', b'v',
    ];
    let version = [&version[..], b"1.3"].concat();
    for (extensions, came) in [
        (&[0x20, 0, 5, 1, 0, 0, 0, 0][..], true),
        // It showed a certificate, which was not verified.
        (&[0x20, 0, 5, 7, 0, 0, 0, 1], true),
        (&version, true),
        (&[4, 0, 1, 0, 0x20, 0, 5, 1, 0, 0, 0, 0], true),
        (&[0x20, 0, 5, 1, 0, 0, 0, 0, 4, 0, 1, 0], true),
        (&[0x20, 0, 5, 0, 0, 0, 0, 0], false),
        (&[0x20, 0, 5, 6, 0, 0, 0, 0], false),
        // What stands in another one is not it.
        (&[4, 0, 8, 0x20, 0, 5, 1, 0, 0, 0, 0], false),
        (&[], false),
    ] {
        assert_eq!(tls(0x21, extensions), Ok(came), "{extensions:?}");
        assert_eq!(tls(0x20, extensions), Ok(false), "{extensions:?}");
    }
    let v6 = [&[0; 36][..], &version].concat();
    let of = |header: &[u8]| parse(header).map(|header| header.expect("whole").tls);
    assert_eq!(of(&binary(0x21, 0x21, &v6)), Ok(true));
    let unix = [&[0; 216][..], &version].concat();
    assert_eq!(of(&binary(0x21, 0x31, &unix)), Ok(true));
    assert_eq!(of(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 443\r\n"), Ok(false));
}

#[test]
fn t7_extensions_are_whole_and_a_checksum_is_right() {
    let with = |extensions: &[u8]| binary(0x21, 0x11, &[&[0; 12][..], extensions].concat());
    for malformed in [
        &[4][..],
        &[4, 0],
        &[4, 0, 1],
        &[4, 0, 0, 4],
        &[3, 0, 0],
        &[3, 0, 3, 0, 0, 0],
        &[0x20, 0, 0],
        &[0x20, 0, 4, 1, 0, 0, 0],
    ] {
        assert!(client(&with(malformed)).is_err(), "{malformed:?}");
    }
    assert!(client(&with(&[4, 0, 0, 0xea, 0, 1, 7])).is_ok());
    // As the standard's text has it: of the header with zeros in the checksum's place. The one behind it is one
    // of no meaning.
    let mut header = with(&[3, 0, 4, 0, 0, 0, 0, 4, 0, 0]);
    let sum = CRC32C.checksum(&header);
    assert!(client(&header).is_err(), "zeros are none");
    header[31..35].copy_from_slice(&sum.to_be_bytes());
    assert!(client(&header).is_ok());
    // But for byte 28, by which there would be no checksum.
    for at in (16..28).chain(29..header.len()) {
        let mut other = header.clone();
        other[at] ^= 1;
        assert!(client(&other).is_err(), "byte {at}");
    }
}

/// That the sum is the one which others compute (RFC 3720 §B.4).
#[test]
fn the_checksum_is_the_one_of_iscsi() {
    assert_eq!(CRC32C.checksum(&[0; 32]), 0x8a91_36aa);
}

/// A header of either version, perhaps damaged, and what comes behind it.
fn nearly_a_header(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut header = match choices.below(3) {
        0 => {
            let words = [
                choices.of(&["PROXY", "PROXY", "PROXY", "proxy", ""]),
                choices.of(&["TCP4", "TCP6", "UNKNOWN", "UDP4"]),
                choices.of(&["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "256.0.0.1"]),
                choices.of(&["192.0.2.1", "::1", ""]),
                choices.of(&["56324", "0", "65536", "01"]),
                choices.of(&["443", "+443", ""]),
            ];
            let keep = words.len() - usize::from(choices.once_in(6));
            format!("{}\r\n", words[..keep].join(" ")).into_bytes()
        }
        1 => good(choices),
        _ => {
            let command = *choices.of(&[&0x21, &0x20, &0x22, &0x11]);
            let family = *choices.of(&[&0x11, &0x21, &0x31, &0x00, &0x12]);
            let body = choices.bytes(300);
            binary(command, family, &body)
        }
    };
    if choices.once_in(3) {
        choices.mutate(
            &mut header,
            &[b" ", b"\r", b"\n", b"\0", b"\r\n", b"1", b"\xff"],
        );
    }
    header.extend(b"GET / HTTP/1.1\r\n\r\n");
    header
}

fn good(choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.below(2) {
        0 => b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n".to_vec(),
        _ => {
            let value = choices.bytes(300);
            let size = u16::try_from(value.len()).expect("short").to_be_bytes();
            let flags = *choices.of(&[&0, &1, &7]);
            let tls = [TLS, 0, 5, flags, 0, 0, 0, 0];
            let body = [&[0; 12][..], &tls, &[0xea], &size, &value].concat();
            binary(0x21, 0x11, &body)
        }
    }
}

/// T7: any bytes, in any cuts, are a header, none, or not yet one, and always the same.
#[test]
fn t7_any_bytes_in_any_cuts_are_read_as_in_one_piece() {
    let headers = fuzz::from(|choices| {
        let bytes = nearly_a_header(choices);
        choices.cut(bytes)
    });
    let read = Tally::default();
    let check = bolero::check!()
        .with_generator(headers)
        .with_iterations(500);
    check.for_each(|bytes: &Cut| {
        let whole = parse(&bytes.bytes);
        let (mut came, mut first) = (Vec::new(), Ok(None));
        for piece in bytes.pieces() {
            came.extend_from_slice(piece);
            first = parse(&came);
            if first != Ok(None) {
                break;
            }
        }
        // Which mistake is told may depend on how much is there, but not that there is one.
        assert_eq!(first.map_err(|_why| ()), whole.map_err(|_why| ()));
        read.count(whole.is_ok());
        if let Ok(Some(header)) = whole {
            assert!(header.length <= bytes.bytes.len());
            let alone = parse(&bytes.bytes[..header.length]);
            assert_eq!(alone, whole, "what is behind it says nothing");
        }
    });
    read.both("PROXY headers read", 15);
}

/// Nothing is decided before all of it is there.
#[test]
fn a_part_of_a_header_is_not_one_yet() {
    let check = bolero::check!().with_generator(fuzz::from(good));
    check.with_iterations(50).for_each(|header: &Vec<u8>| {
        let whole = parse(header).expect("good").expect("whole");
        assert_eq!(whole.length, header.len());
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Ok(None), "{cut}");
        }
    });
}
