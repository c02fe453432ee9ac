//! Whole lines of each format, and that nothing a client sends makes one anything else than a line.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::format::{FIELDS, Format};
use super::notes::Known;
use super::time::{Stamp, Wall};
use super::{Facts, Notes, Term};
use crate::fuzz::{self, Choices};
use crate::link::message::{AccessLog, LogFormat};

const FACTS: Facts = Facts {
    status: 200,
    bytes_in: 0,
    bytes_out: 1234,
    took: Duration::from_micros(1_500),
    connect: None,
    first_byte: Some(Duration::from_micros(999)),
    grpc_status: None,
    worker: Some((3, 12)),
    attempt: 2,
    term: Term::Complete,
};

fn stamp() -> Stamp {
    *Wall::now().stamp(Instant::now())
}

/// Host, path, query, user agent, referer, trace id.
fn known<'a>(stamp: &'a Stamp, values: [&'a [u8]; 6]) -> Known<'a> {
    let [host, path, query, user_agent, referer, trace_id] = values;
    Known {
        stamp,
        request_id: b"1f",
        client: b"192.0.2.7",
        tls: "TLSv1.3",
        service: "shop",
        method: "GET",
        proto: "HTTP/1.1",
        host,
        path,
        query,
        user_agent,
        referer,
        trace_id,
    }
}

const USUAL: [&[u8]; 6] = [
    b"shop.example",
    b"/a",
    b"b=c",
    b"curl/8",
    b"",
    b"0af7651916cd43dd8448eb211c80319c",
];

fn unreadable(stamp: &Stamp) -> Known<'_> {
    Known {
        client: b"2001:db8::1",
        tls: "",
        service: "",
        method: "",
        proto: "",
        ..known(stamp, [&[]; 6])
    }
}

fn line(format: LogFormat, query: bool, facts: &Facts, known: &Known<'_>) -> String {
    let format = Format::new(&AccessLog { format, query }).expect("a format");
    // What is left of another request is none of this one's.
    let mut notes = Notes::default();
    format.note(&mut notes, known);
    format.note(&mut notes, known);
    let mut out = Vec::new();
    format.write(&mut out, facts, &notes);
    String::from_utf8(out).expect("ASCII")
}

/// Without its time, which is always another one.
fn timeless(line: &str) -> String {
    let parsed: Value = serde_json::from_str(line).expect("an object");
    line.replace(parsed["ts"].as_str().expect("a time"), "TS")
}

#[test]
fn a_line_of_json_has_every_field_in_its_order() {
    let shown = line(LogFormat::Json, true, &FACTS, &known(&stamp(), USUAL));
    assert_eq!(
        timeless(&shown),
        "{\"ts\":\"TS\",\"request_id\":\"1f\",\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\
         \"client\":\"192.0.2.7\",\"method\":\"GET\",\"host\":\"shop.example\",\"path\":\"/a\",\
         \"query\":\"b=c\",\"proto\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":0,\"bytes_out\":1234,\
         \"duration\":0.001500,\"upstream_connect\":null,\"upstream_ttfb\":0.000999,\"grpc_status\":null,\
         \"service\":\"shop\",\"slot\":3,\"generation\":12,\"attempt\":2,\
         \"tls_version\":\"TLSv1.3\",\"user_agent\":\"curl/8\",\"referer\":null,\
         \"term\":\"complete\"}\n"
    );
}

#[test]
fn what_is_not_known_is_null_and_a_query_that_is_not_kept_has_no_key() {
    let facts = Facts {
        status: 400,
        first_byte: None,
        worker: None,
        attempt: 0,
        term: Term::RefusedRequest,
        ..FACTS
    };
    let stamp = stamp();
    let shown = line(LogFormat::Json, false, &facts, &unreadable(&stamp));
    let parsed: Value = serde_json::from_str(&shown).expect("an object");
    let object = parsed.as_object().expect("an object");
    let nulls: Vec<_> = object.iter().filter(|(_, value)| value.is_null()).collect();
    assert_eq!(nulls.len(), 14, "{nulls:?}");
    assert!(!object.contains_key("query"));
    assert_eq!(parsed["status"], 400);
    assert_eq!(parsed["term"], "refused_request");
}

