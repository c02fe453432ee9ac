//! How a command ends: the exit codes of the contract, and the failure that carries one of them.

use std::process::ExitCode;

use crate::wire::Problem;

/// An exit code. The numbers are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done, or already so.
    Done = 0,
    /// Failed, and the old generation serves at full strength.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Timed out waiting; what was asked for still runs.
    TimedOut = 3,
    /// No instance answers, or it stopped before what was awaited had ended.
    NoInstance = 4,
    /// Something else is being done, or took over.
    Conflict = 5,
    /// Failed, and there are fewer workers than wanted.
    Degraded = 6,
    /// The config is invalid.
    ConfigInvalid = 78,
    /// Interrupted while waiting; what was asked for goes on.
    Interrupted = 130,
}

impl Code {
    /// The name in `--json` results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::TimedOut => "timed_out",
            Self::NoInstance => "no_instance",
            Self::Conflict => "conflict",
            Self::Degraded => "degraded",
            Self::ConfigInvalid => "config_invalid",
            Self::Interrupted => "interrupted",
        }
    }

    /// Of several rollouts' ends, the one to exit with: the worse.
    pub(crate) fn worse(self, other: Self) -> Self {
        if other.badness() > self.badness() {
            other
        } else {
            self
        }
    }

    /// The number.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    fn badness(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Conflict => 1,
            Self::TimedOut => 2,
            Self::Interrupted => 3,
            Self::Failed => 4,
            Self::Usage => 5,
            Self::ConfigInvalid => 6,
            Self::NoInstance => 7,
            Self::Degraded => 8,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// How to exit.
    pub(crate) code: Code,
    /// What happened and what to do, without a final period.
    pub(crate) message: String,
    /// What the instance answered, if it was the one that refused.
    pub(crate) problem: Option<Problem>,
}

impl Failure {
    /// A failure of our own.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            problem: None,
        }
    }

    /// A refusal by the instance.
    pub(crate) fn refused(problem: Problem) -> Self {
        let code = match problem.status {
            400 | 404 | 405 | 415 | 422 => Code::Usage,
            409 | 412 | 503 => Code::Conflict,
            _ => Code::Failed,
        };
        Self {
            code,
            message: problem.detail.clone(),
            problem: Some(problem),
        }
    }

    /// The instance answers nothing any more but that it stops.
    pub(crate) fn is_stopping(&self) -> bool {
        let problem = self.problem.as_ref();
        problem.is_some_and(|problem| problem.kind == "urn:remuda:stopping")
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn the_worst_of_several_wins() {
        let ends = [Code::Done, Code::Conflict, Code::Degraded, Code::Failed];
        let worst = ends.into_iter().fold(Code::Done, Code::worse);
        assert_eq!(worst, Code::Degraded);
        assert_eq!(Code::Done.worse(Code::Failed), Code::Failed);
    }
}
