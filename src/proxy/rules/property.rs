//! Any fields at all: what goes on has none of those that must stay, one Host, one framing, and no byte that
//! could make a line of its own (T7–T9).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::*;
use crate::fuzz::{self, Choices, Tally};
use crate::link::message::{Edits, Front};
use crate::proxy::digits::Address;
use crate::proxy::head::{AnswerHead, Fields};

/// Fields that tell who the client is, or only of this hop, or how the message is framed; some disguised.
const OURS: [&str; 33] = [
    "client-cert",
    "client-cert-chain",
    "client_cert",
    "connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "proxy-authentication-info",
    "content-length",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-",
    "x-real-ip",
    "x-request-id",
    "x_forwarded_for",
    "x-forwarded_proto",
    "x_real_ip",
    "x_request_id",
    "content_length",
    "transfer_encoding",
    "proxy_connection",
    "http2_settings",
    "x_forwarded-host",
];
/// Fields that are for the other end.
const THEIRS: [&str; 8] = [
    "accept",
    "cookie",
    "x-a",
    "x-b",
    "authorization",
    "date",
    "x_a",
    "x-forwarde",
];
const VALUES: [&[u8]; 14] = [
    b"close",
    b"keep-alive, X-A",
    b"x-b,te, upgrade",
    b"X-Forwarded-For, host, content-length, x-request-id",
    b"websocket",
    b"h2c",
    b"trailers",
    b"chunked",
    b"100-continue",
    b"10.0.0.1",
    b"for=10.0.0.1",
    b"x-sum, host",
    b"5",
    b"",
];

/// A request's version, whether its peer is trusted, and its fields.
#[derive(Debug)]
struct Case {
    request: RequestHead,
    trusted: bool,
    edits: Edits,
}

fn value(choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.once_in(4) {
        false => choices.of(&VALUES).to_vec(),
        true => {
            let mut bytes = choices.bytes(12);
            bytes.retain(|b| (*b >= b' ' && *b != 0x7f) || *b == b'\t');
            bytes
        }
    }
}

fn name(choices: &mut Choices<'_>) -> &'static str {
    match choices.below(2) {
        0 => choices.of(&OURS),
        _ => choices.of(&THEIRS),
    }
}

fn case(choices: &mut Choices<'_>) -> Case {
    let version = *choices.of(&[
        &Version::HTTP_11,
        &Version::HTTP_11,
        &Version::HTTP_10,
        &Version::HTTP_2,
    ]);
    let method = choices.of(&[&Method::GET, &Method::POST, &Method::HEAD, &Method::OPTIONS]);
    let uri = choices.of(&["/", "/a?b", "http://b.example:81/x", "/\u{e9}", "*"]);
    let mut pairs = Vec::new();
    if !choices.once_in(8) {
        pairs.push((
            "host",
            choices.of(&["a", "[::1]:80", "b.example:81", "a b"]).into(),
        ));
    }
    for _ in 0..choices.below(10) {
        // Most that break a rule would hide what becomes of the others.
        let name = name(choices);
        let breaks = matches!(name, "transfer-encoding" | "expect" | "content-length");
        let value = match (name, choices.once_in(8)) {
            (_, true) => value(choices),
            ("transfer-encoding", false) => b"chunked".to_vec(),
            ("expect", false) => b"100-continue".to_vec(),
            ("content-length", false) => b"5".to_vec(),
            (_, false) => value(choices),
        };
        if !breaks || choices.once_in(3) {
            pairs.push((name, value));
        }
    }
    let edits = Edits {
        request: match choices.once_in(3) {
            false => FieldEdits::default(),
            true => FieldEdits {
                set: vec![("x-b".to_owned(), "ours".to_owned())],
                remove: vec!["cookie".to_owned()],
            },
        },
        ..Edits::default()
    };
    let scheme = if version == Version::HTTP_2 && uri.starts_with('/') {
        format!("http://a{uri}")
    } else {
        uri.to_owned()
    };
    Case {
        request: RequestHead {
            method: method.clone(),
            by_connect: false,
            uri: scheme.parse().expect("a target"),
            version,
            fields: fields(version, &pairs),
        },
        trusted: choices.once_in(3),
        edits,
    }
}

fn fields(version: Version, pairs: &[(&'static str, Vec<u8>)]) -> Fields {
    if version == Version::HTTP_2 {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value).expect("no control character");
            map.append(HeaderName::from_static(name), value);
        }
        return Fields::from_worker(&map).expect("no control character");
    }
    let mut text = BytesMut::new();
    for (name, value) in pairs {
        fields::write(&mut text, name.as_bytes(), value);
    }
    text.extend_from_slice(b"\r\n");
    Fields::parse(text, usize::MAX).expect("good fields")
}

/// Names and values of a head, each line of which ends as it must, and nowhere else.
fn lines(head: &[u8]) -> Vec<(&str, &[u8])> {
    assert!(!head.contains(&0), "NUL");
    let ends = head.windows(2).filter(|two| two == b"\r\n").count();
    for end in [b'\r', b'\n'] {
        assert_eq!(
            head.iter().filter(|b| **b == end).count(),
            ends,
            "a bare CR or LF"
        );
    }
    let mut lines = head.split(|b| *b == b'\n').skip(1);
    let mut read = Vec::new();
    for line in lines.by_ref() {
        let Some(line) = line.strip_suffix(b"\r").filter(|line| !line.is_empty()) else {
            break;
        };
        let colon = line.iter().position(|b| *b == b':').expect("a field");
        let name = str::from_utf8(&line[..colon]).expect("a name");
        assert!(name.bytes().all(is_lower_token), "{name}");
        read.push((name, line[colon + 1..].trim_ascii()));
    }
    assert!(lines.all(<[u8]>::is_empty), "nothing behind the empty line");
    read
}

fn is_lower_token(byte: u8) -> bool {
    crate::proxy::head::is_token(byte) && !byte.is_ascii_uppercase()
}

fn all<'a>(lines: &'a [(&str, &[u8])], name: &str) -> Vec<&'a [u8]> {
    let named = lines.iter().filter(|line| line.0 == name);
    named.map(|line| line.1).collect()
}

