//! A probe in HTTP/2 without TLS: one stream on a connection of its own.

use std::pin::pin;

use h2::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{MOMENT, cut};

/// A worker that refuses the one stream answers, too, if any answer will do: a gRPC server need not know
/// `GET`.
pub(super) async fn ask_h2c(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    path: Option<&str>,
) -> Result<(), String> {
    let target = path.unwrap_or("/");
    let no_http2 = |error: h2::Error| format!("not HTTP/2, as `protocol = \"h2c\"` wants: {error}");
    let (sender, connection) = h2::client::handshake(stream).await.map_err(no_http2)?;
    let request = http::Request::get(format!("http://localhost{target}"))
        .header("user-agent", "remuda-probe")
        .body(())
        .map_err(|error| format!("`{target}` is no path: {error}"))?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(no_http2)?;
        let (response, _) = sender.send_request(request, true).map_err(no_http2)?;
        match response.await {
            Ok(response) => Ok(Some(response.into_parts())),
            Err(error) if error.is_reset() && error.is_remote() => Ok(None),
            Err(error) => Err(no_http2(error)),
        }
    };
    let mut connection = pin!(connection);
    let answer = tokio::select! {
        biased;
        answer = exchange => answer?,
        ended = &mut connection => return match ended {
            Ok(()) => Err(cut(&[])),
            Err(error) => Err(no_http2(error)),
        },
    };
    let status = match answer {
        Some((head, body)) => {
            // Left in the middle of its answer, the application would take each probe for a client that gave up.
            let rest = async {
                tokio::select! {
                    () = pass_over(body) => {}
                    _ = connection => {}
                }
            };
            let _ = tokio::time::timeout(MOMENT, rest).await;
            Some(head.status)
        }
        None => None,
    };
    match (path, status) {
        (None, _) => Ok(()),
        (Some(_), Some(status)) if (200..400).contains(&status.as_u16()) => Ok(()),
        (Some(_), Some(status)) => Err(format!("GET {target} answered {}", status.as_u16())),
        (Some(_), None) => Err(format!("GET {target} was refused")),
    }
}

async fn pass_over(mut body: RecvStream) {
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_answer_is_waited_for_a_moment() {
        for (late, is_left) in [(MOMENT / 2, false), (2 * MOMENT, true)] {
            let (near, far) = tokio::io::duplex(64 << 10);
            let worker = async {
                let mut connection = h2::server::handshake(far).await.expect("HTTP/2");
                let asked = connection.accept().await.expect("a request");
                let (_, mut respond) = asked.expect("a whole one");
                let drives =
                    tokio::spawn(async move { while connection.accept().await.is_some() {} });
                let head = http::Response::new(());
                let mut out = respond.send_response(head, false).expect("heard");
                out.send_data("ok".into(), false).expect("heard");
                tokio::time::sleep(late).await;
                let ended = out.send_data("".into(), true);
                drives.await.expect("no panic");
                ended.is_err()
            };
            let probed = async { ask_h2c(near, Some("/")).await };
            let (probed, left) = tokio::join!(probed, worker);
            assert_eq!((probed, left), (Ok(()), is_left), "{late:?}");
        }
    }
}
