//! The log as raft reads it: entries since the last snapshot, in memory (P10.3).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use raft::eraftpb::{Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, StorageError};

use super::convert;
use super::message::{ConfState, HardState, LogEntry, SnapshotMeta};

/// Everything raft may ask of stable storage. What is here may not be durable yet; raft is told
/// separately by `on_persist_ready`.
pub(super) struct MemoryLog {
    hard_state: HardState,
    conf: ConfState,
    /// The newest snapshot; index 0 while there is none.
    snapshot: SnapshotMeta,
    /// Entries `snapshot.index + 1 ..`.
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl MemoryLog {
    pub(super) fn new(hard_state: HardState, snapshot: SnapshotMeta, entries: &[LogEntry]) -> Self {
        let mut log = Self {
            hard_state,
            conf: snapshot.conf.clone(),
            snapshot,
            entries: VecDeque::new(),
            bytes: 0,
        };
        for entry in entries {
            log.push(convert::entry_in(entry.clone()));
        }
        log
    }

    pub(super) fn last(&self) -> u64 {
        self.snapshot.index + self.entries.len() as u64
    }

    /// Data bytes since the last snapshot.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn snapshot_index(&self) -> u64 {
        self.snapshot.index
    }

    /// Appends entries; the first may lie below the end, which it then cuts.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.snapshot.index && first.index <= self.last() + 1,
            "raft appends {} to a log that holds {}..={}",
            first.index,
            self.snapshot.index + 1,
            self.last()
        );
        while self.last() >= first.index {
            if let Some(cut) = self.entries.pop_back() {
                self.bytes -= cut.data.len() as u64;
            }
        }
        for entry in entries {
            self.push(entry.clone());
        }
    }

    /// A snapshot of another node replaces everything.
    pub(super) fn reset(&mut self, meta: SnapshotMeta) {
        self.entries.clear();
        self.bytes = 0;
        self.snapshot = meta;
    }

    /// A snapshot of our own state: entries up to it may go.
    pub(super) fn compact(&mut self, meta: SnapshotMeta) {
        while self.snapshot.index < meta.index {
            match self.entries.pop_front() {
                Some(entry) => {
                    self.bytes -= entry.data.len() as u64;
                    self.snapshot.index = entry.index;
                }
                None => break,
            }
        }
        self.snapshot = meta;
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.data.len() as u64;
        self.entries.push_back(entry);
    }

    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.snapshot.index + 1)?).ok()
    }
}

impl raft::Storage for MemoryLog {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(convert::hard_state_in(self.hard_state), convert::conf_in(&self.conf)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        let (Some(from), Some(to)) = (self.position(low), self.position(high)) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        if to > self.entries.len() || from > to {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let mut out = Vec::new();
        for entry in self.entries.range(from..to) {
            // raft's own limit counts encoded bytes; 24 stands for an entry's other fields.
            size += entry.data.len() as u64 + 24;
            if size > max_size && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.snapshot.index {
            return Ok(self.snapshot.term);
        }
        match self.position(index) {
            None => Err(Error::Store(StorageError::Compacted)),
            Some(at) => match self.entries.get(at) {
                Some(entry) => Ok(entry.term),
                None => Err(Error::Store(StorageError::Unavailable)),
            },
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.snapshot.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        if self.snapshot.index == 0 || self.snapshot.index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(convert::snapshot_in(&self.snapshot))
    }
}
