//! What a client connection does with one request: check it, have it forwarded, pass the answer on.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::Body;

use super::access_log::{Bare, Seen, Term};
use super::client::{Client, Upgrade};
use super::event_loop::Loop;
use super::exchange::{Begin, Exchange, Held};
use super::forward::forward;
use super::front::Head;
use super::grpc;
use super::head::RequestHead;
use super::reply::Reply;
use super::respond::{self, ProxyError, Reader};
use super::rules::{
    self, Framing, Hops, Origin, Outgoing, Rejection, RequestId, Returning, Terms, Written,
};
use super::table::{Service, View};
use super::upload::{Source, Upload};
use super::upstream::{Answer, AnswerBody};
use crate::link::message::ProxyReason;

/// Answers one request. An error is an answer, too; its head is written into what `fresh` gives.
pub(super) async fn handle<Answered: Written>(
    lp: &Rc<Loop>,
    client: &Rc<Client>,
    source: Source,
    head: Head,
    fresh: impl Fn() -> Answered,
) -> (Returning<Answered>, Reply) {
    let Head {
        mut request,
        framing,
        must_upgrade,
        ..
    } = head;
    let view = lp.table();
    let hops = rules::hop(&mut request);
    let target = rules::target(&request, &view.front);
    if let (Some(port), Ok(target)) = (client.way().redirect, &target) {
        return match target.has_url() {
            true => redirect(lp, client, *target, port, framing, &request, fresh()),
            false => {
                let (error, seen) = (rules::no_url().into(), Seen::Head(&request));
                answer_bare(lp, client, error, framing.has_body(), seen, fresh())
            }
        };
    }
    let service = match &target {
        Ok(target) => view.service_for(target.host, target.path),
        Err(_) => meant(&view, &request),
    };
    let Some(service) = service.map(Rc::clone) else {
        return turn_away(lp, client, target.err(), framing, &request, fresh());
    };
    if hops == Hops::Last && target.is_ok() {
        return answer_here(lp, client, framing, &request, fresh());
    }
    let began = Instant::now();
    let trusted = client.is_trusted(&view.front);
    let given = trusted.then(|| RequestId::given(&request)).flatten();
    let origin = Origin {
        client: client.address().copied(),
        trusted,
        scheme: client.scheme(),
        grpc: request.is_grpc(),
        request_id: given.unwrap_or_else(|| lp.request_id_at(began)),
        certificate: client.certificate(),
    };
    let rules = &service.rules;
    let limit = rules.max_body;
    let upload = match framing.has_body() {
        true => Upload::new(Some(source.clone()), rules.retry.buffer, limit),
        false => Rc::clone(&lp.no_upload),
    };
    let begin = Begin {
        client,
        began,
        request_id: origin.request_id.clone(),
        method: &request.method,
        asked: request.asked(),
        path: request.uri.path(),
        call: origin.grpc,
        upload,
        service: Rc::clone(&service),
    };
    let held = Exchange::begin(lp, begin);
    let host = target.as_ref().map_or("", |target| target.host);
    held.0.note(&request, host, trusted.then_some(&view.front));
    let terms = Terms {
        front: &view.front,
        edits: &rules.edits,
    };
    let outgoing = target.and_then(|target| match client.is_misdirected(target.host) {
        true => Err(rules::misdirected()),
        false => {
            let heads = &mut lp.pool.buffers.heads();
            rules::outgoing(&request, target, framing, &origin, terms, heads)
        }
    });
    let mut outgoing = match outgoing {
        Ok(outgoing) => outgoing,
        Err(rejection) => return refuse(held, rejection.into(), &origin, fresh()),
    };
    // Whoever sends its body at once does not wait for a 100 (RFC 9110 §10.1.1).
    outgoing.expects_continue &= !source.has_come();
    if must_upgrade && outgoing.upgrade.is_none() {
        return refuse(held, ProxyError::no_such_protocol(), &origin, fresh());
    }
    if rules.maintenance {
        let error = ProxyError::new(ProxyReason::Unavailable, "maintenance");
        return refuse(held, error, &origin, fresh());
    }
    source.begin(framing, outgoing.expects_continue);
    drop(view);
    // Its buffer is free for the next reader while the worker is at work.
    drop(request);
    if matches!((framing, limit), (Framing::Length(length), Some(limit)) if length > limit) {
        return refuse(held, ProxyError::too_large(), &origin, fresh());
    }
    let answered = forward(&held.0, &outgoing).await;
    if must_upgrade
        && let Ok(answer) = &answered
        && let Err(why) = rules::agreed(&answer.head, &outgoing)
    {
        held.0.blame_worker();
        let error = ProxyError::new(ProxyReason::Upgrade, why);
        return refuse(held, error, &origin, fresh());
    }
    match answered {
        Ok(answer) => pass(held, answer, &outgoing, &origin, client, fresh).await,
        Err(error) => refuse(held, error, &origin, fresh()),
    }
}

