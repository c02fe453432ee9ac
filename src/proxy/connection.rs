//! A client's connection, from accept to close: one request after another, its time limits kept by the
//! loop's clock, ended when a drain says so, carried on as a tunnel when it becomes one.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::accept::Accepted;
use super::access_log::{Bare, CLIENT_GONE, Seen, Term};
use super::client::{Client, Phase, Present, Upgrade};
use super::entrance::{self, Entered, Speaks};
use super::event_loop::{Loop, after_the_others};
use super::front::{Answering, Inlet, Next, Refused, Wants};
use super::h2;
use super::handle::{answer_bare, handle};
use super::linger::{LINGER, linger};
use super::reply::Reply;
use super::respond;
use super::rules::Returning;
use super::socket::Socket;
use super::tunnel;
use super::upload::Source;
use crate::link::message::ProxyReason;

/// Serves one client until its connection is closed.
pub(super) async fn serve(lp: Rc<Loop>, place: usize, accepted: Accepted) {
    let open = Open(&lp);
    if let Some(entered) = entrance::enter(&lp, place, accepted).await {
        let Entered {
            way,
            entrance,
            speaks,
        } = entered;
        let present = Present::new(&lp, way);
        match speaks {
            Speaks::Http1(inlet) => speak(&lp, &present, inlet, entrance.http2).await,
            Speaks::Http2(socket) => {
                Box::pin(h2::serve(&lp, &present, socket, Bytes::new())).await;
            }
        }
    }
    drop(open);
}

/// HTTP/1.1, or HTTP/2 if the client begins with it and may.
async fn speak(lp: &Rc<Loop>, present: &Present, inlet: Rc<Inlet>, http2: bool) {
    let client = present.client();
    let mut after = After::Next { may_switch: http2 };
    while let After::Next { may_switch } = after {
        after = turn(lp, client, &inlet, may_switch).await;
    }
    let upgrade = client.take_upgrade();
    // Whoever still holds it would be a request in flight, and there is none.
    if let Some((socket, unread)) = inlet.take_socket() {
        match after {
            After::Http2 => Box::pin(h2::serve(lp, present, socket, unread)).await,
            after => finish(lp, client, socket, unread, after, upgrade).await,
        }
    }
}

/// What comes after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next one; if there was none yet, it may be that the client speaks HTTP/2.
    Next { may_switch: bool },
    /// The client speaks HTTP/2.
    Http2,
    /// The connection's orderly end; perhaps the client said itself that it sends no more.
    Close { said: bool },
    /// Its end in the middle of something.
    Abort,
    /// The same, where an orderly end would look like the end of an answer.
    Reset,
}

/// One request: its head, then its answer.
async fn turn(lp: &Rc<Loop>, client: &Rc<Client>, inlet: &Rc<Inlet>, may_switch: bool) -> After {
    let head = match next_head(lp, client, inlet, may_switch).await {
        Ok(Next::Head(head)) => Ok(head),
        Ok(Next::Preface) => return After::Http2,
        Ok(Next::End) => return After::Close { said: false },
        Err(refused) => Err(refused),
    };
    // It is large: whoever makes it puts it here.
    let mut answered = None;
    let wants = match head {
        Ok(head) => {
            let wants = Wants::of(&head.request, head.keep_alive);
            client.turn(Phase::Busy);
            client.set_old(wants.old);
            let body = Source::Inlet(Rc::clone(inlet));
            // Pinned here: as an argument it would be moved, and it is large.
            let answer = pin!(handle(lp, client, body, head, || lp
                .pool
                .buffers
                .take_answer()));
            until_gone(lp, client, inlet, answer, &mut answered).await;
            wants
        }
        Err(refused) => {
            answered = Some(refuse(lp, client, refused));
            Wants::default()
        }
    };
    let Some((returning, reply)) = answered else {
        return After::Abort;
    };
    // Before anything is decided: a drain may begin meanwhile.
    after_the_others().await;
    let said = wants.is_last();
    // An answer that nobody may read to its end is not begun as if another could follow it.
    let wants = match client.is_closing() {
        true => wants.last(),
        false => wants,
    };
    let switches = client.will_upgrade();
    let mut early = inlet.take_early();
    early.extend_from_slice(&client.take_informed());
    let mut answering = Answering::new(returning, reply, wants, &lp.date(), &early);
    let wrote = || client.wrote();
    let written = poll_fn(|cx| {
        client.listen(cx);
        if client.is_killed() {
            return Poll::Ready(false);
        }
        match answering.poll(cx, inlet, wrote) {
            Poll::Ready(written) => Poll::Ready(written.is_ok()),
            Poll::Pending if switches => Poll::Pending,
            Poll::Pending => {
                let gone = inlet.poll_gone(cx, client.may_leave()).map(|()| false);
                client.notice_end(inlet.has_ended());
                gone
            }
        }
    });
    let (written, keeps_alive) = (written.await, answering.keeps_alive());
    let aborted = match answering.ends_by_closing() {
        true => After::Reset,
        false => After::Abort,
    };
    lp.pool.buffers.put_answer(answering.into_buffer());
    match written {
        false => aborted,
        true if keeps_alive && !switches && !client.is_closing() => {
            After::Next { may_switch: false }
        }
        true => After::Close { said },
    }
}