#[test]
fn of_a_refused_head_the_first_line_is_told_as_far_as_it_can_be_read() {
    let long = format!("GET /{} HTTP/1.1", "a".repeat(9_000));
    let method = format!("{} / HTTP/1.1", "M".repeat(33));
    for (came, expected) in [
        ("GET /a?b=c HTTP/1.1\r\n", ("GET", "/a", "b=c", "HTTP/1.1")),
        ("GET /a HTTP/1.0", ("GET", "/a", "", "HTTP/1.0")),
        ("get /a#b", ("get", "/a", "b", "")),
        ("GET /a b HTTP/1.1", ("GET", "/a", "", "")),
        ("POST  /a HTTP/1.1", ("", "", "", "")),
        ("GET http://u:secret@h/ HTTP/1.1", ("", "", "", "")),
        ("SSH-2.0-OpenSSH", ("", "", "", "")),
        ("G(T /a HTTP/1.1", ("", "", "", "")),
        (&method, ("", "", "", "")),
        (" /a HTTP/1.1", ("", "", "", "")),
        ("", ("", "", "", "")),
        (&long, ("GET", &long[4..4 + 4096], "", "HTTP/1.1")),
    ] {
        let stamp = stamp();
        let mut known = unreadable(&stamp);
        known.read_line(came.as_bytes(), true);
        let text = |bytes| str::from_utf8(bytes).expect("ASCII");
        let read = (
            known.method,
            text(known.path),
            text(known.query),
            known.proto,
        );
        assert_eq!(read, expected, "{came}");
        let shown = line(LogFormat::Common, false, &FACTS, &known);
        let empty = expected.0.is_empty();
        assert_eq!(shown.contains("\"-\""), empty, "{shown}");
    }
    bolero::check!().for_each(|bytes: &[u8]| {
        let stamp = stamp();
        let mut known = unreadable(&stamp);
        known.read_line(bytes, true);
        let shown = line(LogFormat::Json, true, &FACTS, &known);
        serde_json::from_str::<Value>(&shown).expect("an object");
        assert_eq!(shown.lines().count(), 1);
    });
}

#[test]
fn common_and_combined_are_what_analysers_read() {
    let no_time = |line: String| {
        let (before, rest) = line.split_once('[').expect("a time");
        let (time, after) = rest.split_once(']').expect("a time");
        assert_eq!(time.len(), "27/Nov/2026:23:16:08 +0000".len());
        format!("{before}[]{after}")
    };
    let common =
        |facts: &Facts, known: &Known<'_>| no_time(line(LogFormat::Common, true, facts, known));
    let stamp = stamp();
    assert_eq!(
        common(&FACTS, &known(&stamp, USUAL)),
        "192.0.2.7 - - [] \"GET /a?b=c HTTP/1.1\" 200 1234\n"
    );
    let facts = Facts {
        bytes_out: 0,
        status: 400,
        ..FACTS
    };
    assert_eq!(
        common(&facts, &unreadable(&stamp)),
        "2001:db8::1 - - [] \"-\" 400 -\n"
    );
    let hostile: [&[u8]; 6] = [b"h", b"/a\"\x1b[2J", b"", b"x\" 200 1 \"y\n", b"\xff", b""];
    let combined = line(LogFormat::Combined, true, &FACTS, &known(&stamp, hostile));
    assert_eq!(
        no_time(combined),
        "192.0.2.7 - - [] \"GET /a\\\"\\x1b[2J HTTP/1.1\" 200 1234 \"\\xff\" \"x\\\" 200 1 \\\"y\\x0a\"\n"
    );
}

#[test]
fn a_template_has_the_fields_it_names() {
    let template = "{{{slot}}} {generation}/{attempt} {upstream_connect} {term} {referer}.";
    let shown = line(
        LogFormat::Template(template.to_owned()),
        false,
        &FACTS,
        &known(&stamp(), USUAL),
    );
    assert_eq!(shown, "{3} 12/2 - complete -.\n");
}

