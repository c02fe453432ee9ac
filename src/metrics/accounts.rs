//! A service's accounts: what a rollout's ledger is the difference of.

use super::sums::ServiceSums;
use crate::link::message::ProxyReason;
use crate::rollout::{Outcomes, Role};
use crate::wire;

/// A service's accounts at one moment. Take one when a rollout begins and one later; the difference is
/// what happened meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Requests that ended.
    pub requests: u64,
    /// Of these, by the role that the answering generation had then: stable, candidate, parked, retiring.
    pub by_role: [u64; 4],
    /// Tries after the first.
    pub retried: u64,
    /// Answers of our own and cut ones, but for clients that left.
    pub proxy_errors: u64,
    /// Requests that a drain's limit cut, by class: plain, upload, stream, tunnel.
    pub cut: [u64; 4],
    /// Clients that left.
    pub client_gone: u64,
}

impl LedgerCounts {
    pub(super) fn add(&mut self, sums: &ServiceSums) {
        for (ended, count) in &sums.ended {
            self.requests = self.requests.saturating_add(*count);
            if let Some(role) = ended.role {
                let of_role = &mut self.by_role[index(role)];
                *of_role = of_role.saturating_add(*count);
            }
        }
        for count in sums.roles.values().flat_map(|of| of.retries.values()) {
            self.retried = self.retried.saturating_add(*count);
        }
        for (reason, count) in sums.roles.values().flat_map(|of| &of.errors) {
            let sum = if *reason == ProxyReason::ClientGone {
                &mut self.client_gone
            } else {
                &mut self.proxy_errors
            };
            *sum = sum.saturating_add(*count);
        }
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let less =
            |now: [u64; 4], then: [u64; 4]| std::array::from_fn(|i| now[i].saturating_sub(then[i]));
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            by_role: less(self.by_role, earlier.by_role),
            retried: self.retried.saturating_sub(earlier.retried),
            proxy_errors: self.proxy_errors.saturating_sub(earlier.proxy_errors),
            cut: less(self.cut, earlier.cut),
            client_gone: self.client_gone.saturating_sub(earlier.client_gone),
        }
    }

    /// As the API shows it. `candidate` is what the rollout's new generation answered
    /// ([`Metrics::outcomes`](super::Metrics::outcomes)): roles change during a rollout, numbers do not.
    #[must_use]
    pub fn wire(self, candidate: Outcomes) -> wire::Ledger {
        let answered: u64 = self.by_role.iter().sum();
        let candidate = candidate.requests.min(answered);
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let [plain, upload, stream, tunnel] = self.cut.map(narrow);
        wire::Ledger {
            requests: self.requests,
            candidate,
            stable: answered - candidate,
            retried: self.retried,
            proxy_errors: self.proxy_errors,
            cut: wire::InFlight {
                plain,
                upload,
                stream,
                tunnel,
            },
            client_gone: self.client_gone,
        }
    }
}

fn index(role: Role) -> usize {
    match role {
        Role::Stable => 0,
        Role::Candidate => 1,
        Role::Parked => 2,
        Role::Retiring => 3,
    }
}
