//! How a line looks: JSON, or a template of text and fields, of which Common and Combined are two.

use super::notes::Known;
use super::{Facts, Notes, escape, json};
use crate::link::message::{AccessLog, LogFormat};
use crate::proxy::digits;

/// As the first log analysers knew it: `%h %l %u %t "%r" %>s %b`.
const COMMON: &str = "{client} - - [{time}] \"{request}\" {status} {bytes}";
/// The same with `"%{Referer}i" "%{User-agent}i"`.
const COMBINED: &str =
    "{client} - - [{time}] \"{request}\" {status} {bytes} \"{referer}\" \"{user_agent}\"";

/// A format, checked.
#[derive(Debug)]
pub(crate) struct Format {
    pub(super) query: bool,
    /// `None` is JSON.
    template: Option<Vec<Part>>,
}

/// A part of a template that is known at a request's begin, and the field of its end that follows.
#[derive(Debug, Default)]
struct Part {
    early: Vec<Piece>,
    late: Option<Late>,
}

#[derive(Debug)]
enum Piece {
    Text(Vec<u8>),
    Field(Early),
}

/// Makes the fields and their names from one list.
macro_rules! fields {
    (early { $($early:ident $first:literal)* } late { $($late:ident $second:literal)* }) => {
        /// What is known at a request's begin.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Early {
            $($early),*
        }

        /// What is known at its end.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Late {
            $($late),*
        }

        /// What a template may name.
        pub(crate) const FIELDS: &[&str] = &[$($first,)* $($second),*];

        fn named(name: &str) -> Option<Result<Early, Late>> {
            match name {
                $($first => Some(Ok(Early::$early)),)*
                $($second => Some(Err(Late::$late)),)*
                _ => None,
            }
        }
    };
}

fields! {
    early {
        Ts "ts"
        RequestId "request_id"
        TraceId "trace_id"
        Client "client"
        Method "method"
        Host "host"
        Path "path"
        Query "query"
        Proto "proto"
        Service "service"
        TlsVersion "tls_version"
        UserAgent "user_agent"
        Referer "referer"
        Time "time"
        Request "request"
    }
    late {
        Status "status"
        BytesIn "bytes_in"
        BytesOut "bytes_out"
        Duration "duration"
        UpstreamConnect "upstream_connect"
        UpstreamTtfb "upstream_ttfb"
        GrpcStatus "grpc_status"
        Slot "slot"
        Generation "generation"
        Attempt "attempt"
        Term "term"
        Bytes "bytes"
    }
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Nothing in it is a field.
    NoField,
    /// A brace without its other half.
    Brace,
    /// No field has this name.
    Unknown(String),
    /// A line break or another control character.
    Control,
}

impl Format {
    /// Reads a format.
    ///
    /// # Errors
    /// Why a template is none.
    pub(crate) fn new(log: &AccessLog) -> Result<Self, Unfit> {
        let template = match &log.format {
            LogFormat::Json => None,
            LogFormat::Common => Some(template(COMMON)?),
            LogFormat::Combined => Some(template(COMBINED)?),
            LogFormat::Template(text) => Some(template(text)?),
        };
        Ok(Self {
            query: log.query,
            template,
        })
    }

    /// Whether a query string would be in a line if it were kept.
    pub(crate) fn names_query(&self) -> bool {
        let names = |piece: &Piece| matches!(piece, Piece::Field(Early::Query));
        let part = |part: &Part| part.early.iter().any(names);
        self.template
            .as_ref()
            .is_some_and(|all| all.iter().any(part))
    }

    /// Writes what is known of a line at its request's begin.
    pub(super) fn note(&self, notes: &mut Notes, known: &Known<'_>) {
        notes.clear();
        let Some(parts) = &self.template else {
            return json::note(notes, known, self.query);
        };
        for part in parts {
            for piece in &part.early {
                match piece {
                    Piece::Text(text) => notes.text.extend_from_slice(text),
                    Piece::Field(field) => write_early(&mut notes.text, *field, known),
                }
            }
            notes.end_part();
        }
    }

    /// Writes a line, its newline included.
    pub(super) fn write(&self, out: &mut Vec<u8>, facts: &Facts, notes: &Notes) {
        let Some(parts) = &self.template else {
            return json::write(out, facts, notes);
        };
        for (part, text) in parts.iter().zip(notes.parts()) {
            out.extend_from_slice(text);
            if let Some(field) = part.late {
                write_late(out, field, facts);
            }
        }
        out.push(b'\n');
    }
}

