//! Who listens on a worker's port: a stranger that took it first may answer probes as well as the worker
//! would (F18), and must not get a client's request.

use std::collections::BTreeSet;
use std::fs;

/// Whether one of these processes holds a listening socket on the port. `None` if it cannot be told: the
/// tables or the processes' descriptors may not be read.
#[must_use]
pub(super) fn is_held_by(port: u16, pids: &[u32]) -> Option<bool> {
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A kernel without IPv6 has no second table.
        if let Ok(text) = fs::read_to_string(table) {
            inodes.extend(listening(&text, port));
        }
    }
    if inodes.is_empty() || pids.is_empty() {
        return None;
    }
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let inode = target
                .to_str()
                .and_then(|name| name.strip_prefix("socket:["))
                .and_then(|name| name.strip_suffix(']'))
                .and_then(|number| number.parse::<u64>().ok());
            if inode.is_some_and(|inode| inodes.contains(&inode)) {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// Inodes of the sockets that listen on the port, of a `/proc/net/tcp` table (proc_net_tcp.rst).
fn listening(table: &str, port: u16) -> impl Iterator<Item = u64> + '_ {
    const LISTEN: &str = "0A";
    table.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state) = (words.get(1)?, words.get(3)?);
        let number = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (number == port && *state == LISTEN).then(|| words.get(9)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::is_held_by;

    #[test]
    fn f18_the_holder_of_a_port_is_known_and_a_stranger_is_not_taken_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(is_held_by(port, &[std::process::id()]), Some(true));
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep is there");
        let held = is_held_by(port, &[other.id()]);
        other.kill().expect("it lives");
        other.wait().expect("it is ours");
        assert_eq!(held, Some(false));
        drop(listener);
        assert_eq!(
            is_held_by(port, &[std::process::id()]),
            None,
            "nobody listens"
        );
    }
}
