//! The state of everything and its one entry.

use super::{Accepted, Action, Command, Fact, Moment, Refusal, View};

/// All services' state. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Core {}

impl Core {
    /// An empty core; `seed` feeds the jitter of restart delays and nothing else.
    #[must_use]
    pub fn new(_seed: u64) -> Self {
        Self {}
    }

    /// Takes an order.
    ///
    /// # Errors
    /// The refusal says why nothing was changed.
    pub fn command(&mut self, _now: Moment, _command: Command) -> Result<Accepted, Refusal> {
        Err(Refusal::NoRollout)
    }

    /// Takes news. Facts are taken before deadlines that passed meanwhile (F35).
    pub fn fact(&mut self, _now: Moment, _fact: Fact) {}

    /// Lets every deadline up to `now` pass.
    pub fn tick(&mut self, _now: Moment) {}

    /// The next thing to do, until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }

    /// When `tick` must be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// What it looks like at `now`.
    #[must_use]
    pub fn view(&self, _now: Moment) -> View {
        View::default()
    }
}
