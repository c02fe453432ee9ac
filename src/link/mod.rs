//! The seam between supervisor and data plane: the messages ([`message`]) and their transport
//! ([`channel`]), a stream of length-prefixed frames over a unix socket pair, descriptors beside them.
//!
//! Neither end trusts the other: frames are bounded ([`frame`]), a frame that does not decode ends the link.

pub mod channel;
pub mod frame;
pub mod message;
