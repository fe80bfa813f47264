//! What a node is told at its start.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::{GroupId, Incarnation, NodeId};
use crate::limits;

/// A node's configuration. Everything about the cluster that can change is replicated instead.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The raft group that this machine serves.
    pub group: GroupId,
    /// This node.
    pub id: NodeId,
    /// The voters that `--peer` names, this node included, ascending. Once the cluster is formed
    /// the log knows better.
    pub voters: Vec<NodeId>,
    /// This life of the node's disk, written and synced before the node was made (P4.1).
    pub incarnation: Incarnation,
    /// From the host's entropy: seeds election timeouts and whatever else is proposed by chance.
    pub seed: u64,
    /// Where this node is reached, replicated once a leader knows it (P3.6).
    pub addresses: Addresses,
    /// gRPC addresses by `--peer`, for a leader whose own word is not replicated yet.
    pub peers: Vec<(NodeId, Box<str>)>,
    /// How long a lease lasts.
    pub lease_ttl: Duration,
    /// How often workers renew.
    pub lease_heartbeat: Duration,
    /// A log below this many bytes is not worth a snapshot (P10.3).
    pub snapshot_log_bytes_min: u64,
    /// Nodes compare their digests at indexes divisible by this, and at entries that say nothing
    /// (P5.3). Equal on all of them.
    pub digest_every: u64,
    /// Proposed and not yet applied bytes; a quarter is kept for what is not new work (P8.4).
    pub inflight_bytes_max: usize,
    /// How much may wait for history (P9.5).
    pub outbox_bytes_max: u64,
    /// Ended ids that stay reserved in a cluster that is formed with this; later it is agreed (P8.2).
    /// The same on every node.
    pub ended_ids_max: u64,
    /// Ended tasks and runs that stay in memory when there is no history (P9.5).
    pub ended_kept: u64,
}

/// Where a node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC `host:port`.
    pub grpc: Box<str>,
    /// HTTP `host:port`; empty if it serves none.
    pub http: Box<str>,
}

impl NodeConfig {
    /// The defaults of `limits.rs`.
    pub fn new(id: NodeId, voters: Vec<NodeId>, incarnation: Incarnation, seed: u64) -> Self {
        Self {
            group: GroupId(1),
            id,
            voters,
            incarnation,
            seed,
            addresses: Addresses::default(),
            peers: Vec::new(),
            lease_ttl: limits::LEASE_TTL,
            lease_heartbeat: limits::LEASE_HEARTBEAT,
            snapshot_log_bytes_min: limits::SNAPSHOT_LOG_BYTES_MIN,
            digest_every: limits::DIGEST_EVERY,
            inflight_bytes_max: limits::INFLIGHT_BYTES_MAX,
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
            ended_ids_max: limits::DEDUP_IDS_MAX as u64,
            ended_kept: limits::ENDED_KEPT,
        }
    }
}
