//! Signals people and the kernel send to the supervisor, as one stream. However many of one kind
//! arrive between two looks, they are one (F38).

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

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
