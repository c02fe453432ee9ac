//! Bytes nobody thought of, and the same bytes cut anywhere.

use bytes::BytesMut;

use super::super::head;
use super::answers::{Framed, Read, answers};
use super::*;
use crate::fuzz::{self, Choices, Cut, Tally};
use crate::proxy::h1::script::End;
use crate::proxy::h1::{Chunked, Piece};

/// What a decoder makes of `bytes` that arrive in pieces of these sizes: the data, the trailers' count,
/// whether the end came, whether it was refused, and what is left over.
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, usize, bool, bool, Vec<u8>) {
    let (mut decoder, mut buffer, mut rest) = (Chunked::new(), BytesMut::new(), bytes);
    let (mut data, mut trailers) = (Vec::new(), 0);
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(usize::MAX));
    loop {
        match decoder.next(&mut buffer) {
            Ok(Some(Piece::Data(more))) => data.extend_from_slice(&more),
            Ok(Some(Piece::Trailers(more))) => trailers += more.len(),
            Ok(Some(Piece::End)) => {
                buffer.extend_from_slice(rest);
                return (data, trailers, true, false, buffer.to_vec());
            }
            Ok(None) if rest.is_empty() => return (data, trailers, false, false, Vec::new()),
            Ok(None) => {
                let take = cuts.next().unwrap_or(usize::MAX).clamp(1, rest.len());
                buffer.extend_from_slice(&rest[..take]);
                rest = &rest[take..];
            }
            Err(_) => return (data, trailers, false, true, Vec::new()),
        }
    }
}

/// The plainest decoder there is, of a whole text without trailers or extensions.
fn reference(mut bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        if line.is_empty() || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(line, 16).ok()?;
        bytes = &bytes[end + 2..];
        let chunk = bytes.get(..size)?;
        let after = bytes.get(size..size + 2)?;
        if after != b"\r\n" {
            return None;
        }
        data.extend_from_slice(chunk);
        bytes = &bytes[size + 2..];
        if size == 0 {
            return Some((data, bytes.to_vec()));
        }
    }
}

/// Text that looks like chunked coding, mostly.
fn nearly_chunked(choices: &mut Choices<'_>) -> (Vec<u8>, Vec<usize>) {
    const ODD: [&[u8]; 8] = [
        b"5",
        b"\r",
        b"\n",
        b"\r\n",
        b"f;x",
        b"-",
        b"ffffffffffffffffff",
        b"00",
    ];
    let mut text = Vec::new();
    for _ in 0..choices.below(8) {
        match choices.below(6) {
            0 => text.extend_from_slice(b"0\r\n\r\n"),
            1 => text.extend_from_slice(choices.of(&ODD)),
            _ => {
                let data = choices.bytes(40);
                text.extend_from_slice(format!("{:X}\r\n", data.len()).as_bytes());
                text.extend_from_slice(&data);
                text.extend_from_slice(b"\r\n");
            }
        }
    }
    let cuts = (0..choices.below(60)).map(|_| 1 + choices.below(8));
    (text, cuts.collect())
}

#[test]
fn chunks_decode_the_same_however_they_are_cut() {
    let (ended, refused) = (Tally::default(), Tally::default());
    let check = bolero::check!().with_generator(fuzz::from(nearly_chunked));
    check.with_iterations(400).for_each(|(bytes, cuts)| {
        let whole = decode(bytes, &[]);
        let cut = decode(bytes, cuts);
        // A refusal may come earlier or later, so what came before it may differ.
        assert_eq!(whole.3, cut.3);
        if !whole.3 {
            assert_eq!(whole, cut);
        }
        ended.count(whole.2);
        refused.count(whole.3);
        if let Some((data, left)) = reference(bytes) {
            assert_eq!((whole.0, whole.2, whole.4), (data, true, left));
        }
    });
    ended.both("chunked bodies at their end", 10);
    refused.both("chunked bodies refused", 10);
}

