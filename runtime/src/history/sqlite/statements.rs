//! The writer's statements: one upsert of many rows a statement, in a few sizes, so that the
//! database prepares each once (datapath: history).

use std::fmt::Write as _;
use std::sync::LazyLock;

use dtask_core::spec::draft::words;
use dtask_core::spec::{Recurrence, Rule};
use dtask_core::state::history::{AttemptRow, HistoryGap, RunRow, TaskRow};
use dtask_core::time::Timestamp;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{Arguments as _, Encode, Type};

use super::words::{CAUSES, OUTCOMES, STATUSES, WAITS, word};

/// Rows of one statement, largest first: few enough to stay below SQLite's 32,766 parameters.
const SIZES: [usize; 4] = [500, 100, 10, 1];

/// A table as its upsert sees it: the columns in the order in which rows bind them.
struct Table {
    name: &'static str,
    key: &'static str,
    columns: &'static [&'static str],
    /// When an existing row gives way.
    newer: &'static str,
}

static TASKS: Table = Table {
    name: "tasks",
    key: "id",
    columns: &[
        "id",
        "incarnation",
        "change",
        "deleted",
        "name",
        "type",
        "queue",
        "status",
        "priority",
        "payload",
        "at",
        "every",
        "starts_at",
        "cron_expr",
        "timezone",
        "dst_gap",
        "dst_fold",
        "misfire",
        "catch_up",
        "overlap",
        "max_retries",
        "backoff",
        "backoff_base",
        "backoff_max",
        "no_retry_exit",
        "timeout",
        "wait",
        "wait_message",
        "wait_since",
        "wait_until",
        "last_run",
        "last_run_cause",
        "last_run_scheduled_for",
        "last_run_status",
        "last_run_reason",
        "last_run_attempts",
        "last_success_at",
        "last_failure_at",
        "consecutive_failures",
        "runs_count",
        "revision",
        "created_at",
        "updated_at",
        "next_run_at",
        "finished_at",
    ],
    newer: "excluded.incarnation > tasks.incarnation \
            OR excluded.incarnation = tasks.incarnation AND excluded.change >= tasks.change",
};

static RUNS: Table = Table {
    name: "runs",
    key: "task_id, incarnation, run",
    columns: &[
        "task_id",
        "incarnation",
        "run",
        "change",
        "cause",
        "scheduled_for",
        "status",
        "reason",
        "attempts",
    ],
    newer: "excluded.change >= runs.change",
};

static ATTEMPTS: Table = Table {
    name: "execution_logs",
    key: "id",
    columns: &[
        "id",
        "change",
        "task_id",
        "incarnation",
        "run",
        "attempt",
        "queue",
        "worker_id",
        "status",
        "stop_requested",
        "output",
        "log_tail",
        "error",
        "exit_code",
        "scheduled_for",
        "opened_at",
        "started_at",
        "finished_at",
    ],
    newer: "excluded.change >= execution_logs.change",
};

static UPSERT_TASKS: LazyLock<Vec<String>> = LazyLock::new(|| TASKS.upserts());
static UPSERT_RUNS: LazyLock<Vec<String>> = LazyLock::new(|| RUNS.upserts());
static UPSERT_ATTEMPTS: LazyLock<Vec<String>> = LazyLock::new(|| ATTEMPTS.upserts());

impl Table {
    /// One statement for each of [`SIZES`].
    fn upserts(&self) -> Vec<String> {
        SIZES.iter().map(|rows| self.upsert(*rows)).collect()
    }

    fn upsert(&self, rows: usize) -> String {
        let places = vec!["?"; self.columns.len()].join(",");
        let rows = vec![format!("({places})"); rows].join(",");
        let keys: Vec<&str> = self.key.split(", ").collect();
        let mut sql = format!(
            "INSERT INTO {} ({}) VALUES {rows} ON CONFLICT ({}) DO UPDATE SET ",
            self.name,
            self.columns.join(","),
            self.key
        );
        let others = self.columns.iter().filter(|column| !keys.contains(column));
        for (at, column) in others.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Writing into a String cannot fail.
            let _ = write!(sql, "{comma}{column}=excluded.{column}");
        }
        let _ = write!(sql, " WHERE {}", self.newer);
        sql
    }
}

/// Notes a gap. A gap that grew before its row was stored has one row.
pub(super) async fn gap(db: &mut SqliteConnection, gap: &HistoryGap) -> sqlx::Result<()> {
    let mut row = Row { arguments: SqliteArguments::default(), failed: None };
    row.number(gap.from).number(gap.to);
    row.number(gap.dropped.tasks).number(gap.dropped.runs).number(gap.dropped.attempts);
    if let Some(error) = row.failed {
        return Err(sqlx::Error::Encode(error));
    }
    let sql = "INSERT OR REPLACE INTO dtask_gaps (first, last, tasks, runs, executions) \
               VALUES (?, ?, ?, ?, ?)";
    sqlx::query_with(sql, row.arguments).execute(db).await?;
    Ok(())
}

/// Upserts tasks.
pub(super) async fn tasks(db: &mut SqliteConnection, rows: &[TaskRow]) -> sqlx::Result<()> {
    upsert(db, &UPSERT_TASKS, rows, bind_task).await
}

/// Upserts runs.
pub(super) async fn runs(db: &mut SqliteConnection, rows: &[RunRow]) -> sqlx::Result<()> {
    upsert(db, &UPSERT_RUNS, rows, bind_run).await
}