/// The next head, or why it is refused.
async fn next_head(
    lp: &Rc<Loop>,
    client: &Rc<Client>,
    inlet: &Rc<Inlet>,
    may_switch: bool,
) -> Result<Next, Refused> {
    poll_fn(|cx| {
        client.listen(cx);
        if client.is_killed() {
            return Poll::Ready(Ok(Next::End));
        }
        let view = lp.table();
        let head = inlet.poll_head(cx, &view.front, may_switch, || client.head_begins());
        let ends = client.is_closing() && client.phase().0 == Phase::Idle;
        // The last look: what came by now is answered, with a goodbye (F46).
        if head.is_pending() && ends && !client.has_unread() {
            return Poll::Ready(Ok(Next::End));
        }
        head
    })
    .await
}

/// A request's answer, if the client does not leave before it begins, and is not given up.
async fn until_gone(
    lp: &Loop,
    client: &Rc<Client>,
    inlet: &Rc<Inlet>,
    mut answer: Pin<&mut impl Future<Output = (Returning, Reply)>>,
    answered: &mut Option<(Returning, Reply)>,
) {
    poll_fn(|cx| {
        client.listen(cx);
        if client.is_killed() {
            return Poll::Ready(());
        }
        lp.steps_aside.set(false);
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            *answered = Some(answer);
            return Poll::Ready(());
        }
        // Whether the client is still there is asked when it has to wait.
        if lp.steps_aside.get() {
            return Poll::Pending;
        }
        inlet.inform(client.take_informed());
        let gone = inlet.poll_gone(cx, client.may_leave());
        client.notice_end(inlet.has_ended());
        gone
    })
    .await;
}

/// The answer to a head that nobody else gets to see.
fn refuse(lp: &Rc<Loop>, client: &Rc<Client>, refused: Refused) -> (Returning, Reply) {
    lp.count_unreadable(ProxyReason::BadRequest);
    let into = lp.pool.buffers.take_answer();
    let seen = Seen::Line(&refused.line);
    answer_bare(lp, client, refused.rejection.into(), true, seen, into)
}

/// What is left to do when there is no further request.
async fn finish(
    lp: &Loop,
    client: &Client,
    mut socket: Socket,
    unread: Bytes,
    after: After,
    upgrade: Option<Upgrade>,
) {
    // What follows is rare, and the connection's future has no room for it.
    match (after, upgrade) {
        (After::Close { .. }, Some(upgrade)) => {
            let ended = Box::pin(tunnel::run(&mut socket, unread, upgrade)).await;
            if ended == tunnel::Ended::Broken {
                socket.reset_on_close();
            }
        }
        (After::Close { .. }, None) if client.phase().0 == Phase::Head => {
            let (is_slow, request_id) = (client.is_killed(), lp.request_id());
            let answer = Bare {
                status: match is_slow {
                    true => StatusCode::REQUEST_TIMEOUT.as_u16(),
                    false => CLIENT_GONE,
                },
                body: 0,
                term: Term::ClientHead,
            };
            // Of half a line it is not known where it would have ended.
            let line = unread.iter().position(|byte| *byte == b'\n');
            let seen = Seen::Line(line.map_or(b"", |end| &unread[..end]));
            lp.log.bare(client, Some(&request_id), seen, answer);
            if is_slow {
                lp.count_unreadable(ProxyReason::RequestTimeout);
                let text = respond::too_slow(&request_id);
                let _ = Box::pin(timeout(LINGER, socket.write_all(text.as_bytes()))).await;
            }
        }
        (After::Close { .. }, None) if client.is_killed() => {}
        (After::Close { said }, None) => {
            let read = !client.has_left_unread() && unread.is_empty();
            if !read || (!said && client.has_unread()) {
                Box::pin(linger(&mut socket)).await;
            } else if socket.is_tls() {
                // Without it the client could not tell the end from a cut.
                let _ = Box::pin(timeout(LINGER, socket.shutdown())).await;
            }
        }
        (After::Reset, _) => socket.reset_on_close(),
        (After::Next { .. } | After::Http2 | After::Abort, _) => {}
    }
}

/// Counts a connection until it is closed.
struct Open<'a>(&'a Loop);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.shared.connections.fetch_sub(1, Ordering::AcqRel);
        let open = &self.0.counters.connections;
        if open.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.draining.get().is_some() {
            self.0.shared.wake.notify_one();
        }
    }
}
