//! One stream of HTTP/2: a request, and its answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Method;

use super::answer;
use super::duplex::Duplex;
use super::head::{self, Sent};
use super::inflow::Inflow;
use super::streams::{Accepted, Ending, Open};
use crate::link::message::ProxyReason;
use crate::proxy::access_log::Seen;
use crate::proxy::handle::{answer_bare, handle};
use crate::proxy::reply::Reply;
use crate::proxy::rules::Returning;
use crate::proxy::tunnel;
use crate::proxy::upload::Source;

/// Serves it until it is over.
pub(super) async fn serve(open: &Open<'_>, accepted: Accepted) {
    let (lp, client) = (&open.streams.lp, open.client);
    let (request, mut respond) = *accepted;
    let (parts, body) = request.into_parts();
    let of_head = parts.method == Method::HEAD;
    let of_tunnel = parts.method == Method::CONNECT;
    let head = head::request(parts, body.is_end_stream(), || lp.request_id());
    // Kept to the end: without it the client would be told that nobody wants the rest of its body.
    let inflow = Inflow::new(body, Rc::clone(client), of_tunnel);
    let (returning, reply) = match head {
        Ok(head) => {
            let source = Source::Stream(Rc::clone(&inflow));
            // Pinned here: as an argument it would be moved, and it is large.
            let answer = pin!(handle(lp, client, source, head, Sent::new));
            match until_gone(open, &inflow, &mut respond, answer).await {
                Some(answer) => answer,
                None => return,
            }
        }
        Err(refused) => {
            lp.count_unreadable(ProxyReason::BadRequest);
            let seen = Seen::Line(&refused.line);
            let error = refused.rejection.into();
            answer_bare(lp, client, error, true, seen, Sent::new())
        }
    };
    if let Some(upgrade) = client.take_upgrade() {
        let sent = answer::switch(lp, client, &mut respond, returning);
        drop(reply);
        if let (Some(outflow), Some(inflow)) = (sent, Rc::into_inner(inflow)) {
            let mut duplex = Duplex::new(inflow.into_stream(), outflow);
            // Dropped, it resets the stream, if that has not ended.
            tunnel::run(&mut duplex, Bytes::new(), upgrade).await;
        }
        return;
    }
    let sending = answer::send(lp, client, &mut respond, returning, reply, of_head);
    let mut sending = pin!(sending);
    let sent = poll_fn(|cx| {
        let sent = sending.as_mut().poll(cx);
        if sent.is_pending() {
            inflow.gather(cx);
        }
        sent
    });
    let sent = sent.await;
    open.ended(sent);
    if sent == Ending::Whole && !inflow.is_whole() {
        Box::pin(inflow.linger()).await;
    }
}

/// A request's answer; `None` if the client gives it up before it begins, or is given up.
async fn until_gone(
    open: &Open<'_>,
    inflow: &Inflow,
    respond: &mut SendResponse<Bytes>,
    mut answer: Pin<&mut impl Future<Output = (Returning<Sent>, Reply)>>,
) -> Option<(Returning<Sent>, Reply)> {
    let client = open.client;
    poll_fn(|cx| {
        client.listen(cx);
        if client.is_killed() {
            respond.send_reset(Reason::CANCEL);
            return Poll::Ready(None);
        }
        // Asked first: what was given up before it was seen is no work for anybody.
        if respond.poll_reset(cx).is_ready() {
            open.ended(Ending::Unanswered);
            if let (false, Some(exchange)) = (inflow.is_whole(), client.exchange()) {
                exchange.upload.breaks_off();
            }
            return Poll::Ready(None);
        }
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        inflow.gather(cx);
        answer::inform(client, respond);
        Poll::Pending
    })
    .await
}
