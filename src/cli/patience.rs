//! Waiting for an outcome: until it is there, until the time is up, or until Ctrl-C.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::Wait;
use super::exit::{Code, Failure};

/// Between two looks at something that changes. Short enough to look alive, long enough to cost nothing.
pub(crate) const GLANCE: Duration = Duration::from_millis(250);

/// How long one is willing to wait. Made before the order is sent, so that no Ctrl-C is missed.
#[derive(Debug)]
pub(crate) struct Patience {
    timeout: Option<Duration>,
    interrupt: Signal,
}

impl Patience {
    /// Begins to listen for Ctrl-C.
    pub(crate) fn new(wait: Wait) -> Result<Self, Failure> {
        let interrupt = signal(SignalKind::interrupt()).map_err(|error| {
            Failure::new(Code::Failed, format!("cannot listen for Ctrl-C: {error}"))
        })?;
        Ok(Self {
            timeout: wait.timeout,
            interrupt,
        })
    }

    /// Waits; `what` is what goes on if the waiting ends early.
    pub(crate) async fn wait<T>(
        mut self,
        what: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let time_is_up = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = work => outcome,
            _ = self.interrupt.recv() => Err(Failure::new(
                Code::Interrupted,
                format!("interrupted while waiting: {what} goes on; `remuda status` shows it"),
            )),
            () = time_is_up => Err(Failure::new(
                Code::TimedOut,
                format!(
                    "not done after {}: {what} goes on; `remuda why` says what it waits for",
                    humantime::format_duration(self.timeout.unwrap_or_default())
                ),
            )),
        }
    }
}