/// T9: any answers in any cuts are what they are in one piece, and never more than was framed.
#[test]
fn t9_answers_are_read_the_same_in_any_cuts_and_framed_once() {
    let (whole, refused) = (Tally::default(), Tally::default());
    let check = bolero::check!().with_generator(fuzz::from(answers));
    check
        .with_iterations(400)
        .for_each(|(method, bytes): &(Method, Cut)| {
            let at_once = Read::all(method, [&bytes.bytes[..]]);
            let in_pieces = Read::all(method, bytes.pieces());
            assert_eq!(at_once.refused, in_pieces.refused);
            assert_eq!(at_once.seen.len(), in_pieces.seen.len());
            for (one, other) in at_once.seen.iter().zip(&in_pieces.seen) {
                assert_eq!((&one.start, &one.fields), (&other.start, &other.fields));
                let ends = [one.end, other.end].map(|end| matches!(end, End::Whole(_)));
                assert_eq!(ends[0], ends[1]);
                if one.end != End::Broken {
                    assert_eq!((&one.data, &one.trailers), (&other.data, &other.trailers));
                }
            }
            for head in &at_once.heads {
                is_framed_once(head, method);
            }
            let lengths = at_once.heads.iter().zip(&at_once.seen);
            for (head, seen) in lengths {
                if let Some(length) = head.length {
                    assert!(seen.data.len() as u64 <= length, "more than was framed");
                    assert!(!matches!(seen.end, End::Whole(_)) || seen.data.len() as u64 == length);
                }
            }
            whole.count(
                at_once
                    .seen
                    .iter()
                    .any(|one| matches!(one.end, End::Whole(_))),
            );
            refused.count(at_once.refused);
        });
    whole.both("answers that are whole", 20);
    refused.both("answers that are refused", 10);
}

/// What two readers could frame differently has not come through.
fn is_framed_once(head: &Framed, method: &Method) {
    let lengths: Vec<_> = head.fields.all(b"content-length").collect();
    let codings: Vec<_> = head.fields.all(b"transfer-encoding").collect();
    assert!(lengths.is_empty() || codings.is_empty(), "both framings");
    assert!(codings.len() <= 1, "two codings");
    assert!(
        codings
            .iter()
            .all(|coding| coding.eq_ignore_ascii_case(b"chunked"))
    );
    for length in &lengths {
        assert!(
            !length.is_empty() && length.iter().all(u8::is_ascii_digit),
            "{length:?}"
        );
    }
    if *method == Method::HEAD {
        assert_eq!(head.length, Some(0));
    }
    for (name, value) in head.fields.iter() {
        assert!(
            name.iter()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
        );
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    }
}

#[test]
fn no_bytes_make_the_head_parser_panic() {
    let bytes = fuzz::from(|choices| {
        let start: &[u8] = match choices.below(3) {
            0 => b"",
            1 => b"HTTP/1.1 200 OK\r\n",
            _ => b"HTTP/1.1 200 OK\r\nx: ",
        };
        let text = [start, &choices.bytes(60), b"\r\n\r\n"].concat();
        choices.cut(text)
    });
    let read = Tally::default();
    let check = bolero::check!().with_generator(bytes);
    check.with_iterations(400).for_each(|bytes: &Cut| {
        let (mut whole, mut searched) = (BytesMut::from(&bytes.bytes[..]), 0);
        let whole = head::parse(&mut whole, &mut searched, &Method::GET);
        let (mut buffer, mut searched, mut cut) = (BytesMut::new(), 0, Ok(None));
        for piece in bytes.pieces() {
            buffer.extend_from_slice(piece);
            cut = head::parse(&mut buffer, &mut searched, &Method::GET);
            if !matches!(cut, Ok(None)) {
                break;
            }
        }
        assert_eq!(whole.is_ok(), cut.is_ok());
        read.count(matches!(whole, Ok(Some(_))));
        for head in [whole, cut].into_iter().flatten().flatten() {
            for (_, value) in head.answer.fields.iter() {
                assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
            }
        }
    });
    read.both("heads of answers read", 1);
}

#[test]
fn trailers_decode_wherever_they_are_split() {
    let text = b"5;ext=1\r\nhello\r\n3\r\nabc\r\n0;x\r\nx-sum: 1\r\nhost: b\r\n\r\nnext";
    let whole = decode(text, &[]);
    assert_eq!(
        whole,
        (b"helloabc".to_vec(), 1, true, false, b"next".to_vec())
    );
    for at in 1..text.len() {
        assert_eq!(decode(text, &[at]), whole, "{at}");
    }
    assert_eq!(decode(text, &[1; 100]), whole);
}

#[test]
fn extensions_are_bounded() {
    let line = format!("1;{}\r\nx\r\n", "e".repeat(200));
    let text = line.repeat(200);
    assert!(decode(text.as_bytes(), &[]).3);
    let long = format!("1;{}\r\nx\r\n", "e".repeat(300));
    assert!(decode(long.as_bytes(), &[]).3);
    let trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(4000));
    assert!(decode(trailers.as_bytes(), &[100; 400]).3);
}
