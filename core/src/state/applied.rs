//! What applying a command answered: the leader matches these to waiting requests by
//! (term, index, ordinal).

use crate::id::{RecordRef, Token};

/// The answer of `apply` to one command; an entry's answers stand in its commands' order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A task was accepted; `opened` when its first attempt opened in the same command.
    Created {
        /// The new record.
        task: RecordRef,
        /// The first attempt's token.
        opened: Option<Token>,
    },
    /// The same id and spec was accepted before (P8.2). `live` is its record while it has one.
    Repeated {
        /// The record, while the task is in memory.
        live: Option<RecordRef>,
    },
    /// An attempt opened.
    Opened {
        /// Its token.
        token: Token,
        /// Its record.
        target: RecordRef,
    },
    /// An attempt ended, and what became of its run.
    Closed {
        /// Its record.
        target: RecordRef,
        /// Its token.
        token: Token,
        /// Whether the run goes on to another attempt.
        retried: bool,
    },
    /// A fire time was taken: its run (a child record) exists, or was recorded as skipped.
    Fired {
        /// The run's record, unless skipped.
        run: Option<RecordRef>,
        /// Its first attempt's token when it opened in the same command.
        opened: Option<Token>,
    },
    /// A stop was recorded; `stopping` is a running attempt that must be told.
    Stopping {
        /// The record.
        target: RecordRef,
        /// The attempt.
        token: Token,
    },
    /// Done, with nothing further to say.
    Done,
    /// The command changed nothing.
    Refused(Refusal),
}

/// Why `apply` changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The id names a task with another spec.
    IdConflict,
    /// A marked re-send of an id that is unknown, while ids that ended within their window had to
    /// be forgotten: it may have been run (P8.2).
    Forgotten,
    /// The record does not exist (any more): deleted, ended, or another creation.
    NotFound,
    /// The token is not the record's open attempt (S12).
    StaleToken,
    /// The command was planned on a state that has moved on (revision, attempt, fire time).
    Stale,
    /// The task has already ended.
    Terminal,
    /// An attempt is running and the command did not say to stop it.
    Running,
    /// The worker's instance is not registered.
    UnknownInstance,
    /// The task has no run of this number.
    NoSuchRun,
    /// The request id came before, with another request (P8.3).
    RequestReused,
    /// A bound of `limits.rs` is reached.
    Full,
    /// The bytes decode but make no sense.
    Malformed,
}
