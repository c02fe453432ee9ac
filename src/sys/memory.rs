//! What the C library's allocator keeps.

/// Gives memory that was freed and that nobody uses back to the system. Other C libraries than glibc do so by
/// themselves, or cannot.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
