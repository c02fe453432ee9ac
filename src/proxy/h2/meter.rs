//! What a connection's frames cost, and what they bring: a client that sends on and on what moves no
//! request is told to be calm and left (RFC 9113 §10.5, T10).
//!
//! Memory is bounded without it: `h2` holds what is not taken. What a flood of small frames takes is time,
//! and for as long as it likes. So each frame that came has a price, and the frames of answers that went
//! pay for those that belong to them: a download's updates of its window, the PINGs by which a client of
//! gRPC measures its way. Some more are free each second, and many at first.

use super::frames::{
    ACK, CONTINUATION, DATA, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PADDED, PREFACE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE,
};

/// So many frames that bring nothing may come at once: more than a client has that begins all its streams.
const BURST: u32 = 10_000;
/// And so many each second, however little is answered: a thousand PINGs cost less than a millisecond.
const PER_MILLISECOND: u64 = 1;
/// A piece of a body, or a window, smaller than this is small.
const SMALL: u32 = 256;

/// After so many small pieces their streams have a turn. `h2`, which holds them until then, has room for four times
/// as many (see [`SMALL_PIECES`](super::SMALL_PIECES)).
const MANY_PIECES: u32 = 4 << 10;

/// The account of a connection.
#[derive(Debug)]
pub(super) struct Meter {
    came: Frames,
    went: Frames,
    left: u32,
    /// Until when time has paid, on the plane's clock.
    paid: u64,
    overdrawn: bool,
    /// Small pieces of bodies that came since somebody asked.
    small: u32,
    /// Since when a head is half here, on the same clock.
    half_head: Option<u64>,
    /// Bytes of the present head, as they are sent, and how many it may have.
    head: u32,
    longest: u32,
    /// Heads with more, since somebody asked.
    long_heads: u32,
}

impl Meter {
    /// An account that begins now. A head of more than `longest` bytes is told.
    pub(super) fn new(now: u64, longest: u32) -> Self {
        Self {
            came: Frames::behind(PREFACE),
            went: Frames::behind(0),
            left: BURST,
            paid: now,
            overdrawn: false,
            small: 0,
            half_head: None,
            head: 0,
            longest,
            long_heads: 0,
        }
    }

    /// The client sent this.
    pub(super) fn came(&mut self, bytes: &[u8], now: u64) {
        let time = now.saturating_sub(self.paid).min(u64::from(BURST));
        self.paid = self.paid.max(now);
        let time = u32::try_from(time * PER_MILLISECOND).unwrap_or(BURST);
        let left = &mut self.left;
        *left = left.saturating_add(time).min(BURST);
        let overdrawn = &mut self.overdrawn;
        let small = &mut self.small;
        let (head, longest, long_heads) = (&mut self.head, self.longest, &mut self.long_heads);
        let was_whole = self.came.pass(bytes, |frame| {
            let price = frame.price();
            *overdrawn |= price > *left;
            *left = left.saturating_sub(price);
            *small += u32::from(frame.kind == DATA && frame.length < SMALL);
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                let before = if frame.kind == HEADERS { 0 } else { *head };
                *head = before.saturating_add(frame.length);
                *long_heads += u32::from(before <= longest && *head > longest);
            }
        });
        let since = self.half_head.filter(|_| !was_whole).unwrap_or(now);
        self.half_head = self.came.are_within_head().then_some(since);
    }

    /// We sent this.
    pub(super) fn went(&mut self, bytes: &[u8]) {
        let left = &mut self.left;
        self.went.pass(bytes, |frame| {
            let after = left.saturating_add(frame.worth());
            *left = after.saturating_sub(frame.toll()).min(BURST);
        });
    }

    /// Since when the client owes the rest of a head, or of another frame that is no piece of a body.
    pub(super) fn half_head(&self) -> Option<u64> {
        self.half_head
    }

    /// So many small pieces of bodies came that their streams should have a turn, to take them. Asked again, it counts
    /// from the begin.
    pub(super) fn has_many_pieces(&mut self) -> bool {
        let many = self.small >= MANY_PIECES;
        if many {
            self.small = 0;
        }
        many
    }

    /// How many heads were longer than `h2` takes, since somebody asked. Compressed: one may be that long, and not
    /// be seen here.
    pub(super) fn take_long_heads(&mut self) -> u32 {
        std::mem::take(&mut self.long_heads)
    }

    /// It has sent too much for what it asked for. It stays so.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.overdrawn
    }
}

