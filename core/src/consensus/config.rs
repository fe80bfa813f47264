//! What a node's consensus must be told at start.

use alloc::vec::Vec;
use core::time::Duration;

use crate::id::{GroupId, Incarnation, NodeId};
use crate::limits;

/// The fixed facts of one node's consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusConfig {
    /// The raft group.
    pub group: GroupId,
    /// This node.
    pub id: NodeId,
    /// Every voter that `--peer` names, this node included; ascending, without repeats.
    pub voters: Vec<NodeId>,
    /// Which life of this node's disk: already synced (P4.1).
    pub incarnation: Incarnation,
    /// Chooses election timeouts, nothing else.
    pub seed: u64,
    /// A raft tick (P3.5).
    pub tick: Duration,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// The shortest election timeout in ticks; the longest is below twice this.
    pub election_ticks: usize,
    /// Proposed and not yet committed bytes; one larger entry goes alone.
    pub uncommitted_bytes_max: usize,
}

impl ConsensusConfig {
    /// The configuration with the timing of `limits`; `voters` is sorted and completed by `id`.
    pub fn new(
        group: GroupId,
        id: NodeId,
        mut voters: Vec<NodeId>,
        incarnation: Incarnation,
        seed: u64,
    ) -> Self {
        voters.push(id);
        voters.sort_unstable();
        voters.dedup();
        Self {
            group,
            id,
            voters,
            incarnation,
            seed,
            tick: limits::TICK,
            heartbeat_ticks: limits::HEARTBEAT_TICKS,
            election_ticks: limits::ELECTION_TICKS,
            uncommitted_bytes_max: limits::INFLIGHT_BYTES_MAX,
        }
    }
}
