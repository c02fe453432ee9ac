//! What a process of root's may do beyond any other user's, given up for good.

use std::io;
use std::ptr;

use nix::errno::Errno;

/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION: u32 = 0x2008_0522;
/// More than any kernel knows; it says where its own end.
const MOST: libc::c_ulong = 64;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps every capability but those `kept` (by bit) from whatever this thread executes.
pub fn bound_capabilities(kept: u64) {
    for capability in 0..MOST {
        if kept >> capability & 1 == 1 {
            continue;
        }
        // SAFETY: no memory is involved.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        // EINVAL: there are no more. EPERM: we are nobody to whom an exec could give one.
        if done != 0 {
            break;
        }
    }
}

/// Gives up every capability of this thread but those `kept`, for itself and for what it may ever execute.
/// What it does not have it does not get. To be called before there is a second thread.
///
/// # Errors
/// The system's.
pub fn keep_capabilities(kept: u64) -> io::Result<()> {
    bound_capabilities(kept);
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut words = [Word::default(); 2];
    // SAFETY: header and words outlive the call, and version 3 has two words.
    let got = unsafe {
        libc::syscall(
            libc::SYS_capget,
            ptr::from_mut(&mut header),
            words.as_mut_ptr(),
        )
    };
    Errno::result(got)?;
    // What is ambient goes with what is inheritable.
    for (word, kept) in words.iter_mut().zip([low(kept), low(kept >> 32)]) {
        word.permitted &= kept;
        word.effective = word.permitted;
        word.inheritable = 0;
    }
    // SAFETY: as above; the kernel only reads.
    let set =
        unsafe { libc::syscall(libc::SYS_capset, ptr::from_mut(&mut header), words.as_ptr()) };
    Errno::result(set)?;
    Ok(())
}

fn low(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}
