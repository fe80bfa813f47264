//! Ids of tasks that have left memory, so that a repeated submit is answered and never run again
//! (P8.2): first in, first out, bounded by count and by the window.

use super::facts::EndedTask;
use super::index::Index;
use super::queue::Queue;
use super::view::TaskStatus;
use crate::limits;
use crate::time::Timestamp;

/// 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Keyed hash of the id.
    pub(super) id: u64,
    /// Hash of everything that the owner wrote.
    pub(super) spec: u64,
    pub(super) serial: u64,
    pub(super) created_at: Timestamp,
    pub(super) ended_at: Timestamp,
    pub(super) status: TaskStatus,
    pub(super) deleted: bool,
}

impl Ended {
    /// The id is not reserved any longer.
    pub(super) fn is_out_of_window(&self, at: Timestamp) -> bool {
        self.ended_at + limits::DEDUP_WINDOW <= at
    }

    pub(super) const fn view(&self) -> EndedTask {
        EndedTask {
            serial: self.serial,
            status: self.status,
            created_at: self.created_at,
            ended_at: self.ended_at,
            deleted: self.deleted,
        }
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct EndedTable {
    queue: Queue<Ended>,
    /// From id hash to the low half of the entry's number. Derived.
    index: Index,
}

impl EndedTable {
    /// An empty table whose next entry gets the number `first`.
    pub(super) fn starting_at(first: u64) -> Self {
        Self { queue: Queue::starting_at(first), index: Index::default() }
    }

    pub(super) const fn len(&self) -> usize {
        self.queue.len()
    }

    /// Numbers of the oldest entry and of the next one.
    pub(super) const fn numbers(&self) -> (u64, u64) {
        (self.queue.first(), self.queue.end())
    }

    pub(super) fn at(&self, number: u64) -> Option<Ended> {
        self.queue.at(number)
    }

    /// The newest entry of this id.
    pub(super) fn find(&self, id: u64) -> Option<Ended> {
        self.newest(id).map(|(_, ended)| ended)
    }

    /// The newest entry of this id, and its number: a task that runs again ends again (P8.5).
    pub(super) fn newest(&self, id: u64) -> Option<(u64, Ended)> {
        let mut newest = None;
        self.index.find(id, |low| {
            let number = self.widen(low);
            if newest.is_none_or(|(held, _)| held < number)
                && let Some(ended) = self.queue.at(number).filter(|ended| ended.id == id)
            {
                newest = Some((number, ended));
            }
            false
        });
        newest
    }

    /// Appends an entry and returns its number.
    pub(super) fn push(&mut self, ended: Ended) -> u64 {
        let number = self.queue.end();
        self.queue.push(ended);
        self.index.insert(ended.id, number as u32);
        number
    }

    /// Tells whether the oldest entry must go: more than `most`, or out of the window.
    pub(super) fn is_over(&self, most: u64, at: Timestamp) -> bool {
        self.queue.len() as u64 > most
            || self.queue.at(self.queue.first()).is_some_and(|ended| ended.is_out_of_window(at))
    }

    /// Removes the oldest entry.
    pub(super) fn pop(&mut self) -> Option<(u64, Ended)> {
        let number = self.queue.first();
        let ended = self.queue.at(number)?;
        self.index.remove(ended.id, number as u32);
        self.queue.pop();
        Some((number, ended))
    }

    fn widen(&self, low: u32) -> u64 {
        widen(self.queue.first(), low)
    }

    pub(super) fn index_len(&self) -> usize {
        self.index.len()
    }
}

/// The number at or after `first` whose low half is `low`: the table holds far fewer than 2^32.
const fn widen(first: u64, low: u32) -> u64 {
    first + (low.wrapping_sub(first as u32)) as u64
}
