//! What consensus asks of the node when a turn ends, and the small facts it tells about itself.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::message::{Envelope, LogEntry, SnapshotMeta, SnapshotPiece};
use crate::consensus::Persist;
use crate::consensus::Role;
use crate::id::{ClusterId, NodeId};

/// Everything that follows from what was stepped in since the last drain.
///
/// Order matters only within a field. Effects may be performed field by field in any order, but
/// for `persists`, which keep theirs.
#[derive(Debug, Default, PartialEq)]
pub struct Turn {
    /// To make durable, in this order.
    pub persists: Vec<Persist>,
    /// To send, stably sorted by recipient (P3.5).
    pub sends: Vec<Envelope>,
    /// To apply, ascending and without gaps; empty in a turn with `installed`.
    pub committed: Vec<LogEntry>,
    /// Reads whose index is confirmed: answer each when the applied index has reached its own
    /// (P3.7).
    pub reads: Vec<(ReadId, u64)>,
    /// Local snapshot files to send; answer each with `snapshot_sent`.
    pub send_snapshots: Vec<SendSnapshot>,
    /// Pieces of one snapshot, in order: offset 0 begins it (an unfinished earlier one is dropped)
    /// and `last` ends it. Decode into a shadow state, save the file, then call
    /// `snapshot_received` or `snapshot_failed` (P10.2).
    pub pieces: Vec<SnapshotPiece>,
    /// raft took this received snapshot: swap the shadow state in, before anything else.
    pub installed: Option<SnapshotMeta>,
    /// raft has no use for the received snapshot of this index: drop the shadow state.
    pub refused_snapshot: Option<u64>,
    /// The cluster was formed.
    pub formed: Option<ClusterId>,
    /// Members that said where they are reached: gRPC and HTTP (P3.6).
    pub announced: Vec<(NodeId, Box<str>, Box<str>)>,
    /// The role, term or leader has changed.
    pub role: Option<RoleChange>,
    /// The node must stop and print this line; nothing is stepped from here on.
    pub halt: Option<String>,
    /// Odd, but we go on: one line each.
    pub warnings: Vec<String>,
}

/// What a node is within its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// This node's role.
    pub role: Role,
    /// raft's term.
    pub term: u64,
    /// Who leads that term, as far as this node knows.
    pub leader: Option<NodeId>,
}

/// A linearizable read that waits for its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// The local snapshot file that a follower needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendSnapshot {
    /// Who needs it.
    pub to: NodeId,
    /// Which file.
    pub index: u64,
    /// The term at that index.
    pub term: u64,
}

/// Why a proposal was not taken. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This node does not lead.
    NotLeading,
    /// Leadership is on its way to another node, or too many bytes wait for commit: propose again
    /// in a later turn.
    Busy,
}

/// A follower as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Who.
    pub id: NodeId,
    /// Up to where its log is known to be the leader's.
    pub match_index: u64,
    /// It was heard of within the last election timeout.
    pub alive: bool,
    /// It is being sent a snapshot.
    pub snapshot: bool,
}
