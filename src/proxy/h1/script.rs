//! For the differential tests: a socket to which bytes come piece by piece, hyper polled by hand on it, and
//! messages as either side reads them.
//!
//! Nothing waits and no runtime is needed, so that an input means the same each time, and where a message
//! ends is known to the byte if its bytes come one by one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::proxy::rules;

/// More turns than this without waiting for anything is a loop.
const TURNS: usize = 10_000;

/// A socket to which comes what the test brings; what is written to it is thrown away.
#[derive(Debug, Clone, Default)]
pub(in crate::proxy) struct Script(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    unread: VecDeque<u8>,
    at: usize,
    ended: bool,
}

impl Script {
    /// So much comes now.
    pub(in crate::proxy) fn bring(&self, piece: &[u8]) {
        let inner = &mut *self.0.borrow_mut();
        inner.unread.extend(piece);
        inner.at += piece.len();
    }

    /// Nothing more will come.
    pub(in crate::proxy) fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// So much has come.
    fn at(&self) -> usize {
        self.0.borrow().at
    }
}

impl Read for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        if inner.unread.is_empty() && !inner.ended {
            return Poll::Pending;
        }
        let (front, _) = inner.unread.as_slices();
        let taken = front.len().min(into.remaining());
        into.put_slice(&front[..taken]);
        inner.unread.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl Write for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls until it is ready, or waits for what the script has not brought yet.
pub(in crate::proxy) fn settle<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..TURNS {
        let polled = Pin::new(&mut *future).poll(&mut cx);
        if polled.is_ready() || !woken.0.swap(false, Ordering::Relaxed) {
            return polled;
        }
    }
    panic!("it wakes itself for ever");
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How far a message came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::proxy) enum End {
    /// More of its body is to come.
    #[default]
    Waits,
    /// It is whole, since so many bytes of the stream were there.
    Whole(usize),
    /// Its body breaks HTTP, or broke off.
    Broken,
    /// Its head was understood, and refused all the same.
    Refused,
}

/// A message as one side reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Message {
    /// Its first line, written anew.
    pub(in crate::proxy) start: String,
    /// Names and values, escaped; in order within a name.
    pub(in crate::proxy) fields: Vec<(String, String)>,
    pub(in crate::proxy) data: Vec<u8>,
    pub(in crate::proxy) trailers: Vec<(String, String)>,
    pub(in crate::proxy) end: End,
}

impl Message {
    pub(in crate::proxy) fn new<'a>(
        start: String,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        Self {
            start,
            fields: shown(fields),
            ..Self::default()
        }
    }

    /// An exception: whether a message of HTTP/1.0 keeps its connection open is read by us from each member of
    /// Connection (RFC 9110 §7.6.1, RFC 9112 §9.3), while hyper takes no notice of a whole line with a byte
    /// beyond ASCII, and closes. That frames nothing differently, as what follows is read by us alone.
    pub(in crate::proxy) fn persists_by_us_alone(&self) -> bool {
        let beyond =
            |(name, value): &(String, String)| name == "connection" && value.contains("\\x");
        self.start.contains("HTTP/1.0") && self.fields.iter().any(beyond)
    }

    /// Trailers came; those that may not stand there are not looked at.
    pub(in crate::proxy) fn trailers(&mut self, trailers: &HeaderMap) {
        let allowed = |(name, _): &(&[u8], &[u8])| rules::trailer_allowed(name);
        self.trailers = shown(pairs(trailers).filter(allowed));
    }

    /// What we make of it is what another makes of it, as far as we go.
    ///
    /// # Panics
    /// If ours accepts more, or frames it differently.
    pub(in crate::proxy) fn agrees(&self, theirs: Option<&Self>) {
        let Some(theirs) = theirs else {
            panic!("accepted by us alone: {self:?}");
        };
        assert_eq!(self.start, theirs.start);
        assert_eq!(self.fields, theirs.fields);
        match self.end {
            End::Refused => {}
            End::Whole(_) => {
                assert_eq!(self.end, theirs.end, "its end is elsewhere");
                assert_eq!(Show(&self.data), Show(&theirs.data));
                assert_eq!(self.trailers, theirs.trailers);
            }
            End::Waits => {
                let whole = matches!(theirs.end, End::Whole(_));
                assert!(!whole, "they are at its end, and we are not: {theirs:?}");
                assert_eq!(Show(&self.data), Show(&theirs.data));
            }
            // They may notice later, or not mind, but nobody was told other bytes.
            End::Broken => {
                let least = self.data.len().min(theirs.data.len());
                assert_eq!(Show(&self.data[..least]), Show(&theirs.data[..least]));
            }
        }
    }
}

#[derive(PartialEq)]
struct Show<'a>(&'a [u8]);

impl std::fmt::Debug for Show<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

pub(in crate::proxy) fn pairs(map: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    map.iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// By name, as a map forgets the order of different ones.
fn shown<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<(String, String)> {
    let escaped = |text: &[u8]| text.escape_ascii().to_string();
    let mut all: Vec<_> = fields
        .map(|(name, value)| (escaped(name), escaped(value)))
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    // The same length twice is once for hyper; RFC 9110 §8.6 leaves that open.
    all.dedup_by(|one, other| one == other && one.0 == "content-length");
    all
}

/// Reads a body of hyper's into the message that `seen` has last.
pub(in crate::proxy) async fn read<B>(mut body: B, script: Script, seen: Rc<RefCell<Vec<Message>>>)
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = body.frame().await;
        let seen = &mut *seen.borrow_mut();
        let last = seen.last_mut().expect("its head");
        match frame {
            None => {
                last.end = End::Whole(script.at());
                return;
            }
            Some(Err(_)) => {
                last.end = End::Broken;
                return;
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    last.data.extend_from_slice(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    last.trailers(trailers);
                }
            }
        }
    }
}
