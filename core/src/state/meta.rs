//! The state's single row: counters and replicated time.

use alloc::vec::Vec;

use crate::codec::flat::{Cursor, DecodeError, Put};
use crate::limits;
use crate::state::facts::Dropped;
use crate::time::Timestamp;

/// Counters rise by one and never come this far; `apply` may add to one that was read.
const COUNTER_MAX: u64 = 1 << 62;

/// Counters and replicated time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// The cluster's feature level (P5.1).
    pub(super) level: u32,
    /// The last index applied.
    pub(super) applied: u64,
    /// Replicated time; never falls (S16).
    pub(super) at: Timestamp,
    /// The serial that the next record gets.
    pub(super) next_serial: u64,
    /// The token that the next attempt gets. Upholds S11: it only rises.
    pub(super) next_token: u64,
    /// The sequence that the next ready run gets.
    pub(super) next_sequence: u64,
    /// The history database that is written; zero until one was (P9.2).
    pub(super) epoch: u64,
    /// What history will miss (P9.5).
    pub(super) dropped: Dropped,
    /// How many ended ids are kept at most (P8.2): agreed, since what is forgotten decides.
    pub(super) ended_max: u64,
    /// When the newest of the ids ended that were forgotten for want of room; zero for none.
    pub(super) forgot: Timestamp,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            level: super::LEVEL,
            applied: 0,
            at: Timestamp::default(),
            next_serial: 1,
            next_token: 1,
            next_sequence: 1,
            epoch: 0,
            dropped: Dropped::default(),
            ended_max: limits::DEDUP_IDS_MAX as u64,
            forgot: Timestamp::default(),
        }
    }
}

impl Meta {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.level);
        out.put_u64(self.applied);
        out.put_time(self.at);
        out.put_u64(self.next_serial);
        out.put_u64(self.next_token);
        out.put_u64(self.next_sequence);
        out.put_u64(self.epoch);
        out.put_u64(self.dropped.tasks);
        out.put_u64(self.dropped.runs);
        out.put_u64(self.dropped.attempts);
        out.put_u64(self.ended_max);
        out.put_time(self.forgot);
    }

    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let read = Self {
            level: from.u32()?,
            applied: from.u64()?,
            at: from.time()?,
            next_serial: from.u64()?,
            next_token: from.u64()?,
            next_sequence: from.u64()?,
            epoch: from.u64()?,
            dropped: Dropped { tasks: from.u64()?, runs: from.u64()?, attempts: from.u64()? },
            ended_max: from.u64()?,
            forgot: from.time()?,
        };
        let Dropped { tasks, runs, attempts } = read.dropped;
        let counters = [read.applied, read.next_serial, read.next_token, read.next_sequence];
        if counters.into_iter().chain([read.epoch, tasks, runs, attempts]).any(|n| n > COUNTER_MAX)
        {
            return Err(DecodeError::Range("a counter"));
        }
        Ok(read)
    }
}
