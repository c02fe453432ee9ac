//! What the fuzz targets share: inputs written as plain functions of choices, cuts, and a count of what
//! became of them.
//!
//! A target is a `#[test]` with a `bolero::check!()` in it. `cargo test` gives it some random inputs and
//! prints the seed of one that fails; `cargo bolero test NAME` searches with coverage (README, *Fuzzing*).

use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

use bolero::{Driver, ValueGenerator};

/// Fewer inputs than this say nothing of shares: somebody replays one of them.
const ENOUGH: usize = 100;

/// Where choices come from: chance, or a fuzzer's bytes.
trait Source {
    fn below(&mut self, end: usize) -> usize;
}

impl<D: Driver> Source for D {
    fn below(&mut self, end: usize) -> usize {
        let drawn = self.gen_usize(Bound::Included(&0), Bound::Excluded(&end));
        // A fuzzer's bytes may be at their end.
        drawn.unwrap_or(0)
    }
}

/// The choices that make one input.
pub(crate) struct Choices<'a>(&'a mut dyn Source);

impl Choices<'_> {
    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        match end {
            0 | 1 => 0,
            end => self.0.below(end),
        }
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of these.
    pub(crate) fn of<'t, T: ?Sized>(&mut self, all: &[&'t T]) -> &'t T {
        all[self.below(all.len())]
    }

    /// Up to `most` bytes of any value.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    /// Any byte.
    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or_default()
    }

    /// Up to `most` characters, among them some that take more than a byte.
    pub(crate) fn text(&mut self, most: usize) -> String {
        let length = self.below(most + 1);
        let one = |choices: &mut Self| match choices.once_in(8) {
            true => *choices.of(&[&'\u{e9}', &'\u{2028}', &'\u{202e}', &'\u{1f40e}']),
            false => char::from(choices.byte() & 0x7f),
        };
        (0..length).map(|_| one(self)).collect()
    }

    /// Changes a few bytes of a text: put in, taken out, replaced, doubled.
    pub(crate) fn mutate(&mut self, text: &mut Vec<u8>, alphabet: &[&[u8]]) {
        for _ in 0..=self.below(2) {
            let at = self.below(text.len() + 1);
            let end = (at + self.below(4)).min(text.len());
            match self.below(4) {
                0 => drop(text.splice(at..at, self.of(alphabet).iter().copied())),
                1 => drop(text.splice(at..end, self.of(alphabet).iter().copied())),
                2 => drop(text.drain(at..end)),
                _ => drop(text.splice(at..at, text[at..end].to_vec())),
            }
        }
    }

    /// The same bytes in pieces.
    pub(crate) fn cut(&mut self, bytes: Vec<u8>) -> Cut {
        let mut ends = Vec::new();
        match self.below(4) {
            0 => {}
            1 => ends.extend(1..bytes.len()),
            few => {
                for _ in 0..few * 2 {
                    ends.push(self.below(bytes.len()));
                }
                ends.sort_unstable();
            }
        }
        Cut { bytes, ends }
    }
}

/// Bytes that come in pieces.
#[derive(Clone)]
pub(crate) struct Cut {
    pub(crate) bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Cut {
    /// The pieces, none of them empty.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let ends = self.ends.iter().copied().chain([self.bytes.len()]);
        ends.filter_map(move |end| {
            let piece = &self.bytes[from..end];
            from = end;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.pieces() {
            writeln!(f, "b\"{}\"", piece.escape_ascii())?;
        }
        Ok(())
    }
}

/// Inputs made by a function of choices.
pub(crate) fn from<T: 'static>(
    make: impl Fn(&mut Choices<'_>) -> T,
) -> impl ValueGenerator<Output = T> {
    Made(make)
}

struct Made<F>(F);

impl<T: 'static, F: Fn(&mut Choices<'_>) -> T> ValueGenerator for Made<F> {
    type Output = T;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<T> {
        Some((self.0)(&mut Choices(driver)))
    }
}

/// What became of the inputs. A target that refuses them all at the first byte proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    all: AtomicUsize,
    yes: AtomicUsize,
}

impl Tally {
    /// One more.
    pub(crate) fn count(&self, yes: bool) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.yes.fetch_add(usize::from(yes), Ordering::Relaxed);
    }

    /// Each of both happened to so many of a hundred at least. Says how many there were.
    pub(crate) fn both(&self, what: &str, percent: usize) {
        let all = self.all.load(Ordering::Relaxed);
        let yes = self.yes.load(Ordering::Relaxed);
        println!("{what}: {yes} of {all}");
        let least = all * percent;
        let seen = yes * 100 >= least && (all - yes) * 100 >= least;
        assert!(
            seen || all < ENOUGH,
            "{what}: only {yes} of {all}, or too many"
        );
    }
}
