//! What ids stand for: the slot of a task in memory, or an entry of the ended ids. One index for
//! both, because most tasks pass from one to the other, and a look-up costs little beside the
//! memory that it touches.

use super::ended::Ended;
use super::index::Index;
use super::queue::Queue;
use crate::limits;
use crate::time::Timestamp;

/// Set in the index's number of an ended id, whose other bits are the low ones of its number. Slots
/// lie below.
const ENDED: u32 = 1 << 31;

// A slot never reaches the mark, and the low bits tell all entries of the table apart.
const _: () = assert!(4 * limits::LIVE_TASKS_MAX < ENDED as u64);
const _: () = assert!((limits::DEDUP_IDS_MAX as u64) < ENDED as u64);

/// The two tables.
#[derive(Debug)]
pub(super) struct Ids {
    /// First in, first out.
    ended: Queue<Ended>,
    /// From id hash. Derived.
    index: Index,
    /// How many of the index's entries are tasks in memory. Derived.
    live: usize,
}

impl Ids {
    /// Empty tables; the next ended id gets the number `first`.
    pub(super) fn starting_at(first: u64) -> Self {
        Self { ended: Queue::starting_at(first), index: Index::default(), live: 0 }
    }

    /// Tasks in memory.
    pub(super) const fn live_len(&self) -> usize {
        self.live
    }

    /// The slot with this hash that `same` accepts.
    pub(super) fn live(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        self.index.find(hash, |number| number < ENDED && same(number))
    }

    /// Enters a task in memory.
    pub(super) fn enter(&mut self, hash: u64, slot: u32) {
        self.index.insert(hash, slot);
        self.live += 1;
    }

    /// A task leaves memory: its id has ended. Returns the entry's number.
    pub(super) fn end(&mut self, slot: u32, ended: Ended) -> u64 {
        let number = self.ended.end();
        if self.index.replace(ended.id, slot, mark(number)) {
            self.live -= 1;
            self.ended.push(ended);
            number
        } else {
            self.push(ended)
        }
    }

    /// Appends an ended id that is not in memory and returns its number.
    pub(super) fn push(&mut self, ended: Ended) -> u64 {
        let number = self.ended.end();
        self.ended.push(ended);
        self.index.insert(ended.id, mark(number));
        number
    }

    pub(super) const fn ended_len(&self) -> usize {
        self.ended.len()
    }

    /// Numbers of the oldest ended id and of the next one.
    pub(super) const fn ended_numbers(&self) -> (u64, u64) {
        (self.ended.first(), self.ended.end())
    }

    pub(super) fn ended_at(&self, number: u64) -> Option<Ended> {
        self.ended.at(number)
    }

    /// The newest end of this id.
    pub(super) fn ended(&self, hash: u64) -> Option<Ended> {
        self.newest(hash).map(|(_, ended)| ended)
    }

    /// The newest end of this id, and its number: a task that runs again ends again (P8.5).
    pub(super) fn newest(&self, hash: u64) -> Option<(u64, Ended)> {
        let mut newest = None;
        self.index.find(hash, |marked| {
            if marked >= ENDED {
                let number = widen(self.ended.first(), marked);
                if newest.is_none_or(|(held, _)| held < number)
                    && let Some(ended) = self.ended.at(number).filter(|ended| ended.id == hash)
                {
                    newest = Some((number, ended));
                }
            }
            false
        });
        newest
    }

    /// Tells whether the oldest ended id must go: more than `most`, or out of the window.
    pub(super) fn is_over(&self, most: u64, at: Timestamp) -> bool {
        self.ended.len() as u64 > most
            || self.ended.at(self.ended.first()).is_some_and(|ended| ended.is_out_of_window(at))
    }

    /// Removes the oldest ended id.
    pub(super) fn forget(&mut self) -> Option<(u64, Ended)> {
        let number = self.ended.first();
        let ended = self.ended.pop()?;
        self.index.remove(ended.id, mark(number));
        Some((number, ended))
    }

    /// Entries of the index: those of both tables.
    pub(super) fn index_len(&self) -> usize {
        self.index.len()
    }
}

const fn mark(number: u64) -> u32 {
    number as u32 | ENDED
}

/// The number at or after `first` whose low bits are those of `marked`: the table holds far fewer
/// than 2^31.
const fn widen(first: u64, marked: u32) -> u64 {
    first + (marked.wrapping_sub(first as u32) & !ENDED) as u64
}
