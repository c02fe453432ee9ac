//! What a tunnel has to know of WebSocket (RFC 6455): whether its ends have said that it is over; if it is cut,
//! whether a frame of ours may come now, and which one says that the service restarts. And what the answer to a handshake has to say.

use bytes::BytesMut;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use super::base64;

/// A close frame with the status 1012, "service restart" (RFC 6455 §5.5.1 and §7.4, IANA's registry): clients that
/// know it come back after a random while, and tell it from a connection that broke.
pub(super) const SERVICE_RESTART: [u8; 4] = [FIN | CLOSE, 2, 0x03, 0xf4];

/// A close frame with the status 1001, "going away", for a worker: what it hears when a client's page is left. As it
/// stands for a client's it is masked (§5.3), though there is nothing in it that anybody could have chosen.
pub(super) fn going_away(mask: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = mask;
    [FIN | CLOSE, MASKED | 2, a, b, c, d, a ^ 0x03, b ^ 0xe9]
}

/// What follows a key before it is hashed (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server says that has read a handshake's key, and so is none of another protocol (RFC 6455 §4.2.2).
pub(super) fn accept(key: &[u8]) -> BytesMut {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    let mut text = BytesMut::new();
    base64::put(&mut text, hash.finish().as_ref());
    text
}

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
/// The second and third reserved bits: no extension uses them, so this is no WebSocket, whatever was agreed on.
const RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;
/// Two bytes, eight of a long length, four of a mask.
const LONGEST_HEAD: usize = 14;

/// Follows the frames of one direction, however their bytes come, and keeps nothing of them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; LONGEST_HEAD],
    /// Bytes of a head that has begun.
    have: usize,
    /// Bytes of a payload that are to come.
    payload: u64,
    over: bool,
    closed: bool,
}

impl Frames {
    /// These bytes come next.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !self.over {
            let skip =
                usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.payload -= skip as u64;
            let Some((next, rest)) = bytes[skip..].split_first() else {
                return;
            };
            bytes = rest;
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *next;
                self.have += 1;
            }
            if let Some(payload) = self.payload_of_head() {
                self.payload = payload;
                self.have = 0;
            }
        }
    }

    /// Whether a control frame may come now: also between the frames of one message, but not within one, and
    /// not behind a close frame (RFC 6455 §5.4, §5.5.1).
    pub(super) fn may_end(&self) -> bool {
        !self.over && self.have == 0 && self.payload == 0
    }

    /// Whether more is to come: no close frame was there, and all of it was WebSocket.
    pub(super) fn goes_on(&self) -> bool {
        !self.over
    }

    /// Whether a close frame was there: nothing that matters comes behind it.
    pub(super) fn has_closed(&self) -> bool {
        self.closed
    }

    /// What the payload measures, once the head is whole (RFC 6455 §5.2).
    fn payload_of_head(&mut self) -> Option<u64> {
        let [first, second, rest @ ..] = self.head.get(..self.have)? else {
            return None;
        };
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        let (digits, length) = match second & !MASKED {
            126 => (2, None),
            127 => (8, None),
            short => (0, Some(u64::from(short))),
        };
        if rest.len() < digits + mask {
            return None;
        }
        let is_none = first & RESERVED != 0;
        self.closed = !is_none && first & OPCODE == CLOSE;
        self.over = is_none || self.closed;
        let long = rest.iter().take(digits);
        Some(length.unwrap_or_else(|| long.fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_the_rfcs_key_is_the_rfcs() {
        let answer = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    /// A frame of so many bytes.
    fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(mask | u8::try_from(length).expect("short")),
            126..0x1_0000 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).expect("middle").to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(vec![0x88; length]);
        frame
    }

    #[test]
    fn f47_between_frames_is_told_from_within_one_wherever_they_are_cut() {
        let lengths = [0, 1, 125, 126, 127, 300, 0xffff, 0x1_0000];
        // A text, a part of one, its rest, a compressed one, a ping.
        for first in [0x81, 0x01, 0x80, 0xc1, 0x89] {
            for (length, masked) in lengths.iter().flat_map(|of| [(*of, false), (*of, true)]) {
                let bytes = frame(first, length, masked);
                let mut frames = Frames::default();
                assert!(frames.may_end());
                for (at, byte) in bytes.iter().enumerate() {
                    frames.follow(&[*byte]);
                    assert_eq!(frames.may_end(), at + 1 == bytes.len(), "{length} {at}");
                }
                for cut in [1, 2, 7, bytes.len() / 2, bytes.len()] {
                    let mut frames = Frames::default();
                    let both = [&bytes[..], &bytes[..]].concat();
                    both.chunks(cut.max(1)).for_each(|part| frames.follow(part));
                    assert!(frames.may_end());
                }
            }
        }
    }

    #[test]
    fn f47_nothing_follows_a_close_frame_or_what_is_no_websocket() {
        for bytes in [
            &frame(0x88, 2, false)[..],
            &SERVICE_RESTART,
            &going_away([1, 2, 3, 4]),
            b"message 0",
            b"hello",
        ] {
            let mut frames = Frames::default();
            frames.follow(&frame(0x81, 5, false));
            frames.follow(bytes);
            assert!(!frames.may_end(), "{bytes:?}");
            frames.follow(&frame(0x81, 5, false));
            assert!(!frames.may_end() && !frames.goes_on(), "{bytes:?}");
            assert_eq!(frames.has_closed(), bytes[0] == 0x88, "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.follow(bytes);
            frames.follow(&[0xff; 3]);
        });
    }
}