impl Frame {
    /// What one that came costs. Nothing, if it brings a byte of a body.
    fn price(self) -> u32 {
        match self.kind {
            DATA => {
                let padding = match self.is(PADDED) {
                    true => 1 + u32::from(self.payload[0]),
                    false => 0,
                };
                match self.length <= padding && !self.is(END_STREAM) {
                    true => 2,
                    false => 0,
                }
            }
            // A request that is answered brings back more.
            HEADERS => 4,
            // Together with its request it costs more than what an answer brings.
            RST_STREAM => 8,
            // Each may let all streams send a byte. A client sends one or two, and some more as it learns
            // how much its way takes.
            SETTINGS if !self.is(ACK) => SMALL,
            GOAWAY => 16,
            WINDOW_UPDATE => match u32::from_be_bytes(self.payload) {
                // An error, by which it has us reset a stream.
                0 => 16,
                // Twice what the small piece brings that it lets go.
                1..SMALL => 2,
                SMALL.. => 1,
            },
            _ => 1,
        }
    }

    /// What one that went brings.
    fn worth(self) -> u32 {
        match self.kind {
            DATA => 1 + self.length / SMALL,
            HEADERS => 8,
            _ => 0,
        }
    }

    /// What one that went costs all the same: by what it sent the client had us send it (CVE-2025-8671).
    fn toll(self) -> u32 {
        match self.kind {
            RST_STREAM => 4,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::frame;
    use super::*;
    use crate::fuzz::{self, Choices};

    const PING: u8 = 6;

    fn greeted(now: u64) -> Meter {
        let mut meter = Meter::new(now, 1 << 10);
        meter.came(&[b'P'; PREFACE], now);
        assert_eq!(meter.half_head(), Some(now), "the settings are owed");
        meter.came(&frame(SETTINGS, ACK, &[]), now);
        meter.left = BURST;
        meter
    }

    /// How often it is taken, if nothing is answered and no time passes.
    fn endured(frame: &[u8]) -> usize {
        let mut meter = greeted(0);
        let taken = (0..=20_000).take_while(|_| {
            meter.came(frame, 0);
            !meter.is_overdrawn()
        });
        taken.count()
    }

    #[test]
    fn t10_a_head_that_is_too_long_is_told_once_however_it_is_cut() {
        let mut meter = greeted(0);
        let mut told = |kind, length: usize| {
            meter.came(&frame(kind, 0, &vec![0; length]), 0);
            meter.take_long_heads()
        };
        assert_eq!(told(HEADERS, 1 << 10), 0);
        assert_eq!(told(HEADERS, (1 << 10) + 1), 1);
        assert_eq!(told(HEADERS, 1_000), 0);
        assert_eq!([told(CONTINUATION, 24), told(CONTINUATION, 1)], [0, 1]);
        assert_eq!([told(CONTINUATION, 9_000), told(HEADERS, 9)], [0, 0]);
    }

    #[test]
    fn t10_what_brings_nothing_is_taken_for_a_while() {
        let update = |by: u32| frame(WINDOW_UPDATE, 0, &by.to_be_bytes());
        for (name, bytes, wanted) in [
            ("settings", frame(SETTINGS, 0, &[0; 6]), 39),
            ("their acknowledgement", frame(SETTINGS, ACK, &[]), 10_000),
            ("pings", frame(PING, 0, &[7; 8]), 10_000),
            ("priority", frame(2, 0, &[0; 5]), 10_000),
            ("unknown", frame(0x42, 0, &[1; 64]), 10_000),
            ("window", update(65_535), 10_000),
            ("a small window", update(1), 5_000),
            ("none", update(0), 625),
            ("requests", frame(HEADERS, 5, &[0x82]), 2_500),
            ("resets", frame(RST_STREAM, 0, &[0, 0, 0, 8]), 1_250),
            ("empty data", frame(DATA, 0, &[]), 5_000),
            ("padding", frame(DATA, PADDED, &[3, 0, 0, 0]), 5_000),
            ("goodbyes", frame(GOAWAY, 0, &[0; 8]), 625),
        ] {
            assert_eq!(endured(&bytes), wanted, "{name}");
        }
        // Bytes of bodies, and their ends.
        for bytes in [
            frame(DATA, 0, b"x"),
            frame(DATA, PADDED, &[1, b'x', 0]),
            frame(DATA, END_STREAM, &[]),
        ] {
            assert_eq!(endured(&bytes), 20_001);
        }
    }

    #[test]
    fn requests_that_are_answered_pay_for_what_belongs_to_them() {
        let mut meter = greeted(0);
        let update = frame(WINDOW_UPDATE, 0, &65_535_u32.to_be_bytes());
        for _ in 0..50_000 {
            meter.came(&frame(HEADERS, 5, &[0x82]), 0);
            meter.came(&update, 0);
            meter.came(&update, 0);
            meter.went(&frame(HEADERS, 4, &[0x88]));
            meter.went(&frame(DATA, END_STREAM, b"small"));
        }
        // A third of them is given up after its answer began, as by one that scrolls.
        for n in 0..50_000 {
            meter.came(&frame(HEADERS, 5, &[0x82]), 0);
            meter.went(&frame(HEADERS, 4, &[0x88]));
            meter.went(&frame(DATA, 0, &[0; 4_096]));
            if n % 3 == 0 {
                meter.came(&frame(RST_STREAM, 0, &[0, 0, 0, 8]), 0);
            }
        }
        // Messages of some bytes, each with a PING to measure the way.
        for _ in 0..50_000 {
            meter.came(&frame(PING, 0, &[7; 8]), 0);
            meter.went(&frame(DATA, 0, b"tiny"));
        }
        // A download, with two updates for each piece.
        for _ in 0..50_000 {
            meter.went(&frame(DATA, 0, &[0; 1_024]));
            meter.came(&update, 0);
            meter.came(&update, 0);
        }
        assert!(!meter.is_overdrawn());
    }

    #[test]
    fn t10_answers_drop_by_drop_and_resets_do_not_pay() {
        let mut meter = greeted(0);
        let one = frame(WINDOW_UPDATE, 0, &1_u32.to_be_bytes());
        for _ in 0..11_000 {
            meter.came(&one, 0);
            meter.went(&frame(DATA, 0, b"x"));
        }
        assert!(meter.is_overdrawn());
        let mut meter = greeted(0);
        for _ in 0..2_000 {
            meter.came(&frame(HEADERS, 5, &[0x82]), 0);
            meter.went(&frame(RST_STREAM, 0, &[0, 0, 0, 8]));
        }
        assert!(meter.is_overdrawn());
        // The answers to PINGs and settings are none to a request.
        let mut meter = greeted(0);
        for _ in 0..10_001 {
            meter.came(&frame(PING, 0, &[7; 8]), 0);
            meter.went(&frame(PING, ACK, &[7; 8]));
            meter.went(&frame(SETTINGS, ACK, &[]));
        }
        assert!(meter.is_overdrawn());
    }

    #[test]
    fn time_pays_for_a_slow_one_and_saves_up_no_more_than_at_first() {
        let ping = frame(PING, 0, &[7; 8]);
        let mut meter = greeted(5_000);
        for second in 0..100 {
            for _ in 0..1_000 {
                meter.came(&ping, 5_000 + second * 1_000);
            }
        }
        assert!(!meter.is_overdrawn());
        for _ in 0..10_000 {
            meter.came(&ping, u64::MAX);
        }
        assert!(!meter.is_overdrawn());
        // A clock that goes back brings nothing.
        meter.came(&ping, 0);
        assert!(meter.is_overdrawn());
    }

    #[test]
    fn small_pieces_are_many_from_a_number_on_and_large_ones_never() {
        let mut meter = greeted(0);
        let (small, large) = (frame(DATA, 0, b"x"), frame(DATA, 0, &[0; 256]));
        for _ in 0..2 {
            for _ in 0..MANY_PIECES {
                assert!(!meter.has_many_pieces());
                meter.came(&small, 0);
                meter.came(&large, 0);
            }
            assert!(meter.has_many_pieces());
        }
    }

    #[test]
    fn half_a_head_is_owed_since_it_began() {
        let mut meter = greeted(0);
        assert_eq!(meter.half_head(), None);
        let block = frame(HEADERS, 0, &[0x82; 100]);
        meter.came(&block[..5], 100);
        assert_eq!(meter.half_head(), Some(100));
        meter.came(&block[5..], 200);
        // Its frame is whole, and it is not.
        meter.came(&frame(9, 0, &[0x82]), 300);
        assert_eq!(meter.half_head(), Some(100));
        // The end of one and the begin of another.
        meter.came(&[frame(9, 4, &[0x82]), block[..20].to_vec()].concat(), 400);
        assert_eq!(meter.half_head(), Some(400));
        meter.came(&block[20..], 500);
        meter.came(&frame(9, 4, &[]), 600);
        assert_eq!(meter.half_head(), None);
        // A piece of a body takes what time it takes.
        meter.came(&frame(DATA, 0, &[0; 100])[..50], 700);
        assert_eq!(meter.half_head(), None);
    }

    #[test]
    fn nothing_that_comes_makes_it_panic() {
        let pieces = fuzz::from(|choices| {
            let count = choices.below(32);
            let one = |choices: &mut Choices<'_>| {
                let time = choices.bytes(8);
                let time = time
                    .iter()
                    .fold(0, |time, byte| time << 8 | u64::from(*byte));
                (choices.bytes(64), time)
            };
            (0..count).map(|_| one(choices)).collect::<Vec<_>>()
        });
        let check = bolero::check!().with_generator(pieces);
        check.with_iterations(300).for_each(|pieces| {
            let mut meter = Meter::new(0, 1 << 10);
            for (piece, now) in pieces {
                meter.came(piece, *now);
                meter.went(piece);
            }
        });
    }
}
