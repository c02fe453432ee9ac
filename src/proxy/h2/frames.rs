//! Frames of HTTP/2 in a stream of bytes that comes in pieces: what is to be seen without taking them apart.

/// What precedes the first frame (RFC 9113 §3.4).
pub(super) const PREFACE: usize = 24;
/// A head, and of a payload what is looked at.
const HEAD: usize = 9;
const LOOKED_AT: usize = HEAD + 4;

// Kinds and flags (RFC 9113 §6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// A frame, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) length: u32,
    /// The first bytes of its payload, as many as were looked at.
    pub(super) payload: [u8; LOOKED_AT - HEAD],
}

impl Frame {
    pub(super) fn is(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Finds the frames in a stream of bytes that comes in pieces.
#[derive(Debug)]
pub(super) struct Frames {
    /// The begin of the next one, of which so much is here.
    begin: [u8; LOOKED_AT],
    here: usize,
    /// So much passes before it begins, of a frame of this kind.
    skip: usize,
    kind: u8,
    /// A block of fields has begun, and the last of its frames has not.
    in_block: bool,
}

impl Frames {
    pub(super) fn behind(skip: usize) -> Self {
        Self {
            begin: [0; LOOKED_AT],
            here: 0,
            skip,
            // What is before the first frame has a limit of its own.
            kind: DATA,
            // The settings belong to what precedes them.
            in_block: skip > 0,
        }
    }

    /// How much of the next frame has to be here before it is counted.
    fn wanted(&self) -> usize {
        if self.here < HEAD {
            return HEAD;
        }
        let looked_at = match (self.begin[3], self.begin[4]) {
            (WINDOW_UPDATE, _) => 4,
            (DATA, flags) if flags & PADDED != 0 => 1,
            _ => 0,
        };
        HEAD + looked_at.min(self.length())
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.begin;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    /// Something has begun that is no piece of a body, and its rest is to come. It may be as little as the
    /// first bytes of a frame, of which the kind is not known.
    pub(super) fn are_within_head(&self) -> bool {
        let of_body = self.here > 3 && self.begin[3] == DATA;
        let begun = self.here > 0 && !of_body;
        self.in_block || begun || (self.skip > 0 && self.kind != DATA)
    }

    /// These bytes come next. True if all was whole at some place in them, or before.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) -> bool {
        let mut whole = false;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            whole |= self.skip == 0 && self.here == 0 && !self.in_block;
            let wanted = self.wanted();
            let taken = (wanted - self.here).min(bytes.len());
            self.begin[self.here..self.here + taken].copy_from_slice(&bytes[..taken]);
            self.here += taken;
            bytes = &bytes[taken..];
            if self.here < wanted {
                return whole;
            }
            if self.here < self.wanted() {
                continue;
            }
            let length = self.length();
            self.kind = self.begin[3];
            match self.kind {
                HEADERS | CONTINUATION => self.in_block = self.begin[4] & END_HEADERS == 0,
                SETTINGS => self.in_block = false,
                _ => {}
            }
            let [.., a, b, c, d] = self.begin;
            each(Frame {
                kind: self.kind,
                flags: self.begin[4],
                // Three bytes.
                length: u32::try_from(length).unwrap_or(u32::MAX),
                payload: [a, b, c, d],
            });
            self.skip = length - (self.here - HEAD);
            self.begin = [0; LOOKED_AT];
            self.here = 0;
        }
    }
}

/// One on stream 1, for tests.
#[cfg(test)]
pub(super) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{self, Choices, Cut};

    /// The frames of a connection, and what it sends, in pieces.
    type Sent = (Vec<(u8, u8, Vec<u8>)>, Cut);

    fn sent(choices: &mut Choices<'_>) -> Sent {
        let count = choices.below(12);
        let one = |choices: &mut Choices<'_>| {
            let kind = u8::try_from(choices.below(12)).unwrap_or_default();
            (kind, choices.byte(), choices.bytes(40))
        };
        let frames: Vec<_> = (0..count).map(|_| one(choices)).collect();
        let mut all = vec![b'P'; PREFACE];
        for (kind, flags, payload) in &frames {
            all.extend(frame(*kind, *flags, payload));
        }
        (frames, choices.cut(all))
    }

    #[test]
    fn frames_are_found_wherever_the_pieces_end() {
        let check = bolero::check!().with_generator(fuzz::from(sent));
        let check = check.with_iterations(300);
        check.for_each(|(frames, stream): &Sent| {
            let (mut found, mut parser) = (Vec::new(), Frames::behind(PREFACE));
            for piece in stream.pieces() {
                parser.pass(piece, |frame| found.push(frame));
            }
            assert_eq!(found.len(), frames.len());
            for (found, (kind, flags, payload)) in found.iter().zip(frames) {
                assert_eq!((found.kind, found.flags), (*kind, *flags));
                assert_eq!(usize::try_from(found.length), Ok(payload.len()));
                if *kind == WINDOW_UPDATE && payload.len() >= 4 {
                    assert_eq!(&found.payload[..], &payload[..4]);
                }
            }
        });
    }

    /// Whether a head is half here behind so many bytes, and whether all is whole there.
    fn state(frames: &[(u8, u8, Vec<u8>)], at: usize) -> (bool, bool) {
        let (mut begin, mut in_block) = (PREFACE, true);
        if at < begin {
            return (true, false);
        }
        for (kind, flags, payload) in frames {
            let end = begin + HEAD + payload.len();
            if at < end {
                let of_body = *kind == DATA && at > begin + 3;
                let begun = at > begin && !of_body;
                return (in_block || begun, at == begin && !in_block);
            }
            match *kind {
                HEADERS | CONTINUATION => in_block = flags & END_HEADERS == 0,
                SETTINGS => in_block = false,
                _ => {}
            }
            begin = end;
        }
        (in_block, !in_block)
    }

    #[test]
    fn half_a_head_is_known_wherever_the_pieces_end() {
        let check = bolero::check!().with_generator(fuzz::from(sent));
        let check = check.with_iterations(300);
        check.for_each(|(frames, stream): &Sent| {
            let (mut parser, mut at) = (Frames::behind(PREFACE), 0);
            for piece in stream.pieces() {
                let was_whole = parser.pass(piece, |_| {});
                let end = at + piece.len();
                let some_whole = (at..=end).any(|at| state(frames, at).1);
                assert_eq!(was_whole, some_whole, "{at}..{end}");
                assert_eq!(parser.are_within_head(), state(frames, end).0, "{end}");
                at = end;
            }
        });
    }
}
