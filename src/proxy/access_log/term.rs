//! The termination state: who ended a request, and in which phase. HAProxy's idea, and the first thing to
//! look at when a request is missing: a closed set, in words.

use crate::link::message::ProxyReason;

/// How a request ended: who did it, then when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Term {
    /// An answer went on to its end, of a worker or in its place, or both ends of a tunnel closed it.
    Complete,
    /// The client did not send the whole head in time (408).
    ClientHead,
    /// The client broke off its body, or did not send it in time.
    ClientUpload,
    /// The client left while no worker was ready for it.
    ClientParked,
    /// The client left while a worker was at work on it.
    ClientWaiting,
    /// The client left, or read nothing more, before it had the whole answer; or broke a tunnel off.
    ClientAnswer,
    /// No connection to a worker could be made (502).
    WorkerConnect,
    /// The worker closed the connection before it answered (502).
    WorkerReset,
    /// The worker did not answer in time (504).
    WorkerTimeout,
    /// The worker's answer was not HTTP (502).
    WorkerBadAnswer,
    /// The worker's answer broke off in its body, or its side of a tunnel did.
    WorkerAnswer,
    /// The worker did not agree to an upgrade, or not as asked (502).
    WorkerUpgrade,
    /// A drain's limit was over while no worker was ready for it (504).
    DrainParked,
    /// A drain's limit was over while a worker was at work on it (504).
    DrainWaiting,
    /// A drain's limit cut the answer in its body.
    DrainAnswer,
    /// A drain's limit cut the tunnel.
    DrainTunnel,
    /// We refused the request: it breaks a rule or a limit (4xx, 501).
    RefusedRequest,
    /// We refused it: no service has its host and path (404).
    RefusedRoute,
    /// We refused it: no worker was ready, and parking was full or over (503).
    RefusedParking,
    /// We refused it: its service is under maintenance (503).
    RefusedMaintenance,
    /// We refused it: every worker had as many as it may, and the queue was full or over (503).
    RefusedQueue,
    /// We sent the client to `https` (308).
    Redirected,
    /// Our own fault (500).
    Internal,
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct End {
    pub(in crate::proxy) reason: Option<ProxyReason>,
    /// The answer was one of ours.
    pub(in crate::proxy) refused: bool,
    /// A worker's answer had begun.
    pub(in crate::proxy) answered: bool,
    /// Its body broke off.
    pub(in crate::proxy) unfinished: bool,
    pub(in crate::proxy) tunnel: bool,
    /// And its worker left without a goodbye.
    pub(in crate::proxy) deserted: bool,
    /// It waited for a worker.
    pub(in crate::proxy) parked: bool,
    /// Its service answers nothing else.
    pub(in crate::proxy) maintenance: bool,
}

