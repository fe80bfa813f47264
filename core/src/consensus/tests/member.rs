//! A member of the test cluster: what a crash takes, and what its disk keeps.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::consensus::{Consensus, LogFact, Persist, ReadId, Recovered};
use crate::id::Incarnation;

pub(super) struct Member {
    pub(super) machine: Option<Consensus>,
    pub(super) life: u64,
    pub(super) incarnation: Incarnation,
    pub(super) halted: Option<String>,
    /// What a crash leaves.
    pub(super) durable: Recovered,
    pub(super) pending: Vec<Persist>,
    /// The applied log: the state.
    pub(super) applied: Vec<(u64, Bytes)>,
    pub(super) files: BTreeMap<u64, (u64, Vec<(u64, Bytes)>)>,
    pub(super) incoming: Vec<u8>,
    pub(super) shadow: Option<(u64, Vec<(u64, Bytes)>)>,
    pub(super) reads: BTreeMap<ReadId, u64>,
    pub(super) woken_at: u64,
    pub(super) fsync_micros: u64,
    pub(super) installed: u64,
}

impl Member {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        Self {
            machine: None,
            life: 0,
            incarnation,
            halted: None,
            durable: Recovered::default(),
            pending: Vec::new(),
            applied: Vec::new(),
            files: BTreeMap::new(),
            incoming: Vec::new(),
            shadow: None,
            reads: BTreeMap::new(),
            woken_at: 0,
            fsync_micros: 200,
            installed: 0,
        }
    }
}

/// What recovery makes of one more durable record.
pub(super) fn absorb(durable: &mut Recovered, persist: &Persist) {
    match &persist.fact {
        Some(LogFact::Formed { cluster, voters }) => {
            durable.formed = Some((*cluster, voters.clone()));
        }
        Some(LogFact::Compacted(meta)) => {
            let before = durable.meta.as_ref().map_or(0, |meta| meta.index);
            assert!(before <= meta.index, "the log is said to begin at an older snapshot again");
            durable.entries.retain(|entry| entry.index > meta.index);
            durable.meta = Some(meta.clone());
        }
        Some(LogFact::Reset(meta)) => {
            durable.entries.clear();
            durable.meta = Some(meta.clone());
        }
        None => {}
    }
    if let Some(first) = persist.entries.first() {
        durable.entries.retain(|entry| entry.index < first.index);
        durable.entries.extend(persist.entries.iter().cloned());
    }
    durable.hard_state = persist.hard_state;
}

pub(super) fn encode(state: &[(u64, Bytes)]) -> Vec<u8> {
    let mut out = vec![];
    for (index, data) in state {
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&(data.len() as u64).to_le_bytes());
        out.extend_from_slice(data);
    }
    out
}

pub(super) fn decode(mut bytes: &[u8]) -> Vec<(u64, Bytes)> {
    let mut out = Vec::new();
    let word = |bytes: &mut &[u8]| {
        let (head, tail) = bytes.split_first_chunk::<8>().expect("whole");
        *bytes = tail;
        u64::from_le_bytes(*head)
    };
    while !bytes.is_empty() {
        let index = word(&mut bytes);
        let len = word(&mut bytes) as usize;
        let (data, tail) = bytes.split_at(len);
        bytes = tail;
        out.push((index, Bytes::copy_from_slice(data)));
    }
    out
}
