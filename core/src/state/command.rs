//! Decisions in the replicated log. Imperative; each names what it was planned on (P2.2).
//!
//! The byte layout is `codec/flat`: little-endian frames read by a borrowing cursor.

use alloc::boxed::Box;

use super::view::{RunView, TaskStatus, TaskView};
use crate::id::{InstanceId, NodeId, RecordRef, RunNumber, Serial, Slot, Token};
use crate::spec::{AttemptOutcome, Recurrence};
use crate::time::Timestamp;

/// The id of a request: a second command that carries it changes nothing (P8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The id.
    pub request: &'a str,
    /// Hash of all that the request says: tells another one under its id from a repeat.
    pub content: u64,
    /// It was sent before, by a caller who does not know what became of it (P8.2).
    pub retry: bool,
}

/// One decision, borrowed from the entry that carries it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// Accept a task. Dedup by id is decided in `apply` (P8.2).
    Create(Create<'a>),
    /// Start an attempt of a ready run on a worker.
    Open(Open),
    /// End an attempt by the worker's word, or by a lost lease.
    Close(Close<'a>),
    /// A schedule's fire time has come: make its run, or record that it was skipped.
    Fire(Fire<'a>),
    /// Stop a task: a waiting one is cancelled at once, a running attempt gets `stop_requested`
    /// (P7.6). On a recurring task: ends the schedule and its unfinished runs.
    Cancel {
        /// The task or one run (child record) of it.
        target: RecordRef,
        /// The caller's request id (P8.3).
        key: Option<Key<'a>>,
    },
    /// Put a request id on record with what it stands for, before tasks are created in its name
    /// (P8.3).
    Claim {
        /// The request id.
        request: &'a str,
        /// Hash of all that the request says.
        content: u64,
    },
    /// Ask a running attempt to end because its run timeout passed (the leader's backstop).
    TimeOut {
        /// The attempt.
        token: Token,
        /// Its record.
        target: RecordRef,
    },
    /// Run a recurring task once more now, or a waiting one-shot now (P8.5).
    Trigger {
        /// The task.
        target: RecordRef,
        /// What is asked for.
        rerun: Rerun<'a>,
    },
    /// Act on a task that has ended and whose body has left memory (P8.5).
    Again(Again<'a>),
    /// Remove a task from state after recording its end; refused while an attempt runs unless
    /// `cancel` says to stop it first.
    Delete {
        /// The task.
        target: RecordRef,
        /// Also when it runs: then it is stopped, and deleted when its attempts have ended.
        cancel: bool,
    },
    /// Register a worker's instance (P7.2). Repeats are harmless.
    RegisterInstance {
        /// One life of the worker process.
        instance: InstanceId,
        /// The worker's name, as executions show it.
        name: &'a str,
    },
    /// Forget an instance that has no running attempt.
    RetireInstance {
        /// Which.
        instance: InstanceId,
    },
    /// The history database has committed every change up to and including `through` (P9.1).
    HistoryStored {
        /// The database's epoch, as the cursor row holds it.
        epoch: u64,
        /// The last stored change number.
        through: u64,
    },
    /// The oldest changes leave memory although history does not have them (P9.5).
    HistoryDropped {
        /// The last change number that goes.
        through: u64,
    },
    /// Where peers, workers and clients reach a node (P3.6).
    SetAddresses {
        /// Whose.
        node: NodeId,
        /// gRPC `host:port`.
        grpc: &'a str,
        /// HTTP `host:port`.
        http: &'a str,
    },
}

/// Accept a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Create<'a> {
    /// The task's id.
    pub id: &'a str,
    /// Display name; empty means the id.
    pub name: &'a str,
    /// Uninterpreted.
    pub payload: &'a [u8],
    /// Index into the entry's own table of profiles.
    pub profile: u16,
    /// 0..=9.
    pub priority: u8,
    /// Its caller had sent it before and does not know what became of it: when the id is unknown
    /// although it may have been forgotten, nothing is done (P8.2).
    pub retry: bool,
    /// What the leader computed from the schedule.
    pub start: Start,
    /// Set by the leader when it knows a free slot and no compatible run is ready or in flight:
    /// open if it becomes ready (P2.2).
    pub open: Option<InstanceId>,
}

/// When the first run of a new task is due, as the leader computed it.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// Ready at once: its owner named no time.
    Ready,
    /// A one-shot that waits until this moment; one in the past is ready at once. The moment is
    /// part of the spec, so a repeat must carry it also when it has passed (P8.2).
    At(Timestamp),
    /// A recurring task and its first fire time.
    Recurring {
        /// The rule and its policies, kept in the side table.
        recurrence: Box<Recurrence>,
        /// The first fire time; `None` when the rule names none.
        next: Option<Timestamp>,
    },
}

/// A wish for one more run, by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rerun<'a> {
    /// Of what.
    pub wish: Wish,
    /// The caller's request id: a second command that carries it makes no second run (P8.3).
    pub key: Option<Key<'a>>,
    /// Open at once on this worker if the run becomes ready.
    pub open: Option<InstanceId>,
}

