//! An exchange's end: the one place where it is counted, judged and logged.

use std::time::Duration;

use http::StatusCode;

use super::{Exchange, Held};
use crate::link::message::{Class, ProxyReason};
use crate::proxy::access_log::{CLIENT_GONE, End, Facts, Term};
use crate::proxy::grpc;

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Exchange {
    fn end(&self) {
        let (bytes_in, bytes_out) = self.moved.get();
        let answered = self.answered.get();
        let bad = answered.is_some_and(|(status, _)| status.is_server_error())
            || self.grpc_status.get().is_some_and(grpc::Status::is_failure);
        if bad && self.reason.get().is_none() {
            self.blame_worker();
        }
        self.judge_worker();
        if !self.whole.get() && self.reason.get().is_none() {
            self.reason.set(Some(ProxyReason::ClientGone));
        }
        let code = self.code();
        let role = self.role.get();
        let mut tally = self.service.counters.tally();
        tally.moved(role, bytes_in, bytes_out);
        if let Some(reason) = self.reason.get() {
            tally.failed(role, reason);
        }
        let took = self.began.elapsed();
        if answered.is_none() && self.reason.get() == Some(ProxyReason::ClientGone) {
            self.is_given_up();
        }
        tally.ended(role, code, self.method, took);
        drop(tally);
        self.service.counters.leaves(self.at.get());
        self.log(took);
        // Last, so that who sees the gate left also sees what is counted above.
        self.release();
        self.over.set(true);
        self.client.end(!self.upload.is_complete());
    }

    /// The status that the client saw.
    pub(super) fn code(&self) -> u16 {
        match self.answered.get() {
            None => CLIENT_GONE,
            // What is said to one that broke its body off is for one that has only closed its way to us.
            Some(_) if self.refused.get() && self.reason.get() == Some(ProxyReason::ClientGone) => {
                CLIENT_GONE
            }
            Some((StatusCode::SWITCHING_PROTOCOLS, _)) if self.by_connect => {
                StatusCode::OK.as_u16()
            }
            Some((status, _)) => status.as_u16(),
        }
    }

    /// The line of the access log.
    fn log(&self, took: Duration) {
        let Some(notes) = self.notes.borrow_mut().take() else {
            return;
        };
        let (bytes_in, bytes_out) = self.moved.get();
        let answered = self.answered.get();
        let had = self.had.get();
        let end = End {
            reason: self.reason.get(),
            refused: self.refused.get(),
            answered: answered.is_some() && !self.refused.get(),
            unfinished: self.upload.fault().is_some(),
            tunnel: self.tunnel.get(),
            deserted: self.deserted.get(),
            parked: self.live().class() == Class::Parked,
            maintenance: self.service.rules.maintenance,
        };
        let facts = Facts {
            status: self.code(),
            bytes_in,
            bytes_out,
            took,
            connect: self.connect.get(),
            first_byte: self.first_byte.get(),
            grpc_status: self.grpc_status.get().map(|status| status.0),
            worker: had.map(|(slot, generation)| (slot.0, generation.0)),
            attempt: had.map_or(0, |_| self.live().attempt()),
            term: Term::of(end),
        };
        self.lp.log.line(&facts, notes);
    }
}
