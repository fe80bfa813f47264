//! What a log should hold after each record, and records as raft would write them.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::consensus::{ConfState, HardState, LogEntry, SnapshotMeta};
use crate::id::{ClusterId, GroupId, Incarnation, NodeId};
use crate::log::{Identity, LogFact, Owner, Persist, Recovered};
use crate::rng::Rng;

pub(super) const IDENTITY: Identity =
    Identity { group: GroupId(1), node: NodeId(2), incarnation: Incarnation(77) };

pub(super) fn owner() -> Owner {
    Owner { group: GroupId(1), node: NodeId(2), voters: Some(voters()) }
}

fn voters() -> Vec<NodeId> {
    vec![NodeId(1), NodeId(2), NodeId(3)]
}

fn conf() -> ConfState {
    ConfState { voters: voters(), ..ConfState::default() }
}

/// A log as its records describe it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) formed: Option<(ClusterId, Vec<(NodeId, Incarnation)>)>,
    pub(super) hard_state: HardState,
    pub(super) meta: Option<SnapshotMeta>,
    pub(super) entries: Vec<LogEntry>,
}

impl Model {
    pub(super) fn of(recovered: &Recovered) -> Self {
        Self {
            formed: recovered.formed.clone(),
            hard_state: recovered.hard_state,
            meta: recovered.meta.clone(),
            entries: recovered.entries.clone(),
        }
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.index)
    }

    pub(super) fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot_index(), |entry| entry.index)
    }

    pub(super) fn take(&mut self, persist: &Persist) {
        match &persist.fact {
            None => {}
            Some(LogFact::Formed { cluster, voters }) => {
                self.formed = Some((*cluster, voters.clone()));
            }
            Some(LogFact::Compacted(meta)) => {
                self.entries.retain(|entry| entry.index > meta.index);
                self.meta = Some(meta.clone());
            }
            Some(LogFact::Reset(meta)) => {
                self.entries.clear();
                self.meta = Some(meta.clone());
            }
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(persist.entries.iter().cloned());
        }
        self.hard_state = persist.hard_state;
    }

    /// The next record, as raft could write it.
    pub(super) fn next(&self, n: u64, rng: &mut Rng) -> Persist {
        let mut hard_state = self.hard_state;
        let mut entries = Vec::new();
        let mut fact = None;
        let kind = if self.formed.is_none() { 0 } else { 1 + rng.below(12) };
        match kind {
            0 => {
                let voters = (1..=3).map(|id| (NodeId(id), Incarnation(70 + id))).collect();
                fact = Some(LogFact::Formed { cluster: ClusterId(9), voters });
            }
            1 => (hard_state.term, hard_state.vote) = (hard_state.term + 1, 1 + rng.below(3)),
            2 if hard_state.commit > self.snapshot_index() => {
                let index = rng.range(self.snapshot_index() + 1, hard_state.commit + 1);
                let term = self.term_at(index);
                fact = Some(LogFact::Compacted(SnapshotMeta { index, term, conf: conf() }));
            }
            3 => {
                let index = self.last() + 1 + rng.below(20);
                hard_state.term += 1;
                hard_state.commit = index;
                let term = hard_state.term;
                fact = Some(LogFact::Reset(SnapshotMeta { index, term, conf: conf() }));
                if rng.chance(1, 2) {
                    entries = some_entries(index + 1, hard_state.term, rng);
                }
            }
            _ => {
                hard_state.term = hard_state.term.max(1);
                let cuts = rng.chance(1, 6);
                let low = hard_state.commit.max(self.snapshot_index());
                let first = if cuts { rng.range(low, self.last() + 1) } else { self.last() } + 1;
                entries = some_entries(first, hard_state.term, rng);
                let last = first + entries.len() as u64 - 1;
                hard_state.commit = rng.range(low, last + 1);
            }
        }
        Persist { n, hard_state, entries, fact }
    }

    fn term_at(&self, index: u64) -> u64 {
        self.entries.iter().find(|entry| entry.index == index).map_or(1, |entry| entry.term)
    }
}

fn some_entries(first: u64, term: u64, rng: &mut Rng) -> Vec<LogEntry> {
    let count = 1 + rng.below(4);
    (first..first + count)
        .map(|index| {
            let size = if rng.chance(1, 20) { rng.below(6_000) } else { rng.below(300) };
            let byte = rng.next_u64() as u8;
            LogEntry {
                index,
                term,
                conf_change: rng.chance(1, 10),
                data: Bytes::from(vec![byte; size as usize]),
            }
        })
        .collect()
}
