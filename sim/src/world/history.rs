//! The history database: rows, a cursor moved by compare-and-set in the same transaction, and the
//! ways in which a database disappoints: away, failing, and silent about a COMMIT that happened.

use std::collections::BTreeMap;

use dtask_core::id::{ClusterId, RunNumber, Token};
use dtask_core::state::history::{AttemptRow, HistoryBatch, RunRow, TaskRow};

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

/// The database.
#[derive(Debug, Default)]
pub struct HistoryDb {
    cursor: Option<Cursor>,
    tasks: BTreeMap<(Box<str>, u64), TaskRow>,
    runs: BTreeMap<(Box<str>, u64, u32), RunRow>,
    attempts: BTreeMap<Token, AttemptRow>,
    /// It cannot be reached before this moment.
    pub down_until: u64,
}

impl HistoryDb {
    /// Finds the cursor row or makes one.
    pub fn open(&mut self, cluster: ClusterId, epoch: u64) -> Result<Cursor, Aborted> {
        let cursor = *self.cursor.get_or_insert(Cursor { cluster, epoch, through: 0 });
        if cursor.cluster == cluster { Ok(cursor) } else { Err(Aborted::Foreign) }
    }

    /// One transaction: the compare-and-set first, then the rows.
    pub fn store(&mut self, batch: &HistoryBatch) -> Result<Cursor, Aborted> {
        let Some(cursor) = &mut self.cursor else { return Err(Aborted::Foreign) };
        if (cursor.cluster, cursor.epoch) != (batch.cluster, batch.epoch) {
            return Err(Aborted::Foreign);
        }
        if cursor.through != batch.after {
            return Err(Aborted::Cursor);
        }
        cursor.through = batch.through;
        let cursor = *cursor;
        for row in &batch.tasks {
            self.tasks.insert((row.view.id.clone(), row.view.serial), row.clone());
        }
        for row in &batch.runs {
            let key = (row.task_id.clone(), row.incarnation, row.view.run.0);
            self.runs.insert(key, row.clone());
        }
        for row in &batch.attempts {
            self.attempts.insert(row.view.token, row.clone());
        }
        Ok(cursor)
    }

    /// Whose rows these are.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cursor.map(|cursor| cursor.cluster)
    }

    /// The last change stored.
    pub fn through(&self) -> u64 {
        self.cursor.map_or(0, |cursor| cursor.through)
    }

    /// The newest creation of a task.
    pub fn task(&self, id: &str) -> Option<&TaskRow> {
        self.tasks.range((id.into(), 0)..=(id.into(), u64::MAX)).next_back().map(|(_, row)| row)
    }

    /// A certain creation of a task.
    pub fn incarnation(&self, id: &str, serial: u64) -> Option<&TaskRow> {
        self.tasks.get(&(id.into(), serial))
    }

    /// All task rows by (id, incarnation).
    pub fn tasks(&self) -> impl Iterator<Item = &TaskRow> {
        self.tasks.values()
    }

    /// A run of a creation of a task.
    pub fn run(&self, (id, serial, run): (&str, u64, RunNumber)) -> Option<&RunRow> {
        self.runs.get(&(id.into(), serial, run.0))
    }

    /// All run rows.
    pub fn runs(&self) -> impl Iterator<Item = &RunRow> {
        self.runs.values()
    }

    /// All attempt rows by token.
    pub fn attempts(&self) -> impl Iterator<Item = &AttemptRow> {
        self.attempts.values()
    }
}
