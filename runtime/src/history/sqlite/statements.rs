//! The writer's statements: one upsert of one row a table, which the database prepares once and
//! steps through row after row. Against statements of 500 rows, that saves the list of values, its
//! copies and its way to another thread.

use std::fmt::Write as _;
use std::sync::LazyLock;

use dtask_core::spec::draft::words;
use dtask_core::spec::{Recurrence, Rule};
use dtask_core::state::history::{AttemptRow, HistoryGap, RunRow, TaskRow};
use rusqlite::Connection;

use super::row::Row;
use super::words::{CAUSES, OUTCOMES, STATUSES, WAITS, word};

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
        "last_run_retry_of",
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
        "retry_of",
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

/// Columns of `tasks` that stay NULL in a one-shot task that runs at once and was never delayed.
const RARE: &[&str] = &[
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
    "wait",
    "wait_message",
    "wait_since",
    "wait_until",
    "last_failure_at",
    "next_run_at",
];

static UPSERT_TASK: LazyLock<String> = LazyLock::new(|| TASKS.upsert(&[]));
static UPSERT_PLAIN_TASK: LazyLock<String> = LazyLock::new(|| TASKS.upsert(RARE));
static UPSERT_RUN: LazyLock<String> = LazyLock::new(|| RUNS.upsert(&[]));
static UPSERT_ATTEMPT: LazyLock<String> = LazyLock::new(|| ATTEMPTS.upsert(&[]));

