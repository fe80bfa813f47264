//! Rows for the history database: what a batch of the outbox stands for (P9.1).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::facts::Dropped;
use super::view::{AttemptView, RunView, TaskView};
use crate::id::{ClusterId, RunNumber};

/// Rows to be stored in one transaction that also moves the cursor from `after` to `through`.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryBatch {
    /// Whose database it must be.
    pub cluster: ClusterId,
    /// The database's epoch.
    pub epoch: u64,
    /// The cursor must stand here.
    pub after: u64,
    /// The cursor will stand here.
    pub through: u64,
    /// Changes that the database will never hold; the batch's last, which passes them.
    pub gap: Option<HistoryGap>,
    /// Upserted by id.
    pub tasks: Vec<TaskRow>,
    /// Upserted by (task id, incarnation, run). One-shot tasks have none.
    pub runs: Vec<RunRow>,
    /// Upserted by token.
    pub attempts: Vec<AttemptRow>,
}

/// Changes that history will never hold (P9.3, P9.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryGap {
    /// The first change number that is missing.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// What left memory unstored; nothing is known of what a restored database has lost.
    pub dropped: Dropped,
}

/// A row of `tasks`.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRow {
    /// The number of the record's latest change.
    pub number: u64,
    /// The task was deleted: the row is kept and marked.
    pub deleted: bool,
    /// The columns.
    pub view: TaskView,
}

/// A row of `runs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The number of the record's latest change.
    pub number: u64,
    /// The task's id.
    pub task_id: Box<str>,
    /// The task's serial.
    pub incarnation: u64,
    /// The columns.
    pub view: RunView,
}

/// A row of `execution_logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// The number of the record's latest change.
    pub number: u64,
    /// The task's id.
    pub task_id: Box<str>,
    /// The task's serial.
    pub incarnation: u64,
    /// The run's number.
    pub run: RunNumber,
    /// The queue in which it was.
    pub queue: Box<str>,
    /// The columns.
    pub view: AttemptView,
}
