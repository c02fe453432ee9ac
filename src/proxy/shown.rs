//! The certificate that a client showed, as its worker reads it (RFC 9440).

use bytes::{BufMut, Bytes, BytesMut};

use super::base64;

/// The certificates between a client's and a root are left out where they take more than this: workers
/// refuse heads that are longer than some kilobytes, and nobody needs them who does not check anew.
const CHAIN: usize = 8 << 10;

/// The lines of a head that tell of these certificates, the client's own first. They were verified.
pub(super) fn lines<T: AsRef<[u8]>>(chain: &[T]) -> Option<Bytes> {
    let (leaf, between) = chain.split_first()?;
    let mut lines = BytesMut::new();
    lines.put_slice(b"client-cert: ");
    put_bytes(&mut lines, leaf.as_ref());
    lines.put_slice(b"\r\n");
    let size: usize = between.iter().map(|one| one.as_ref().len()).sum();
    if size > 0 && size <= CHAIN {
        lines.put_slice(b"client-cert-chain: ");
        for (n, one) in between.iter().enumerate() {
            if n > 0 {
                lines.put_slice(b", ");
            }
            put_bytes(&mut lines, one.as_ref());
        }
        lines.put_slice(b"\r\n");
    }
    Some(lines.freeze())
}

/// A byte sequence of structured fields (RFC 8941 §3.3.5): base64 between colons.
fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u8(b':');
    base64::put(out, bytes);
    out.put_u8(b':');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(chain: &[&[u8]]) -> Option<String> {
        let lines = lines(chain)?;
        Some(String::from_utf8(lines.to_vec()).expect("text"))
    }

    #[test]
    fn certificates_are_byte_sequences() {
        assert_eq!(text(&[b"fo"]).as_deref(), Some("client-cert: :Zm8=:\r\n"));
        assert_eq!(
            text(&[b"\xff\xfe\xfd"]).as_deref(),
            Some("client-cert: ://79:\r\n")
        );
        assert_eq!(text(&[]), None);
    }

    #[test]
    fn what_is_between_is_a_list_and_left_out_where_it_is_long() {
        assert_eq!(
            text(&[b"foo", b"f", b"fo"]).as_deref(),
            Some("client-cert: :Zm9v:\r\nclient-cert-chain: :Zg==:, :Zm8=:\r\n")
        );
        let long = vec![0; CHAIN];
        assert!(text(&[b"foo", &long]).is_some_and(|it| it.contains("-chain")));
        assert_eq!(
            text(&[b"foo", &long, b"f"]).as_deref(),
            Some("client-cert: :Zm9v:\r\n")
        );
    }
}
