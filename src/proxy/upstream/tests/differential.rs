//! The same bytes of a worker to our codec and to hyper's client (T9), as [`crate::proxy::front`] is
//! compared with its server.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;

use super::answers::{Read, answers};
use crate::fuzz::{self, Cut, Tally};
use crate::proxy::h1::script::{End, Message, Script, pairs, read, settle};

#[test]
fn t9_our_codec_accepts_no_more_than_hypers_client_and_frames_nothing_differently() {
    let (whole, stricter, reused) = (Tally::default(), Tally::default(), Tally::default());
    let check = bolero::check!().with_generator(fuzz::from(answers));
    check
        .with_iterations(1500)
        .for_each(|(method, bytes): &(Method, Cut)| {
            let (ours, reusable) = by_us(method, bytes);
            let theirs = by_hyper(method, bytes);
            if let Some(ours) = ours.last() {
                compare(ours, &theirs);
            } else if !ours.refused {
                assert_eq!(theirs.seen, [], "they have an answer, we wait for one");
            }
            let alone = ours.last().is_some_and(Message::persists_by_us_alone);
            assert!(
                !reusable || theirs.reusable || alone,
                "we would use it again"
            );
            let is_whole =
                |one: Option<&Message>| one.is_some_and(|one| matches!(one.end, End::Whole(_)));
            whole.count(is_whole(ours.last()));
            stricter.count(is_whole(theirs.seen.last()) && !is_whole(ours.last()));
            reused.count(reusable);
        });
    whole.both("answers that are whole", 20);
    stricter.both("answers that are whole for hyper only", 2);
    reused.both("connections that may be used again", 10);
}

fn compare(ours: &Message, theirs: &Theirs) {
    // RFC 9110 §15.3.6: a 205 has no content, whatever it announces. We take none and close the connection;
    // hyper reads what is announced, as it would of a 200.
    if ours.start.ends_with(" 205") && ours.end != End::Refused {
        let head = theirs.seen.last().map(|one| (&one.start, &one.fields));
        assert_eq!(Some((&ours.start, &ours.fields)), head);
        assert!(ours.data.is_empty());
        return;
    }
    ours.agrees(theirs.seen.last());
}

/// What we read, and whether the connection could carry another request once the answer was whole.
fn by_us(method: &Method, bytes: &Cut) -> (Read, bool) {
    let (mut ours, mut reusable) = (Read::default(), false);
    for piece in bytes.pieces() {
        ours.more(method, piece);
        // A byte that nobody asked for ends it.
        reusable = ours.reusable;
        if ours.last().is_some_and(|last| last.end != End::Waits) {
            break;
        }
    }
    ours.end();
    (ours, reusable)
}

struct Theirs {
    /// The final answer, if there is one.
    seen: Vec<Message>,
    reusable: bool,
}

fn by_hyper(method: &Method, bytes: &Cut) -> Theirs {
    let (script, seen) = (Script::default(), Rc::new(RefCell::new(Vec::new())));
    let shake = Box::pin(http1::handshake::<_, Empty<Bytes>>(script.clone()));
    let shaken = match settle(&mut { shake }) {
        Poll::Ready(shaken) => shaken.expect("nothing was read yet"),
        Poll::Pending => panic!("it waits for nothing"),
    };
    let (mut sender, mut connection) = shaken;
    let request = Request::builder().method(method.clone()).uri("/");
    let request = request.header("host", "a").body(Empty::new());
    let answer = sender.send_request(request.expect("a good request"));
    let (notes, socket) = (Rc::clone(&seen), script.clone());
    let mut exchange = Box::pin(async move {
        if let Ok(answer) = answer.await {
            let (parts, body) = answer.into_parts();
            let start = format!("{:?} {}", parts.version, parts.status.as_u16());
            let message = Message::new(start, pairs(&parts.headers));
            notes.borrow_mut().push(message);
            read(body, socket, notes).await;
        }
    });
    let (mut over, mut closed) = (false, false);
    let mut turn = || {
        let both = poll_fn(|cx| {
            closed = closed || connection.poll_unpin(cx).is_ready();
            over = over || exchange.poll_unpin(cx).is_ready();
            Poll::<()>::Pending
        });
        let _waits = settle(&mut { both });
        over
    };
    turn();
    let mut done = false;
    for piece in bytes.pieces() {
        script.bring(piece);
        done = turn();
        if done {
            break;
        }
    }
    // Behind its end nothing is read that the test would have to bring.
    let reusable = done && sender.is_ready();
    if !done {
        script.end();
        turn();
    }
    Theirs {
        seen: seen.take(),
        reusable,
    }
}
