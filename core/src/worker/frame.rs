//! What a worker and the leader say to each other over a session.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::id::{InstanceId, NodeId, RunNumber, SessionId, Token};
use crate::limits;
use crate::spec::{AttemptOutcome, StopWhy};
use crate::time::Timestamp;

/// From the worker to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerFrame {
    /// The first frame of a session. Answered only after a ReadIndex round begun after its
    /// receipt (P7.3).
    Hello(Hello),
    /// Renews leases.
    Heartbeat {
        /// Rises by one with each heartbeat of a worker's life.
        seq: u64,
        /// Every attempt that the worker holds: running, fenced or declined and unacknowledged.
        tokens: Vec<Token>,
    },
    /// Handlers that have started (the worker's acknowledgement).
    Started(Vec<(Token, Timestamp)>),
    /// Attempts that have ended; kept by the worker until acknowledged (P7.2).
    Reports(Vec<Report>),
    /// Live output that a reader asked for.
    Output {
        /// Whose.
        token: Token,
        /// Where in the attempt's output this begins.
        offset: u64,
        /// What was written.
        data: Bytes,
        /// Nothing further will come.
        end: bool,
    },
    /// No new attempts, please: the worker is shutting down.
    Draining,
}

/// The introduction of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The worker's name; executions show it.
    pub name: Box<str>,
    /// This life of the process.
    pub instance: InstanceId,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// Types that it can run.
    pub kinds: Vec<Box<str>>,
    /// Queues that it serves; empty means all.
    pub queues: Vec<Box<str>>,
    /// `k=v` labels, for people today.
    pub labels: Vec<Box<str>>,
    /// Every attempt that it holds; the leader re-sends those it should hold and does not.
    pub tokens: Vec<Token>,
    /// It takes no new attempts.
    pub draining: bool,
}

/// How an attempt ended, by the worker's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which attempt.
    pub token: Token,
    /// How.
    pub outcome: AttemptOutcome,
    /// When the handler started, by the worker's clock.
    pub started_at: Option<Timestamp>,
    /// When it ended, by the worker's clock.
    pub finished_at: Option<Timestamp>,
    /// The process's exit code, negative for a signal.
    pub exit_code: Option<i32>,
    /// False when another attempt is pointless.
    pub retryable: bool,
    /// The result.
    pub output: Bytes,
    /// What went wrong, for people.
    pub error: Box<str>,
    /// The tail of the live output.
    pub tail: Bytes,
}

impl Report {
    /// Cuts the report to the bounds of `limits.rs`. A result that is too large makes the attempt
    /// fail for good; the tail is kept (P7.8).
    pub fn bound(&mut self) {
        if self.output.len() > limits::RESULT_BYTES_MAX {
            self.outcome = AttemptOutcome::Failed;
            self.retryable = false;
            self.output = Bytes::new();
            self.error = alloc::format!(
                "RESULT_TOO_LARGE: the result exceeds {} bytes; store it elsewhere and return its \
                 address",
                limits::RESULT_BYTES_MAX
            )
            .into();
        }
        if self.error.len() > limits::ERROR_BYTES_MAX {
            let cut = self.error.floor_char_boundary(limits::ERROR_BYTES_MAX);
            self.error = self.error[..cut].into();
        }
        if self.tail.len() > limits::OUTPUT_TAIL_BYTES_MAX {
            let cut = self.tail.len() - limits::OUTPUT_TAIL_BYTES_MAX;
            self.tail = self.tail.slice(cut..);
        }
    }
}

/// From the leader to the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderFrame {
    /// The session is accepted.
    Welcome {
        /// Every later frame of the session belongs to it.
        session: SessionId,
        /// How long a lease lasts, in milliseconds.
        lease_ttl_ms: u64,
        /// How often to renew, in milliseconds.
        heartbeat_ms: u64,
        /// Of the tokens in the Hello: those that are still the worker's; the others are to be
        /// aborted (their reports, if any, are acknowledged).
        extends: Vec<Token>,
    },
    /// This node does not lead.
    NotLeader {
        /// The leader's gRPC address, if it is known.
        leader: Option<(NodeId, Box<str>)>,
    },
    /// The session is refused for good (a name or type out of bounds, …).
    Refused {
        /// For people.
        reason: Box<str>,
    },
    /// Attempts to run.
    Open(Vec<Assignment>),
    /// The answer to a heartbeat: a confirmed leader extends these leases (P7.3).
    Renewed {
        /// The heartbeat's number.
        seq: u64,
        /// Leases that now last a full TTL from the heartbeat's sending; any token of the
        /// heartbeat that is missing here is not extended, and its handler is to be aborted.
        extends: Vec<Token>,
    },
    /// Stop an attempt; remembered also for a token not seen yet (P7.6).
    Stop {
        /// Which.
        token: Token,
        /// Why: decides the outcome that the worker reports.
        why: StopWhy,
    },
    /// Reports whose closing is committed (or that were stale): the worker forgets them. Ranges
    /// of tokens, both ends included.
    Acknowledged(Vec<(Token, Token)>),
    /// Send live output of an attempt from `offset` on.
    Follow {
        /// Which.
        token: Token,
        /// Where to begin.
        offset: u64,
    },
    /// No reader is left.
    Unfollow {
        /// Which.
        token: Token,
    },
}

/// An attempt for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The fencing token; also the execution's id.
    pub token: Token,
    /// The task's id.
    pub task_id: Box<str>,
    /// The task's display name.
    pub task_name: Box<str>,
    /// Which run of the task.
    pub run: RunNumber,
    /// Which attempt of the run, from 1.
    pub attempt: u16,
    /// The handler's name.
    pub kind: Box<str>,
    /// For the handler.
    pub payload: Bytes,
    /// The fire time, or when the run was asked for.
    pub scheduled_for: Timestamp,
    /// How long the handler may run, in milliseconds, by the worker's clock.
    pub run_timeout_ms: u64,
}
