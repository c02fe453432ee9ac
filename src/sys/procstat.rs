//! What the kernel says of a process: memory, processor time, start, parent, session. For workers, planes
//! and ourselves. Every value is from one read of `/proc/PID/stat`; a process that is gone is `None`.

use std::fs;
use std::time::Duration;

use super::page_size;

/// Clock ticks per second in `/proc`: fixed for user space on Linux.
pub const TICKS: u32 = 100;

/// One process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcStat {
    /// `R`, `S`, `D`, `Z`, `T`, …
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// Its session.
    pub session: u32,
    /// User and system time used so far.
    pub cpu: Duration,
    /// Its threads.
    pub threads: u32,
    /// When it started, in clock ticks since boot: with the pid, its identity (F29).
    pub started: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Resident memory in bytes.
    pub rss: u64,
}

impl ProcStat {
    /// Reads it.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(&String::from_utf8_lossy(&text))
    }

    /// It has ended and only waits to be reaped.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Descriptors a process has open. A directory listing on kernels before 6.2, so for a scrape and not for a loop.
#[must_use]
pub fn open_descriptors(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    // Where the size is their number it can be seen of a process that nobody may look into, as our planes are.
    match fs::metadata(&path).ok()?.len() {
        0 => u64::try_from(fs::read_dir(&path).ok()?.count()).ok(),
        count => Some(count),
    }
}

fn parse(text: &str) -> Option<ProcStat> {
    // The name in parentheses may hold anything, parentheses and spaces too.
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbers as in proc(5), where the state is 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |index: usize| field(index).and_then(|text| text.parse::<u64>().ok());
    let ticks = number(14)?.checked_add(number(15)?)?;
    Some(ProcStat {
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        cpu: Duration::from_millis(ticks.saturating_mul(u64::from(1000 / TICKS))),
        threads: field(20)?.parse().ok()?,
        started: number(22)?,
        virtual_bytes: number(23)?,
        rss: number(24)?.saturating_mul(page_size()),
    })
}

#[cfg(test)]
mod tests {
    use super::{ProcStat, open_descriptors, parse};

    #[test]
    fn our_own_numbers_are_plausible() {
        let pid = std::process::id();
        let stat = ProcStat::of(pid).expect("we exist");
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(stat.rss > 100_000 && stat.virtual_bytes >= stat.rss && stat.started > 0);
        assert!(stat.threads >= 1 && !stat.is_dead());
        assert!(open_descriptors(pid).is_some_and(|count| count >= 3));
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_is_skipped_and_nonsense_is_none() {
        let tail = "S 7 1 9 0 -1 0 0 0 0 0 150 50 0 0 20 0 3 0 777 4096 2 0";
        let stat = parse(&format!("5 (a) b (c)) {tail}")).expect("parses");
        assert_eq!(
            (stat.state, stat.parent, stat.session, stat.started),
            ('S', 7, 9, 777)
        );
        assert_eq!((stat.cpu.as_millis(), stat.threads), (2000, 3));
        assert_eq!(stat.virtual_bytes, 4096);
        assert_eq!(stat.rss, 2 * super::page_size());
        for text in ["", "1 (x", "1 (x) S", "1 (x) S 1 7", "1 (x) S -1 2 3"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
