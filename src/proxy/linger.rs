//! How a client is listened to whose answer was made before it had sent all: what it still sends is thrown away.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::socket::Socket;

/// A client that still sends what nobody wants is listened to until it is silent for so long, so that our answer is
/// not lost by a reset (HTTP.md §3, early answers).
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// But not for longer, and to no more than so much: many clients look for an answer only behind their whole upload.
pub(super) const LINGER_AT_MOST: Duration = Duration::from_secs(10);
pub(super) const LINGER_BYTES: usize = 256 << 20;

/// Says that nothing more comes, and throws away what the client still sends.
pub(super) async fn linger(socket: &mut Socket) {
    let drain = async {
        socket.shutdown().await?;
        let mut scratch = vec![0; 64 << 10];
        let mut left = LINGER_BYTES;
        loop {
            let read = timeout(LINGER, socket.read(&mut scratch)).await??;
            if read == 0 || left < read {
                return io::Result::Ok(());
            }
            left -= read;
        }
    };
    // Whatever goes wrong, the connection is closed next.
    let _ = timeout(LINGER_AT_MOST, drain).await;
}
