//! Frames over a unix stream socket, with descriptors (SCM_RIGHTS).
