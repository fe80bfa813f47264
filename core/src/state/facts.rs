//! What the state tells its readers besides views: the facts that applying an entry produced, and
//! the small values that dispatch, firing and leases read.

use alloc::vec::Vec;

use super::applied::Applied;
use super::view::TaskStatus;
use crate::id::{InstanceId, RecordRef, RunNumber, Token};
use crate::spec::{Recurrence, StopWhy};
use crate::time::Timestamp;

/// 16 random bytes, drawn once at bootstrap and replicated: they key the id index, the digest and
/// the jitter, so that users who choose ids cannot choose collisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexKey(pub [u8; 16]);

/// Why an entry could not be applied. The node halts (P5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The entry needs a newer program.
    #[error("entry {index} needs feature level {needed}, this program knows {known}")]
    Level {
        /// The entry.
        index: u64,
        /// What it needs.
        needed: u32,
        /// What this program knows.
        known: u32,
    },
}

/// What has left memory without being stored, since history last came level (P9.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Ended tasks.
    pub tasks: u64,
    /// Ended runs of recurring tasks.
    pub runs: u64,
    /// Closed attempts.
    pub attempts: u64,
}

/// What applying entries produced, in order. The caller clears it between entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// One answer for each command of the entry, in order.
    pub answers: Vec<Applied>,
    /// Attempts that opened.
    pub opened: Vec<(Token, RecordRef, InstanceId)>,
    /// Running attempts that must be told to stop.
    pub stops: Vec<(Token, InstanceId, StopWhy)>,
    /// Attempts that ended; their slots are free.
    pub closed: Vec<(Token, InstanceId)>,
    /// Runs and recurring tasks that became terminal.
    pub finished: Vec<Finished>,
    /// Runs that became ready and did not open in the same command: woken, submitted, retried.
    pub readied: Vec<RecordRef>,
    /// Recurring tasks whose next fire time changed (created, fired, ended).
    pub rescheduled: Vec<RecordRef>,
}

impl Changes {
    /// Empties every list and keeps the allocations.
    pub fn clear(&mut self) {
        self.answers.clear();
        self.opened.clear();
        self.stops.clear();
        self.closed.clear();
        self.finished.clear();
        self.readied.clear();
        self.rescheduled.clear();
    }
}

/// A run, or a whole recurring task, that became terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The record that became terminal.
    pub target: RecordRef,
    /// Its task: itself, or the parent of a child run.
    pub task: RecordRef,
    /// Which run of that task; the latest one when the recurring task itself ended.
    pub run: RunNumber,
    /// How.
    pub status: TaskStatus,
}

/// A match class: ready runs of one queue and type. Its number is local to a node's state and
/// may be reused when no task of the class is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

/// A match class with at least one ready run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyClass<'a> {
    /// Its number.
    pub class: ClassId,
    /// The queue.
    pub queue: &'a str,
    /// The type.
    pub kind: &'a str,
    /// How many runs are ready.
    pub len: usize,
    /// The best of them.
    pub head: ReadyRun,
}

/// A ready run, as dispatch needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyRun {
    /// Its record.
    pub target: RecordRef,
    /// The number that its next attempt gets.
    pub attempt: u16,
    /// 0..=9, 9 first.
    pub priority: u8,
    /// Orders runs of equal priority across classes: smaller became ready earlier.
    pub sequence: u64,
    /// When it became ready.
    pub since: Timestamp,
}

/// A recurring task whose fire time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueSchedule {
    /// The task.
    pub task: RecordRef,
    /// The revision of its spec.
    pub revision: u32,
    /// The task's `next_run_at`.
    pub fire_time: Timestamp,
    /// The rule and its policies.
    pub recurrence: Recurrence,
    /// Unfinished runs, for overlap: dispatch must not open a run that `apply` will skip.
    pub live_runs: u32,
}

/// A running attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenAttempt {
    /// The fencing token.
    pub token: Token,
    /// Its run's record.
    pub target: RecordRef,
    /// Who runs it.
    pub instance: InstanceId,
    /// When its opening was committed (replicated time).
    pub opened_at: Timestamp,
    /// The longest it may run, by the worker's clock.
    pub run_timeout_ms: u64,
    /// A stop was agreed (P7.6).
    pub stop: Option<StopWhy>,
}

/// What is known of an id after its task has left memory (P8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTask {
    /// Which creation.
    pub serial: u64,
    /// How it ended.
    pub status: TaskStatus,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// It was deleted.
    pub deleted: bool,
}