/// What the client's Connection fields name.
fn named(fields: &Fields) -> Vec<String> {
    let values = fields.all(b"connection");
    let members = values.flat_map(|value| value.split(|b| *b == b','));
    let text = |member: &[u8]| String::from_utf8_lossy(member.trim_ascii()).to_lowercase();
    members.map(text).collect()
}

#[test]
fn t8_no_field_of_this_hop_goes_on_and_none_is_forged() {
    let passed = Tally::default();
    let check = bolero::check!().with_generator(fuzz::from(case));
    check.with_iterations(1000).for_each(|case| {
        let (request, front) = (&case.request, Front::default());
        let origin = Origin {
            client: Some(Address::of([192, 0, 2, 1].into())),
            trusted: case.trusted,
            scheme: "http",
            grpc: false,
            request_id: RequestId::from_text("id-1").expect("an id"),
            certificate: None,
        };
        let terms = Terms {
            front: &front,
            edits: &case.edits,
        };
        let body = framing(request).unwrap_or(Framing::Empty);
        let outgoing = target(request, &front).and_then(|target| {
            Ok((
                outgoing(request, target, body, &origin, terms, &mut BytesMut::new())?,
                target,
            ))
        });
        passed.count(outgoing.is_ok());
        let Ok((outgoing, target)) = outgoing else {
            return;
        };
        let lines = lines(&outgoing.head);
        assert!(outgoing.head.ends_with(b"\r\n\r\n"));
        is_of_this_hop_only_as_we_write_it(&lines, &outgoing);
        assert_eq!(all(&lines, "host"), [target.host.as_bytes()], "one Host");
        tells_who_the_client_is(&lines, case.trusted, target.host);
        goes_on_as_it_came(&lines, case);
    });
    passed.both("requests that pass the rules", 20);
}

fn is_of_this_hop_only_as_we_write_it(lines: &[(&str, &[u8])], outgoing: &Outgoing) {
    let one_of = |name, allowed: &[&[u8]]| {
        let values = all(lines, name);
        assert!(values.len() <= 1, "{name} twice");
        assert!(
            values.iter().all(|value| allowed.contains(value)),
            "{name}: {values:?}"
        );
        values.len()
    };
    let asked = [&b"upgrade"[..], b"te", b"upgrade, te"];
    let connection = one_of("connection", &asked);
    let upgrade = one_of("upgrade", &[b"websocket"]);
    let te = one_of("te", &[b"trailers"]);
    assert_eq!(connection, usize::from(upgrade + te > 0));
    assert_eq!(upgrade == 1, outgoing.upgrade.is_some());
    let expects = one_of("expect", &[b"100-continue"]);
    assert_eq!(expects == 1, outgoing.expects_continue);
    let chunked = one_of("transfer-encoding", &[b"chunked"]);
    let length = all(lines, "content-length");
    match outgoing.framing {
        Framing::Empty => assert_eq!((chunked, length.is_empty() || length == [b"0"]), (0, true)),
        Framing::Length(n) => assert_eq!((chunked, length), (0, vec![n.to_string().as_bytes()])),
        Framing::Chunked => assert_eq!((chunked, length.len()), (1, 0)),
    }
    for value in all(lines, "trailer") {
        assert_eq!(chunked, 1, "trailers of a body without them");
        for name in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            assert!(!name.is_empty() && name.iter().all(|b| is_lower_token(*b)));
            let forbidden = OURS
                .iter()
                .chain(&["host", "authorization", "cookie", "date"]);
            assert!(!forbidden.map(|one| one.as_bytes()).any(|one| one == name));
        }
    }
    for name in OURS.iter().filter(|name| !all(lines, name).is_empty()) {
        let ours = !name.contains('_') && (is_forwarding(name) || HOP.contains(name));
        assert!(ours, "{name} went on");
    }
}

