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
    out.push(b'"');
    value(out, b",\"request_id\":\"", known.request_id);
    word(out, b",\"trace_id\":\"", known.trace_id);
    word(out, b",\"client\":\"", known.client);
    word(out, b",\"method\":\"", known.method.as_bytes());
    value(out, b",\"host\":\"", known.host);
    value(out, b",\"path\":\"", known.path);
    if query {
        value(out, b",\"query\":\"", known.query);
    }
    word(out, b",\"proto\":\"", known.proto.as_bytes());
    out.extend_from_slice(b",\"status\":");
    notes.end_part();
    let out = &mut notes.text;
    word(out, b",\"service\":\"", known.service.as_bytes());
    out.extend_from_slice(b",\"slot\":");
    notes.end_part();
    let out = &mut notes.text;
    word(out, b",\"tls_version\":\"", known.tls.as_bytes());
    value(out, b",\"user_agent\":\"", known.user_agent);
    value(out, b",\"referer\":\"", known.referer);
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

/// What a client sent. The key ends with the quote in front of its value.
fn value<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: &[u8]) {
    if escape::is_plain(value) {
        return word(out, key, value);
    }
    out.extend_from_slice(key);
    escape::json(out, value);
    out.push(b'"');
}

/// What holds nothing that needs an escape: addresses, methods, names of services, digits.
#[inline(always)]
fn word<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], word: &[u8]) {
    out.extend_from_slice(key);
    if word.is_empty() {
        out.pop();
        return out.extend_from_slice(b"null");
    }
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
