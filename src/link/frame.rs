//! One frame: eight bytes of header (length of the body and count of descriptors, both `u32`, little
//! endian), then the body in postcard. Descriptors travel with the header's bytes, at most 253 with each.
//!
//! Pure but for the descriptors it holds; [`super::channel`] and the exec shim do the reading and writing.
//! Whatever arrives, it ends in a value or an error, and holds at most one frame and what one read brought.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::MAX_FRAME;
use crate::sys::MAX_FDS_PER_MESSAGE;

/// Length of a frame's header.
pub const HEADER: usize = 8;
/// Most descriptors beside one frame: each of the header's bytes can carry one message's worth.
pub const MAX_FDS: usize = HEADER * MAX_FDS_PER_MESSAGE;

/// A frame's bytes, header included.
///
/// # Errors
/// `InvalidInput` if the message does not encode, or it or its descriptors are over the limit.
pub fn encode<T: Serialize>(message: &T, fds: usize) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, vec![0; HEADER])
        .map_err(|error| refused(format!("cannot encode a message: {error}")))?;
    let body = bytes.len() - HEADER;
    if body > MAX_FRAME {
        return Err(refused(format!("a message of {body} bytes is too long")));
    }
    if fds > MAX_FDS {
        return Err(refused(format!("{fds} descriptors are too many")));
    }
    for (half, number) in [body, fds].into_iter().enumerate() {
        let number = u32::try_from(number).expect("both limits are below 2^32");
        bytes[half * 4..half * 4 + 4].copy_from_slice(&number.to_le_bytes());
    }
    Ok(bytes)
}

/// Which bytes of a frame, and which of its descriptors, go into the next message, if so many
/// bytes and descriptors have gone already.
#[must_use]
pub fn next_part(length: usize, sent: usize, fds: usize, fds_sent: usize) -> (usize, usize) {
    let left = fds - fds_sent;
    if left > MAX_FDS_PER_MESSAGE {
        (sent + 1, fds_sent + MAX_FDS_PER_MESSAGE)
    } else {
        (length, fds)
    }
}

/// Puts frames together from what was read.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Takes what one read brought.
    ///
    /// # Errors
    /// `InvalidData` if the peer sends more descriptors than any frame may have.
    pub fn push(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
        // One read brings the descriptors of one message, so a frame's worth plus one is enough.
        if self.fds.len() > MAX_FDS + MAX_FDS_PER_MESSAGE {
            return Err(broken("the peer sends descriptors without end"));
        }
        Ok(())
    }

    /// The next frame, if it is whole.
    ///
    /// # Errors
    /// `InvalidData` if the peer breaks the format; the link is to be given up.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (Some(length), Some(count)) = (self.number(0), self.number(1)) else {
            return Ok(None);
        };
        if length > MAX_FRAME {
            return Err(broken(format!(
                "the peer announces a frame of {length} bytes"
            )));
        }
        if count > MAX_FDS {
            return Err(broken(format!("the peer announces {count} descriptors")));
        }
        let end = HEADER + length;
        let Some(body) = self.bytes.get(HEADER..end) else {
            return Ok(None);
        };
        let (message, rest) = postcard::take_from_bytes(body)
            .map_err(|error| broken(format!("the peer's message does not decode: {error}")))?;
        if !rest.is_empty() {
            return Err(broken("the peer's message has bytes left over"));
        }
        if self.fds.len() < count {
            return Err(broken("the peer's message lacks descriptors it announced"));
        }
        let fds = self.fds.drain(..count).collect();
        self.bytes.drain(..end);
        if self.bytes.is_empty() && !self.fds.is_empty() {
            return Err(broken("the peer sent descriptors it did not announce"));
        }
        Ok(Some((message, fds)))
    }

    /// Nothing is held: the stream may end here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.fds.is_empty()
    }

    fn number(&self, index: usize) -> Option<usize> {
        let bytes = self.bytes.get(index * 4..index * 4 + 4)?;
        let number = u32::from_le_bytes(bytes.try_into().ok()?);
        usize::try_from(number).ok()
    }
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Decoder, encode};
    use crate::link::message::{FromPlane, MAX_FRAME, ToPlane};

    #[test]
    fn too_long_a_message_is_refused_before_it_is_sent() {
        assert!(encode(&"x".repeat(MAX_FRAME - 8), 0).is_ok());
        assert!(encode(&"x".repeat(MAX_FRAME), 0).is_err());
    }

    #[test]
    fn an_announced_length_over_the_limit_is_an_error_at_once() {
        let mut decoder = Decoder::default();
        let header = [&u32::MAX.to_le_bytes()[..], &[0; 4]].concat();
        decoder.push(&header, Vec::new()).expect("no descriptors");
        assert!(decoder.take::<String>().is_err());
    }

    #[test]
    fn missing_descriptors_and_left_over_bytes_are_errors() {
        for (text, fds) in [("a", 1), ("ab", 0)] {
            let mut decoder = Decoder::default();
            let mut frame = encode(&text, fds).expect("short");
            if fds == 0 {
                frame[HEADER_LENGTH_BYTE] += 1;
                frame.push(0);
            }
            decoder.push(&frame, Vec::new()).expect("no descriptors");
            assert!(decoder.take::<String>().is_err(), "{text}");
        }
    }

    const HEADER_LENGTH_BYTE: usize = 0;

    proptest! {
        /// T17: whatever a plane sends, the supervisor gets a message or an error.
        #[test]
        fn t17_hostile_bytes_give_a_message_or_an_error(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            short in any::<bool>(),
        ) {
            let mut decoder = Decoder::default();
            for chunk in chunks {
                let mut bytes = chunk;
                if short && bytes.len() > 8 {
                    // A plausible header, so that bodies are reached as well.
                    let body = u32::try_from(bytes.len() - 8).expect("small");
                    bytes[..4].copy_from_slice(&body.to_le_bytes());
                    bytes[4..8].copy_from_slice(&[0; 4]);
                }
                decoder.push(&bytes, Vec::new()).expect("no descriptors");
                loop {
                    match decoder.take::<FromPlane>() {
                        Ok(Some(_message)) => {}
                        Ok(None) => break,
                        Err(_broken) => return Ok(()),
                    }
                }
            }
        }

        #[test]
        fn frames_survive_any_cutting(numbers in prop::collection::vec(any::<u64>(), 1..30), cut in 1_usize..40) {
            let mut stream = Vec::new();
            for number in &numbers {
                stream.extend(encode(&ToPlane::Ping(*number), 0).expect("short"));
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.push(piece, Vec::new()).expect("no descriptors");
                while let Some((message, _fds)) = decoder.take::<ToPlane>().expect("well-formed") {
                    let ToPlane::Ping(number) = message else { panic!("another message") };
                    seen.push(number);
                }
            }
            prop_assert_eq!(seen, numbers);
            prop_assert!(decoder.is_empty());
        }
    }
}
