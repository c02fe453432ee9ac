//! The access log: one line for each request, made when it ends.
//!
//! ```text
//!            loop's thread                                                       one thread a plane
//!  begin ─▶ [`Notes`]: the parts of the line that are known ─┐
//!  end   ─▶ [`Facts`]: the rest ─────────────────────────────┴─▶ buffer ─(full, or 100 ms)─▶ `queue` ─▶ `writer`
//! ```
//!
//! A request costs its loop the writing of some hundred bytes, in two steps: no allocation, no system call,
//! no lock. Buffers are handed over whole. When the writer cannot keep up, buffers are
//! dropped whole and their lines counted; no loop ever waits. The formats are pure; what a client sent is
//! escaped in every one of them, so that a line is printable ASCII and one line, whatever came (T22).
//!
//! A request that is in flight while the format changes has its line in the one that its notes were made in.
//!
//! The file is opened by the supervisor and comes over the link: a successor writes to the same one, and
//! a plane needs no right to open anything.

mod escape;
mod format;
mod json;
mod notes;
mod queue;
mod term;
#[cfg(test)]
mod tests;
mod time;
mod writer;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

pub(crate) use self::format::{FIELDS, Format, Unfit};
use self::notes::Known;
pub(super) use self::notes::Notes;
use self::queue::{FULL, Lines, Queue};
pub(super) use self::term::{End, Term};
use self::time::Wall;
pub(super) use self::writer::Writer;
use super::client::Client;
use super::digits::Address;
use super::head::RequestHead;
use super::rules::{self, RequestId};
use crate::link::message::Front;

/// The status that is told and counted where the client left before an answer began.
pub(super) const CLIENT_GONE: u16 = 499;
/// Notes kept for the next requests: as many as a busy loop has in flight.
const SPARE_NOTES: usize = 256;

/// What is known of a request at its end, besides its notes.
#[derive(Debug)]
pub(super) struct Facts {
    /// [`CLIENT_GONE`] if there is none.
    pub(super) status: u16,
    /// Body bytes from the client.
    pub(super) bytes_in: u64,
    /// Body bytes to the client.
    pub(super) bytes_out: u64,
    /// From its head's end to its own.
    pub(super) took: Duration,
    /// How long the last connection to a worker took, if one was made for it.
    pub(super) connect: Option<Duration>,
    /// From the begin of the last try to the head of the answer.
    pub(super) first_byte: Option<Duration>,
    /// How a call of gRPC went, if it was one and its answer says so.
    pub(super) grpc_status: Option<u32>,
    /// Slot and generation of the worker that had it last.
    pub(super) worker: Option<(u32, u64)>,
    /// Tries, 0 if no worker had it.
    pub(super) attempt: u32,
    pub(super) term: Term,
}

/// Whom a request is for, if that is known, and what it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) request_id: &'a [u8],
    pub(super) service: &'a str,
    pub(super) host: &'a str,
    /// Whose word about others is believed, if its peer's is.
    pub(super) believed: Option<&'a Front>,
}

/// What came of a request's head.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    /// All of it, and it is one.
    Head(&'a RequestHead),
    /// Its first line, or nothing: the head was refused.
    Line(&'a [u8]),
}

/// What answered it, if it is nothing that a worker was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bare {
    pub(super) status: u16,
    /// Bytes of a body, which goes to whoever did not ask for the head alone.
    pub(super) body: u64,
    pub(super) term: Term,
}

/// Where the lines of all loops go, and how they look.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    pub(super) format: Arc<Format>,
    pub(super) queue: Arc<Queue>,
}

/// One loop's part of the log.
#[derive(Debug, Default)]
pub(super) struct Log(RefCell<Option<Book>>);

/// What is there only while the log is on.
#[derive(Debug)]
struct Book {
    outlet: Outlet,
    buffer: Vec<u8>,
    lines: u64,
    wall: Wall,
    // They are lent out and come back as they are.
    #[expect(clippy::vec_box, reason = "an exchange is to hold one word, not ten")]
    spare: Vec<Box<Notes>>,
}

