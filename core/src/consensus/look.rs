//! What a node may know of its consensus between the turns.

use alloc::vec::Vec;

use raft::StateRole;

use super::group::Group;
use super::machine::Consensus;
use super::message::ConfState;
use super::turn::PeerProgress;

impl Consensus {
    /// The newest index known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.group().map_or(0, |group| group.raw.raft.raft_log.committed)
    }

    /// The newest index in the log, durable or not.
    pub fn last_index(&self) -> u64 {
        self.group().map_or(0, |group| group.raw.raft.raft_log.last_index())
    }

    /// The newest index that this node's own disk holds for certain.
    pub fn durable_index(&self) -> u64 {
        self.group().map_or(0, |group| group.raw.raft.raft_log.persisted)
    }

    /// Proposed and not yet committed bytes, when leading.
    pub fn uncommitted_bytes(&self) -> usize {
        match self.group() {
            Some(group) if group.raw.raft.state == StateRole::Leader => {
                group.raw.raft.uncommitted_size()
            }
            _ => 0,
        }
    }

    /// Data bytes in the log since the last snapshot (P10.3).
    pub fn log_bytes(&self) -> u64 {
        self.group().map_or(0, |group| group.raw.store().bytes())
    }

    /// The index of the newest snapshot that the log continues.
    pub fn snapshot_index(&self) -> u64 {
        self.group().map_or(0, |group| group.raw.store().snapshot_index())
    }

    /// A snapshot is on its way to a follower: the log is not compacted meanwhile (P10.3).
    pub fn transferring(&self) -> bool {
        self.group().is_some_and(|group| !group.outbound.is_empty())
    }

    /// Every other member as the leader sees it, ascending; empty elsewhere.
    pub fn progress(&self) -> Vec<PeerProgress> {
        self.group().map_or_else(Vec::new, Group::progress)
    }

    /// The membership.
    pub fn conf(&self) -> ConfState {
        self.group().map_or_else(ConfState::default, Group::conf)
    }
}
