//! Signals people and the kernel send to the supervisor, as one stream, and what each asks the loop for. However many
//! of one kind arrive between two looks, they are one (F38).

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;

use super::control::Supervisor;
use super::handle::Ask;
use crate::rollout::{Command, Moment, RolloutOrder, Trigger};

/// From the first SIGUSR2 to the rollout it asks for, so that a storm of them is one order (F38).
const STORM: Duration = Duration::from_millis(50);

/// What a signal means here (`DESIGN` §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// CHLD: somebody ended.
    Child,
    /// TERM or INT: stop gracefully, the second one now.
    Stop,
    /// QUIT: stop now.
    StopNow,
    /// USR2: roll every service.
    Rollout,
    /// HUP: re-read the config.
    Reload,
    /// USR1: reopen logs.
    ReopenLogs,
    /// TTIN: one worker more.
    OneMore,
    /// TTOU: one worker fewer.
    OneFewer,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Signals {
    child: Stream,
    term: Stream,
    int: Stream,
    quit: Stream,
    usr2: Stream,
    hup: Stream,
    usr1: Stream,
    ttin: Stream,
    ttou: Stream,
}

impl Signals {
    /// Installs the handlers; also as PID 1, where an unhandled signal would be ignored (F28).
    ///
    /// # Errors
    /// The system's.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            usr2: signal(SignalKind::user_defined2())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            ttin: signal(SignalKind::from_raw(libc::SIGTTIN))?,
            ttou: signal(SignalKind::from_raw(libc::SIGTTOU))?,
        })
    }

    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.quit.recv() => Signal::StopNow,
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
            _ = self.child.recv() => Signal::Child,
            _ = self.usr2.recv() => Signal::Rollout,
            _ = self.hup.recv() => Signal::Reload,
            _ = self.usr1.recv() => Signal::ReopenLogs,
            _ = self.ttin.recv() => Signal::OneMore,
            _ = self.ttou.recv() => Signal::OneFewer,
        }
    }
}

impl Supervisor {
    /// What a signal asks for.
    pub(super) fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Child => {}
            Signal::Stop => self.stop(self.stopping.is_some()),
            Signal::StopNow => self.stop(true),
            Signal::Rollout => {
                let due = self.clock.now() + STORM;
                self.rollout_due.get_or_insert(due);
            }
            Signal::Reload => {
                let (reply, _) = oneshot::channel();
                self.on_ask(Ask::Reload {
                    by: "SIGHUP".to_owned(),
                    reply,
                });
            }
            Signal::ReopenLogs => self.reopen_logs(),
            Signal::OneMore => self.scale_by(1),
            Signal::OneFewer => self.scale_by(-1),
        }
    }

    /// What SIGUSR2 asked for, once the storm it may have been part of is over.
    pub(super) fn tick_rollout(&mut self, now: Moment) {
        if self.rollout_due.is_none_or(|due| now < due) {
            return;
        }
        self.rollout_due = None;
        for service in self.service_names() {
            let order = RolloutOrder {
                release: None,
                trigger: Trigger::Signal,
                reason: None,
                force: false,
                expected: None,
            };
            let ordered = self.command(Command::Rollout {
                service: service.clone(),
                order,
            });
            if let Err(refusal) = ordered {
                tracing::warn!(%service, "SIGUSR2 changed nothing: {refusal}");
            }
        }
    }

    fn scale_by(&mut self, step: i32) {
        for service in self.view().services {
            let wanted = service.wanted.saturating_add_signed(step).max(1);
            let scaled = self.command(Command::Scale {
                service: service.service.clone(),
                wanted,
            });
            if let Err(refusal) = scaled {
                tracing::warn!(
                    "the signal changed nothing for `{}`: {refusal}",
                    service.service
                );
            }
        }
    }
}
