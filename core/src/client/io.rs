//! What enters a call and what it asks of its host.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

/// One call, as its caller wants it made. The request itself stays with the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallConfig {
    /// gRPC `host:port` of the nodes to ask, at least one; the likely leader first.
    pub servers: Vec<Box<str>>,
    /// What may be done when an answer is missing.
    pub repeat: Repeat,
    /// How long the call may take altogether.
    pub patience: Duration,
    /// How long one node may take to answer.
    pub try_timeout: Duration,
    /// When no node can even be connected to, how often all are tried before the call gives up;
    /// zero means until patience ends.
    pub rounds_max: u32,
    /// Spreads the retries of many callers.
    pub seed: u64,
}

/// What may be done when an answer is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repeat {
    /// It changes nothing: asked again as often as needed, and a missing answer means that
    /// nothing was done.
    Read,
    /// It changes something and carries an id that makes repeats harmless (P8.2): sent again with
    /// the same id; if no answer comes in time, the outcome is unknown.
    SameId,
    /// A repeat would do it twice: sent again only while nothing can have been done.
    Once,
}

/// Names one sending of the request; rises within a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TryId(pub u32);

/// What enters a call. Plain data (P1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed. The first input, too: it sends the request.
    Wake,
    /// The turn ends (P1.2). A call decides at once, so nothing waits for it.
    Flush,
    /// A sending has ended. Answers every `Send` that was not abandoned, once.
    Ended {
        /// Which.
        attempt: TryId,
        /// How.
        verdict: Verdict,
    },
}

/// How a sending ended, as the host reads it from the reply or the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The final answer, a refusal included; the host keeps the reply.
    Answered,
    /// The node does not lead and has done nothing; it may know who leads.
    NotLeader {
        /// The leader's gRPC address.
        leader: Option<Box<str>>,
    },
    /// The node has done nothing: a bound is reached, or it is starting or stopping.
    Busy {
        /// When to try again, by its word.
        retry_after_ms: u64,
    },
    /// The request never reached the node.
    Unreachable,
    /// The request may have reached the node; what became of it is not known.
    Unknown,
}

/// What a call asks of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the request; answered by `Ended`, once.
    Send {
        /// Names the sending.
        attempt: TryId,
        /// Where.
        server: Box<str>,
        /// An earlier sending may have been done: the request is to be marked as a re-send (P8.2).
        again: bool,
    },
    /// Nobody waits for this sending any more.
    Abandon {
        /// Which.
        attempt: TryId,
    },
    /// The call is over. The last effect.
    Done(Outcome),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The final answer came; the reply is the host's.
    Answered {
        /// Of which sending.
        attempt: TryId,
        /// By whom: a good first server for the next call.
        server: Box<str>,
    },
    /// Nothing was done, and the nodes said when it may work (exit code 4).
    Busy,
    /// Nothing was done: no node could be reached, or none led (exit code 5).
    Unreachable,
    /// The request may have been done; repeat it with the same id (exit code 6).
    Unknown,
}
