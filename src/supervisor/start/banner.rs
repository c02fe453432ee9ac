//! The first words: where we listen, for a log, or for somebody at a terminal who wants to know what to do next.

use super::doors::Doors;
use crate::config::paths::default_admin_socket;
use crate::config::{Config, TlsFiles};
use crate::link::message::PublicListener;

/// A public listener in words.
pub(super) fn name_of(listener: &PublicListener) -> String {
    match listener {
        PublicListener::Tcp(address) => address.to_string(),
        PublicListener::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The lines of the log.
pub(super) fn announce(listeners: &[String], config: &Config, doors: &Doors) {
    let pid = std::process::id();
    tracing::info!(
        "remuda {} (pid {pid}) listens on {}",
        crate::BUILD,
        listeners.join(", ")
    );
    let page = doors
        .tcp_address
        .map(|address| format!(", page at http://{address}/"))
        .unwrap_or_default();
    tracing::info!("admin socket {}{page}", config.admin.socket.display());
    if let Some(address) = doors.metrics_address {
        tracing::info!("metrics at http://{address}/metrics");
    }
}

/// Listeners as a browser's address line takes them.
fn urls(listeners: &[String], tls: &[Option<TlsFiles>]) -> Vec<String> {
    let tls = tls.iter().map(Option::is_some);
    let all = listeners.iter().zip(tls.chain(std::iter::repeat(false)));
    let url = |(listener, has_tls): (&String, bool)| match listener.strip_prefix("unix:") {
        Some(_) => listener.clone(),
        None if has_tls => format!("https://{listener}"),
        None => format!("http://{listener}"),
    };
    all.map(url).collect()
}

/// The same for somebody who started us in a terminal and wants to know what to do next.
pub(super) fn banner(listeners: &[String], config: &Config, doors: &Doors) -> String {
    let pid = std::process::id();
    let clients = urls(listeners, &config.tls);
    let socket = if config.admin.socket == default_admin_socket() {
        String::new()
    } else {
        format!(" --admin-socket {}", config.admin.socket.display())
    };
    let mut rows = vec![("clients", clients.join(", "))];
    if let Some(address) = doors.tcp_address {
        rows.push((
            "status",
            format!("http://{address}/ or `remuda status{socket}`"),
        ));
    } else {
        rows.push(("status", format!("`remuda status{socket}`")));
    }
    rows.push(("socket", config.admin.socket.display().to_string()));
    if let Some(address) = doors.metrics_address {
        rows.push(("metrics", format!("http://{address}/metrics")));
    }
    rows.push((
        "roll",
        format!("`remuda rollout{socket}` or `kill -USR2 {pid}`"),
    ));
    rows.push((
        "stop",
        format!("Ctrl-C or `kill {pid}`, twice to stop at once"),
    ));
    let mut text = format!("remuda {} (pid {pid})\n", crate::BUILD);
    for (name, value) in rows {
        text.push_str(&format!("  {name:8} {value}\n"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::urls;
    use crate::config::TlsFiles;

    #[test]
    fn a_listener_with_certificates_is_reached_by_https() {
        let listeners = ["127.0.0.1:1", "127.0.0.1:2", "unix:/x"].map(str::to_owned);
        let files = TlsFiles {
            pairs: Vec::new(),
            client_ca: None,
            client_required: false,
        };
        let shown = urls(&listeners, &[None, Some(files), None]);
        assert_eq!(
            shown,
            ["http://127.0.0.1:1", "https://127.0.0.1:2", "unix:/x"]
        );
    }
}
