//! The same bytes to our front and to hyper's server: ours may refuse more, but accepts no request that
//! hyper does not, reads nothing else in it, and has its end where hyper has it (T9).
//!
//! More of them: `BOLERO_RANDOM_ITERATIONS=1000000 cargo test --release --lib differential -- --nocapture`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::head::{self, Head};
use crate::fuzz::{self, Choices, Cut, Tally};
use crate::link::message::{Edits, Front};
use crate::proxy::digits::Address;
use crate::proxy::h1::script::{End, Message, Script, pairs, read, settle};
use crate::proxy::h1::tricks::{Kind, MISTAKES, Writer};
use crate::proxy::h1::{Decoder, Piece};
use crate::proxy::rules::{self, Origin, Terms};

/// What comes last: who misses the end of what is before it does not see this, or something else.
const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn t9_our_front_accepts_no_more_than_hyper_and_frames_nothing_differently() {
    let (reached, stricter) = (Tally::default(), Tally::default());
    let several = Tally::default();
    let check = bolero::check!().with_generator(fuzz::from(stream));
    check.with_iterations(1500).for_each(|bytes: &Cut| {
        let ours = by_us(bytes);
        let theirs = by_hyper(bytes);
        for (place, message) in ours.seen.iter().enumerate() {
            message.agrees(theirs.get(place));
        }
        if !ours.over {
            // It waits for the next head.
            assert_eq!(
                theirs.len(),
                ours.seen.len(),
                "they see another: {theirs:?}"
            );
        }
        let whole = |seen: &[Message]| {
            let is_whole = |one: &&Message| matches!(one.end, End::Whole(_));
            seen.iter().filter(is_whole).count()
        };
        reached.count(ours.seen.iter().any(|one| one.start.contains("/sentinel")));
        several.count(whole(&ours.seen) > 1);
        stricter.count(whole(&theirs) > whole(&ours.seen));
    });
    reached.both("streams that we read to their end", 10);
    several.both("streams of which we accept more than one request", 20);
    stricter.both("streams of which hyper accepts more requests than we", 2);
}

/// What we read, and whether that is the end of it.
#[derive(Debug)]
struct Ours {
    seen: Vec<Message>,
    over: bool,
}

/// Our parts, put together as [`super::Inlet`] and the connection do it.
fn by_us(bytes: &Cut) -> Ours {
    let front = Front::default();
    let (mut came, mut searched, mut at) = (BytesMut::new(), 0, 0);
    let mut seen: Vec<Message> = Vec::new();
    let mut body: Option<(Decoder, bool)> = None;
    for piece in bytes.pieces() {
        came.extend_from_slice(piece);
        at += piece.len();
        loop {
            let Some((decoder, keep_alive)) = &mut body else {
                head::skip_empty_lines(&mut came, &mut searched);
                match head::take(&mut came, &mut searched, &front) {
                    Ok(None) => break,
                    Err(_rejection) => return Ours { seen, over: true },
                    Ok(Some(head)) => {
                        seen.push(message(&head));
                        if !goes_on(&head, &front) {
                            seen.last_mut().expect("pushed").end = End::Refused;
                            return Ours { seen, over: true };
                        }
                        body = Some((head.framing.into(), head.keep_alive));
                    }
                }
                continue;
            };
            let last = seen.last_mut().expect("its head");
            match decoder.next(&mut came) {
                Ok(None) => break,
                Ok(Some(Piece::Data(data))) => last.data.extend_from_slice(&data),
                Ok(Some(Piece::Trailers(trailers))) => last.trailers(&trailers),
                Ok(Some(Piece::End)) => {
                    last.end = End::Whole(at);
                    if !*keep_alive || last.persists_by_us_alone() {
                        return Ours { seen, over: true };
                    }
                    body = None;
                }
                Err(_why) => {
                    last.end = End::Broken;
                    return Ours { seen, over: true };
                }
            }
        }
    }
    Ours { seen, over: false }
}

fn message(head: &Head) -> Message {
    let request = &head.request;
    // To hyper a target without a path is always `/`.
    let uri = match (request.uri.scheme(), request.uri.path()) {
        (Some(_), "*") => request.uri.to_string().replace('*', "/"),
        _ => request.uri.to_string(),
    };
    let start = format!("{} {uri} {:?}", request.method, request.version);
    Message::new(start, request.fields.iter())
}