impl Table {
    /// The statement for rows in which the columns `without` are NULL: `excluded` has them so.
    fn upsert(&self, without: &[&str]) -> String {
        let given: Vec<&str> =
            self.columns.iter().copied().filter(|column| !without.contains(column)).collect();
        let keys: Vec<&str> = self.key.split(", ").collect();
        let mut sql = format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET ",
            self.name,
            given.join(","),
            vec!["?"; given.len()].join(","),
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
pub(super) fn gap(db: &Connection, gap: &HistoryGap) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO dtask_gaps (first, last, tasks, runs, executions) \
               VALUES (?, ?, ?, ?, ?)";
    let mut row = Row::new(db, sql)?;
    row.number(gap.from).number(gap.to);
    row.number(gap.dropped.tasks).number(gap.dropped.runs).number(gap.dropped.attempts);
    row.store()
}

/// Upserts tasks.
pub(super) fn tasks(db: &Connection, rows: &[TaskRow]) -> rusqlite::Result<()> {
    let mut plain = Row::new(db, &UPSERT_PLAIN_TASK)?;
    let mut any = Row::new(db, &UPSERT_TASK)?;
    for task in rows {
        let row = if is_plain(task) { &mut plain } else { &mut any };
        bind_task(row, task);
        row.store()?;
    }
    Ok(())
}

/// Upserts runs.
pub(super) fn runs(db: &Connection, rows: &[RunRow]) -> rusqlite::Result<()> {
    upsert(db, &UPSERT_RUN, rows, bind_run)
}

/// Upserts attempts.
pub(super) fn attempts(db: &Connection, rows: &[AttemptRow]) -> rusqlite::Result<()> {
    upsert(db, &UPSERT_ATTEMPT, rows, bind_attempt)
}

fn upsert<R>(
    db: &Connection,
    sql: &str,
    rows: &[R],
    bind: fn(&mut Row<'_>, &R),
) -> rusqlite::Result<()> {
    let mut row = Row::new(db, sql)?;
    for each in rows {
        bind(&mut row, each);
        row.store()?;
    }
    Ok(())
}

/// Whether all of [`RARE`] is NULL.
fn is_plain(task: &TaskRow) -> bool {
    let view = &task.view;
    view.at.is_none()
        && view.recurrence.is_none()
        && view.wait.is_none()
        && view.last_failure_at.is_none()
        && view.next_run_at.is_none()
}

/// In the order of the columns of [`TASKS`], without [`RARE`] ones when the task is plain.
fn bind_task(row: &mut Row<'_>, task: &TaskRow) {
    let view = &task.view;
    let profile = &view.profile;
    let plain = is_plain(task);
    row.own_text(&view.id).number(view.serial).number(task.number).number(task.deleted);
    row.own_text(&view.name).text(&profile.kind).text(&profile.queue);
    row.text(word(&STATUSES, &view.status)).number(view.priority).bytes(&view.payload);
    if !plain {
        row.maybe_time(view.at);
        match &view.recurrence {
            None => row.nulls(9),
            Some(recurrence) => bind_recurrence(row, recurrence),
        };
    }
    let retry = &profile.retry;
    row.number(retry.max_retries).text(word(&words::BACKOFF, &retry.backoff));
    row.number(retry.backoff_base_ms).number(retry.backoff_max_ms);
    match retry.no_retry_exit.as_slice() {
        [] => row.text("[]"),
        // JSON: [1,2].
        codes => row.text(&format!("{codes:?}")),
    };
    row.number(profile.run_timeout_ms);
    if !plain {
        match &view.wait {
            None => row.nulls(4),
            Some(wait) => row
                .text(word(&WAITS, &wait.code))
                .text(wait.message.as_str())
                .time(wait.since)
                .maybe_time(wait.until),
        };
    }
    match &view.last_run {
        None => row.nulls(7),
        Some(run) => row
            .number(run.run.0)
            .text(word(&CAUSES, &run.cause))
            .time(run.scheduled_for)
            .text(word(&STATUSES, &run.status))
            .text(&run.reason)
            .number(run.attempts)
            .maybe(run.retry_of.map(|run| run.0.into())),
    };
    row.maybe_time(view.last_success_at);
    if !plain {
        row.maybe_time(view.last_failure_at);
    }
    row.number(view.consecutive_failures).number(view.runs_count).number(view.revision);
    row.time(view.created_at).time(view.updated_at);
    if !plain {
        row.maybe_time(view.next_run_at);
    }
    row.maybe_time(view.finished_at);
}

/// `every` to `overlap`.
fn bind_recurrence<'r, 'db>(row: &'r mut Row<'db>, recurrence: &Recurrence) -> &'r mut Row<'db> {
    match &recurrence.rule {
        Rule::Every { period_ms, start } => {
            row.number(*period_ms).maybe_time(*start).nulls(4);
        }
        Rule::Cron { expr, zone, gap, fold } => {
            row.nulls(2).text(expr).text(zone);
            row.text(word(&words::DST_GAP, gap)).text(word(&words::DST_FOLD, fold));
        }
    }
    row.text(word(&words::MISFIRE, &recurrence.misfire))
        .number(recurrence.catch_up_ms)
        .text(word(&words::OVERLAP, &recurrence.overlap))
}

fn bind_run(row: &mut Row<'_>, run: &RunRow) {
    let view = &run.view;
    row.text(&run.task_id).number(run.incarnation).number(view.run.0).number(run.number);
    row.text(word(&CAUSES, &view.cause)).time(view.scheduled_for);
    row.text(word(&STATUSES, &view.status)).text(&view.reason).number(view.attempts);
    row.maybe(view.retry_of.map(|run| run.0.into()));
}

fn bind_attempt(row: &mut Row<'_>, attempt: &AttemptRow) {
    let view = &attempt.view;
    row.number(view.token.0).number(attempt.number).own_text(&attempt.task_id);
    row.number(attempt.incarnation).number(attempt.run.0).number(view.attempt);
    row.text(&attempt.queue).text(&view.worker);
    row.text(word(&OUTCOMES, &view.outcome)).number(view.stop_requested);
    row.bytes(&view.output).bytes(&view.tail).text(&view.error);
    row.maybe(view.exit_code.map(i64::from));
    row.time(view.scheduled_for).time(view.opened_at);
    row.maybe_time(view.started_at).maybe_time(view.finished_at);
}
