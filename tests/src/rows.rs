//! The history database as its tables show it to anyone.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use dtask_core::id::Token;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::view::TaskStatus;
use dtask_sim::check::history::TaskLine;
use sqlx::Row as _;

/// What the tables say.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The last change stored.
    pub through: u64,
    /// By id: which creation, and its line. The table keeps the newest creation of an id.
    pub tasks: BTreeMap<String, (u64, TaskLine)>,
    /// One entry a row.
    pub attempts: Vec<(Token, Option<AttemptOutcome>)>,
    /// Task and fire time of each run of a recurring task, one entry a row.
    pub runs: Vec<(String, i64)>,
    /// Gaps that the database owns up to.
    pub gaps: usize,
}

const CURSOR: &str = "SELECT through FROM dtask_cursor";
const TASKS: &str = "SELECT id, incarnation, status, finished_at FROM tasks";
const ATTEMPTS: &str = "SELECT id, status FROM execution_logs";
const RUNS: &str = "SELECT task_id, scheduled_for FROM runs";
const GAPS: &str = "SELECT first FROM dtask_gaps";

/// Reads every row of a `sqlite:` URL.
pub async fn read(url: &str) -> Result<Rows> {
    let pool = sqlx::SqlitePool::connect(&format!("{url}?mode=ro")).await?;
    let mut rows = Rows::default();
    if let Some(row) = sqlx::query(CURSOR).fetch_optional(&pool).await? {
        rows.through = u64::try_from(row.get::<i64, _>(0))?;
    }
    for row in sqlx::query(TASKS).fetch_all(&pool).await? {
        let status = status(&row.get::<String, _>(2))?;
        // The load deletes nothing.
        let line = TaskLine { status, deleted: false };
        rows.tasks.insert(row.get(0), (u64::try_from(row.get::<i64, _>(1))?, line));
    }
    for row in sqlx::query(ATTEMPTS).fetch_all(&pool).await? {
        let token = Token(u64::try_from(row.get::<i64, _>(0))?);
        rows.attempts.push((token, outcome(&row.get::<String, _>(1))?));
    }
    for row in sqlx::query(RUNS).fetch_all(&pool).await? {
        rows.runs.push((row.get(0), row.get(1)));
    }
    rows.gaps = sqlx::query(GAPS).fetch_all(&pool).await?.len();
    Ok(rows)
}

fn status(word: &str) -> Result<TaskStatus> {
    let words = [
        ("waiting", TaskStatus::Waiting),
        ("ready", TaskStatus::Ready),
        ("running", TaskStatus::Running),
        ("succeeded", TaskStatus::Succeeded),
        ("failed", TaskStatus::Failed),
        ("cancelled", TaskStatus::Cancelled),
        ("skipped", TaskStatus::Skipped),
    ];
    let found = words.iter().find(|(known, _)| *known == word);
    Ok(found.with_context(|| format!("a task's status is {word:?}"))?.1)
}

fn outcome(word: &str) -> Result<Option<AttemptOutcome>> {
    let words = [
        ("running", None),
        ("succeeded", Some(AttemptOutcome::Succeeded)),
        ("failed", Some(AttemptOutcome::Failed)),
        ("timed_out", Some(AttemptOutcome::TimedOut)),
        ("lost", Some(AttemptOutcome::Lost)),
        ("cancelled", Some(AttemptOutcome::Cancelled)),
        ("interrupted", Some(AttemptOutcome::Interrupted)),
    ];
    let found = words.iter().find(|(known, _)| *known == word);
    Ok(found.with_context(|| format!("an execution's status is {word:?}"))?.1)
}
