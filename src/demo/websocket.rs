//! As much of RFC 6455 as an echo needs, on both ends: short unfragmented frames, masked by the client.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::worker::empty;

/// The example key of RFC 6455 §1.3 and the answer to it. With one key that is known, neither end needs
/// SHA-1; browsers make up their own, so this echo is for the demo's own load only.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`].
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A text frame's opcode.
pub(super) const TEXT: u8 = 1;
/// A close frame's opcode.
pub(super) const CLOSE: u8 = 8;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// What masks the client's bytes. It is there for middleboxes' sake; here any will do.
const MASK: [u8; 4] = [7, 1, 9, 3];

/// Accepts a handshake and echoes in the background until the other end closes; nothing if it is none.
pub(super) fn accept(request: Request<Incoming>) -> Option<Response<BoxBody<Bytes, hyper::Error>>> {
    if request.headers().get("sec-websocket-key")? != KEY {
        return None;
    }
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::from_static(ACCEPT));
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            // Ends with the connection, however that ends.
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    Some(response)
}

async fn echo(mut connection: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        let (opcode, words) = read(&mut connection).await?;
        connection.write_all(&frame(opcode, &words, false)?).await?;
        connection.flush().await?;
        if opcode == CLOSE {
            return connection.shutdown().await;
        }
    }
}

/// One frame in bytes.
pub(super) fn frame(opcode: u8, words: &[u8], masked: bool) -> io::Result<Vec<u8>> {
    let length = u8::try_from(words.len())
        .ok()
        .filter(|length| *length < 126);
    let length = length.ok_or_else(|| io::Error::other("a frame of the demo is short"))?;
    let mut frame = vec![FINAL | opcode, length];
    if masked {
        frame[1] |= MASKED;
        frame.extend_from_slice(&MASK);
        frame.extend(words.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    } else {
        frame.extend_from_slice(words);
    }
    Ok(frame)
}

/// Reads one frame: its opcode and its words.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    from.read_exact(&mut head).await?;
    let length = head[1] & !MASKED;
    if length >= 126 {
        return Err(io::Error::other("a frame of the demo is short"));
    }
    let mut mask = [0; 4];
    if head[1] & MASKED != 0 {
        from.read_exact(&mut mask).await?;
    }
    let mut words = vec![0; length.into()];
    from.read_exact(&mut words).await?;
    for (byte, mask) in words.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((head[0] & 0x0f, words))
}

#[cfg(test)]
mod tests {
    use super::{CLOSE, TEXT, echo, frame, read};
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn what_is_sent_comes_back() {
        let (ours, theirs) = tokio::io::duplex(64);
        let echoing = tokio::spawn(echo(theirs));
        let (mut reader, mut writer) = tokio::io::split(ours);
        for opcode in [TEXT, CLOSE] {
            let sent = frame(opcode, b"hello", true).expect("short");
            writer.write_all(&sent).await.expect("taken");
            let came = read(&mut reader).await.expect("a frame");
            assert_eq!(came, (opcode, b"hello".to_vec()));
        }
        echoing.await.expect("no panic").expect("clean end");
    }
}
