//! How the C library's allocator is to behave in a plane.
//!
//! A thread of glibc keeps seven freed blocks of each size at hand, and looks for all others in a shared
//! heap. A loop that has a hundred requests in flight frees a hundred of each: to keep those too saves a
//! twentieth of its instructions, for at most a few MiB. There is no call for it, only a variable that is
//! read at the start (`glibc.malloc.tcache_count` in the GNU C library's manual, "Memory Allocation
//! Tunables"); other C libraries do not know it.

use std::ffi::{OsStr, OsString};

/// The variable.
const NAME: &str = "GLIBC_TUNABLES";
/// Which of the tunables, and what for.
const COUNT: &str = "glibc.malloc.tcache_count";
const BLOCKS: &str = "256";

/// The variable for a plane, given our own. What somebody has set of this tunable stays.
#[must_use]
pub fn variable(ours: Option<&OsStr>) -> (&'static str, OsString) {
    let mut value = ours.unwrap_or_default().to_owned();
    let is_set = value.to_string_lossy().contains(COUNT);
    if !is_set {
        if !value.is_empty() {
            value.push(":");
        }
        value.push(format!("{COUNT}={BLOCKS}"));
    }
    (NAME, value)
}

/// What is set of it here.
pub(super) fn ours() -> Option<OsString> {
    std::env::var_os(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_already_stays() {
        for (ours, expected) in [
            (None, "glibc.malloc.tcache_count=256"),
            (Some(""), "glibc.malloc.tcache_count=256"),
            (
                Some("glibc.malloc.arena_max=1"),
                "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=256",
            ),
            (
                Some("glibc.malloc.tcache_count=0"),
                "glibc.malloc.tcache_count=0",
            ),
        ] {
            let (name, value) = variable(ours.map(OsStr::new));
            assert_eq!((name, value.to_str()), ("GLIBC_TUNABLES", Some(expected)));
        }
    }
}
