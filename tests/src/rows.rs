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
    /// The first and the last change of each gap that the database owns up to.
    pub gaps: Vec<(u64, u64)>,
}

const CURSOR: &str = "SELECT through FROM dtask_cursor";
const TASKS: &str = "SELECT id, incarnation, status, deleted FROM tasks";
const ATTEMPTS: &str = "SELECT id, status FROM execution_logs";
const RUNS: &str = "SELECT task_id, scheduled_for FROM runs";
const RUNS_OF_POSTGRES: &str =
    "SELECT task_id, (extract(epoch FROM scheduled_for) * 1000000)::bigint FROM runs";
const GAPS: &str = "SELECT first, last FROM dtask_gaps";

/// Reads every row: both databases are asked alike, and only sqlx's types differ.
macro_rules! read_all {
    ($pool:expr, $runs:expr) => {{
        let mut rows = Rows::default();
        if let Some(row) = sqlx::query(CURSOR).fetch_optional($pool).await? {
            rows.through = u64::try_from(row.get::<i64, _>(0))?;
        }
        for row in sqlx::query(TASKS).fetch_all($pool).await? {
            let status = status(&row.get::<String, _>(2))?;
            let line = TaskLine { status, deleted: row.get(3) };
            rows.tasks.insert(row.get(0), (u64::try_from(row.get::<i64, _>(1))?, line));
        }
        for row in sqlx::query(ATTEMPTS).fetch_all($pool).await? {
            let token = Token(u64::try_from(row.get::<i64, _>(0))?);
            rows.attempts.push((token, outcome(&row.get::<String, _>(1))?));
        }
        for row in sqlx::query($runs).fetch_all($pool).await? {
            rows.runs.push((row.get(0), row.get(1)));
        }
        for row in sqlx::query(GAPS).fetch_all($pool).await? {
            let (first, last) = (row.get::<i64, _>(0), row.get::<i64, _>(1));
            rows.gaps.push((u64::try_from(first)?, u64::try_from(last)?));
        }
        Ok(rows)
    }};
}

/// Reads a `sqlite:` or `postgres:` URL.
pub async fn read(url: &str) -> Result<Rows> {
    if url.starts_with("sqlite:") {
        let pool = sqlx::SqlitePool::connect(&format!("{url}?mode=ro")).await?;
        read_all!(&pool, RUNS)
    } else {
        let pool = sqlx::PgPool::connect(url).await?;
        read_all!(&pool, RUNS_OF_POSTGRES)
    }
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
