//! The side table of recurring tasks: what their records have no room for.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use super::view::RunView;
use crate::spec::Recurrence;
use crate::time::Timestamp;

/// What a recurring task has beyond its record. Stored as part of the record's row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    /// The rule and its policies; `None` for a one-shot that was run again (P8.5).
    pub(super) recurrence: Option<Recurrence>,
    /// Version of the spec.
    pub(super) revision: u32,
    /// The next fire time; `None` once the schedule has ended.
    pub(super) next_run_at: Option<Timestamp>,
    /// The latest fire time that was taken.
    pub(super) last_fire_time: Option<Timestamp>,
    /// Runs so far, skipped ones too: the latest run's number.
    pub(super) runs: u32,
    pub(super) last_success_at: Option<Timestamp>,
    pub(super) last_failure_at: Option<Timestamp>,
    /// Failures since the latest success.
    pub(super) failures: u32,
    /// The latest run that has ended, as it ended.
    pub(super) last_run: Option<RunView>,
    /// Unfinished child runs by number. Derived.
    pub(super) live: BTreeMap<u32, u32>,
    /// Child records in memory, finished ones too. Derived.
    pub(super) children: u32,
}

impl Schedule {
    pub(super) const fn new(recurrence: Option<Recurrence>, next: Option<Timestamp>) -> Self {
        Self {
            recurrence,
            revision: 1,
            next_run_at: next,
            last_fire_time: None,
            runs: 0,
            last_success_at: None,
            last_failure_at: None,
            failures: 0,
            last_run: None,
            live: BTreeMap::new(),
            children: 0,
        }
    }
}

/// All of them, by slot and by next fire time.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    by_slot: BTreeMap<u32, Box<Schedule>>,
    /// (next fire time, serial, slot). Derived.
    due: BTreeSet<(Timestamp, u64, u32)>,
}

impl Schedules {
    pub(super) fn insert(&mut self, slot: u32, serial: u64, schedule: Schedule) {
        if let Some(next) = schedule.next_run_at {
            self.due.insert((next, serial, slot));
        }
        self.by_slot.insert(slot, Box::new(schedule));
    }

    pub(super) fn remove(&mut self, slot: u32, serial: u64) {
        if let Some(gone) = self.by_slot.remove(&slot)
            && let Some(next) = gone.next_run_at
        {
            self.due.remove(&(next, serial, slot));
        }
    }

    pub(super) fn at(&self, slot: u32) -> Option<&Schedule> {
        self.by_slot.get(&slot).map(Box::as_ref)
    }

    /// For everything but `next_run_at`.
    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut Schedule> {
        self.by_slot.get_mut(&slot).map(Box::as_mut)
    }

    pub(super) fn set_next(&mut self, slot: u32, serial: u64, next: Option<Timestamp>) {
        let Some(schedule) = self.by_slot.get_mut(&slot) else { return };
        if let Some(old) = core::mem::replace(&mut schedule.next_run_at, next) {
            self.due.remove(&(old, serial, slot));
        }
        if let Some(next) = next {
            self.due.insert((next, serial, slot));
        }
    }

    /// (next fire time, serial, slot), earliest first.
    pub(super) fn due(&self) -> impl Iterator<Item = (Timestamp, u64, u32)> + '_ {
        self.due.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub(super) fn due_len(&self) -> usize {
        self.due.len()
    }
}
