//! What every call shares.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::failure::Failure;
use super::guard::Bucket;
use super::idempotency::Keys;
use super::token::Token;
use crate::rollout::Refusal;
use crate::supervisor::handle::{Ask, Handle};
use crate::wire::{Service, Status};

/// How long a call waits for the control loop. It answers in well under a millisecond; a loop that
/// needs seconds is stuck, and the caller should hear that.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Event streams and followed logs at once. Each costs a connection for as long as its client likes.
const STREAMS: usize = 64;

/// State of the admin side.
#[derive(Debug)]
pub(super) struct App {
    pub(super) handle: Handle,
    pub(super) token: Token,
    /// Places for streams.
    pub(super) streams: std::sync::Arc<Semaphore>,
    /// Turns true when the admin side stops: streams end.
    pub(super) stop: watch::Receiver<bool>,
    /// Rollout orders with an `Idempotency-Key`.
    pub(super) keys: Keys,
    /// Wrong tokens (T3).
    pub(super) wrong_tokens: Bucket,
    /// Rollout orders over TCP (T26).
    pub(super) orders: Bucket,
    /// The last exposition, for a scrape that the loop does not answer in time.
    pub(super) last_metrics: Mutex<Bytes>,
}

impl App {
    pub(super) fn new(handle: Handle, token: Token, stop: watch::Receiver<bool>) -> Self {
        Self {
            handle,
            token,
            streams: std::sync::Arc::new(Semaphore::new(STREAMS)),
            stop,
            keys: Keys::default(),
            // Ten mistakes, then one more each six seconds.
            wrong_tokens: Bucket::new(10, Duration::from_secs(6)),
            // Generous for people and scripts; the core makes one rollout of a storm anyway.
            orders: Bucket::new(100, Duration::from_millis(100)),
            last_metrics: Mutex::default(),
        }
    }

    /// Asks the control loop and waits for its answer.
    pub(super) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let asked = put(&self.handle.asks, question(reply), answer);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::no_answer_in_time()),
        }
    }

    /// A refusal, with what there is where something was named that is not there.
    pub(super) fn refused(&self, refusal: Refusal, service: &str) -> Failure {
        let status = self.handle.status.borrow();
        let hint = match &refusal {
            Refusal::NoService(_) => Some(services(&status)),
            Refusal::NoSlot(_) => status.services.get(service).map(slots),
            Refusal::NoRollout
            | Refusal::NothingToRollBackTo
            | Refusal::Unexpected { .. }
            | Refusal::Conflict(_)
            | Refusal::Unmanaged
            | Refusal::Invalid(_)
            | Refusal::Stopping => None,
        };
        let failure = Failure::from(refusal);
        match hint {
            Some(hint) => failure.and(&hint),
            None => failure,
        }
    }
}

fn services(status: &Status) -> String {
    let names = status.services.keys();
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "there is none".to_owned(),
        names => format!("there is {}", names.join(", ")),
    }
}

fn slots(service: &Service) -> String {
    let slots: BTreeSet<u32> = service.workers().map(|worker| worker.slot).collect();
    let slots: Vec<String> = slots.iter().map(u32::to_string).collect();
    match slots.as_slice() {
        [] => "no slot has one now".to_owned(),
        [only] => format!("there is one in slot {only}"),
        slots => format!("there are some in slots {}", slots.join(", ")),
    }
}

/// Puts a question and waits for as long as it takes.
pub(super) async fn put<T>(
    asks: &mpsc::Sender<Ask>,
    question: Ask,
    answer: oneshot::Receiver<T>,
) -> Result<T, Failure> {
    if asks.send(question).await.is_err() {
        return Err(Failure::stopping());
    }
    answer.await.map_err(|_| Failure::stopping())
}

/// Returns when the admin side stops, or is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped, which is the end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
