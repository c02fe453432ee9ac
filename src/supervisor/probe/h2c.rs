//! A probe in HTTP/2 without TLS: one stream on a connection of its own.

use tokio::io::{AsyncRead, AsyncWrite};

use super::cut;

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
            Ok(response) => Ok(Some(response.status())),
            Err(error) if error.is_reset() && error.is_remote() => Ok(None),
            Err(error) => Err(no_http2(error)),
        }
    };
    let status = tokio::select! {
        biased;
        status = exchange => status?,
        ended = connection => return match ended {
            Ok(()) => Err(cut(&[])),
            Err(error) => Err(no_http2(error)),
        },
    };
    match (path, status) {
        (None, _) => Ok(()),
        (Some(_), Some(status)) if (200..400).contains(&status.as_u16()) => Ok(()),
        (Some(_), Some(status)) => Err(format!("GET {target} answered {}", status.as_u16())),
        (Some(_), None) => Err(format!("GET {target} was refused")),
    }
}
