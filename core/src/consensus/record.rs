//! What must be durable, before it becomes bytes and after it was read back: `crate::log` holds
//! the bytes.

use alloc::vec::Vec;

use bytes::Bytes;

use super::message::{ConfState, HardState, LogEntry, SnapshotMeta};
use crate::id::{ClusterId, Incarnation, NodeId};

/// What must be durable together, in one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Rises by one with each `Persist` of a node's life.
    pub n: u64,
    /// raft's full hard state as of this record (P4.2).
    pub hard_state: HardState,
    /// Entries to append; the first one's index may lie below the log's end, which it then cuts.
    pub entries: Vec<LogEntry>,
    /// Facts about the log itself.
    pub fact: Option<LogFact>,
}

/// Facts about the log that recovery needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFact {
    /// The cluster is formed: these incarnations, this id (P4.1).
    Formed {
        /// The hash of the pairs.
        cluster: ClusterId,
        /// Voters and their incarnations, ascending.
        voters: Vec<(NodeId, Incarnation)>,
    },
    /// The snapshot file of this index is in place and holds everything up to it: older segments
    /// and snapshot files may go.
    Compacted(SnapshotMeta),
    /// The snapshot file of this index, received from a peer, replaces log and state (P4.3).
    Reset(SnapshotMeta),
}

/// What a node finds on its own disk at start; the product of `log::recover`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Which life of this node's disk (P4.1): made with the directory, never changed.
    pub incarnation: Incarnation,
    /// How often the log was opened, this time included: never the same twice (P4.2).
    pub life: u64,
    /// The cluster, once formed.
    pub formed: Option<(ClusterId, Vec<(NodeId, Incarnation)>)>,
    /// raft's hard state.
    pub hard_state: HardState,
    /// The snapshot that the log continues, if any; its bytes are in `snapshot`.
    pub meta: Option<SnapshotMeta>,
    /// The snapshot file's content, in pieces.
    pub snapshot: Vec<Bytes>,
    /// Entries after the snapshot, without gaps.
    pub entries: Vec<LogEntry>,
    /// The membership as the log's facts hold it, when no snapshot does.
    pub conf: Option<ConfState>,
}
