//! Linearizable reads: ReadIndex with a fresh context for every try (P3.7).
//!
//! A try asked after a read confirms it and every read before it, so one round serves a whole
//! turn. raft drops requests in silence (no leader, nothing committed in the term yet) and a
//! context used twice gives a stale read, so an unanswered try is followed by a new one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::turn::ReadId;
use crate::id::NodeId;

/// Ticks before an unanswered try is followed by another.
const RETRY_TICKS: u64 = 4;

pub(super) struct Reads {
    node: NodeId,
    /// The log's life: contexts of an earlier life never match.
    life: u64,
    next_read: u64,
    /// The number of the newest try.
    tried: u64,
    tried_at: u64,
    /// Reads and the first try that may answer them; both ascending.
    waiting: VecDeque<(ReadId, u64)>,
    due: bool,
}

impl Reads {
    pub(super) const fn new(node: NodeId, life: u64) -> Self {
        Self {
            node,
            life,
            next_read: 1,
            tried: 0,
            tried_at: 0,
            waiting: VecDeque::new(),
            due: false,
        }
    }

    pub(super) fn ask(&mut self) -> ReadId {
        let id = ReadId(self.next_read);
        self.next_read += 1;
        self.waiting.push_back((id, self.tried + 1));
        self.due = true;
        id
    }

    /// Something changed that may let a dropped try succeed (a leader, its first commit).
    pub(super) fn hasten(&mut self) {
        self.due = !self.waiting.is_empty();
    }

    /// The context of the next try, when one is wanted.
    pub(super) fn next_try(&mut self, tick: u64) -> Option<Bytes> {
        if self.waiting.is_empty() || !(self.due || tick >= self.tried_at + RETRY_TICKS) {
            return None;
        }
        self.due = false;
        self.tried += 1;
        self.tried_at = tick;
        let mut context = BytesMut::with_capacity(24);
        context.put_u64_le(self.node.0);
        context.put_u64_le(self.life);
        context.put_u64_le(self.tried);
        Some(context.freeze())
    }

    /// A try came back: the reads it answers.
    pub(super) fn answered(&mut self, context: &[u8], index: u64, out: &mut Vec<(ReadId, u64)>) {
        let Some(number) = self.own(context) else { return };
        while let Some(&(id, first)) = self.waiting.front() {
            if first > number {
                break;
            }
            self.waiting.pop_front();
            out.push((id, index));
        }
    }

    fn own(&self, context: &[u8]) -> Option<u64> {
        let words: &[[u8; 8]] = match context.as_chunks() {
            (words, []) => words,
            _ => return None,
        };
        match *words {
            [node, life, number]
                if u64::from_le_bytes(node) == self.node.0
                    && u64::from_le_bytes(life) == self.life =>
            {
                Some(u64::from_le_bytes(number))
            }
            _ => None,
        }
    }
}
