//! A probe in HTTP/1.1: one `GET` on a connection that ends with it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{EXCERPT, MOMENT, cut, why};
use crate::supervisor::text::excerpt;

/// Most bytes read of an answer.
const LONGEST: usize = 16 << 10;
/// Most header fields looked at.
const FIELDS: usize = 100;

/// Asks over a connection that stands.
///
/// # Errors
/// What came instead of an answer, in a sentence.
pub(super) async fn ask_http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: Option<&str>,
) -> Result<(), String> {
    let target = path.unwrap_or("/");
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: remuda-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| why(&error))?;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = final_head(&bytes)? {
            break head;
        }
        if read_more(&mut stream, &mut bytes).await? == 0 {
            return Err(cut(&bytes));
        }
        if bytes.len() > LONGEST {
            return Err(format!("not HTTP: no end of the header in {LONGEST} bytes"));
        }
    };
    if path.is_none() || (200..400).contains(&head.status) {
        return Ok(());
    }
    let problem = format!("GET {target} answered {}", head.status);
    // The reason may be in the body; it is shown as far as it comes before the time is over. The caller's
    // time limit would lose the status, so a body that does not come is not waited for.
    let body = async {
        while bytes.len() < head.length + EXCERPT {
            match read_more(&mut stream, &mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    let _ = tokio::time::timeout(MOMENT, body).await;
    let mut body = &bytes[head.length..];
    if head.is_chunked {
        // The first chunk is enough; its length is not of interest.
        let start = body
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        body = &body[start..];
        let end = body
            .windows(2)
            .position(|two| two == b"\r\n")
            .unwrap_or(body.len());
        body = &body[..end];
    }
    let body = body.trim_ascii();
    if body.is_empty() {
        Err(problem)
    } else {
        Err(format!("{problem}: {}", excerpt(body, EXCERPT)))
    }
}

/// A final answer's head.
struct Head {
    status: u16,
    length: usize,
    is_chunked: bool,
}

/// The head of the final answer, past informational ones; `None` if it is not whole yet.
fn final_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut skipped = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let parsed = answer.parse(&bytes[skipped..]).map_err(|error| {
            if matches!(bytes, [0, 0, _, 4, ..]) {
                return "it speaks HTTP/2 only: set `protocol = \"h2c\"`".to_owned();
            }
            format!("not HTTP: {error}: {}", excerpt(&bytes[skipped..], EXCERPT))
        })?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        skipped += length;
        let status = answer.code.unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let is_chunked = answer.headers.iter().any(|field| {
            field.name.eq_ignore_ascii_case("transfer-encoding")
                && field.value.to_ascii_lowercase().ends_with(b"chunked")
        });
        return Ok(Some(Head {
            status,
            length: skipped,
            is_chunked,
        }));
    }
}

async fn read_more(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<usize, String> {
    let mut chunk = [0; 2048];
    let length = match stream.read(&mut chunk).await {
        Ok(length) => length,
        Err(error) => return Err(why(&error)),
    };
    bytes.extend_from_slice(&chunk[..length]);
    Ok(length)
}
