//! Tasks, runs and attempts as the log tells them.

use std::collections::BTreeSet;

use dtask_core::id::{InstanceId, Token};
use dtask_core::spec::{AttemptOutcome, Profile, Recurrence};
use dtask_core::time::Timestamp;

use crate::check::calendar::Calendar;

/// An attempt as the log tells it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whose.
    pub serial: u64,
    /// Who runs it.
    pub instance: InstanceId,
    /// Replicated time of its opening.
    pub opened_at: Timestamp,
    /// `None` while it is open.
    pub outcome: Option<AttemptOutcome>,
}

/// What a record is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A task that is its own run.
    OneShot,
    /// A task with fire times.
    Recurring {
        /// The rule.
        recurrence: Box<Recurrence>,
        /// Its fire times by the independent calendar.
        calendar: Option<Calendar>,
        /// The next fire time.
        next: Option<Timestamp>,
        /// Fire times taken so far.
        taken: BTreeSet<Timestamp>,
        /// Its runs that have not ended.
        unfinished: BTreeSet<u64>,
        /// How it ends once they have.
        closing: Option<End>,
    },
    /// A one-shot that had ended and was run again: a task of runs from then on.
    Again {
        /// Its run that has not ended.
        unfinished: BTreeSet<u64>,
    },
    /// A run of such a task.
    Run {
        /// The task's serial.
        parent: u64,
    },
}

/// A task or a run as the log tells it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The task's id.
    pub id: Box<str>,
    /// What it is.
    pub kind: Kind,
    /// Its definition.
    pub profile: Profile,
    /// Nothing may start before.
    pub not_before: Timestamp,
    /// The open attempt.
    pub open: Option<Token>,
    /// Attempts opened, but for interrupted ones.
    pub counted: u32,
    /// A stop was asked for by someone.
    pub cancelled: bool,
    /// How it ended.
    pub done: Option<End>,
    /// When it ended.
    pub done_at: Timestamp,
    /// The entry by which it runs again after an end; zero when none did.
    pub back_at: u64,
    /// It was deleted, perhaps after its end.
    pub deleted: bool,
}

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An attempt succeeded.
    Succeeded,
    /// The last attempt did not.
    Failed,
    /// On request.
    Cancelled,
    /// A schedule without further fire times.
    Exhausted,
}
