//! From what the disk holds to a node that goes on where it was.

use alloc::string::String;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Node;
use super::config::NodeConfig;
use super::disk::Syncs;
use super::marks::Marks;
use super::reads::Reads;
use super::snapshots::Snapshots;
use super::vitals::PeerVitals;
use super::waits::Waits;
use crate::consensus::{Consensus, ConsensusConfig, RoleChange, Turn};
use crate::id::{Incarnation, NodeId};
use crate::log::Recovered;
use crate::state::{Changes, IndexKey, State};
use crate::time::{Instant, Now};

impl Node {
    /// A node that resumes what its disk holds. When that cannot be, its first step says `Halt`
    /// with the reason.
    pub fn new(config: NodeConfig, recovered: Recovered) -> Self {
        let mut consensus_config = ConsensusConfig::new(
            config.group,
            config.id,
            config.voters.clone(),
            config.incarnation,
            config.seed,
        );
        consensus_config.uncommitted_bytes_max = config.inflight_bytes_max;
        let consensus = Consensus::new(consensus_config, &recovered);
        let (state, failure) = match initial_state(&config, &recovered) {
            Ok(state) => (state, None),
            Err(reason) => (State::new(IndexKey::default()), Some(reason)),
        };
        let snapshots = Snapshots::new(config.snapshot_log_bytes_min, &recovered);
        let digest_every = config.digest_every.max(1);
        let role = RoleChange { role: super::Role::Follower, term: 0, leader: None };
        Self {
            config,
            consensus,
            state,
            leader: None,
            role,
            reads: Reads::default(),
            waits: Waits::default(),
            snapshots,
            announce_at: Instant::default(),
            vitals: PeerVitals::new(recovered.life),
            marks: Marks::new(digest_every),
            marks_heard: false,
            diverged: None,
            split: None,
            ask_marks_at: Instant::default(),
            syncs: Syncs::default(),
            clock_error: 0,
            hand_on_at: Instant::default(),
            stopping: false,
            halted: false,
            failure,
            now: Now::default(),
            changes: Changes::default(),
            turn: Turn::default(),
        }
    }
}

fn initial_state(config: &NodeConfig, recovered: &Recovered) -> Result<State, String> {
    if let Some(meta) = &recovered.meta {
        return super::snapshots::decode(meta.index, &recovered.snapshot);
    }
    let voters = recovered.formed.as_ref().map(|(_, voters)| &**voters);
    let key = index_key(voters.unwrap_or_default());
    Ok(State::new(key).keeping_ended_ids(config.ended_ids_max))
}

/// The key of a new cluster's index, digest and jitter: drawn from the incarnations, which are
/// random, the same on every voter, and told to nobody else.
pub fn index_key(voters: &[(NodeId, Incarnation)]) -> IndexKey {
    const SEED: u64 = 0x6b65_7920_6f66_2069;
    let mut bytes = alloc::vec::Vec::with_capacity(voters.len() * 16);
    for (id, incarnation) in voters {
        bytes.extend_from_slice(&id.0.to_le_bytes());
        bytes.extend_from_slice(&incarnation.0.to_le_bytes());
    }
    IndexKey(xxh3_128_with_seed(&bytes, SEED).to_le_bytes())
}