/// Those of this hop that we write ourselves.
const HOP: [&str; 7] = [
    "connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
];

fn is_forwarding(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip" | "x-request-id") || name.starts_with("x-forwarded-")
}

fn tells_who_the_client_is(lines: &[(&str, &[u8])], trusted: bool, host: &str) {
    assert_eq!(all(lines, "x-request-id"), [b"id-1"]);
    let by_whom = all(lines, "x-forwarded-for");
    assert_eq!(by_whom.len(), 1, "whatever it names away");
    assert!(by_whom[0].ends_with(b"192.0.2.1"), "the peer is the last");
    for name in ["x-forwarded-proto", "x-forwarded-host", "forwarded"] {
        assert!(all(lines, name).len() <= 1, "{name}");
    }
    if trusted {
        return;
    }
    assert_eq!(by_whom, [b"192.0.2.1"]);
    assert_eq!(all(lines, "x-forwarded-proto"), [b"http"]);
    let asked = all(lines, "x-forwarded-host");
    assert!(asked.is_empty() == host.is_empty() && asked.iter().all(|h| *h == host.as_bytes()));
    for name in ["forwarded", "x-real-ip", "x-forwarded-port", "x-forwarded-"] {
        assert_eq!(all(lines, name).len(), 0, "{name} is forged");
    }
}

/// The fields for the other end are there with their values in their order; those that Connection names, or
/// the service writes or removes, are not.
fn goes_on_as_it_came(lines: &[(&str, &[u8])], case: &Case) {
    let fields = &case.request.fields;
    let named = named(fields);
    for name in THEIRS {
        let came: Vec<_> = fields.all(name.as_bytes()).collect();
        let edits = &case.edits.request;
        let expected = match edits.set.iter().find(|(one, _)| one == name) {
            Some((_, value)) => vec![value.as_bytes()],
            None if named.iter().any(|one| one == name) => Vec::new(),
            None if edits.remove.iter().any(|one| one == name) => Vec::new(),
            None => came,
        };
        assert_eq!(all(lines, name), expected, "{name}");
    }
}

/// A worker's status and fields.
fn answered(choices: &mut Choices<'_>) -> AnswerHead {
    let status = *choices.of(&[&200_u16, &204, &304, &404, &101]);
    let pairs: Vec<_> = (0..choices.below(10))
        .map(|_| (name(choices), value(choices)))
        .collect();
    AnswerHead {
        status: StatusCode::from_u16(status).expect("a status"),
        version: Version::HTTP_11,
        fields: fields(Version::HTTP_11, &pairs),
    }
}

#[test]
fn t8_no_field_of_a_workers_hop_reaches_the_client() {
    let passed = Tally::default();
    let check = bolero::check!().with_generator(fuzz::from(answered));
    check.with_iterations(1000).for_each(|head: &AnswerHead| {
        let to = Outgoing {
            head: Bytes::new(),
            method: Method::GET,
            framing: Framing::Empty,
            upgrade: None,
            expects_continue: false,
            idempotent: true,
        };
        let edits = FieldEdits::default();
        let id = RequestId::from_text("id-1").expect("an id");
        let returning = answer(head, &to, &id, &edits, BytesMut::new());
        passed.count(returning.is_ok());
        let mut heads = vec![informational(head)];
        if let Ok(returning) = returning {
            let mut whole = returning.head;
            whole.extend_from_slice(b"\r\n");
            assert_eq!(all(&lines(&whole), "x-request-id"), [b"id-1"]);
            heads.push(whole);
        }
        let named = named(&head.fields);
        for head in heads {
            for (name, _) in lines(&head) {
                let hop = HOP[..5].contains(&name) || name == "content-length";
                assert!(
                    !hop && name != "keep-alive" && !name.starts_with("proxy-a"),
                    "{name}"
                );
                assert!(
                    name == "x-request-id" || !named.iter().any(|one| one == name),
                    "{name}"
                );
            }
        }
    });
    passed.both("answers that pass the rules", 10);
}