/// `{{` and `}}` are braces themselves.
fn template(text: &str) -> Result<Vec<Part>, Unfit> {
    if text.chars().any(char::is_control) {
        return Err(Unfit::Control);
    }
    let (mut parts, mut part) = (Vec::new(), Part::default());
    let (mut plain, mut fields) = (Vec::new(), 0_u32);
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.extend_from_slice(&rest.as_bytes()[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            plain.extend_from_slice(brace.as_bytes());
            rest = after;
            continue;
        }
        let ("{", Some((name, after))) = (brace, after.split_once('}')) else {
            return Err(Unfit::Brace);
        };
        let field = named(name).ok_or_else(|| Unfit::Unknown(name.to_owned()))?;
        if !plain.is_empty() {
            part.early.push(Piece::Text(std::mem::take(&mut plain)));
        }
        match field {
            Ok(early) => part.early.push(Piece::Field(early)),
            Err(late) => {
                part.late = Some(late);
                parts.push(std::mem::take(&mut part));
            }
        }
        fields += 1;
        rest = after;
    }
    if fields == 0 {
        return Err(Unfit::NoField);
    }
    plain.extend_from_slice(rest.as_bytes());
    part.early.push(Piece::Text(plain));
    parts.push(part);
    Ok(parts)
}

/// What a client sent.
fn value(out: &mut Vec<u8>, value: &[u8]) {
    match value {
        [] => out.push(b'-'),
        value if escape::is_plain(value) => out.extend_from_slice(value),
        value => escape::text(out, value),
    }
}

fn write_early(out: &mut Vec<u8>, field: Early, known: &Known<'_>) {
    match field {
        Early::Ts => out.extend_from_slice(&known.stamp.rfc3339),
        Early::RequestId => value(out, known.request_id),
        Early::TraceId => value(out, known.trace_id),
        Early::Client => value(out, known.client),
        Early::Method => value(out, known.method.as_bytes()),
        Early::Host => value(out, known.host),
        Early::Path => value(out, known.path),
        Early::Query => value(out, known.query),
        Early::Proto => value(out, known.proto.as_bytes()),
        Early::Service => value(out, known.service.as_bytes()),
        Early::TlsVersion => value(out, known.tls.as_bytes()),
        Early::UserAgent => value(out, known.user_agent),
        Early::Referer => value(out, known.referer),
        Early::Time => out.extend_from_slice(&known.stamp.common),
        Early::Request => request(out, known),
    }
}

/// The request line, made again, as far as it could be read.
fn request(out: &mut Vec<u8>, known: &Known<'_>) {
    if known.method.is_empty() {
        return out.push(b'-');
    }
    value(out, known.method.as_bytes());
    out.push(b' ');
    value(out, known.path);
    if !known.query.is_empty() {
        out.push(b'?');
        value(out, known.query);
    }
    if !known.proto.is_empty() {
        out.push(b' ');
        out.extend_from_slice(known.proto.as_bytes());
    }
}

fn write_late(out: &mut Vec<u8>, field: Late, facts: &Facts) {
    let number = |out: &mut Vec<u8>, value: Option<u64>| match value {
        Some(value) => digits::whole(out, value),
        None => out.push(b'-'),
    };
    let time = |out: &mut Vec<u8>, value| match value {
        Some(value) => digits::seconds(out, value),
        None => out.push(b'-'),
    };
    match field {
        Late::Status => digits::whole(out, facts.status.into()),
        Late::BytesIn => digits::whole(out, facts.bytes_in),
        Late::BytesOut => digits::whole(out, facts.bytes_out),
        Late::Duration => digits::seconds(out, facts.took),
        Late::UpstreamConnect => time(out, facts.connect),
        Late::UpstreamTtfb => time(out, facts.first_byte),
        Late::GrpcStatus => number(out, facts.grpc_status.map(u64::from)),
        Late::Slot => number(out, facts.worker.map(|(slot, _)| slot.into())),
        Late::Generation => number(out, facts.worker.map(|(_, generation)| generation)),
        Late::Attempt => digits::whole(out, facts.attempt.into()),
        Late::Term => out.extend_from_slice(facts.term.word().as_bytes()),
        Late::Bytes => number(out, Some(facts.bytes_out).filter(|bytes| *bytes > 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_known_fields() {
        for good in [
            "{status}",
            "a {{b}} {term}x",
            FIELDS_IN_BRACES,
            COMMON,
            COMBINED,
        ] {
            assert!(template(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", Unfit::NoField),
            ("json {{status}}", Unfit::NoField),
            ("{status", Unfit::Brace),
            ("status}", Unfit::Brace),
            ("{status} {", Unfit::Brace),
            ("{staus}", Unfit::Unknown("staus".to_owned())),
            ("{}", Unfit::Unknown(String::new())),
            ("{status}\n", Unfit::Control),
            ("{status}\u{9b}", Unfit::Control),
        ] {
            assert_eq!(template(bad).map(|_| ()), Err(why), "{bad}");
        }
    }

    const FIELDS_IN_BRACES: &str = "{ts}{request_id}{trace_id}{client}{method}{host}{path}{query}";
}
