//! What callers ask a node, and the one answer each question gets.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::consensus::ConfState;
pub use crate::consensus::Role;
use crate::id::{ClusterId, NodeId, RunNumber, Token};
use crate::spec::NewTask;
use crate::state::view::{AttemptView, RunView, TaskStatus, TaskView};
use crate::state::{State, Wish};
use crate::time::Timestamp;

/// A caller's question.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Accept tasks; answered [`Reply::Submitted`] in order once a majority's disks have them.
    Submit(Vec<NewTask>),
    /// The same tasks once more, by a caller who does not know what became of an earlier `Submit`:
    /// one that would be new, but whose id may have been forgotten, is answered
    /// [`Rejection::Forgotten`] and not accepted (P8.2).
    Resubmit(Vec<NewTask>),
    /// One task: answered [`Reply::Task`], or [`Reply::NotLive`] when it is not in memory (the
    /// shell then asks history).
    Task {
        /// Its id.
        id: Box<str>,
        /// Answer from this node without a ReadIndex round.
        stale: bool,
    },
    /// The live tasks that match, by a bounded walk: answered [`Reply::Tasks`].
    Tasks {
        /// Ids given by a history page, in order (its overlay): only these. `None` walks.
        ids: Option<Vec<Box<str>>>,
        /// For a walk.
        filter: TaskFilter,
        /// Where an earlier walk stopped.
        cursor: u64,
        /// At most this many.
        limit: u32,
        /// Answer from this node without a ReadIndex round.
        stale: bool,
    },
    /// Runs and attempts of one task that are in memory: answered [`Reply::Attempts`].
    Attempts {
        /// The task's id.
        id: Box<str>,
        /// Answer from this node without a ReadIndex round.
        stale: bool,
    },
    /// Answered [`Reply::Task`] when the task's latest run (or run `run`) is terminal, or
    /// [`Reply::NotLive`]. The host ends a wait with `Input::Abandon`.
    Wait {
        /// The task's id.
        id: Box<str>,
        /// A certain run.
        run: Option<RunNumber>,
    },
    /// Stop it: answered [`Reply::Task`], or [`Reply::Repeated`].
    Cancel {
        /// The task's id.
        id: Box<str>,
        /// Only this run of a recurring task.
        run: Option<RunNumber>,
        /// The caller's request id: a repeat is answered and stops nothing else (P8.3).
        request: Option<Box<str>>,
        /// As of a trigger.
        retry: bool,
    },
    /// Put a request id on record before tasks are submitted in its name: answered
    /// [`Reply::Claimed`], or [`Rejection::RequestReused`] when it stands for something else (P8.3).
    Claim {
        /// The caller's request id.
        request: Box<str>,
        /// Hash of all that the request says.
        content: u64,
    },
    /// Run it now, or once more: answered [`Reply::Task`] or [`Reply::Repeated`], or
    /// [`Reply::NotLive`] when its body has left memory: then the shell reads history and asks again
    /// with what it found (P8.5).
    Trigger {
        /// The task's id.
        id: Box<str>,
        /// What the run stands for.
        wish: Wish,
        /// The caller's request id: a repeat is answered and makes no second run (P8.3).
        request: Option<Box<str>>,
        /// The request id was sent before, and what became of it is not known: one that may have
        /// been forgotten is answered [`Rejection::Forgotten`] (P8.2).
        retry: bool,
        /// What history tells of it.
        past: Option<Box<StoredTask>>,
    },
    /// Remove it: answered [`Reply::Task`] (as it was), or [`Reply::NotLive`] as a trigger is.
    Delete {
        /// The task's id.
        id: Box<str>,
        /// Also when it runs.
        cancel: bool,
        /// What history tells of it.
        past: Option<Box<StoredTask>>,
    },
    /// Live output of an attempt: answered by [`Reply::Output`] pieces until `end`; the host ends
    /// it early with `Input::Abandon`.
    Follow {
        /// The task's id.
        id: Box<str>,
        /// A certain attempt; else the latest of the latest run.
        token: Option<Token>,
        /// Where to begin.
        offset: u64,
    },
    /// Connected workers: answered [`Reply::Workers`] by the leader.
    Workers,
    /// The cluster: answered [`Reply::Cluster`] by any node, at once.
    Cluster,
    /// Wait until this node has applied everything committed before now: answered
    /// [`Reply::Applied`] (reads of history use it, P8.7).
    Barrier,
}

