//! What stays in memory only because history does not have it yet (P9.5): ended records, closed
//! attempts, and the outbox's references to them. Derived from replicated rows alone, so every
//! node counts the same.

use super::State;

/// An ended record beside its body: its row, its id's place, its share of a page.
const RECORD_BYTES: u64 = 192;
/// A closed attempt beside its texts.
const ATTEMPT_BYTES: u64 = 192;
/// A change number's reference.
const REFERENCE_BYTES: u64 = 24;

/// The counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pinned {
    /// Ended tasks and runs.
    pub(super) records: u64,
    /// What they and the closed attempts weigh.
    pub(super) bytes: u64,
}

impl Pinned {
    /// A record with a body of `bytes` ended.
    pub(super) const fn add_record(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += RECORD_BYTES + bytes;
    }

    /// It left memory.
    pub(super) const fn remove_record(&mut self, bytes: u64) {
        self.records -= 1;
        self.bytes -= RECORD_BYTES + bytes;
    }

    /// An attempt with texts of `bytes` closed.
    pub(super) const fn add_attempt(&mut self, bytes: u64) {
        self.bytes += ATTEMPT_BYTES + bytes;
    }

    /// It left memory.
    pub(super) const fn remove_attempt(&mut self, bytes: u64) {
        self.bytes -= ATTEMPT_BYTES + bytes;
    }
}

impl State {
    /// Ended tasks and runs that are still in memory.
    pub const fn ended_in_memory(&self) -> u64 {
        self.pinned.records
    }

    /// Bytes that are in memory only until history has them (P9.5).
    pub const fn outbox_bytes(&self) -> u64 {
        let references = self.outbox.newest() - self.outbox.stored();
        self.pinned.bytes + references * REFERENCE_BYTES
    }
}