#[test]
fn the_reference_explains_every_field_and_every_end() {
    let reference = crate::config::reference::text();
    let words: Vec<_> = reference
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    let terms = Term::ALL.map(Term::word);
    for word in FIELDS.iter().copied().chain(terms) {
        assert!(words.contains(&word), "{word}");
    }
}

fn every_field() -> LogFormat {
    let all: String = FIELDS.iter().map(|name| format!("{{{name}}} ")).collect();
    LogFormat::Template(all)
}

/// Any values and any request id.
fn anything(choices: &mut Choices<'_>) -> ([Vec<u8>; 6], String) {
    (std::array::from_fn(|_| choices.bytes(60)), choices.text(40))
}

#[test]
fn t22_every_line_of_json_parses_and_gives_the_bytes_back() {
    let values = fuzz::from(|choices| {
        let printable = choices.bytes(80).into_iter().map(|byte| b' ' + byte % 95);
        let printable: Vec<u8> = printable.collect();
        (anything(choices), printable, choices.text(60))
    });
    let check = bolero::check!().with_generator(values).with_iterations(200);
    check.for_each(|((values, id), printable, text)| {
        let [host, path, query, _, _, trace] = values.each_ref().map(Vec::as_slice);
        // A trace id is hexadecimal digits, which need no escape.
        let trace: Vec<u8> = trace.iter().map(|byte| b'a' + byte % 6).collect();
        let values = [host, path, query, printable, text.as_bytes(), &trace];
        let stamp = stamp();
        let known = Known {
            request_id: id.as_bytes(),
            ..known(&stamp, values)
        };
        let shown = line(LogFormat::Json, true, &FACTS, &known);
        let parsed: Value = serde_json::from_str(&shown).expect("an object");
        let names = ["host", "path", "query", "user_agent", "referer", "trace_id"];
        for (name, value) in names.into_iter().zip(values) {
            let expected = String::from_utf8_lossy(value);
            assert_eq!(
                parsed[name].as_str().unwrap_or_default(),
                &*expected,
                "{name}"
            );
        }
        assert_eq!(parsed["request_id"].as_str().unwrap_or_default(), id);
        is_one_printable_line(&shown);
    });
}

#[test]
fn t22_no_line_of_text_has_a_byte_that_is_not_printable() {
    let check = bolero::check!().with_generator(fuzz::from(anything));
    check.with_iterations(200).for_each(|(values, id)| {
        let stamp = stamp();
        let values = values.each_ref().map(Vec::as_slice);
        let known = Known {
            request_id: id.as_bytes(),
            ..known(&stamp, values)
        };
        for format in [LogFormat::Common, LogFormat::Combined, every_field()] {
            is_one_printable_line(&line(format, true, &FACTS, &known));
        }
    });
}

#[test]
fn t22_a_value_in_quotes_ends_at_its_quote() {
    let agent = fuzz::from(|choices| {
        let mut agent = choices.bytes(60);
        choices.mutate(&mut agent, &[b"\"", b"\\", b"\\\"", b"\n"]);
        agent
    });
    let check = bolero::check!().with_generator(agent).with_iterations(200);
    check.for_each(|agent: &Vec<u8>| {
        let stamp = stamp();
        let known = known(&stamp, [b"h", b"/", b"", agent, b"r", b""]);
        let shown = line(LogFormat::Combined, false, &FACTS, &known);
        // Quotes without a backslash before them: those of the request, the referer and the agent.
        let (mut quotes, mut escaped) = (0, false);
        for byte in shown.bytes() {
            quotes += usize::from(byte == b'"' && !escaped);
            escaped = byte == b'\\' && !escaped;
        }
        assert_eq!(quotes, 6, "{shown}");
    });
}

fn is_one_printable_line(line: &str) {
    let text = line.strip_suffix('\n');
    assert!(text.is_some_and(|text| text.bytes().all(|b| (b' '..0x7f).contains(&b))));
}
