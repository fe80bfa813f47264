//! What the history database may hold: S18, row by row as transactions commit, and exactly once it
//! lags by nothing.

use std::collections::BTreeMap;

use dtask_core::id::Token;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::history::HistoryBatch;
use dtask_core::state::view::TaskStatus;

use super::chain::Chain;
use super::gaps::Excuses;
use super::ledger::{End, Kind, Ledger};
use super::{Verdict, Violation, hold};
use crate::world::history::HistoryDb;

/// S18: rows speak of committed attempts and tasks only, and of their real outcomes.
pub fn s18_rows_are_committed(chain: &Chain, batch: &HistoryBatch) -> Verdict {
    let ledger = chain.ledger();
    for row in &batch.attempts {
        let token = row.view.token;
        let Some(attempt) = ledger.attempt(token) else {
            let detail = format!("a row of token {token}, which was never opened");
            return Err(Violation::new("S18", detail));
        };
        let fits = row.view.outcome.is_none() || row.view.outcome == attempt.outcome;
        hold!(
            "S18",
            fits,
            "row of token {token} says {:?}; the log says {:?}",
            row.view.outcome,
            attempt.outcome
        );
    }
    for row in &batch.tasks {
        hold!(
            "S18",
            ledger.record(row.view.serial).is_some_and(|record| *record.id == *row.view.id),
            "a row of task {} (serial {}), which was never accepted",
            row.view.id,
            row.view.serial
        );
        // A row may be newer than the batch that brings it (P9.1), never newer than the log.
        let newest = chain.changes();
        hold!(
            "S18",
            row.number <= newest,
            "a row of task {} has number {} of {newest}",
            row.view.id,
            row.number
        );
    }
    Ok(())
}

/// S18: a run's number names one occasion: no row of a run takes another's place.
pub fn s18_a_run_is_one_occasion(history: &HistoryDb, batch: &HistoryBatch) -> Verdict {
    for row in &batch.runs {
        let key = (&*row.task_id, row.incarnation, row.view.run);
        let Some(held) = history.run(key) else { continue };
        let (held, view) = (&held.view, &row.view);
        hold!(
            "S18",
            (held.cause, held.scheduled_for, held.retry_of)
                == (view.cause, view.scheduled_for, view.retry_of),
            "{key:?}: {view:?} takes the place of {held:?}"
        );
    }
    Ok(())
}

/// S18 at lag zero: each closed attempt that history can know is one row with its outcome; no
/// row is left that says otherwise. Only what lies in a gap that the database names may be missing,
/// or older.
pub fn s18_history_is_exact(chain: &Chain, history: &HistoryDb) -> Verdict {
    if history.through() < chain.changes() {
        return Ok(());
    }
    let ledger = chain.ledger();
    let gaps = history.gaps().map(|gap| (gap.from, gap.to));
    let excuses = Excuses::new(gaps, chain.departed(), chain.state());
    let rows = history.attempts().map(|row| (row.view.token, row.view.outcome));
    s18_each_attempt_is_one_row(ledger, rows, |token| excuses.attempt(token))?;
    let line = |id: &str, serial| {
        let row = history.incarnation(id, serial)?;
        Some(TaskLine { status: row.view.status, deleted: row.deleted })
    };
    s18_each_task_is_one_row(ledger, line, |id, serial| excuses.task(id, serial))
}

/// What a task's row says.
#[derive(Clone, Copy, Debug)]
pub struct TaskLine {
    /// How it stands.
    pub status: TaskStatus,
    /// It was deleted.
    pub deleted: bool,
}

/// S18: each attempt of the log is exactly one row, with its outcome, and no row is of another.
/// `rows` are (token, outcome; `None` while it runs). What is `excused` may be missing, or older.
pub fn s18_each_attempt_is_one_row(
    ledger: &Ledger,
    rows: impl Iterator<Item = (Token, Option<AttemptOutcome>)>,
    excused: impl Fn(Token) -> bool,
) -> Verdict {
    let mut known = BTreeMap::new();
    for (token, outcome) in rows {
        hold!("S18", known.insert(token, outcome).is_none(), "token {token} has two rows");
        hold!("S18", ledger.attempt(token).is_some(), "a row of token {token}, never opened");
    }
    for (token, attempt) in ledger.attempts() {
        // In a gap a row may be missing or say that the attempt runs, not that it ended otherwise.
        let older = matches!(known.get(&token), None | Some(None)) && excused(token);
        hold!(
            "S18",
            known.get(&token) == Some(&attempt.outcome) || older,
            "token {token} has ended {:?}; history says {:?}",
            attempt.outcome,
            known.get(&token)
        );
    }
    Ok(())
}

/// S18: each task of the log has a row that says how it ended. `row` finds the row of a creation
/// by id and serial. What is `excused` may be missing, or older.
pub fn s18_each_task_is_one_row(
    ledger: &Ledger,
    row: impl Fn(&str, u64) -> Option<TaskLine>,
    excused: impl Fn(&str, u64) -> bool,
) -> Verdict {
    for (serial, record) in ledger.records() {
        if matches!(record.kind, Kind::Run { .. }) || excused(&record.id, serial) {
            continue;
        }
        let Some(TaskLine { status, deleted }) = row(&record.id, serial) else {
            let detail = format!("history lacks {} (serial {serial})", record.id);
            return Err(Violation::new("S18", detail));
        };
        let fits = match record.done {
            Some(End::Succeeded) => status == TaskStatus::Succeeded,
            Some(End::Failed) => status == TaskStatus::Failed,
            // A stopped attempt's own failure, if it is final, counts as that.
            Some(End::Cancelled) => matches!(status, TaskStatus::Cancelled | TaskStatus::Failed),
            Some(End::Exhausted) => !matches!(status, TaskStatus::Waiting | TaskStatus::Ready),
            None => status != TaskStatus::Cancelled,
        };
        hold!(
            "S18",
            fits && deleted == record.deleted,
            "{} (serial {serial}) ended {:?}; history says {status:?} (deleted {deleted})",
            record.id,
            record.done
        );
    }
    Ok(())
}
