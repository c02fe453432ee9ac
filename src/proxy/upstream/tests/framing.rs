//! Where an answer ends, and what is no answer.

use super::*;

fn bad_heads() -> Vec<Vec<u8>> {
    let many = "x: y\r\n".repeat(1_025);
    let long = format!("x: {}\r\n", "y".repeat(65 << 10));
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
    let mut heads: Vec<Vec<u8>> = [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: \r\n",
        "content-length: five\r\n",
        "content-length: 18446744073709551616\r\n",
        // Found by fuzzing: others count with a sign, or keep the greatest numbers for themselves.
        "content-length: 18446744073709551615\r\n",
        "content-length: 9223372036854775808\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: \r\n",
        "x: y\n",
        "x: y\rz: 1\r\n",
        "x: y\r\n folded\r\n",
        " x: y\r\n",
        "x : y\r\n",
        "x: a\0b\r\n",
        "x\r\n",
        ": y\r\n",
        &many,
        &long,
    ]
    .into_iter()
    .map(with)
    .collect();
    heads.extend(
        [
            "GET / HTTP/1.1\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "<html>garbage</html>\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        ]
        .map(Vec::from),
    );
    heads
}

#[tokio::test]
async fn t9_an_answer_that_breaks_http_is_no_answer() {
    for head in bad_heads() {
        let client = Client::new();
        let shown = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
        let failed = get(&client, &head).await.expect_err(&shown);
        assert_eq!(failed.kind, SendErrorKind::BadAnswer, "{shown}");
        assert!(failed.sent && failed.answered, "{shown}");
        assert_eq!(client.pool.idle(WORKER), 0);
        assert_eq!(client.notes.told().ended, [false]);
    }
}

#[test]
fn t9_a_bad_head_is_bad_wherever_it_is_split() {
    use bytes::BytesMut;
    for text in bad_heads() {
        // The last is only bad because nobody asked; long ones take too long at each byte.
        if text.starts_with(b"HTTP/1.1 101") || text.len() > 2000 {
            continue;
        }
        for at in 0..text.len() {
            let (mut buffer, mut searched) = (BytesMut::from(&text[..at]), 0);
            let first = head::parse(&mut buffer, &mut searched, &Method::GET);
            if let Ok(head) = first {
                assert!(head.is_none(), "{:?}", String::from_utf8_lossy(&text));
                buffer.extend_from_slice(&text[at..]);
                let whole = head::parse(&mut buffer, &mut searched, &Method::GET);
                assert!(whole.is_err(), "{at}: {:?}", String::from_utf8_lossy(&text));
            }
        }
    }
}

#[tokio::test]
async fn answers_are_framed_as_they_say() {
    // Status line and fields, body as sent, method, body as seen, whether the connection is kept.
    for (head, body, method, seen, kept) in [
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        ("1.1 200 OK\r\ncontent-length: 0", "", Method::GET, "", true),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nconnection: Close",
            "hello",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: timeout=1",
            "hello",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: timeout=3",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "hello more",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK\r\ntransfer-encoding: Chunked",
            "5\r\nhello\r\n0\r\n\r\n",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200 OK\r\ntransfer-encoding: chunked",
            "5;a=\"b\"\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK",
            "until the end",
            Method::GET,
            "until the end",
            false,
        ),
        (
            "1.0 200 OK",
            "until the end",
            Method::GET,
            "until the end",
            false,
        ),
        (
            "1.0 200 OK\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        ("1.1 204 None", "", Method::GET, "", true),
        (
            "1.1 204 None\r\ncontent-length: 0",
            "",
            Method::GET,
            "",
            true,
        ),
        (
            "1.1 204 None\r\ncontent-length: 5",
            "",
            Method::GET,
            "",
            false,
        ),
        ("1.1 204 None", "body", Method::GET, "", false),
        ("1.1 205 Reset", "body", Method::GET, "", false),
        // Found by fuzzing: its body, if there is one, may come later (RFC 9112 §6.3 names 1xx, 204 and 304).
        ("1.1 205 Reset", "", Method::GET, "", false),
        (
            "1.1 205 Reset\r\ncontent-length: 0",
            "",
            Method::GET,
            "",
            true,
        ),
        (
            "1.1 304 Same\r\ncontent-length: 5",
            "",
            Method::GET,
            "",
            true,
        ),
        (
            "1.1 304 Same\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "",
            false,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "",
            Method::HEAD,
            "",
            true,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "hello",
            Method::HEAD,
            "",
            false,
        ),
        (
            "1.1 200 OK\r\ntransfer-encoding: chunked",
            "",
            Method::HEAD,
            "",
            true,
        ),
    ] {
        let client = Client::new();
        let text = format!("HTTP/{head}\r\n\r\n{body}");
        let answered = exchange(&client, method, text.as_bytes())
            .await
            .expect(head);
        let (_, got) = whole(answered).await;
        assert_eq!(got, seen, "{head}");
        assert_eq!(client.pool.idle(WORKER), u32::from(kept), "{text}");
        assert_eq!(client.notes.told().ended, [true], "{head}");
    }
}

#[tokio::test]
async fn f42_a_cut_answer_is_an_error() {
    for (head, body, kind) in [
        ("content-length: 9", "hello", io::ErrorKind::UnexpectedEof),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n",
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n0\r\n",
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhel",
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhelloXX\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "+5\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "0x5\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n0\r\nx: y\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n0\r\n folded\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "\r\n5\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5 x\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5;\0\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
    ] {
        let client = Client::new();
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let answered = get(&client, text.as_bytes()).await.expect("a head");
        let cut = answered.body.collect().await.expect_err(body);
        assert_eq!(cut.kind(), kind, "{body:?}");
        assert_eq!(client.pool.idle(WORKER), 0);
        assert_eq!(client.notes.told().ended, [false], "{body:?}");
    }
}
