//! What a failed try means: what is answered, who is to blame, and whether it goes on elsewhere.

use std::rc::Rc;

use super::Errand;
use crate::link::message::ProxyReason;
use crate::proxy::respond::ProxyError;
use crate::proxy::retry::{Failed, Tried, is_charged, may_repeat};
use crate::proxy::table::Worker;
use crate::proxy::upload::Fault;
use crate::proxy::upstream::{SendError, SendErrorKind};
use crate::sys::is_exhausted;

/// How a try failed.
pub(super) struct Failure {
    pub(super) how: Failed,
    pub(super) error: ProxyError,
    /// The worker is to blame, and not a connection that had waited too long.
    pub(super) blame: bool,
    /// It was sent on a connection that had waited: a new one to the same worker may well do.
    pub(super) reused: bool,
}

impl Errand<'_> {
    pub(super) fn failure(&self, error: &SendError, reused: bool) -> Failure {
        // Want of ours is nobody else's fault (F16, F17).
        let exhausted = error.source.as_ref().filter(|error| is_exhausted(error));
        if let Some(error) = exhausted {
            self.exchange.lp.is_exhausted(error);
        }
        if error.kind == SendErrorKind::BadAnswer {
            let why = error.source.as_ref().map(ToString::to_string);
            let why = why.unwrap_or_else(|| "it is not HTTP".to_owned());
            self.exchange.answer_is_broken(&why);
        }
        let (reason, why) = match error.kind {
            SendErrorKind::Unconnected => (ProxyReason::Connect, "cannot connect"),
            SendErrorKind::Reset => (ProxyReason::Reset, "the worker closed the connection"),
            SendErrorKind::Refused => (ProxyReason::Reset, "the worker refused the stream"),
            SendErrorKind::BadAnswer => (ProxyReason::BadResponse, "the answer is not HTTP"),
            SendErrorKind::Timeout => (ProxyReason::ResponseTimeout, "no answer in time"),
            SendErrorKind::BodyTimeout => (ProxyReason::RequestTimeout, "the body did not come"),
            SendErrorKind::ClientBody => match self.exchange.upload.fault() {
                Some(Fault::TooLarge) => {
                    return Failure {
                        how: Failed::Final,
                        error: ProxyError::too_large(),
                        blame: false,
                        reused: false,
                    };
                }
                Some(Fault::Malformed) => (ProxyReason::BadRequest, "the body is malformed"),
                Some(Fault::Left) | None => (ProxyReason::ClientGone, "the body broke off"),
            },
        };
        let how = match error.kind {
            SendErrorKind::Reset if error.answered => Failed::Final,
            SendErrorKind::Reset if error.sent => Failed::Unanswered,
            SendErrorKind::Unconnected | SendErrorKind::Reset => Failed::Unsent,
            SendErrorKind::Refused => Failed::Refused,
            SendErrorKind::BadAnswer
            | SendErrorKind::Timeout
            | SendErrorKind::BodyTimeout
            | SendErrorKind::ClientBody => Failed::Final,
        };
        let blame = match error.kind {
            SendErrorKind::Unconnected => exhausted.is_none(),
            // A connection that had waited may be closed by a healthy worker at any time.
            SendErrorKind::Reset => !reused || how != Failed::Unsent,
            SendErrorKind::BadAnswer | SendErrorKind::Timeout => true,
            SendErrorKind::Refused | SendErrorKind::BodyTimeout | SendErrorKind::ClientBody => {
                false
            }
        };
        Failure {
            how,
            error: ProxyError::new(reason, why),
            blame,
            reused,
        }
    }

    /// Whether it goes on after a failed try, and where it will not go.
    pub(super) fn after(
        &mut self,
        worker: &Rc<Worker>,
        failure: &Failure,
    ) -> Result<(), ProxyError> {
        let exchange = self.exchange;
        if failure.blame {
            exchange.blame_worker();
        }
        if std::mem::take(&mut self.further) {
            exchange.service.budget.failed_again();
        }
        let rules = exchange.service.rules.retry;
        if failure.how == Failed::Unanswered
            && self.unanswered_by.replace(worker.id) != Some(worker.id)
        {
            self.unanswered += 1;
        }
        let tried = Tried {
            idempotent: self.outgoing.idempotent,
            replayable: exchange.upload.is_replayable(),
            tries: self.tries,
            unanswered: self.unanswered,
        };
        let again = may_repeat(failure.how, tried, rules) && self.may_spend(failure);
        if !again && !may_wait(failure, tried) {
            return Err(failure.error);
        }
        match again {
            true => exchange.retried(failure.error.reason),
            false => exchange.waits_again(),
        }
        self.fresh = true;
        match failure.reused {
            true => self.doubtful = Some(worker.id),
            false => self.failed.push(worker.id),
        }
        if !again && !self.scout {
            // Its tries are used up: nobody is asked before somebody may have come.
            let table = exchange.lp.table();
            self.failed.extend(table.workers().map(|worker| worker.id));
        }
        Ok(())
    }

    /// Whether the budget has a further try, if it costs one.
    fn may_spend(&mut self, failure: &Failure) -> bool {
        let exchange = self.exchange;
        let took = exchange.tried_at().elapsed();
        let service = &exchange.service;
        if is_charged(failure.how, failure.reused, took, self.tries) {
            self.further = service.budget.withdraw(service.rules.retry);
            return self.further;
        }
        // It costs nothing, but where everybody refuses there is no use in it.
        self.further = failure.how == Failed::Refused;
        !self.further || service.budget.is_of_use()
    }
}

/// A request of which nothing was sent is not lost because workers are being replaced: it waits as long
/// as a parked one may.
fn may_wait(failure: &Failure, tried: Tried) -> bool {
    let unsent = failure.how == Failed::Unsent && tried.replayable;
    unsent && failure.error.reason == ProxyReason::Connect
}
