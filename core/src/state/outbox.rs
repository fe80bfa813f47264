//! The history outbox (P9.1): references by change number. A reference whose number is not its
//! row's latest is skipped, so a short task costs one write and no later change hides behind an
//! earlier reference. Derived: rebuilt from the rows' numbers.

use super::queue::Queue;

/// What a change number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A task or run.
    Record { slot: u32, serial: u64 },
    /// An attempt.
    Attempt { token: u64 },
    /// Something that has changed again since, or is gone.
    Passed,
}

/// The outbox.
#[derive(Debug)]
pub(super) struct HistoryOutbox {
    changes: Queue<Change>,
}

impl HistoryOutbox {
    /// Everything up to and including `stored` is in history.
    pub(super) const fn after(stored: u64) -> Self {
        Self { changes: Queue::starting_at(stored + 1) }
    }

    /// The newest change number.
    pub(super) const fn newest(&self) -> u64 {
        self.changes.end() - 1
    }

    /// The last change number that history has.
    pub(super) const fn stored(&self) -> u64 {
        self.changes.first() - 1
    }

    /// Takes the next number for a change.
    pub(super) fn push(&mut self, change: Change) -> u64 {
        self.changes.push(change);
        self.newest()
    }

    pub(super) fn at(&self, number: u64) -> Option<Change> {
        self.changes.at(number)
    }

    /// Removes the oldest reference.
    pub(super) fn pop(&mut self) -> Option<(u64, Change)> {
        let number = self.changes.first();
        self.changes.pop().map(|change| (number, change))
    }

    /// Puts a reference back where its row's number says, while the outbox is rebuilt. False when
    /// no such number is outstanding.
    pub(super) fn restore(&mut self, number: u64, change: Change) -> bool {
        self.changes.set(number, change)
    }
}