/// Whom a request was meant for whose target is refused: told by its host if it has a good one, or where there is but
/// one service.
fn meant<'a>(view: &'a View, request: &RequestHead) -> Option<&'a Rc<Service>> {
    if let [only] = &view.services[..] {
        return Some(only);
    }
    let host = rules::host(request).ok()?;
    view.service_for(host, request.uri.path())
}

/// The answer to a request that is for no service: of a host or path that none has, or refused before it could be
/// told. It says nothing about those there are.
fn turn_away<Answered: Written>(
    lp: &Loop,
    client: &Client,
    refused: Option<Rejection>,
    framing: Framing,
    request: &RequestHead,
    into: Answered,
) -> (Returning<Answered>, Reply) {
    let closes = refused.is_some();
    let error = match (lp.table().services.is_empty(), refused) {
        (true, _) => ProxyError::new(ProxyReason::Unavailable, "the table has no service"),
        (false, refused) => {
            lp.counters.unrouted.fetch_add(1, Ordering::Relaxed);
            refused.map_or_else(ProxyError::no_service, ProxyError::from)
        }
    };
    let unread = closes || framing.has_body();
    answer_bare(lp, client, error, unread, Seen::Head(request), into)
}

/// A request that came without TLS, and should come again with it.
fn redirect<Answered: Written>(
    lp: &Loop,
    client: &Client,
    target: rules::Target<'_>,
    port: u16,
    framing: Framing,
    request: &RequestHead,
    into: Answered,
) -> (Returning<Answered>, Reply) {
    let unread = framing.has_body();
    client.begin_bare();
    if unread {
        client.leave_unread();
    }
    let request_id = lp.request_id();
    let (mut returning, text) = respond::redirect(target, port, &request_id, into);
    let answer = Bare {
        status: returning.status.as_u16(),
        body: text.len() as u64,
        term: Term::Redirected,
    };
    let seen = Seen::Head(request);
    lp.log.bare(client, Some(&request_id), seen, answer);
    returning.closes = unread || lp.lets_go(client.entry.number());
    (returning, Reply::bare(text))
}

/// The answer to a request that asks about who has it when it is out of hops, which we are.
fn answer_here<Answered: Written>(
    lp: &Loop,
    client: &Client,
    framing: Framing,
    request: &RequestHead,
    into: Answered,
) -> (Returning<Answered>, Reply) {
    let unread = framing.has_body();
    if request.method != Method::OPTIONS {
        let (error, seen) = (rules::nothing_to_trace().into(), Seen::Head(request));
        let (mut returning, reply) = answer_bare(lp, client, error, unread, seen, into);
        returning.field("allow", b"OPTIONS");
        return (returning, reply);
    }
    client.begin_bare();
    if unread {
        client.leave_unread();
    }
    let request_id = lp.request_id();
    let mut returning = Returning::new(StatusCode::NO_CONTENT, into);
    returning.field("x-request-id", request_id.as_bytes());
    returning.field("proxy-status", respond::OURS);
    let answer = Bare {
        status: returning.status.as_u16(),
        body: 0,
        term: Term::Complete,
    };
    let seen = Seen::Head(request);
    lp.log.bare(client, Some(&request_id), seen, answer);
    returning.closes = unread || lp.lets_go(client.entry.number());
    (returning, Reply::bare(Bytes::new()))
}

