//! Tasks, runs and attempts as callers and history see them: read from state, never part of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use bytes::Bytes;

use crate::id::{RunNumber, Token};
use crate::spec::{AttemptOutcome, Profile, Recurrence};
use crate::time::Timestamp;

/// A task's status (interface.md). Derives from the task and its latest run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskStatus {
    /// For a moment, a backoff, a dependency; a recurring task between its runs.
    Waiting = 1,
    /// For a worker.
    Ready = 2,
    /// An attempt is running.
    Running = 3,
    /// Ended well.
    Succeeded = 4,
    /// Ended badly.
    Failed = 5,
    /// Stopped on request.
    Cancelled = 6,
    /// Never ran, with a reason.
    Skipped = 7,
}

/// A task as callers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// Its id.
    pub id: Box<str>,
    /// Which creation.
    pub serial: u64,
    /// Display name (the id when none was given).
    pub name: Box<str>,
    /// The definition: type, queue, retry, timeout; tasks share it.
    pub profile: Arc<Profile>,
    /// The payload.
    pub payload: Bytes,
    /// 0..=9.
    pub priority: u8,
    /// `Some` for a recurring task.
    pub recurrence: Option<Recurrence>,
    /// A one-shot's due time, if it was submitted with one.
    pub at: Option<Timestamp>,
    /// Its status.
    pub status: TaskStatus,
    /// Why it is not running.
    pub wait: Option<WaitView>,
    /// The latest run.
    pub last_run: Option<RunView>,
    /// Runs so far.
    pub runs_count: u32,
    /// The latest success.
    pub last_success_at: Option<Timestamp>,
    /// The latest failure.
    pub last_failure_at: Option<Timestamp>,
    /// Failures since the latest success.
    pub consecutive_failures: u32,
    /// Version of the spec.
    pub revision: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Latest change.
    pub updated_at: Timestamp,
    /// The next fire time or due time.
    pub next_run_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Why a task is not running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitView {
    /// interface.md's code.
    pub code: WaitCode,
    /// For people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when, if that is known.
    pub until: Option<Timestamp>,
}

/// The wait codes that exist today (interface.md lists those of later issues too).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitCode {
    /// Its time has not come.
    NotDue,
    /// It failed and waits for its retry.
    Backoff,
    /// No connected worker runs its type (in its queue).
    NoWorkerForType,
    /// Workers that could are busy.
    NoFreeSlot,
    /// Nobody leads.
    NoLeader,
}

/// One occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// Its number.
    pub run: RunNumber,
    /// Why it exists.
    pub cause: RunCause,
    /// The fire time, or when it was asked for.
    pub scheduled_for: Timestamp,
    /// Its status.
    pub status: TaskStatus,
    /// Why it was skipped, or why it failed.
    pub reason: Box<str>,
    /// Attempts so far.
    pub attempts: u16,
    /// The ended run that it repeats, by hand (P8.5).
    pub retry_of: Option<RunNumber>,
}

/// Why a run exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RunCause {
    /// A one-shot's own run.
    Submit = 1,
    /// A fire time.
    Schedule = 2,
    /// By hand.
    Trigger = 3,
}

/// An attempt; users see it as an *execution*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptView {
    /// The fencing token.
    pub token: Token,
    /// Which run.
    pub run: RunNumber,
    /// Which attempt of the run.
    pub attempt: u16,
    /// The worker's name.
    pub worker: Box<str>,
    /// `None` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// A stop was asked for.
    pub stop_requested: bool,
    /// The result.
    pub output: Bytes,
    /// The tail of the live output.
    pub tail: Bytes,
    /// What went wrong.
    pub error: Box<str>,
    /// The process's exit code.
    pub exit_code: Option<i32>,
    /// The run's fire time.
    pub scheduled_for: Timestamp,
    /// When its opening was committed (replicated time).
    pub opened_at: Timestamp,
    /// When the handler started, by the worker's clock.
    pub started_at: Option<Timestamp>,
    /// When the handler ended, by the worker's clock; for `Lost`, replicated time.
    pub finished_at: Option<Timestamp>,
}
