//! What keeps the supervisor alive and its secrets in: asked of the kernel at the start, once.

use std::fs;

use nix::sys::prctl;

/// The kernel ends workers before planes, and planes before the supervisor (F67).
const SUPERVISOR: &str = "-900";
const PLANE: &str = "-500";

/// For the supervisor. What is not permitted is not done: a worker's end is survived all the same.
pub(super) fn supervisor() {
    // Before the next step, which takes the file from us. An operator's own number stays.
    if score() == Some(0) {
        let _ = fs::write(SCORE, SUPERVISOR);
    }
    secrets();
}

/// For a plane, which has inherited its supervisor's score. Raising one is always permitted.
pub(crate) fn plane() {
    if score().map(|score| score.to_string()).as_deref() == Some(SUPERVISOR) {
        let _ = fs::write(SCORE, PLANE);
    }
    secrets();
}

/// Environment and memory hold the operator's secrets, and a plane's the keys of certificates: no core dump, no
/// look by others of our user, which workers may be (T14).
pub(super) fn secrets() {
    let _ = prctl::set_dumpable(false);
}

const SCORE: &str = "/proc/self/oom_score_adj";

fn score() -> Option<i32> {
    fs::read_to_string(SCORE).ok()?.trim().parse().ok()
}