/// An ended task as history tells it, for a question about one that is not in memory (P8.5).
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTask {
    /// Its row.
    pub view: TaskView,
    /// [`Reply::NotLive`]'s `ended`: what came between that answer and the command is told by it.
    pub as_of: u64,
    /// History names a gap behind the row (P9.5): what happened to the task in it, the row does not
    /// tell.
    pub before_gap: bool,
}

/// Which live tasks a walk returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Any of these; empty means all.
    pub statuses: Vec<TaskStatus>,
    /// The task's type.
    pub kind: Option<Box<str>>,
    /// The task's queue.
    pub queue: Option<Box<str>>,
    /// The task's display name.
    pub name: Option<Box<str>>,
    /// Not before.
    pub created_after: Option<Timestamp>,
    /// Before.
    pub created_before: Option<Timestamp>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Each task of the submit, in order.
    Submitted(Vec<Result<Accepted, Rejection>>),
    /// One task.
    Task(Box<TaskView>),
    /// Many tasks, and where the walk stopped (`None`: at the end).
    Tasks {
        /// In slot order, or in the order of the ids asked for (missing ones left out).
        tasks: Vec<TaskView>,
        /// The ids asked for whose newest creation was deleted: history may learn of it later.
        deleted: Vec<Box<str>>,
        /// Where to go on.
        next: Option<u64>,
    },
    /// Runs and attempts in memory, oldest first.
    Attempts {
        /// The task.
        task: Box<TaskView>,
        /// Its runs in memory (for a one-shot, the one).
        runs: Vec<RunView>,
        /// Their attempts in memory.
        attempts: Vec<AttemptView>,
    },
    /// The id is not in memory; history may know it.
    NotLive {
        /// The last change number that has left memory: a database that covers it has the row of
        /// whatever is not in memory (P8.7).
        stored: u64,
        /// The number that the next id gets which leaves memory.
        ended: u64,
    },
    /// The request came before and was answered then; its task is not in memory by now: the shell
    /// answers with what history has (P8.3).
    Repeated {
        /// As of [`Reply::NotLive`].
        stored: u64,
    },
    /// A piece of live output; more follow until `end`.
    Output {
        /// Which attempt.
        token: Token,
        /// Where this piece begins.
        offset: u64,
        /// What was written.
        data: Bytes,
        /// The attempt has ended and everything kept was sent; the final outcome follows from
        /// the task.
        end: bool,
    },
    /// The request id stands for this request, from now on or since before.
    Claimed,
    /// Connected workers by name.
    Workers(Vec<WorkerView>),
    /// The cluster.
    Cluster(Box<ClusterView>),
    /// Applied.
    Applied {
        /// This node's applied index.
        index: u64,
        /// The last change number that exists.
        changes: u64,
    },
    /// The answer is no.
    Rejected(Rejection),
}

impl Reply {
    /// The answer about an id that is not in memory: history may know it, unless it was deleted.
    pub fn missing(id: &str, state: &State) -> Self {
        if state.is_deleted(id) {
            return Self::Rejected(Rejection::NotFound { id: id.into() });
        }
        Self::not_live(state)
    }

    /// The answer about what is not in memory.
    pub fn not_live(state: &State) -> Self {
        Self::NotLive { stored: state.stored(), ended: state.ended_end() }
    }
}

/// An accepted task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// False when the same id and spec was accepted before.
    pub new: bool,
    /// The task's serial.
    pub serial: u64,
    /// Its status just after acceptance.
    pub status: TaskStatus,
    /// When it was accepted (of the first acceptance when it is still known).
    pub created_at: Timestamp,
    /// Its next fire time or due time.
    pub next_run_at: Option<Timestamp>,
}

