//! The few system calls that need `unsafe` or that no crate wraps, each behind a safe function.
//! No policy lives here: who may call what, and when, is decided by the callers.

#![expect(
    unsafe_code,
    reason = "the one folder where it is allowed; every block says why it is sound"
)]

mod capabilities;
mod descriptors;
mod memory;
mod process;
pub mod procstat;
mod sockets;

pub use capabilities::{bound_capabilities, keep_capabilities};
pub use descriptors::{
    MAX_FDS_PER_MESSAGE, close_on_exec_from, copy_above, given_descriptors, is_exhausted,
    number_descriptors, recv_with_fds, send_with_fds,
};
pub use memory::give_back_memory;
pub use process::{
    Pidfd, WaitStatus, begin_session, die_with_parent, page_size, reap_one, reset_signals,
};
pub use sockets::{readable, receive, unpace, untaken};
