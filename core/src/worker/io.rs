//! What enters a worker and what it asks of its host.

use alloc::boxed::Box;
use core::time::Duration;

use bytes::Bytes;

use super::frame::{Assignment, LeaderFrame, WorkerFrame};
use crate::id::{SessionId, Token};
use crate::time::Instant;

/// Names one try to connect, so that what an older connection still says is not taken for the
/// newer one's word. Rises within a worker's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What enters a worker. Plain data: a worker's life can be recorded and replayed (P1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed. The first input of a life, too: it starts connecting.
    Wake,
    /// The turn ends: what belongs together leaves in one frame (P1.2).
    Flush,
    /// The connection stands; frames can be sent.
    Connected {
        /// Which.
        connection: ConnectionId,
    },
    /// The connection broke, ended, or could not be made. Answers every `Connect` at some time;
    /// nothing of that connection follows.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// The leader said something.
    Frame {
        /// Where.
        connection: ConnectionId,
        /// What it said.
        frame: LeaderFrame,
    },
    /// The handler of an attempt has started. Optional for one that ends at once.
    Started {
        /// Whose.
        token: Token,
    },
    /// The handler wrote something (live output).
    Output {
        /// Whose.
        token: Token,
        /// What it wrote.
        data: Bytes,
    },
    /// The handler has ended and nothing of it is left. Answers every `StartHandler`, once.
    Ended {
        /// Whose.
        token: Token,
        /// How.
        ending: Ending,
    },
    /// Shut down: take no new attempts, let running ones finish within this span, hand the rest
    /// back. Given again, the shorter span counts.
    Drain {
        /// How long running attempts may take.
        within: Duration,
    },
}

/// How a handler ended, before the worker's own reasons for stopping it are considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The handler succeeded.
    pub succeeded: bool,
    /// Another attempt may help.
    pub retryable: bool,
    /// The process's exit code, negative for a signal.
    pub exit_code: Option<i32>,
    /// The result. One longer than the bound makes the attempt fail (P7.8), so the host need not
    /// keep more than one byte above it.
    pub output: Bytes,
    /// What went wrong, for people; empty if nothing.
    pub error: Box<str>,
}

impl Ending {
    /// A success with a result.
    pub fn success(output: Bytes) -> Self {
        Self { succeeded: true, retryable: true, exit_code: None, output, error: Box::default() }
    }

    /// A failure that another attempt may mend, or not.
    pub fn failure(error: impl Into<Box<str>>, retryable: bool) -> Self {
        Self {
            succeeded: false,
            retryable,
            exit_code: None,
            output: Bytes::new(),
            error: error.into(),
        }
    }
}

/// What a worker asks of its host. Performed in the order of emission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Connect to a server; answered by `Connected`, then at some time `Disconnected`. An older
    /// connection, if any, is closed or has ended.
    Connect {
        /// Names the connection.
        connection: ConnectionId,
        /// gRPC `host:port`; names are resolved anew each time.
        server: Box<str>,
    },
    /// Close the connection; nothing of it enters any more (a late `Disconnected` is harmless).
    Disconnect {
        /// Which.
        connection: ConnectionId,
    },
    /// Say this.
    Send {
        /// Where.
        connection: ConnectionId,
        /// The session that the frame names; `None` in the Hello alone.
        session: Option<SessionId>,
        /// What to say.
        frame: WorkerFrame,
    },
    /// Whatever happens to the worker, no handler may outlive this moment of its monotonic clock,
    /// unless another such effect moves it (P7.4). Comes before the `StartHandler` that it covers.
    Guard {
        /// The moment.
        until: Instant,
    },
    /// Run the handler; answered by `Ended`, once.
    StartHandler(Box<Assignment>),
    /// Ask the handler to end, or kill it with everything that it started.
    SignalHandler {
        /// Whose.
        token: Token,
        /// How.
        signal: Signal,
    },
    /// Something an operator cares about.
    Note(Note),
    /// Everything is handed back: the process may end. The last effect of a life.
    Done(Farewell),
}

/// How a handler is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// SIGTERM: it may clean up.
    Term,
    /// SIGKILL to its whole process group.
    Kill,
}

/// How a worker's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Drained: nothing is held any more.
    Drained,
    /// Drained, but no leader acknowledged these results in time; their leases will end.
    Unacknowledged {
        /// How many.
        results: usize,
    },
    /// The leader refused the session for good.
    Refused {
        /// For people.
        reason: Box<str>,
    },
}

/// What an operator cares about, as plain data; the host logs and counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A session stands.
    Joined {
        /// With which server.
        server: Box<str>,
        /// Its id.
        session: SessionId,
    },
    /// The session ended; the worker looks for the leader again.
    Parted {
        /// From which server.
        server: Box<str>,
        /// Why.
        why: &'static str,
    },
    /// No heartbeat was answered for too long: the handler is stopped by the worker's own clock
    /// (P7.4).
    Fenced {
        /// The attempt.
        token: Token,
    },
    /// The leader does not extend the attempt (any more): its handler is stopped.
    Aborted {
        /// The attempt.
        token: Token,
    },
    /// An attempt was handed back without being started.
    Declined {
        /// The attempt.
        token: Token,
        /// Why.
        why: &'static str,
    },
}
