//! Bytes nobody thought of, and the same bytes cut anywhere.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::head;
use super::*;
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
fn nearly_chunked() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..40).prop_map(|d| {
            [format!("{:X}\r\n", d.len()).as_bytes(), &d, b"\r\n"].concat()
        }),
        1 => Just(b"0\r\n\r\n".to_vec()),
        1 => prop::sample::select(vec![
            &b"5"[..], b"\r", b"\n", b"\r\n", b"f;x", b"-", b"ffffffffffffffffff", b"00",
        ]).prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn chunks_decode_the_same_however_they_are_cut(
        bytes in nearly_chunked(),
        cuts in prop::collection::vec(1_usize..9, 0..60),
    ) {
        let whole = decode(&bytes, &[]);
        let cut = decode(&bytes, &cuts);
        // A refusal may come earlier or later, so what came before it may differ.
        prop_assert_eq!(whole.3, cut.3);
        if !whole.3 {
            prop_assert_eq!(&whole, &cut);
        }
        if let Some((data, left)) = reference(&bytes) {
            prop_assert_eq!((whole.0, whole.2, whole.4), (data, true, left));
        }
    }

    #[test]
    fn no_bytes_make_the_head_parser_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        like_http in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let start: &[u8] = if like_http { b"HTTP/1.1 200 OK\r\n" } else { b"" };
        let text = [start, &bytes, b"\r\n\r\n"].concat();
        let (mut whole, mut searched) = (BytesMut::from(&text[..]), 0);
        let whole = head::parse(&mut whole, &mut searched, &Method::GET);
        let at = cut.index(text.len());
        let (mut buffer, mut searched) = (BytesMut::from(&text[..at]), 0);
        let mut cut = head::parse(&mut buffer, &mut searched, &Method::GET);
        if matches!(cut, Ok(None)) {
            buffer.extend_from_slice(&text[at..]);
            cut = head::parse(&mut buffer, &mut searched, &Method::GET);
        }
        prop_assert_eq!(whole.is_ok(), cut.is_ok());
    }

    #[test]
    fn no_field_gets_in_a_bare_line_end(value in prop::collection::vec(any::<u8>(), 0..40)) {
        let text = [b"HTTP/1.1 200 OK\r\nx: ", &value[..], b"\r\n\r\n"].concat();
        let (mut buffer, mut searched) = (BytesMut::from(&text[..]), 0);
        if let Ok(Some(head)) = head::parse(&mut buffer, &mut searched, &Method::GET) {
            for (_, value) in head.answer.fields.iter() {
                let bad = |b: &u8| matches!(b, b'\r' | b'\n' | 0);
                prop_assert!(!value.iter().any(bad));
            }
        }
    }
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