/// What a further run stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Itself; a task that only waits for its moment runs now instead.
    #[default]
    Trigger,
    /// The latest run, which has ended.
    RetryLatest,
    /// This run, which has ended.
    Retry(RunNumber),
}

/// Act on an ended task as history tells it (P8.5). What ended stays ended: a further run is a run
/// of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Again<'a> {
    /// The task's id.
    pub id: &'a str,
    /// The creation that this was planned on: refused when the id names another one by now.
    pub serial: Serial,
    /// What history tells of it.
    pub past: Box<Past<'a>>,
    /// What to do.
    pub deed: Deed<'a>,
}

/// What is done to an ended task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    /// One more run.
    Run(Rerun<'a>),
    /// Its row is marked in history.
    Delete {
        /// Also when it runs again by now.
        cancel: bool,
    },
}

/// An ended task as its row in history tells it: what `apply` needs to bring its body back.
#[derive(Clone, Debug, PartialEq)]
pub struct Past<'a> {
    /// Display name; empty means the id.
    pub name: &'a str,
    /// Uninterpreted.
    pub payload: &'a [u8],
    /// Index into the entry's own table of profiles.
    pub profile: u16,
    /// 0..=9.
    pub priority: u8,
    /// A one-shot's due time.
    pub at: Option<Timestamp>,
    /// A recurring task's rule.
    pub recurrence: Option<Box<Recurrence>>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub status: TaskStatus,
    /// Version of its spec.
    pub revision: u32,
    /// Its runs so far.
    pub runs: u32,
    /// The latest success.
    pub last_success_at: Option<Timestamp>,
    /// The latest failure.
    pub last_failure_at: Option<Timestamp>,
    /// Failures since the latest success.
    pub failures: u32,
    /// The latest run.
    pub last_run: Option<RunView>,
    /// The number that the next id was to get which leaves memory, before history was read: when
    /// this one left later, or all that tells is gone, the row may be older than its latest end.
    pub as_of: u64,
}

impl<'a> Past<'a> {
    /// What `view`, a row of history, tells; `profile` is the entry's to set.
    pub fn of(view: &'a TaskView, as_of: u64) -> Self {
        Self {
            // A task without a name of its own shows its id.
            name: if view.name == view.id { "" } else { &view.name },
            payload: &view.payload,
            profile: 0,
            priority: view.priority,
            at: view.at,
            recurrence: view.recurrence.clone().map(Box::new),
            created_at: view.created_at,
            ended_at: view.finished_at.unwrap_or(view.updated_at),
            status: view.status,
            revision: view.revision,
            runs: view.runs_count,
            last_success_at: view.last_success_at,
            last_failure_at: view.last_failure_at,
            failures: view.consecutive_failures,
            last_run: view.last_run.clone(),
            as_of,
        }
    }
}

/// Start an attempt of a ready run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The run's record (a one-shot task is its own run).
    pub target: RecordRef,
    /// The attempt's number, from 1: refused when it is not the next one.
    pub attempt: u16,
    /// Who will run it.
    pub instance: InstanceId,
}

/// End an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Close<'a> {
    /// The run's slot, a hint from the leader; `apply` compares the token.
    pub slot: Slot,
    /// The fencing token of the attempt.
    pub token: Token,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The worker's clock when it started the handler; `None` if it never did.
    pub started_at: Option<Timestamp>,
    /// The worker's clock when the handler ended; `None` for `Lost`.
    pub finished_at: Option<Timestamp>,
    /// The process's exit code, negative for a signal.
    pub exit_code: Option<i32>,
    /// False when the worker says that another attempt is pointless.
    pub retryable: bool,
    /// The result (`Succeeded`), uninterpreted.
    pub output: &'a [u8],
    /// What went wrong, for people.
    pub error: &'a str,
    /// The tail of the live output.
    pub tail: &'a [u8],
}

/// A schedule's fire time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire<'a> {
    /// The recurring task.
    pub target: RecordRef,
    /// The revision of its spec this was planned on.
    pub revision: u32,
    /// Must equal the task's `next_run_at` (P6.3).
    pub fire_time: Timestamp,
    /// The fire time after it; must be later. `None` ends the schedule.
    pub next: Option<Timestamp>,
    /// Set when the leader judged it missed: a run is recorded as skipped with this reason.
    pub skip: Option<&'a str>,
    /// How many further fire times between `fire_time` and `next` this one stands for; they are
    /// recorded in the skipped run's reason.
    pub also_missed: u32,
    /// Open if it becomes ready (P2.2).
    pub open: Option<InstanceId>,
}