/// An answer of ours to what never becomes an exchange. What the client sends behind its head is read by
/// nobody if it is `unread`, and the connection ends.
pub(super) fn answer_bare<Answered: Written>(
    lp: &Loop,
    client: &Client,
    error: ProxyError,
    unread: bool,
    seen: Seen<'_>,
    into: Answered,
) -> (Returning<Answered>, Reply) {
    client.begin_bare();
    lp.count_limit(error.limit);
    if unread {
        client.leave_unread();
    }
    let close = unread || lp.lets_go(client.entry.number());
    let request_id = lp.request_id();
    let term = match (error.reason, seen) {
        (ProxyReason::Unavailable, _) => Term::RefusedParking,
        (_, Seen::Head(_)) if error.status == StatusCode::NOT_FOUND => Term::RefusedRoute,
        (_, Seen::Head(_) | Seen::Line(_)) => Term::RefusedRequest,
    };
    let reader = match seen {
        Seen::Head(request) if request.is_grpc() => Reader::Grpc,
        Seen::Head(_) | Seen::Line(_) => Reader::Person(&[]),
    };
    let (returning, text) = respond::answer(error, &request_id, close, reader, into);
    let answer = Bare {
        status: returning.status.as_u16(),
        body: text.len() as u64,
        term,
    };
    lp.log.bare(client, Some(&request_id), seen, answer);
    (returning, Reply::bare(text))
}

/// The worker's answer, as the client gets it.
async fn pass<Answered: Written>(
    held: Held,
    answer: Answer,
    outgoing: &Outgoing,
    origin: &Origin,
    client: &Rc<Client>,
    fresh: impl Fn() -> Answered,
) -> (Returning<Answered>, Reply) {
    let length = answer.body.size_hint().exact();
    let service = Rc::clone(&held.0.service);
    let (edits, id) = (&service.rules.edits.response, &origin.request_id);
    let mut returning = match rules::answer(&answer.head, outgoing, id, edits, fresh()) {
        Ok(returning) => returning,
        Err(why) => {
            held.0.blame_worker();
            held.0.answer_is_broken(why);
            let reason = if outgoing.upgrade.is_some() {
                ProxyReason::Upgrade
            } else {
                ProxyReason::BadResponse
            };
            return refuse(held, ProxyError::new(reason, why), origin, fresh());
        }
    };
    held.0.answer_begins(&answer.head);
    if returning.status == StatusCode::SWITCHING_PROTOCOLS {
        let websocket = outgoing.upgrade.as_deref() == Some("websocket");
        let agreed = (answer.body, websocket);
        return switch(held, agreed, returning, origin, client, fresh);
    }
    let exchange = Rc::clone(&held.0);
    let leaves = exchange.lp.lets_go(client.entry.number());
    if leaves || !exchange.upload.is_complete() {
        // The rest of an unread body would be taken for the next request, or has to be thrown away.
        returning.closes = true;
    }
    let mut body = answer.body;
    if length == Some(0) {
        // Nothing comes, but the connection to the worker must be given back.
        poll_fn(|cx| {
            let _ = Pin::new(&mut body).poll_frame(cx);
            Poll::Ready(())
        })
        .await;
    }
    (returning, Reply::worker(body, held))
}

/// A worker agreed to another protocol.
fn switch<Answered: Written>(
    held: Held,
    (body, websocket): (AnswerBody, bool),
    returning: Returning<Answered>,
    origin: &Origin,
    client: &Rc<Client>,
    fresh: impl Fn() -> Answered,
) -> (Returning<Answered>, Reply) {
    let Ok(worker) = body.into_tunnel() else {
        let error = ProxyError::new(ProxyReason::Internal, "a 101 without a connection");
        return refuse(held, error, origin, fresh());
    };
    held.0.becomes_tunnel();
    client.upgrade(Upgrade {
        worker,
        websocket,
        held,
    });
    (returning, Reply::bare(Bytes::new()))
}

/// An answer of ours.
fn refuse<Answered: Written>(
    held: Held,
    error: ProxyError,
    origin: &Origin,
    into: Answered,
) -> (Returning<Answered>, Reply) {
    let exchange = &held.0;
    tracing::debug!(
        request = origin.request_id.as_str(),
        status = error.status.as_u16(),
        why = error.why,
        "answered instead of a worker"
    );
    let reader = match origin.grpc {
        true => Reader::Grpc,
        false => Reader::Person(&exchange.service.rules.pages),
    };
    exchange.refuse(reader.status(error), error.reason);
    if origin.grpc {
        exchange.call_ended(grpc::Status::of_http(error.status));
    }
    exchange.lp.count_limit(error.limit);
    let close = error.reason == ProxyReason::BadRequest
        || !exchange.upload.is_complete()
        || exchange.lp.lets_go(exchange.live().number());
    let (returning, text) = respond::answer(error, &origin.request_id, close, reader, into);
    (returning, Reply::ours(text, held))
}
