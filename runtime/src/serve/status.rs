//! What a node last said of itself: for headers, readiness and metrics, read from any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dtask_core::id::NodeId;
use dtask_core::node::{DIVERGED, Note};

use super::metrics::Metrics;

/// The newest notes of a node. The host writes, everybody reads.
#[derive(Debug)]
pub struct NodeStatus {
    /// The node.
    pub id: NodeId,
    leads: AtomicBool,
    leader: AtomicU64,
    term: AtomicU64,
    applied: AtomicU64,
    metrics: Metrics,
}

impl NodeStatus {
    /// A node of which nothing is known yet.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            leads: AtomicBool::new(false),
            leader: AtomicU64::new(0),
            term: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            metrics: Metrics::new(),
        }
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// Who leads, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        match self.leader.load(Ordering::Relaxed) {
            0 => None,
            id => Some(NodeId(id)),
        }
    }

    /// The newest index that it has applied.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// Its counters.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Takes a note: to the log for operators, and to the counters.
    pub fn note(&self, note: &Note) {
        let node = self.id.0;
        match note {
            Note::Leading { term } => {
                self.leads.store(true, Ordering::Relaxed);
                self.leader.store(node, Ordering::Relaxed);
                self.term.store(*term, Ordering::Relaxed);
                tracing::info!(node, term, "this node leads");
            }
            Note::Following { term, leader } => {
                self.leads.store(false, Ordering::Relaxed);
                self.leader.store(leader.map_or(0, |id| id.0), Ordering::Relaxed);
                self.term.store(*term, Ordering::Relaxed);
                tracing::info!(node, term, leader = leader.map(|id| id.0), "this node follows");
            }
            Note::Formed { cluster } => {
                tracing::info!(
                    node,
                    cluster = format_args!("{:016x}", cluster.0),
                    "cluster formed"
                );
            }
            Note::Applied { index } => self.applied.store(*index, Ordering::Relaxed),
            Note::LeaseExpired { token } => {
                self.metrics.lease_expired();
                tracing::warn!(node, token = token.0, "a lease ended without a word");
            }
            Note::Fenced { token } => {
                self.metrics.fenced();
                tracing::info!(node, token = token.0, "a stale report was refused");
            }
            Note::SnapshotTaken { index } => tracing::info!(node, index, "snapshot taken"),
            Note::SnapshotInstalled { index } => tracing::info!(node, index, "snapshot installed"),
            Note::Violation { what } => {
                self.metrics.violation();
                tracing::error!(node, what, "an invariant is broken");
            }
            Note::Diverged { index } => {
                self.metrics.violation();
                tracing::error!(node, index, "{DIVERGED}");
            }
            Note::HandsOn { to, why } => {
                let why = why.reason();
                tracing::warn!(node, to = to.0, why, "this node hands leadership on");
            }
            Note::HistoryRefused { text } => tracing::error!(node, "{text}"),
            Note::Warning { text } => tracing::warn!(node, "{text}"),
        }
    }
}