impl Log {
    /// Switches it on, off or over. What was written so far is handed on before.
    pub(super) fn set(&self, outlet: Option<Outlet>) {
        *self.0.borrow_mut() = outlet.map(|outlet| Book {
            outlet,
            buffer: Vec::with_capacity(FULL),
            lines: 0,
            wall: Wall::now(),
            spare: Vec::new(),
        });
    }

    /// What the line will say of a request that begins now; `None` if the log is off.
    pub(super) fn note(
        &self,
        client: &Client,
        about: About<'_>,
        request: &RequestHead,
        began: Instant,
    ) -> Option<Box<Notes>> {
        let mut book = self.0.borrow_mut();
        let book = book.as_mut()?;
        let mut notes = book.spare.pop().unwrap_or_default();
        book.note(&mut notes, client, about, Seen::Head(request), began);
        Some(notes)
    }

    /// A request has ended.
    pub(super) fn line(&self, facts: &Facts, notes: Box<Notes>) {
        let mut book = self.0.borrow_mut();
        let Some(book) = book.as_mut() else {
            return;
        };
        book.write(facts, &notes);
        if book.spare.len() < SPARE_NOTES && notes.is_small() {
            book.spare.push(notes);
        }
    }

    /// An answer to what never became an exchange.
    pub(super) fn bare(
        &self,
        client: &Client,
        request_id: Option<&RequestId>,
        seen: Seen<'_>,
        answer: Bare,
    ) {
        let mut book = self.0.borrow_mut();
        let Some(book) = book.as_mut() else {
            return;
        };
        let view = client.table();
        let about = About {
            request_id: request_id.map_or(b"", RequestId::as_bytes),
            service: "",
            host: "",
            believed: client.is_trusted(&view.front).then_some(&view.front),
        };
        let mut notes = Notes::default();
        book.note(&mut notes, client, about, seen, Instant::now());
        let bodiless = matches!(seen, Seen::Head(request) if request.method == Method::HEAD);
        let facts = Facts {
            status: answer.status,
            bytes_in: 0,
            bytes_out: if bodiless { 0 } else { answer.body },
            took: Duration::ZERO,
            connect: None,
            first_byte: None,
            grpc_status: None,
            worker: None,
            attempt: 0,
            term: answer.term,
        };
        book.write(&facts, &notes);
    }

    /// One turn of the loop's clock: no line waits longer than that.
    pub(super) fn turn(&self) {
        if let Some(book) = self.0.borrow_mut().as_mut() {
            book.wall = Wall::now();
            book.hand_over();
        }
    }
}

impl Book {
    fn note(
        &mut self,
        notes: &mut Notes,
        client: &Client,
        about: About<'_>,
        seen: Seen<'_>,
        began: Instant,
    ) {
        let format = &self.outlet.format;
        notes.adopt(format);
        let forwarded = about.believed.and_then(|front| match seen {
            Seen::Head(request) => rules::forwarded_client(&request.fields, front),
            Seen::Line(_) => None,
        });
        let forwarded = forwarded.map(Address::of);
        let peer = forwarded.as_ref().or_else(|| client.address());
        let mut known = Known {
            stamp: self.wall.stamp(began),
            request_id: about.request_id,
            client: peer.map_or(b"unix", Address::as_bytes),
            tls: client.tls_version(),
            service: about.service,
            host: about.host.as_bytes(),
            method: "",
            proto: "",
            path: &[],
            query: &[],
            user_agent: &[],
            referer: &[],
            trace_id: &[],
        };
        match seen {
            Seen::Head(request) => known.read(request, format.query),
            Seen::Line(line) => known.read_line(line, format.query),
        }
        format.note(notes, &known);
    }

    fn write(&mut self, facts: &Facts, notes: &Notes) {
        let format = notes.format().unwrap_or(&self.outlet.format);
        format.write(&mut self.buffer, facts, notes);
        self.lines += 1;
        if self.buffer.len() >= FULL {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if !self.buffer.is_empty() {
            let text = std::mem::take(&mut self.buffer);
            let lines = std::mem::take(&mut self.lines);
            self.buffer = self.outlet.queue.put(Lines { text, lines });
        }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        self.hand_over();
    }
}
