//! What the admin side listens on, opened before the loop runs, and the token it asks for.

use std::io;
use std::net::SocketAddr;

use crate::admin;
use crate::config::Config;
use crate::supervisor::admin_socket::{AdminPath, AdminSocket};
use crate::supervisor::belonging::Belonging;
use crate::supervisor::premises::OwnToken;
use crate::supervisor::runtime_dir::RuntimeDir;

/// The admin side's sockets.
pub(super) struct Doors {
    pub(super) listeners: admin::Listeners,
    /// Where the page is.
    pub(super) tcp_address: Option<SocketAddr>,
    /// Where metrics alone are.
    pub(super) metrics_address: Option<SocketAddr>,
    /// Removes the unix socket's path when it goes.
    pub(super) path: AdminPath,
}

/// Opens them.
///
/// # Errors
/// A sentence; the default address alone may be taken.
pub(super) async fn open_doors(config: &Config) -> Result<Doors, String> {
    let (unix, path) = AdminSocket::bind(&config.admin.socket)?.into_parts();
    unix.set_nonblocking(true)
        .map_err(|error| error.to_string())?;
    let unix = tokio::net::UnixListener::from_std(unix).map_err(|error| error.to_string())?;
    let mut tcp = None;
    if let Some(address) = config.admin.address {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => tcp = Some(listener),
            Err(error) if config.admin.address_named => {
                return Err(format!(
                    "cannot listen on the admin address {address}: {error}; choose another with `--admin ADDR`, or `--admin off`"
                ));
            }
            Err(error) => tracing::warn!(
                "the default admin address {address} cannot be used ({error}); going on with the unix socket alone; name another with `--admin ADDR`"
            ),
        }
    }
    let mut metrics = None;
    if let Some(address) = config.metrics {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            format!("cannot listen on the metrics address {address}: {error}; choose another with `--metrics ADDR`")
        })?;
        metrics = Some(listener);
    }
    let tcp_address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
    let metrics_address = metrics
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    Ok(Doors {
        listeners: admin::Listeners { unix, tcp, metrics },
        tcp_address,
        metrics_address,
        path,
    })
}

/// The operator's token, or a fresh one in the runtime directory, which is removed at the end.
pub(super) fn token(
    config: &Config,
    runtime: &RuntimeDir,
) -> Result<(admin::Token, Option<OwnToken>), String> {
    if let Some(named) = &config.admin.token_file {
        return Ok((
            admin::Token::read(named).map_err(|error| error.to_string())?,
            None,
        ));
    }
    let path = runtime.path().join("token");
    let wrong =
        |error: io::Error| format!("cannot write the token file {}: {error}", path.display());
    let token = admin::Token::create(&path).map_err(wrong)?;
    let kept = Some(Belonging::at(&path).map_err(wrong)?);
    let own = OwnToken {
        path,
        token: token.clone(),
        kept,
    };
    Ok((token, Some(own)))
}