/// Upserts attempts.
pub(super) async fn attempts(db: &mut SqliteConnection, rows: &[AttemptRow]) -> sqlx::Result<()> {
    upsert(db, &UPSERT_ATTEMPTS, rows, bind_attempt).await
}

async fn upsert<R>(
    db: &mut SqliteConnection,
    statements: &'static [String],
    mut rows: &[R],
    bind: fn(&mut Row, &R),
) -> sqlx::Result<()> {
    for (size, sql) in SIZES.iter().zip(statements) {
        while rows.len() >= *size {
            let (now, later) = rows.split_at(*size);
            let mut row = Row { arguments: SqliteArguments::default(), failed: None };
            for each in now {
                bind(&mut row, each);
            }
            if let Some(error) = row.failed {
                return Err(sqlx::Error::Encode(error));
            }
            sqlx::query_with(sql.as_str(), row.arguments).execute(&mut *db).await?;
            rows = later;
        }
    }
    Ok(())
}

/// Values in the order of the columns.
struct Row {
    arguments: SqliteArguments,
    failed: Option<sqlx::error::BoxDynError>,
}

impl Row {
    fn put<'t>(&mut self, value: impl Encode<'t, Sqlite> + Type<Sqlite>) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.failed = Some(error);
        }
        self
    }

    /// Numbers stay below 2^63 (tokens below 2^53, P7.1); one beyond is stored as the largest.
    fn number(&mut self, value: u64) -> &mut Self {
        self.put(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn time(&mut self, at: Timestamp) -> &mut Self {
        self.put(at.as_micros())
    }

    fn maybe_time(&mut self, at: Option<Timestamp>) -> &mut Self {
        self.put(at.map(Timestamp::as_micros))
    }

    fn nulls(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.put(None::<i64>);
        }
        self
    }
}

fn bind_task(row: &mut Row, task: &TaskRow) {
    let view = &task.view;
    let profile = &view.profile;
    row.put(&*view.id).number(view.serial).number(task.number).put(task.deleted);
    row.put(&*view.name).put(&*profile.kind).put(&*profile.queue);
    row.put(word(&STATUSES, &view.status)).put(view.priority).put(&view.payload[..]);
    row.maybe_time(view.at);
    match &view.recurrence {
        None => row.nulls(9),
        Some(recurrence) => bind_recurrence(row, recurrence),
    };
    let retry = &profile.retry;
    row.put(retry.max_retries).put(word(&words::BACKOFF, &retry.backoff));
    row.number(retry.backoff_base_ms).number(retry.backoff_max_ms);
    // JSON: [1,2].
    row.put(format!("{:?}", retry.no_retry_exit)).number(profile.run_timeout_ms);
    match &view.wait {
        None => row.nulls(4),
        Some(wait) => row
            .put(word(&WAITS, &wait.code))
            .put(wait.message.as_str())
            .time(wait.since)
            .maybe_time(wait.until),
    };
    match &view.last_run {
        None => row.nulls(6),
        Some(run) => row
            .put(run.run.0)
            .put(word(&CAUSES, &run.cause))
            .time(run.scheduled_for)
            .put(word(&STATUSES, &run.status))
            .put(&*run.reason)
            .put(run.attempts),
    };
    row.maybe_time(view.last_success_at).maybe_time(view.last_failure_at);
    row.put(view.consecutive_failures).put(view.runs_count).put(view.revision);
    row.time(view.created_at).time(view.updated_at);
    row.maybe_time(view.next_run_at).maybe_time(view.finished_at);
}

/// `every` to `overlap`.
fn bind_recurrence<'r>(row: &'r mut Row, recurrence: &Recurrence) -> &'r mut Row {
    match &recurrence.rule {
        Rule::Every { period_ms, start } => {
            row.number(*period_ms).maybe_time(*start).nulls(4);
        }
        Rule::Cron { expr, zone, gap, fold } => {
            row.nulls(2).put(&**expr).put(&**zone);
            row.put(word(&words::DST_GAP, gap)).put(word(&words::DST_FOLD, fold));
        }
    }
    row.put(word(&words::MISFIRE, &recurrence.misfire))
        .number(recurrence.catch_up_ms)
        .put(word(&words::OVERLAP, &recurrence.overlap))
}

fn bind_run(row: &mut Row, run: &RunRow) {
    let view = &run.view;
    row.put(&*run.task_id).number(run.incarnation).put(view.run.0).number(run.number);
    row.put(word(&CAUSES, &view.cause)).time(view.scheduled_for);
    row.put(word(&STATUSES, &view.status)).put(&*view.reason).put(view.attempts);
}

fn bind_attempt(row: &mut Row, attempt: &AttemptRow) {
    let view = &attempt.view;
    row.number(view.token.0).number(attempt.number).put(&*attempt.task_id);
    row.number(attempt.incarnation).put(attempt.run.0).put(view.attempt);
    row.put(&*attempt.queue).put(&*view.worker);
    row.put(word(&OUTCOMES, &view.outcome)).put(view.stop_requested);
    row.put(&view.output[..]).put(&view.tail[..]).put(&*view.error).put(view.exit_code);
    row.time(view.scheduled_for).time(view.opened_at);
    row.maybe_time(view.started_at).maybe_time(view.finished_at);
}
