//! How a client is listened to whose answer was made before it had sent all: what it still sends is thrown away.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::socket::Socket;

/// A client that still sends what nobody wants is listened to until it is silent for so long, so that our answer is
/// not lost by a reset (HTTP.md §3, early answers).
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// But not for longer, and to no more than so much: many clients look for an answer only behind their whole upload.
const AT_MOST: Duration = Duration::from_secs(10);
const BYTES: usize = 256 << 20;

/// Says that nothing more comes, and throws away what the client still sends.
pub(super) async fn linger(socket: &mut Socket) {
    let mut scratch = vec![0; 64 << 10];
    if let Ok(Ok(())) = timeout(LINGER, socket.shutdown()).await {
        waste(async || match socket.read(&mut scratch).await {
            Ok(0) | Err(_) => None,
            Ok(read) => Some(read),
        })
        .await;
    }
}

/// Throws away piece by piece, each as large as `next` says, until there is none. Whatever goes wrong, it is over next.
pub(super) async fn waste(mut next: impl AsyncFnMut() -> Option<usize>) {
    let rest = async {
        let mut left = BYTES;
        while let Ok(Some(came)) = timeout(LINGER, next()).await {
            match left.checked_sub(came) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = timeout(AT_MOST, rest).await;
}
