//! The line as an object. Written by hand, because the keys are then copied as the constants they are.

use std::time::Duration;

use super::notes::{Known, Notes};
use super::{Facts, escape};
use crate::proxy::digits;

/// Writes what is known at the begin, in the three parts that [`write`] puts together. What there is not
/// is null; the query has no key unless it is kept.
pub(super) fn note(notes: &mut Notes, known: &Known<'_>, query: bool) {
    let out = &mut notes.text;
    out.extend_from_slice(b"{\"ts\":\"");
    out.extend_from_slice(&known.stamp.rfc3339);
    out.extend_from_slice(b"\",\"request_id\":");
    value(out, known.request_id);
    out.extend_from_slice(b",\"trace_id\":");
    word(out, known.trace_id);
    out.extend_from_slice(b",\"client\":");
    word(out, known.client);
    out.extend_from_slice(b",\"method\":");
    word(out, known.method.as_bytes());
    out.extend_from_slice(b",\"host\":");
    value(out, known.host);
    out.extend_from_slice(b",\"path\":");
    value(out, known.path);
    if query {
        out.extend_from_slice(b",\"query\":");
        value(out, known.query);
    }
    out.extend_from_slice(b",\"proto\":");
    word(out, known.proto.as_bytes());
    out.extend_from_slice(b",\"status\":");
    notes.end_part();
    let out = &mut notes.text;
    out.extend_from_slice(b",\"service\":");
    word(out, known.service.as_bytes());
    out.extend_from_slice(b",\"slot\":");
    notes.end_part();
    let out = &mut notes.text;
    out.extend_from_slice(b",\"tls_version\":");
    word(out, known.tls.as_bytes());
    out.extend_from_slice(b",\"user_agent\":");
    value(out, known.user_agent);
    out.extend_from_slice(b",\"referer\":");
    value(out, known.referer);
    out.extend_from_slice(b",\"term\":\"");
    notes.end_part();
}

/// Writes a line, its newline included.
pub(super) fn write(out: &mut Vec<u8>, facts: &Facts, notes: &Notes) {
    let mut parts = notes.parts();
    let mut next = || parts.next().unwrap_or_default();
    out.extend_from_slice(next());
    digits::whole(out, facts.status.into());
    out.extend_from_slice(b",\"bytes_in\":");
    digits::whole(out, facts.bytes_in);
    out.extend_from_slice(b",\"bytes_out\":");
    digits::whole(out, facts.bytes_out);
    out.extend_from_slice(b",\"duration\":");
    digits::seconds(out, facts.took);
    out.extend_from_slice(b",\"upstream_connect\":");
    time(out, facts.connect);
    out.extend_from_slice(b",\"upstream_ttfb\":");
    time(out, facts.first_byte);
    out.extend_from_slice(b",\"grpc_status\":");
    match facts.grpc_status {
        Some(status) => digits::whole(out, status.into()),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(next());
    if let Some((slot, generation)) = facts.worker {
        digits::whole(out, slot.into());
        out.extend_from_slice(b",\"generation\":");
        digits::whole(out, generation);
    } else {
        out.extend_from_slice(b"null,\"generation\":null");
    }
    out.extend_from_slice(b",\"attempt\":");
    digits::whole(out, facts.attempt.into());
    out.extend_from_slice(next());
    out.extend_from_slice(facts.term.word().as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// What a client sent.
fn value(out: &mut Vec<u8>, value: &[u8]) {
    if escape::is_plain(value) {
        return word(out, value);
    }
    out.push(b'"');
    escape::json(out, value);
    out.push(b'"');
}

/// What holds nothing that needs an escape: addresses, methods, names of services, digits.
#[inline]
fn word(out: &mut Vec<u8>, word: &[u8]) {
    if word.is_empty() {
        return out.extend_from_slice(b"null");
    }
    out.reserve(word.len() + 2);
    out.push(b'"');
    out.extend_from_slice(word);
    out.push(b'"');
}

#[inline]
fn time(out: &mut Vec<u8>, time: Option<Duration>) {
    match time {
        Some(time) => digits::seconds(out, time),
        None => out.extend_from_slice(b"null"),
    }
}
