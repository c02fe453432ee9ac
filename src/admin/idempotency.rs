//! `Idempotency-Key`: an order that is sent again is not carried out again (T25).
//!
//! The first request with a key owns the order; it is carried out in a task of its own, so that its
//! client may leave. Whoever comes with the same key and the same order gets the same answer, also
//! while the first still waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::watch;

use super::failure::Failure;
use crate::wire::NewRollout;

/// Keys remembered.
const KEPT: usize = 1_000;
/// How long a key is remembered.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// The longest key.
const LONGEST: usize = 255;

/// An answer, ready to be given again.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

/// The answer to come.
pub(super) type Pending = watch::Receiver<Option<Answer>>;

/// What becomes of an order with a key.
#[derive(Debug)]
pub(super) enum Claim {
    /// The key is new: carry the order out and send the answer here.
    First(watch::Sender<Option<Answer>>, Pending),
    /// The same order came before.
    Again(Pending),
}

/// The keys of the last day.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    by_key: HashMap<String, (NewRollout, Pending)>,
    /// Oldest first.
    order: VecDeque<(Instant, String)>,
}

impl Keys {
    /// Claims a key for an order.
    pub(super) fn claim(
        &self,
        key: &str,
        order: &NewRollout,
        now: Instant,
    ) -> Result<Claim, Failure> {
        if key.is_empty() || key.len() > LONGEST {
            return Err(Failure::bad_request(
                "an `Idempotency-Key` has 1 to 255 characters",
            ));
        }
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.forget_old(now);
        if let Some((before, pending)) = remembered.by_key.get(key) {
            if before != order {
                return Err(Failure::invalid(
                    "this `Idempotency-Key` was used with another order; use a new one for each order",
                ));
            }
            return Ok(Claim::Again(pending.clone()));
        }
        let (send, pending) = watch::channel(None);
        let entry = (order.clone(), pending.clone());
        remembered.by_key.insert(key.to_owned(), entry);
        remembered.order.push_back((now, key.to_owned()));
        Ok(Claim::First(send, pending))
    }
}

impl Remembered {
    fn forget_old(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front() {
            let is_old = now.saturating_duration_since(*at) > AGE;
            if !is_old && self.order.len() < KEPT {
                return;
            }
            if let Some((_, key)) = self.order.pop_front() {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Claim, KEPT, Keys};
    use crate::wire::NewRollout;

    #[test]
    fn t25_a_key_is_kept_for_a_day_and_a_thousand_keys() {
        let keys = Keys::default();
        let order = NewRollout::default();
        let now = Instant::now();
        let is_first = |key: &str, now| {
            let claim = keys.claim(key, &order, now).expect("a good key");
            matches!(claim, Claim::First(..))
        };
        assert!(is_first("a", now));
        assert!(!is_first("a", now + Duration::from_secs(24 * 3600)));
        assert!(is_first("a", now + Duration::from_secs(25 * 3600)));
        let later = now + Duration::from_secs(25 * 3600);
        for number in 1..KEPT {
            assert!(is_first(&format!("k{number}"), later));
        }
        assert!(is_first("one more", later));
        assert!(is_first("a", later), "the oldest key went");
    }

    #[test]
    fn t25_a_key_with_another_order_is_refused() {
        let keys = Keys::default();
        let order = NewRollout::default();
        let other = NewRollout {
            force: true,
            ..NewRollout::default()
        };
        let now = Instant::now();
        assert!(keys.claim("a", &order, now).is_ok());
        assert!(keys.claim("a", &other, now).is_err());
        assert!(keys.claim("", &order, now).is_err());
        assert!(keys.claim(&"x".repeat(256), &order, now).is_err());
    }
}
