//! What of the scripted worker speaks HTTP/2 by prior knowledge, as `protocol = "h2c"` wants, and nothing else.

use std::net::TcpListener;

use bytes::Bytes;
use http::Response;

/// In a worker's environment: it is one of these.
pub(crate) const H2C: &str = "TEST_H2C";

/// Answers every request with `h2c` and its generation, for ever.
pub(crate) fn serve(listener: TcpListener, generation: &str) -> ! {
    let text = Bytes::from(format!("h2c {generation}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("it is a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
        loop {
            let (stream, _) = listener.accept().await.expect("accept works");
            let text = text.clone();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if let Ok(mut send) = respond.send_response(Response::new(()), false) {
                        let _ = send.send_data(text.clone(), true);
                    }
                }
            });
        }
    })
}
