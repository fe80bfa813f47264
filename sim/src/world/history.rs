//! The history database: rows, a cursor moved by compare-and-set in the same transaction, and the
//! ways in which a database disappoints: away, failing, and silent about a COMMIT that happened.

use std::collections::BTreeMap;

use dtask_core::id::{ClusterId, RunNumber, Token};
use dtask_core::state::history::{AttemptRow, HistoryBatch, HistoryGap, RunRow, TaskRow};

use crate::check::gaps::Undone;

/// The cursor row (P9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Whose rows these are.
    pub cluster: ClusterId,
    /// Which life of the database.
    pub epoch: u64,
    /// The last change stored.
    pub through: u64,
}

/// Why a transaction did not commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// The cursor stands elsewhere: another leader, or a repeat after a lost acknowledgement.
    Cursor,
    /// The database belongs to another cluster or epoch.
    Foreign,
}

/// What the database holds, and a backup of it.
#[derive(Clone, Debug, Default)]
struct Tables {
    cursor: Option<Cursor>,
    tasks: BTreeMap<(Box<str>, u64), TaskRow>,
    runs: BTreeMap<(Box<str>, u64, u32), RunRow>,
    attempts: BTreeMap<Token, AttemptRow>,
    gaps: BTreeMap<u64, HistoryGap>,
}

/// The database.
#[derive(Debug, Default)]
pub struct HistoryDb {
    now: Tables,
    backup: Option<Box<Tables>>,
    undone: Undone,
    /// It cannot be reached before this moment.
    pub down_until: u64,
}

impl HistoryDb {
    /// Finds the cursor row or makes one.
    pub fn open(&mut self, cluster: ClusterId, epoch: u64) -> Result<Cursor, Aborted> {
        let cursor = *self.now.cursor.get_or_insert(Cursor { cluster, epoch, through: 0 });
        if cursor.cluster == cluster { Ok(cursor) } else { Err(Aborted::Foreign) }
    }

    /// One transaction: the compare-and-set first, then the rows.
    pub fn store(&mut self, batch: &HistoryBatch) -> Result<Cursor, Aborted> {
        let Some(cursor) = &mut self.now.cursor else { return Err(Aborted::Foreign) };
        if (cursor.cluster, cursor.epoch) != (batch.cluster, batch.epoch) {
            return Err(Aborted::Foreign);
        }
        if cursor.through != batch.after {
            return Err(Aborted::Cursor);
        }
        cursor.through = batch.through;
        let cursor = *cursor;
        let tables = &mut self.now;
        if let Some(gap) = batch.gap {
            tables.gaps.insert(gap.from, gap);
        }
        // A row gives way to a later change alone: a deposed leader may come last.
        for row in &batch.tasks {
            let key = (row.view.id.clone(), row.view.serial);
            newest(&mut tables.tasks, key, row, |row| row.number);
        }
        for row in &batch.runs {
            let key = (row.task_id.clone(), row.incarnation, row.view.run.0);
            newest(&mut tables.runs, key, row, |row| row.number);
        }
        for row in &batch.attempts {
            newest(&mut tables.attempts, row.view.token, row, |row| row.number);
        }
        Ok(cursor)
    }

    /// Whose rows these are.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.now.cursor.map(|cursor| cursor.cluster)
    }

    /// The last change stored.
    pub fn through(&self) -> u64 {
        self.now.cursor.map_or(0, |cursor| cursor.through)
    }

    /// The operator takes a backup.
    pub fn back_up(&mut self) {
        if self.now.cursor.is_some() {
            self.backup = Some(Box::new(self.now.clone()));
        }
    }

    /// The operator restores the backup, if there is one: how many changes are undone.
    pub fn restore(&mut self) -> Option<u64> {
        let was = self.through();
        self.now = Tables::clone(self.backup.as_deref()?);
        self.undone.restored(was, self.through());
        Some(was - self.through())
    }

    /// What restores have undone.
    pub const fn undone(&self) -> &Undone {
        &self.undone
    }

    /// The changes that it says it will never hold.
    pub fn gaps(&self) -> impl Iterator<Item = &HistoryGap> {
        self.now.gaps.values()
    }

    /// The newest creation of a task.
    pub fn task(&self, id: &str) -> Option<&TaskRow> {
        self.now.tasks.range((id.into(), 0)..=(id.into(), u64::MAX)).next_back().map(|(_, row)| row)
    }

    /// A certain creation of a task.
    pub fn incarnation(&self, id: &str, serial: u64) -> Option<&TaskRow> {
        self.now.tasks.get(&(id.into(), serial))
    }

    /// All task rows by (id, incarnation).
    pub fn tasks(&self) -> impl Iterator<Item = &TaskRow> {
        self.now.tasks.values()
    }

    /// A run of a creation of a task.
    pub fn run(&self, (id, serial, run): (&str, u64, RunNumber)) -> Option<&RunRow> {
        self.now.runs.get(&(id.into(), serial, run.0))
    }

    /// All run rows.
    pub fn runs(&self) -> impl Iterator<Item = &RunRow> {
        self.now.runs.values()
    }

    /// All attempt rows by token.
    pub fn attempts(&self) -> impl Iterator<Item = &AttemptRow> {
        self.now.attempts.values()
    }
}

/// Upserts a row unless a later change of it is there.
fn newest<K: Ord, R: Clone>(rows: &mut BTreeMap<K, R>, key: K, row: &R, number: fn(&R) -> u64) {
    if rows.get(&key).is_none_or(|held| number(held) <= number(row)) {
        rows.insert(key, row.clone());
    }
}
