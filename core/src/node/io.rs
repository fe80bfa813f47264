//! What enters a scheduler node and what it asks of its host.

use alloc::boxed::Box;
use alloc::string::String;

use bytes::Bytes;

use super::request::{Reply, Request};
use crate::consensus::Envelope;
use crate::id::{ClusterId, NodeId, SessionId, Ticket};
use crate::log::Persist;
use crate::state::history::HistoryBatch;
use crate::worker::{LeaderFrame, WorkerFrame};

/// What enters a node. Plain data: a node's life can be recorded and replayed (P1.1).
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed.
    Wake,
    /// The turn ends: plan, propose, drain raft's Ready, emit (P1.2).
    Flush,
    /// Every `Persist` up to and including this number is durable (P3.1).
    Persisted {
        /// The newest durable number.
        n: u64,
    },
    /// A peer said something.
    Peer(Box<Envelope>),
    /// The stream to a peer broke, or could not be opened.
    PeerUnreachable {
        /// Who.
        to: NodeId,
    },
    /// `SendSnapshot` has ended.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// Every piece was delivered.
        delivered: bool,
    },
    /// The snapshot file of `SnapshotFinish` is in place, synced and renamed (P10.1).
    SnapshotSaved {
        /// Which.
        index: u64,
    },
    /// A caller's question.
    Ask {
        /// Names the answer.
        ticket: Ticket,
        /// The question.
        request: Request,
        /// Another node forwarded it: it is not forwarded again.
        forwarded: bool,
    },
    /// The caller has gone (a wait timed out, a reader left).
    Abandon {
        /// Whose.
        ticket: Ticket,
    },
    /// A worker said something; the first frame of a session is its Hello.
    Worker {
        /// Which connection.
        session: SessionId,
        /// What it said.
        frame: WorkerFrame,
    },
    /// A worker's connection ended.
    WorkerGone {
        /// Which.
        session: SessionId,
    },
    /// The history writer is ready: the cursor row that it found or made (P9.2).
    HistoryReady {
        /// The database's epoch.
        epoch: u64,
        /// The last change that it holds.
        through: u64,
    },
    /// A history transaction committed, cursor included.
    HistoryStored {
        /// The database's epoch.
        epoch: u64,
        /// The last change that it holds.
        through: u64,
    },
    /// The history database cannot be reached or refused; the node offers the batch again after
    /// the next `HistoryReady`.
    HistoryFailed,
    /// Stop leading and stop taking work: hand leadership on if there is a follower to take it.
    Shutdown,
}

/// What a node asks of its host. Effects of a kind are performed in the order of emission.
/// `Persist` is answered exactly once, or the process dies; everything else may be lost, delayed
/// or duplicated.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make these durable, in order, then answer `Persisted` (P3.1). A failure is a crash.
    Persist(Persist),
    /// Say this to a peer.
    Send(Box<Envelope>),
    /// Send the local snapshot file (index) to a peer in pieces; answer `SnapshotSent`.
    SendSnapshot {
        /// To whom.
        to: NodeId,
        /// Which file.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// Append to the temporary snapshot file `index`.
    SnapshotWrite {
        /// Which.
        index: u64,
        /// What follows.
        data: Bytes,
    },
    /// fsync the temporary file, rename it into place, fsync the directory, then answer
    /// `SnapshotSaved` (P4.3). Older snapshot files may go once the log says so.
    SnapshotFinish {
        /// Which.
        index: u64,
    },
    /// Throw the temporary file away.
    SnapshotAbort {
        /// Which.
        index: u64,
    },
    /// Answer a caller. `Reply::Output` without `end` is followed by more.
    Answer {
        /// Whose question.
        ticket: Ticket,
        /// The answer.
        reply: Reply,
    },
    /// Say this to a worker.
    ToWorker {
        /// Which connection.
        session: SessionId,
        /// What to say.
        frame: LeaderFrame,
    },
    /// End a worker's connection once what was said has been sent.
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// This node leads: open the history database (migrate, claim the cursor row), answer
    /// `HistoryReady` or, after each failed try, `HistoryFailed`.
    OpenHistory {
        /// Whose database it must be.
        cluster: ClusterId,
    },
    /// Store these rows and move the cursor in one transaction; answer `HistoryStored` or
    /// `HistoryFailed` (P9.2).
    StoreHistory(Box<HistoryBatch>),
    /// This node no longer leads: let go of the history database.
    CloseHistory,
    /// Something an operator cares about.
    Note(Note),
    /// Stop the process: the node cannot go on, and says what to do.
    Halt {
        /// One line with the remedy.
        reason: String,
    },
}

/// What an operator cares about, as plain data; the host logs and counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// This node began to lead this term and has woken (P2.4).
    Leading {
        /// The term.
        term: u64,
    },
    /// This node stopped leading.
    Following {
        /// The term.
        term: u64,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// The cluster is formed.
    Formed {
        /// Its id.
        cluster: ClusterId,
    },
    /// Entries were applied (for metrics; at most one a turn).
    Applied {
        /// The newest applied index.
        index: u64,
    },
    /// A lease ended without a word from its worker.
    LeaseExpired {
        /// The attempt.
        token: crate::id::Token,
    },
    /// A stale report was refused (S12).
    Fenced {
        /// The attempt.
        token: crate::id::Token,
    },
    /// A snapshot was taken.
    SnapshotTaken {
        /// Its index.
        index: u64,
    },
    /// A snapshot was installed.
    SnapshotInstalled {
        /// Its index.
        index: u64,
    },
    /// A replicated state digest disagreed, or another invariant broke; counted.
    Violation {
        /// Which.
        what: &'static str,
    },
    /// This node is not fit to lead, and hands leadership on.
    HandsOn {
        /// To whom.
        to: NodeId,
        /// For what reason.
        why: Unfit,
    },
    /// This node's state is not what a majority of the voters has (P5.3): it serves nothing and
    /// never leads until it is restarted. [`DIVERGED`] names the remedy.
    Diverged {
        /// Where that was seen: a marked index, or that of a snapshot.
        index: u64,
    },
    /// The history database is not this log's: nothing is stored until an operator has given
    /// another one (P9.2, P9.3).
    HistoryRefused {
        /// One line with the remedy.
        text: String,
    },
    /// Odd, but we go on.
    Warning {
        /// One line.
        text: String,
    },
}

/// What an operator does about [`Note::Diverged`].
pub const DIVERGED: &str = "this node's state is not the majority's: it serves nothing and never \
                            leads; keep a copy of its data directory and restart it; if it says \
                            so again, replace it by a node with a new id";

/// Why a node should not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its wall clock is more than a second from the voters' median (P6.2).
    Clock,
    /// Its state is not what a majority of the voters has (P5.3).
    State,
    /// Its disk takes longer than half an election timeout to sync (P3.9).
    Disk,
}

impl Unfit {
    /// For people.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Clock => "its clock is more than a second from the voters' median",
            Self::State => "its state is not the majority's",
            Self::Disk => "its disk takes longer than half an election timeout to sync",
        }
    }
}
