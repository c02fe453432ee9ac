//! Who listens on a worker's port: a stranger that took it first may answer probes as well as the worker
//! would (F18), and must not get a client's request.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};

/// The kernel makes a page of a table at a time.
const PAGE: usize = 4096;

/// Whether one of these processes holds a listening socket on the port. `None` if it cannot be told: the
/// tables or the processes' descriptors may not be read.
#[must_use]
pub(super) fn is_held_by(port: u16, pids: &[u32]) -> Option<bool> {
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A kernel without IPv6 has no second table.
        if let Ok(table) = File::open(table) {
            inodes.extend(listening(BufReader::with_capacity(PAGE, table), port));
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

/// Inodes of the sockets that listen on the port, of a `/proc/net/tcp` table (proc_net_tcp.rst). Those that
/// listen stand first; the connections behind them, maybe a hundred thousand, are not read.
fn listening(table: impl BufRead, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let mut inodes = Vec::new();
    for line in table.lines().skip(1).map_while(Result::ok) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (Some(local), Some(&LISTEN)) = (words.get(1), words.get(3)) else {
            break;
        };
        let number = local.rsplit(':').next();
        if number.and_then(|number| u16::from_str_radix(number, 16).ok()) == Some(port) {
            inodes.extend(words.get(9).and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{is_held_by, listening};

    #[test]
    fn only_those_that_listen_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0\n   \
            1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0\n   \
            2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0\n   \
            3: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0\n   \
            4: 0100007F:1F90 0100007F:9998 01 00000000:00000000 00:00000000 00000000     0        0 15 1 0\n";
        let mut rest = table.as_bytes();
        assert_eq!(listening(&mut rest, 0x1f90), [11, 12]);
        assert!(
            rest.ends_with(b" 15 1 0\n"),
            "the second connection is left"
        );
    }

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
