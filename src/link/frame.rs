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
    use std::fmt::Debug;
    use std::sync::Arc;

    use serde::de::DeserializeOwned;

    use super::{Decoder, HEADER, encode};
    use crate::fuzz::{self, Choices, Cut, Tally};
    use crate::link::message::{FromPlane, MAGIC, MAX_FRAME, PROTOCOL, PublicListener, ToPlane};
    use crate::rollout::Epoch;

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

    /// T17: whatever a plane or a supervisor sends, the other gets a message or an error, and holds no
    /// more than a frame and a read.
    #[test]
    fn t17_hostile_bytes_give_a_message_or_an_error() {
        let decoded = Tally::default();
        let check = bolero::check!().with_generator(fuzz::from(nearly_frames));
        check.with_iterations(400).for_each(|stream: &Cut| {
            let whole = read::<ToPlane>([&stream.bytes[..]]);
            assert_eq!(
                whole,
                read::<ToPlane>(stream.pieces()),
                "cuts change nothing"
            );
            let other = read::<FromPlane>([&stream.bytes[..]]);
            assert_eq!(
                other,
                read::<FromPlane>(stream.pieces()),
                "cuts change nothing"
            );
            decoded.count(!whole.0.is_empty() || !other.0.is_empty());
        });
        decoded.both("streams with a message", 10);
    }

    /// Every message that comes out of the stream, and whether it was given up.
    fn read<'a, T: DeserializeOwned + Debug>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<String>, bool) {
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, Vec::new()).expect("no descriptors");
            loop {
                match decoder.take::<T>() {
                    Ok(Some((message, _fds))) => seen.push(format!("{message:?}")),
                    Ok(None) => break,
                    Err(_broken) => return (seen, true),
                }
            }
            assert!(decoder.bytes.len() <= HEADER + MAX_FRAME + piece.len());
        }
        (seen, false)
    }

    /// Frames of real messages, most of them damaged, and bodies that are nothing.
    fn nearly_frames(choices: &mut Choices<'_>) -> Cut {
        let mut stream = Vec::new();
        for _ in 0..=choices.below(3) {
            let mut frame = match choices.below(3) {
                0 => {
                    let body = choices.bytes(40);
                    let length = u32::try_from(body.len()).expect("short");
                    [&length.to_le_bytes()[..], &[0; 4], &body].concat()
                }
                _ => message(choices),
            };
            if choices.once_in(3) {
                let any = [choices.byte()];
                // Behind the header, for a damaged one ends the stream at once.
                let mut body = frame.split_off(HEADER);
                choices.mutate(
                    &mut body,
                    &[&any, b"\x00", b"\xff", b"\xff\xff\xff\xff\x0f"],
                );
                let length = u32::try_from(body.len()).expect("short");
                frame[..4].copy_from_slice(&length.to_le_bytes());
                frame.extend(body);
            }
            if choices.once_in(8) {
                let at = choices.below(HEADER);
                frame[at] = choices.byte();
            }
            stream.extend(frame);
        }
        choices.cut(stream)
    }

    fn message(choices: &mut Choices<'_>) -> Vec<u8> {
        let number = choices.below(usize::MAX) as u64;
        let hello = FromPlane::Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            build: choices.text(20),
            confinement: None,
        };
        let sample = FromPlane::Sample {
            answers: Some(number),
            sample: Box::default(),
        };
        let exchanges = FromPlane::Exchanges {
            answers: number,
            exchanges: Vec::new(),
        };
        let frame = match choices.below(9) {
            0 => encode(&hello, 0),
            1 => encode(&sample, 0),
            2 => encode(&exchanges, 0),
            3 => encode(&FromPlane::Ack(Epoch(number)), 0),
            4 => encode(&ToPlane::Table(Arc::default()), 0),
            5 => encode(&ToPlane::AccessLog(None), 0),
            6 => encode(&ToPlane::Drain, 0),
            7 => encode(&ToPlane::Ping(number), 0),
            _ => encode(
                &ToPlane::Listeners(vec![PublicListener::Unix("/s".into())]),
                0,
            ),
        };
        frame.expect("short")
    }

    #[test]
    fn frames_survive_any_cutting() {
        let stream = fuzz::from(|choices| {
            let count = 1 + choices.below(29);
            let numbers = (0..count).map(|_| choices.below(usize::MAX) as u64);
            let numbers: Vec<_> = numbers.collect();
            let frame = |number| encode(&ToPlane::Ping(number), 0).expect("short");
            let stream = numbers.iter().copied().flat_map(frame).collect();
            (numbers, choices.cut(stream))
        });
        let check = bolero::check!().with_generator(stream);
        check
            .with_iterations(200)
            .for_each(|(numbers, stream): &(Vec<u64>, Cut)| {
                let mut decoder = Decoder::default();
                let mut seen = Vec::new();
                for piece in stream.pieces() {
                    decoder.push(piece, Vec::new()).expect("no descriptors");
                    while let Some((message, _fds)) =
                        decoder.take::<ToPlane>().expect("well-formed")
                    {
                        let ToPlane::Ping(number) = message else {
                            panic!("another message")
                        };
                        seen.push(number);
                    }
                }
                assert_eq!(&seen, numbers);
                assert!(decoder.is_empty());
            });
    }
}
