//! Snapshots (P10.1): an incremental walk over all replicated rows, and its way back.
//!
//! The stream is a sequence of items `kind u8, len u32, bytes`: a header, instances and addresses,
//! then records, attempts and ended ids in any order of kinds (before-images come early), and an
//! end mark. A record's item carries its body and the stream's own number of its profile, whose
//! item stands before the first record that names it. Free slots, links, timers, the id index and
//! the outbox are derived, so they are not stored.

mod load;
mod walk;

pub use load::Loader;
pub use walk::Walk;

use alloc::vec::Vec;

use bytes::Bytes;

use super::State;
use super::row::{self, kind};
use crate::codec::flat::{DecodeError, Put};

/// The stream's layout version.
const VERSION: u8 = 1;
/// Marks the stream's end.
const END: u8 = 0;

/// A step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStep {
    /// What follows in the stream; may be empty.
    pub data: Bytes,
    /// This was the last step: the stream is complete, the walk has ended.
    pub done: bool,
}

/// Why a snapshot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// No walk is running.
    #[error("no walk is running")]
    NotRunning,
    /// The walked rows do not sum to the digest that the state had: the stream must be thrown
    /// away. Memory was damaged, or the walk has a bug.
    #[error("the walk's digest {walked:032x} is not the state's {expected:032x}")]
    Diverged {
        /// Over the rows of the stream.
        walked: u128,
        /// When the walk began.
        expected: u128,
    },
    /// The stream cannot be decoded.
    #[error("the snapshot's bytes are malformed")]
    Decode(#[from] DecodeError),
    /// The stream's version is unknown, or it needs a newer program (P5.1).
    #[error("the snapshot needs feature level {needed}, this program knows {known}")]
    Level {
        /// What it needs.
        needed: u32,
        /// What this program knows.
        known: u32,
    },
    /// Rows contradict each other.
    #[error("the snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// The stream ends before its end mark.
    #[error("the snapshot ends before its end mark")]
    Incomplete,
}

impl State {
    /// Begins a walk over the state as of the applied index; one that was running is dropped.
    pub fn begin_snapshot(&mut self) {
        let mut walk = Walk::new(self);
        walk.item(kind::META, |out| {
            out.put_u8(VERSION);
            out.raw(&self.key.0);
            self.meta.put(out);
            out.put_u64(self.outbox.newest());
            out.put_u64(self.outbox.stored());
            out.put_u64(self.ids.ended_numbers().0);
            out.put_u128(self.digest());
        });
        for (id, known) in self.instances.all() {
            let put = |out: &mut Vec<u8>| row::put_instance(out, id, &known.name, known.retired);
            walk.hashed_item(kind::INSTANCE, put);
        }
        for (&node, (grpc, http)) in &self.addresses {
            walk.hashed_item(kind::ADDRESSES, |out| row::put_addresses(out, node, grpc, http));
        }
        self.walk = Some(alloc::boxed::Box::new(walk));
    }

    /// Goes on with the walk until about `bytes` have been encoded. Between steps entries may be
    /// applied; the stream stays at the walk's index.
    ///
    /// # Errors
    /// When no walk runs, or the finished stream disagrees with the state's digest: then it must
    /// not become a snapshot.
    pub fn step_snapshot(&mut self, bytes: usize) -> Result<SnapshotStep, SnapshotError> {
        let mut walk = self.walk.take().ok_or(SnapshotError::NotRunning)?;
        let done = walk.advance(self, bytes);
        let data = Bytes::from(walk.take_output());
        if done {
            walk.verify()?;
        } else {
            self.walk = Some(walk);
        }
        Ok(SnapshotStep { data, done })
    }

    /// Drops a running walk.
    pub fn abort_snapshot(&mut self) {
        self.walk = None;
    }

    /// Bytes of before-images that wait for the next step; intake slows when this grows large.
    pub fn snapshot_backlog(&self) -> usize {
        self.walk.as_ref().map_or(0, |walk| walk.backlog())
    }

    /// Tells whether a walk is running.
    pub const fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// Before a record changes or goes.
    pub(super) fn keep_record_image(&mut self, slot: u32) {
        if let Some(mut walk) = self.walk.take() {
            walk.keep_record(self, slot);
            self.walk = Some(walk);
        }
    }

    /// A record with an old serial came back.
    pub(super) fn leave_out_of_walk(&mut self, slot: u32) {
        if let Some(walk) = &mut self.walk {
            walk.leave_out(slot);
        }
    }

    /// Before an attempt changes or goes.
    pub(super) fn keep_attempt_image(&mut self, token: u64) {
        if let Some(mut walk) = self.walk.take() {
            walk.keep_attempt(self, token);
            self.walk = Some(walk);
        }
    }

    /// Before the oldest ended id goes.
    pub(super) fn keep_ended_image(&mut self) {
        if let Some(mut walk) = self.walk.take() {
            walk.keep_oldest_ended(self);
            self.walk = Some(walk);
        }
    }
}
