//! Waiting runs by due time: an indexed 4-ary heap whose records know their place, so that a cancel
//! is as cheap as an insert. Equal times are ordered by serial. Stored in chunks: growth moves
//! nothing. Derived: rebuilt from the records.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::record::{NONE, Phase};
use super::slab::Slab;
use crate::time::Timestamp;

const ARITY: usize = 4;
const CHUNK: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Timer {
    due: Timestamp,
    slot: u32,
}

/// The heap.
#[derive(Debug, Default)]
pub(super) struct Timers {
    chunks: Vec<Box<[Timer]>>,
    len: usize,
}

impl Timers {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The earliest due time and whose it is.
    pub(super) fn first(&self) -> Option<(Timestamp, u32)> {
        (self.len > 0).then(|| (self.at(0).due, self.at(0).slot))
    }

    /// Adds a record whose phase is `Waiting`.
    pub(super) fn insert(&mut self, slab: &mut Slab, slot: u32) {
        let Some(Phase::Waiting { until, .. }) = slab.at(slot).map(|record| record.phase) else {
            return;
        };
        let timer = Timer { due: until, slot };
        if self.len == self.chunks.len() * CHUNK {
            let blank = Timer { due: Timestamp::MAX, slot: NONE };
            self.chunks.push(alloc::vec![blank; CHUNK].into_boxed_slice());
        }
        let place = self.len;
        self.len += 1;
        self.rise(slab, place, timer);
    }

    /// Takes a waiting record out, wherever it stands.
    pub(super) fn remove(&mut self, slab: &mut Slab, slot: u32) {
        let Some(Phase::Waiting { position, .. }) = slab.at(slot).map(|record| record.phase) else {
            return;
        };
        let place = position as usize;
        if place >= self.len || self.at(place).slot != slot {
            return;
        }
        self.len -= 1;
        let last = self.at(self.len);
        if place < self.len {
            if place > 0 && before(slab, last, self.at((place - 1) / ARITY)) {
                self.rise(slab, place, last);
            } else {
                self.sink(slab, place, last);
            }
        }
        // One spare chunk stays, so that a heap at a boundary does not allocate at every step.
        while self.chunks.len() * CHUNK >= self.len + 2 * CHUNK {
            self.chunks.pop();
        }
    }

    fn at(&self, place: usize) -> Timer {
        self.chunks[place / CHUNK][place % CHUNK]
    }

    fn set(&mut self, slab: &mut Slab, place: usize, timer: Timer) {
        self.chunks[place / CHUNK][place % CHUNK] = timer;
        if let Some(record) = slab.at_mut(timer.slot)
            && let Phase::Waiting { position, .. } = &mut record.phase
        {
            *position = place as u32;
        }
    }

    fn rise(&mut self, slab: &mut Slab, mut place: usize, timer: Timer) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            let above = self.at(parent);
            if !before(slab, timer, above) {
                break;
            }
            self.set(slab, place, above);
            place = parent;
        }
        self.set(slab, place, timer);
    }

    fn sink(&mut self, slab: &mut Slab, mut place: usize, timer: Timer) {
        loop {
            let first = place * ARITY + 1;
            if first >= self.len {
                break;
            }
            let mut least = first;
            for child in first + 1..(first + ARITY).min(self.len) {
                if before(slab, self.at(child), self.at(least)) {
                    least = child;
                }
            }
            let below = self.at(least);
            if !before(slab, below, timer) {
                break;
            }
            self.set(slab, place, below);
            place = least;
        }
        self.set(slab, place, timer);
    }

    /// Places and slots as they are, for the audit.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, Timestamp, u32)> + '_ {
        (0..self.len).map(|place| (place, self.at(place).due, self.at(place).slot))
    }
}

fn before(slab: &Slab, a: Timer, b: Timer) -> bool {
    if a.due != b.due {
        return a.due < b.due;
    }
    let serial = |slot| slab.at(slot).map(|record| record.serial);
    serial(a.slot) < serial(b.slot)
}