/// Whether the rules let it through. What goes on then is read back: it is the same request, framed the
/// same, for whoever reads it.
fn goes_on(head: &Head, front: &Front) -> bool {
    let request = &head.request;
    let edits = Edits::default();
    let origin = Origin {
        client: Some(Address::of([192, 0, 2, 1].into())),
        trusted: false,
        grpc: false,
        scheme: "http",
        request_id: rules::RequestId::of(Duration::ZERO, 1),
        certificate: None,
    };
    let terms = Terms {
        front,
        edits: &edits,
    };
    let outgoing = rules::target(request, front).and_then(|target| {
        rules::outgoing(
            request,
            target,
            head.framing,
            &origin,
            terms,
            &mut BytesMut::new(),
        )
    });
    let Ok(outgoing) = outgoing else {
        return false;
    };
    let (mut text, mut searched) = (BytesMut::from(&outgoing.head[..]), 0);
    let again = head::take(&mut text, &mut searched, front);
    let again = again.expect("what we write is good").expect("and whole");
    assert!(text.is_empty(), "one head");
    assert_eq!(again.request.method, request.method);
    let same =
        again.framing == head.framing || !(again.framing.has_body() || head.framing.has_body());
    assert!(same, "{:?} became {:?}", head.framing, again.framing);
    true
}

fn by_hyper(bytes: &Cut) -> Vec<Message> {
    let (script, seen) = (Script::default(), Rc::new(RefCell::new(Vec::new())));
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let start = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
        seen.borrow_mut()
            .push(Message::new(start, pairs(&parts.headers)));
        let read = read(body, script.clone(), Rc::clone(&seen));
        async move {
            read.await;
            let mut answer = Response::new(Empty::<Bytes>::new());
            if parts.method == Method::CONNECT {
                *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    // What came before the client's end is still read.
    server.half_close(true);
    let mut connection = server.serve_connection(script.clone(), service);
    for piece in bytes.pieces() {
        script.bring(piece);
        if settle(&mut connection).is_ready() {
            break;
        }
    }
    drop(connection);
    seen.take()
}

/// Requests in a row, then the sentinel.
fn stream(choices: &mut Choices<'_>) -> Cut {
    let mut writer = Writer::new(choices);
    for _ in 0..=writer.choices.below(3) {
        request(&mut writer);
    }
    let mut bytes = std::mem::take(&mut writer.out);
    if choices.once_in(4) {
        choices.mutate(&mut bytes, &MISTAKES);
    }
    bytes.extend_from_slice(SENTINEL);
    if choices.once_in(8) {
        bytes.truncate(choices.below(bytes.len()));
    }
    choices.cut(bytes)
}

fn request(writer: &mut Writer<'_, '_>) {
    writer.put(&[b"", b"", b"", b"\r\n"], &[b"\n", b"\r", b" ", b"\0"]);
    writer.put(
        &[
            b"GET",
            b"POST",
            b"POST",
            b"PUT",
            b"HEAD",
            b"M-SEARCH",
            b"OPTIONS",
        ],
        &[
            b"get", b"", b"G ET", b"CONNECT", b"G\0", b"(", b"PRI", b"G\x80",
        ],
    );
    writer.put(&[b" "], &[b"  ", b"\t", b"\x0b", b""]);
    writer.put(
        &[
            b"/",
            b"/a?b=c",
            b"/a/b%20c",
            b"http://b/x",
            b"http://b",
            b"/d",
        ],
        &[
            b"*",
            b"",
            b"a:80",
            b"/a#b",
            b"/\x80",
            b"/\x7f",
            b"/\0",
            b"//a",
            b"http://u@b/",
            b"/ b",
            b"ftp://b/",
            b"/\"",
            b"/\\",
            b"/{",
            b"/\t",
            b"/a\rb",
            b"http://b:x/",
        ],
    );
    writer.put(&[b" "], &[b"  ", b"\t", b""]);
    let old = writer.choices.once_in(8);
    let version: &[u8] = if old { b"HTTP/1.0" } else { b"HTTP/1.1" };
    writer.put(
        &[version],
        &[
            b"HTTP/2.0",
            b"HTTP/0.9",
            b"http/1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.2",
            b"HTTP/11",
            b"",
        ],
    );
    writer.line_end();
    writer.put(
        &[b"Host: a\r\n"],
        &[
            b"",
            b"Host: a\r\nHost: a\r\n",
            b"Host : a\r\n",
            b"Host: a b\r\n",
        ],
    );
    if old && !writer.choices.once_in(3) {
        writer.out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    let kind = *writer
        .choices
        .of(&[&Kind::None, &Kind::Length, &Kind::Chunked]);
    writer.framed(kind);
}