impl Term {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 23] = [
        Self::Complete,
        Self::ClientHead,
        Self::ClientUpload,
        Self::ClientParked,
        Self::ClientWaiting,
        Self::ClientAnswer,
        Self::WorkerConnect,
        Self::WorkerReset,
        Self::WorkerTimeout,
        Self::WorkerBadAnswer,
        Self::WorkerAnswer,
        Self::WorkerUpgrade,
        Self::DrainParked,
        Self::DrainWaiting,
        Self::DrainAnswer,
        Self::DrainTunnel,
        Self::RefusedRequest,
        Self::RefusedRoute,
        Self::RefusedParking,
        Self::RefusedMaintenance,
        Self::RefusedQueue,
        Self::Redirected,
        Self::Internal,
    ];

    /// How a request ended that was an exchange.
    pub(in crate::proxy) fn of(end: End) -> Self {
        let reason = match end.reason {
            None if end.deserted => return Self::WorkerAnswer,
            None => return Self::Complete,
            Some(reason) => reason,
        };
        match reason {
            ProxyReason::BadRequest => Self::RefusedRequest,
            ProxyReason::RequestTimeout => Self::ClientUpload,
            ProxyReason::ClientGone if end.refused || end.unfinished => Self::ClientUpload,
            ProxyReason::ClientGone if end.answered => Self::ClientAnswer,
            ProxyReason::ClientGone if end.parked => Self::ClientParked,
            ProxyReason::ClientGone => Self::ClientWaiting,
            ProxyReason::Connect => Self::WorkerConnect,
            ProxyReason::Reset => Self::WorkerReset,
            ProxyReason::BadResponse if end.refused => Self::WorkerBadAnswer,
            ProxyReason::BadResponse => Self::WorkerAnswer,
            ProxyReason::ResponseTimeout => Self::WorkerTimeout,
            ProxyReason::Upgrade => Self::WorkerUpgrade,
            ProxyReason::Unavailable if end.maintenance => Self::RefusedMaintenance,
            ProxyReason::Unavailable => Self::RefusedParking,
            ProxyReason::QueueFull | ProxyReason::QueueTimeout => Self::RefusedQueue,
            ProxyReason::DrainLimit if end.tunnel => Self::DrainTunnel,
            ProxyReason::DrainLimit if end.answered => Self::DrainAnswer,
            ProxyReason::DrainLimit if end.parked => Self::DrainParked,
            ProxyReason::DrainLimit => Self::DrainWaiting,
            ProxyReason::Internal => Self::Internal,
        }
    }

    /// The word in the log.
    pub(in crate::proxy) fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientHead => "client_head",
            Self::ClientUpload => "client_upload",
            Self::ClientParked => "client_parked",
            Self::ClientWaiting => "client_waiting",
            Self::ClientAnswer => "client_answer",
            Self::WorkerConnect => "worker_connect",
            Self::WorkerReset => "worker_reset",
            Self::WorkerTimeout => "worker_timeout",
            Self::WorkerBadAnswer => "worker_bad_answer",
            Self::WorkerAnswer => "worker_answer",
            Self::WorkerUpgrade => "worker_upgrade",
            Self::DrainParked => "drain_parked",
            Self::DrainWaiting => "drain_waiting",
            Self::DrainAnswer => "drain_answer",
            Self::DrainTunnel => "drain_tunnel",
            Self::RefusedRequest => "refused_request",
            Self::RefusedRoute => "refused_route",
            Self::RefusedParking => "refused_parking",
            Self::RefusedMaintenance => "refused_maintenance",
            Self::RefusedQueue => "refused_queue",
            Self::Redirected => "redirected",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_and_when_follow_from_the_reason_and_the_phase() {
        let waiting = End {
            reason: None,
            refused: false,
            answered: false,
            unfinished: false,
            tunnel: false,
            deserted: false,
            parked: false,
            maintenance: false,
        };
        let maintenance = End {
            maintenance: true,
            ..waiting
        };
        let parked = End {
            parked: true,
            ..waiting
        };
        let answered = End {
            answered: true,
            ..waiting
        };
        let refused = End {
            refused: true,
            ..waiting
        };
        let tunnel = End {
            tunnel: true,
            ..answered
        };
        let unfinished = End {
            unfinished: true,
            ..answered
        };
        let parked_and_refused = End {
            parked: true,
            ..refused
        };
        for (end, reason, word) in [
            (waiting, ProxyReason::ClientGone, "client_waiting"),
            (parked, ProxyReason::ClientGone, "client_parked"),
            (answered, ProxyReason::ClientGone, "client_answer"),
            (refused, ProxyReason::ClientGone, "client_upload"),
            (unfinished, ProxyReason::ClientGone, "client_upload"),
            (refused, ProxyReason::RequestTimeout, "client_upload"),
            (refused, ProxyReason::BadResponse, "worker_bad_answer"),
            (answered, ProxyReason::BadResponse, "worker_answer"),
            (refused, ProxyReason::DrainLimit, "drain_waiting"),
            (waiting, ProxyReason::DrainLimit, "drain_waiting"),
            (parked_and_refused, ProxyReason::DrainLimit, "drain_parked"),
            (answered, ProxyReason::DrainLimit, "drain_answer"),
            (tunnel, ProxyReason::DrainLimit, "drain_tunnel"),
            (
                parked_and_refused,
                ProxyReason::Unavailable,
                "refused_parking",
            ),
            (maintenance, ProxyReason::Unavailable, "refused_maintenance"),
            (maintenance, ProxyReason::BadRequest, "refused_request"),
            (parked_and_refused, ProxyReason::QueueFull, "refused_queue"),
        ] {
            let end = End {
                reason: Some(reason),
                ..end
            };
            assert_eq!(Term::of(end).word(), word, "{end:?}");
        }
        assert_eq!(Term::of(answered).word(), "complete");
        let deserted = End {
            deserted: true,
            ..tunnel
        };
        assert_eq!(Term::of(deserted).word(), "worker_answer");
    }
}
