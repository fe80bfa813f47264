//! Writes the spans of a batch: which words occur in which stretches of the lists
//! (see [`spans`](crate::history::spans)).

use dtask_core::state::history::{AttemptRow, HistoryBatch, TaskRow};
use rusqlite::Connection;

use super::row::Row;
use crate::history::queries::signed;
use crate::history::spans::{EXECUTION_QUEUES, List, TASK_QUEUES, TASK_TYPES, WORKERS};

const INSERT: &str = "INSERT OR IGNORE INTO dtask_spans (list, word, span) VALUES (?, ?, ?)";

/// Notes where the words of the batch's rows are. A row that gave way to a newer one is noted too,
/// which costs a page a look.
pub(super) fn of(db: &Connection, batch: &HistoryBatch) -> rusqlite::Result<()> {
    let creation = |row: &TaskRow| row.view.created_at.as_micros();
    let token = |row: &AttemptRow| signed(row.view.token.0);
    let (tasks, attempts) = (&batch.tasks, &batch.attempts);
    note(db, TASK_TYPES, tasks.iter().map(|row| (&*row.view.profile.kind, creation(row))))?;
    note(db, TASK_QUEUES, tasks.iter().map(|row| (&*row.view.profile.queue, creation(row))))?;
    note(db, WORKERS, attempts.iter().map(|row| (&*row.view.worker, token(row))))?;
    note(db, EXECUTION_QUEUES, attempts.iter().map(|row| (&*row.queue, token(row))))
}

fn note<'b>(
    db: &Connection,
    list: List,
    rows: impl Iterator<Item = (&'b str, i64)>,
) -> rusqlite::Result<()> {
    let mut found: Vec<(&str, i64)> = Vec::new();
    for (word, number) in rows {
        let entry = (word, list.span(number));
        // Neighbours mostly agree.
        if found.last() != Some(&entry) {
            found.push(entry);
        }
    }
    // In the tree's order, each once.
    found.sort_unstable();
    found.dedup();
    let mut row = Row::new(db, INSERT)?;
    for (word, span) in found {
        row.text(list.name).text(word).signed(span);
        row.store()?;
    }
    Ok(())
}
