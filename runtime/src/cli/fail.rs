//! How a command fails: one line, a hint with the remedy, and interface.md's exit code.

use std::fmt;
use std::io;

use dtask_core::spec::FieldError;
use tonic::Code;

use crate::api::Fault;
#[cfg(not(madsim))]
use crate::config::FileError;

/// interface.md's exit codes.
pub mod code {
    /// Done.
    pub const DONE: u8 = 0;
    /// The task failed.
    pub const TASK_FAILED: u8 = 1;
    /// Usage, or invalid input.
    pub const USAGE: u8 = 2;
    /// Not found.
    pub const NOT_FOUND: u8 = 3;
    /// Refused, or degraded.
    pub const REFUSED: u8 = 4;
    /// Unreachable; nothing was done.
    pub const UNREACHABLE: u8 = 5;
    /// Outcome unknown; repeat with the same id.
    pub const UNKNOWN: u8 = 6;
    /// The wait timed out.
    pub const WAIT_TIMED_OUT: u8 = 7;
    /// `dtask run`: the command ran longer than its timeout.
    pub const RUN_TIMED_OUT: u8 = 124;
    /// `dtask run`: DTask itself failed.
    pub const RUN_FAILED: u8 = 125;
    /// `dtask run`: added to the number of the signal that ended the command.
    pub const SIGNAL: u8 = 128;
}

/// Why a command ends without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// One line, lower case; empty ends quietly.
    pub message: String,
    /// What to do about it; empty when there is nothing to say.
    pub hint: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new() }
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(code::USAGE, message)
    }

    /// Ends with this code and says nothing.
    pub fn quiet(code: u8) -> Self {
        Self::new(code, "")
    }

    /// The same, with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Failure {
    /// `error: …` and, on a line of its own, `hint: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl From<Fault> for Failure {
    /// What a node refused.
    fn from(fault: Fault) -> Self {
        let exit = match (fault.code(), fault.0.reason.as_str()) {
            (_, "OUTCOME_UNKNOWN") => code::UNKNOWN,
            (_, "NO_LEADER") => code::UNREACHABLE,
            (Code::InvalidArgument | Code::OutOfRange, _) => code::USAGE,
            (Code::NotFound, _) => code::NOT_FOUND,
            _ => code::REFUSED,
        };
        let hints: Vec<_> = fault
            .0
            .errors
            .iter()
            .filter(|error| !error.hint.is_empty())
            .map(|error| match fault.0.errors.len() {
                1 => error.hint.clone(),
                _ => format!("{}: {}", error.field, error.hint),
            })
            .collect();
        let hint = match fault.0.reason.as_str() {
            // No time to retry after: a repeat would be told the same.
            "OUTCOME_UNKNOWN" if fault.0.retry_after.is_none() => {
                "`dtask task get ID` shows whether it ran; under another --id it runs anew"
                    .to_owned()
            }
            "OUTCOME_UNKNOWN" => "repeat the command with the same --id".to_owned(),
            _ => hints.join("; "),
        };
        Self::new(exit, fault.0.detail).hint(hint)
    }
}

#[cfg(not(madsim))]
impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::usage(error.to_string()).hint(error.hint)
    }
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        Self::usage(format!("{}: {}", error.field, error.detail)).hint(error.hint)
    }
}

impl From<io::Error> for Failure {
    /// Output failed. A reader that has left ends the command quietly (`dtask … | head`).
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::quiet(code::DONE),
            _ => Self::new(code::REFUSED, format!("cannot write output: {error}")),
        }
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    #[test]
    fn faults_have_the_exit_codes_of_the_interface() {
        let cases = [
            (Fault::invalid("queue", "too long", "shorten it"), code::USAGE),
            (Fault::not_found("task", "a"), code::NOT_FOUND),
            (Fault::new(Code::AlreadyExists, "ID_CONFLICT", "taken"), code::REFUSED),
            (Fault::new(Code::ResourceExhausted, "QUEUE_FULL", "full"), code::REFUSED),
            (Fault::history_unavailable(), code::REFUSED),
            (Fault::no_leader(), code::UNREACHABLE),
            (Fault::outcome_unknown(), code::UNKNOWN),
        ];
        for (fault, exit) in cases {
            assert_eq!(Failure::from(fault.clone()).code, exit, "{fault:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_exit() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure, Failure::quiet(code::DONE));
    }

    #[test]
    fn a_failure_is_one_line_and_a_hint() {
        let failure = Failure::from(Fault::invalid("queue", "too long", "shorten it"));
        assert_eq!(failure.to_string(), "error: queue: too long\nhint: shorten it");
    }
}