/// Why the answer is no. The reasons are interface.md's closed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The id names a task with another spec. HTTP 409.
    IdConflict {
        /// The id.
        id: Box<str>,
    },
    /// The request id came before, with another request. HTTP 422.
    RequestReused,
    /// Nothing is known by that id. HTTP 404.
    NotFound {
        /// The id.
        id: Box<str>,
    },
    /// The task has already ended. HTTP 409.
    Terminal {
        /// How.
        status: TaskStatus,
    },
    /// The task is running and the request did not say to stop it. HTTP 409.
    Running,
    /// A request that only the leader answers reached another node; the host forwards it there.
    NotLeader {
        /// The leader's gRPC address if it is known.
        leader: Option<(NodeId, Box<str>)>,
    },
    /// Nobody leads. HTTP 503.
    NoLeader,
    /// The leader was lost after it proposed; repeat with the same id. HTTP 503.
    OutcomeUnknown,
    /// A re-send of an id that is unknown, at a time when ids are forgotten sooner than they should
    /// be: it may have run, and is not run now. HTTP 503.
    Forgotten,
    /// What became of the task is lost in a gap of history (P9.5), so it is left as it is. HTTP 409.
    InGap,
    /// A bound is reached. HTTP 429.
    Full {
        /// Which bound, in words with its number.
        what: Box<str>,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The node is shutting down or not started. HTTP 503.
    Unavailable {
        /// For people.
        reason: Box<str>,
    },
    /// The request makes no sense for this task (trigger of a running one-shot, …). HTTP 400.
    Invalid {
        /// Which field.
        field: Box<str>,
        /// For people.
        detail: Box<str>,
    },
}

/// A connected worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its name.
    pub name: Box<str>,
    /// This life of its process.
    pub instance: u64,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// How many it runs.
    pub running: u32,
    /// Its types.
    pub kinds: Vec<Box<str>>,
    /// Its queues; empty means all.
    pub queues: Vec<Box<str>>,
    /// Its labels.
    pub labels: Vec<Box<str>>,
    /// It takes no new attempts.
    pub draining: bool,
    /// It has a session.
    pub connected: bool,
    /// Milliseconds since its last heartbeat.
    pub silent_ms: u64,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// `None` until formed.
    pub cluster: Option<ClusterId>,
    /// The node asked.
    pub node: NodeId,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Raft's term.
    pub term: u64,
    /// Raft's commit index.
    pub commit_index: u64,
    /// The index that this node's state stands at.
    pub applied_index: u64,
    /// The digest of that state.
    pub digest: u128,
    /// Changes that history does not have yet.
    pub history_lag: u64,
    /// What may wait for history before new work is refused and old changes leave unstored (P9.5),
    /// in bytes, while this node leads.
    pub outbox_bytes_max: u64,
    /// The newest change number.
    pub changes: u64,
    /// Live tasks in memory.
    pub live_tasks: u64,
    /// Attempts that were ever opened (the newest token's number, less what a restore raised).
    pub attempts_opened: u64,
    /// Attempts that have not ended.
    pub attempts_running: u64,
    /// Membership.
    pub conf: ConfState,
    /// One row a member.
    pub nodes: Vec<NodeView>,
    /// Replicated time.
    pub at: Timestamp,
}

/// A member as the node asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// gRPC `host:port`, empty until announced.
    pub grpc: Box<str>,
    /// HTTP `host:port`, empty until announced.
    pub http: Box<str>,
    /// Its role, as far as the node asked knows.
    pub role: Role,
    /// Where its log matches (the leader knows).
    pub match_index: Option<u64>,
    /// It was heard of within an election timeout (the leader knows).
    pub alive: Option<bool>,
    /// How far its wall clock is ahead of the voters' median, in milliseconds, as far as the node
    /// asked has heard (P6.2).
    pub clock_offset_ms: Option<i64>,
    /// Its state differs from the majority's, or from that of the node asked (P5.3).
    pub diverged: bool,
}
