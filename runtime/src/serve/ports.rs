//! What a node's host asks of the outside besides the network: a disk and a history database.
//!
//! They are traits so that the host also runs on a simulated disk and without a database. The
//! answers to effects come back as inputs through the node's inbox, but for the durable number,
//! which has a way of its own that nothing can delay.

use std::time::Duration;

use bytes::Bytes;
use dtask_core::id::{ClusterId, RunNumber, Token};
use dtask_core::log::Persist;
use dtask_core::node::TaskFilter;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::history::{AttemptRow, HistoryBatch, RunRow};
use dtask_core::state::view::TaskView;
use dtask_core::time::Timestamp;
use futures_util::future::BoxFuture;

/// A node's log and snapshot files. Calls return at once and are performed in order, snapshot
/// files and log records in one sequence (P4.3); a failure ends the process (P4.4).
pub trait Disk: Send + 'static {
    /// Makes a record durable, then raises the durable number to `persist.n` (P3.1).
    fn persist(&mut self, persist: Persist);
    /// Appends to the temporary snapshot file.
    fn snapshot_write(&mut self, index: u64, data: Bytes);
    /// Syncs the temporary file and puts it in place, then answers `Input::SnapshotSaved`.
    fn snapshot_finish(&mut self, index: u64);
    /// Throws the temporary file away.
    fn snapshot_abort(&mut self, index: u64);
    /// Reads a snapshot file that is in place; `None` when it is not (any more).
    fn snapshot_read(&self, index: u64) -> Option<Box<dyn SnapshotRead>>;
}

/// An open snapshot file.
pub trait SnapshotRead: Send + 'static {
    /// The next piece of at most `max` bytes; empty at the end.
    fn next(&mut self, max: usize) -> std::io::Result<Bytes>;
}

/// The writer of the history database. Calls return at once; answers are `Input::HistoryReady`,
/// `HistoryStored` and `HistoryFailed`.
pub trait History: Send + 'static {
    /// Opens the database and claims its cursor row; tries until it succeeds or is closed.
    fn open(&mut self, cluster: ClusterId);
    /// Stores a batch and moves the cursor in one transaction.
    fn store(&mut self, batch: Box<HistoryBatch>);
    /// Lets go of the database.
    fn close(&mut self);
}

impl<H: History + ?Sized> History for Box<H> {
    fn open(&mut self, cluster: ClusterId) {
        (**self).open(cluster);
    }

    fn store(&mut self, batch: Box<HistoryBatch>) {
        (**self).store(batch);
    }

    fn close(&mut self) {
        (**self).close();
    }
}

/// The history database cannot be read at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history database cannot be read: {0}")]
pub struct HistoryAway(pub String);

/// What a read of history answers.
pub type Rows<'a, T> = BoxFuture<'a, Result<T, HistoryAway>>;

/// A page of `tasks`, by creation time and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Which. Statuses are compared with the row's; deleted tasks are never listed.
    pub filter: TaskFilter,
    /// Newest first, or oldest first.
    pub newest_first: bool,
    /// The last row of the page before: (created at, id).
    pub after: Option<(Timestamp, Box<str>)>,
    /// At most this many.
    pub limit: u32,
}

/// A page of `runs`, oldest first: (incarnation, run) ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Whose.
    pub task_id: Box<str>,
    /// The last row of the page before.
    pub after: Option<(u64, RunNumber)>,
    /// At most this many.
    pub limit: u32,
}

/// A page of `execution_logs`, by token ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionQuery {
    /// Whose; `None` means of all tasks.
    pub task_id: Option<Box<str>>,
    /// Any of these outcomes, `None` among them means running; empty means all.
    pub outcomes: Vec<Option<AttemptOutcome>>,
    /// The worker's name.
    pub worker: Option<Box<str>>,
    /// The task's queue.
    pub queue: Option<Box<str>>,
    /// Only of this run.
    pub run: Option<RunNumber>,
    /// The last row of the page before.
    pub after: Option<Token>,
    /// At most this many.
    pub limit: u32,
}

/// The reader of the history database; any node reads. Called from the second runtime and from
/// the node's own, so it does its work on threads of its own.
pub trait HistoryRead: Send + Sync + 'static {
    /// Waits until the cursor covers change `number`; false when `within` passes first (P8.7).
    fn covers(&self, number: u64, within: Duration) -> BoxFuture<'_, bool>;
    /// Whose database it is.
    fn cluster(&self) -> Rows<'_, Option<ClusterId>>;
    /// The newest incarnation of a task that was not deleted.
    fn task<'a>(&'a self, id: &'a str) -> Rows<'a, Option<TaskView>>;
    /// Tells whether the database names a gap behind the row of that task (P9.5). Asked after the
    /// row was read: a gap that was named meanwhile counts.
    fn is_before_gap<'a>(&'a self, id: &'a str) -> Rows<'a, bool>;
    /// A page of tasks.
    fn tasks(&self, query: TaskQuery) -> Rows<'_, Vec<TaskView>>;
    /// A page of runs.
    fn runs(&self, query: RunQuery) -> Rows<'_, Vec<RunRow>>;
    /// A page of executions.
    fn executions(&self, query: ExecutionQuery) -> Rows<'_, Vec<AttemptRow>>;
    /// One execution.
    fn execution(&self, token: Token) -> Rows<'_, Option<AttemptRow>>;
}

/// `--history none`, told by epoch zero: the leader lets ended tasks go by itself (P9.5), nothing
/// can be read.
#[derive(Debug)]
pub struct NoHistory {
    node: super::inbox::NodeHandle,
}

impl NoHistory {
    /// What the leader takes for "there is no database".
    const EPOCH: u64 = 0;

    /// Answers to `node`.
    pub const fn new(node: super::inbox::NodeHandle) -> Self {
        Self { node }
    }

    fn tell(&self, input: dtask_core::node::Input) {
        let node = self.node.clone();
        // The inbox may be full, and the caller is the loop that empties it: it must not wait.
        tokio::spawn(async move { node.tell(input).await });
    }
}

impl History for NoHistory {
    fn open(&mut self, _: ClusterId) {
        self.tell(dtask_core::node::Input::HistoryReady { epoch: Self::EPOCH, through: 0 });
    }

    fn store(&mut self, batch: Box<HistoryBatch>) {
        let through = batch.through;
        self.tell(dtask_core::node::Input::HistoryStored { epoch: batch.epoch, through });
    }

    fn close(&mut self) {}
}
