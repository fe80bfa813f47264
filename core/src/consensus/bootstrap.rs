//! The first start: voters exchange incarnations until the cluster can be formed (P4.1).
//!
//! 1. A new node has synced its incarnation before it is constructed here.
//! 2. It introduces itself to every voter until each has told its own incarnation.
//! 3. It makes that list durable; the hash of the list is the cluster id; raft starts.
//! 4. Whoever introduces itself to a formed node with another incarnation than the list holds has
//!    an empty disk where there was a full one, and is told to halt: an emptied disk that votes
//!    again loses committed data.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh3::Xxh3;

use super::config::ConsensusConfig;
use super::message::{Body, ConfState, Envelope};
use crate::id::{ClusterId, Incarnation, NodeId};

/// Ticks between introductions to a voter that has not answered.
const REPEAT_TICKS: u64 = 10;

/// The cluster's id: a hash of the sorted pairs.
pub(super) fn cluster_id(voters: &[(NodeId, Incarnation)]) -> ClusterId {
    let mut hash = Xxh3::with_seed(0x4454_6173_6b20_6964);
    for (id, incarnation) in voters {
        hash.update(&id.0.to_le_bytes());
        hash.update(&incarnation.0.to_le_bytes());
    }
    ClusterId(hash.digest())
}

/// The membership that a formed cluster begins with.
pub(super) fn first_membership(voters: &[(NodeId, Incarnation)]) -> ConfState {
    ConfState { voters: voters.iter().map(|(id, _)| *id).collect(), ..ConfState::default() }
}

/// A node that does not belong to a cluster yet.
pub(super) struct Bootstrap {
    known: BTreeMap<NodeId, Incarnation>,
    introduced_at: Option<u64>,
    /// The list that is being made durable.
    pub(super) forming: Option<Vec<(NodeId, Incarnation)>>,
}

/// What an introduction leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// Nothing to say.
    Noted,
    /// Introduce this node in return.
    Answer,
    /// Tell the sender to halt.
    Reject(String),
    /// One line for the operator.
    Odd(String),
}

impl Bootstrap {
    pub(super) fn new(config: &ConsensusConfig) -> Self {
        let known = BTreeMap::from([(config.id, config.incarnation)]);
        Self { known, introduced_at: None, forming: None }
    }

    /// Another voter told its incarnation.
    pub(super) fn meet(
        &mut self,
        config: &ConsensusConfig,
        from: (NodeId, Incarnation),
        voters: &[NodeId],
        ask: bool,
    ) -> Met {
        if !config.voters.contains(&from.0) {
            return Met::Odd(format!(
                "node {} introduced itself, but no --peer names it; its own list is {}",
                from.0,
                list(voters)
            ));
        }
        if voters != config.voters {
            return Met::Odd(format!(
                "node {} was started with the voters {}, this node with {}: start all with the \
                 same list",
                from.0,
                list(voters),
                list(&config.voters)
            ));
        }
        // The list that is on its way to the disk is not changed any more.
        if self.forming.is_none() {
            self.known.insert(from.0, from.1);
        }
        if ask { Met::Answer } else { Met::Noted }
    }

    /// The whole list, as soon as it is known.
    pub(super) fn complete(&self, config: &ConsensusConfig) -> Option<Vec<(NodeId, Incarnation)>> {
        if self.forming.is_some() || self.known.len() < config.voters.len() {
            return None;
        }
        Some(self.known.iter().map(|(id, incarnation)| (*id, *incarnation)).collect())
    }

    /// Introductions that are due.
    pub(super) fn introductions(&mut self, config: &ConsensusConfig, tick: u64) -> Vec<Envelope> {
        if self.introduced_at.is_some_and(|at| tick < at + REPEAT_TICKS) {
            return Vec::new();
        }
        self.introduced_at = Some(tick);
        config
            .voters
            .iter()
            .filter(|id| !self.known.contains_key(id))
            .map(|to| introduction(config, None, *to, true))
            .collect()
    }
}

/// Judges an introduction to a node whose cluster is formed.
pub(super) fn meet_formed(
    formed: &[(NodeId, Incarnation)],
    from: (NodeId, Incarnation),
    ask: bool,
) -> Met {
    match formed.iter().find(|(id, _)| *id == from.0) {
        Some((_, incarnation)) if *incarnation == from.1 => {
            if ask {
                Met::Answer
            } else {
                Met::Noted
            }
        }
        Some(_) => Met::Reject(format!(
            "node {} belongs to a cluster that knows it by an earlier data directory; restore that \
             directory, or remove the node from the cluster and add it under a new id",
            from.0
        )),
        None => Met::Reject(format!(
            "the cluster was formed by the nodes {} and node {} is not one of them; start it with \
             the peers of its own cluster, or add it to this one",
            list(&formed.iter().map(|(id, _)| *id).collect::<Vec<_>>()),
            from.0
        )),
    }
}

/// This node's introduction.
pub(super) fn introduction(
    config: &ConsensusConfig,
    cluster: Option<ClusterId>,
    to: NodeId,
    ask: bool,
) -> Envelope {
    Envelope {
        group: config.group,
        cluster,
        from: (config.id, config.incarnation),
        to,
        body: Body::Introduce { voters: config.voters.clone(), ask },
        vitals: None,
    }
}

fn list(ids: &[NodeId]) -> String {
    let mut text = String::new();
    for id in ids {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&format!("{id}"));
    }
    text
}
