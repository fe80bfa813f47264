//! Rows back into views.

use bytes::Bytes;
use dtask_core::id::{RunNumber, Token};
use dtask_core::spec::draft::words;
use dtask_core::spec::{Profile, Recurrence, Retry, Rule};
use dtask_core::state::history::{AttemptRow, RunRow};
use dtask_core::state::view::{AttemptView, RunView, TaskView, WaitView};
use dtask_core::time::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Error, Result, Row as _, Sqlite, Type};

use super::words::{CAUSES, OUTCOMES, STATUSES, WAITS, value};

/// A row of `tasks`.
pub(super) fn task(row: &SqliteRow) -> Result<TaskView> {
    Ok(TaskView {
        id: row.try_get("id")?,
        serial: number(row, "incarnation")?,
        name: row.try_get("name")?,
        profile: profile(row)?,
        payload: bytes(row, "payload")?,
        priority: row.try_get("priority")?,
        recurrence: recurrence(row)?,
        at: maybe_time(row, "at")?,
        status: choice(row, "status", &STATUSES)?,
        wait: wait(row)?,
        last_run: last_run(row)?,
        runs_count: row.try_get("runs_count")?,
        last_success_at: maybe_time(row, "last_success_at")?,
        last_failure_at: maybe_time(row, "last_failure_at")?,
        consecutive_failures: row.try_get("consecutive_failures")?,
        revision: row.try_get("revision")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        next_run_at: maybe_time(row, "next_run_at")?,
        finished_at: maybe_time(row, "finished_at")?,
    })
}

/// A row of `runs`.
pub(super) fn run(row: &SqliteRow) -> Result<RunRow> {
    Ok(RunRow {
        number: number(row, "change")?,
        task_id: row.try_get("task_id")?,
        incarnation: number(row, "incarnation")?,
        view: RunView {
            run: RunNumber(row.try_get("run")?),
            cause: choice(row, "cause", &CAUSES)?,
            scheduled_for: time(row, "scheduled_for")?,
            status: choice(row, "status", &STATUSES)?,
            reason: row.try_get("reason")?,
            attempts: row.try_get("attempts")?,
        },
    })
}

/// A row of `execution_logs`.
pub(super) fn attempt(row: &SqliteRow) -> Result<AttemptRow> {
    let run = RunNumber(row.try_get("run")?);
    Ok(AttemptRow {
        number: number(row, "change")?,
        task_id: row.try_get("task_id")?,
        incarnation: number(row, "incarnation")?,
        run,
        view: AttemptView {
            token: Token(number(row, "id")?),
            run,
            attempt: row.try_get("attempt")?,
            worker: row.try_get("worker_id")?,
            outcome: choice(row, "status", &OUTCOMES)?,
            stop_requested: row.try_get("stop_requested")?,
            output: bytes(row, "output")?,
            tail: bytes(row, "log_tail")?,
            error: row.try_get("error")?,
            exit_code: row.try_get("exit_code")?,
            scheduled_for: time(row, "scheduled_for")?,
            opened_at: time(row, "opened_at")?,
            started_at: maybe_time(row, "started_at")?,
            finished_at: maybe_time(row, "finished_at")?,
        },
    })
}

fn profile(row: &SqliteRow) -> Result<Profile> {
    let no_retry_exit: String = row.try_get("no_retry_exit")?;
    Ok(Profile {
        kind: row.try_get("type")?,
        queue: row.try_get("queue")?,
        retry: Retry {
            max_retries: row.try_get("max_retries")?,
            backoff: choice(row, "backoff", &words::BACKOFF)?,
            backoff_base_ms: number(row, "backoff_base")?,
            backoff_max_ms: number(row, "backoff_max")?,
            no_retry_exit: serde_json::from_str(&no_retry_exit)
                .map_err(|error| odd("no_retry_exit", &error.to_string()))?,
        },
        run_timeout_ms: number(row, "timeout")?,
    })
}

fn recurrence(row: &SqliteRow) -> Result<Option<Recurrence>> {
    let every: Option<i64> = row.try_get("every")?;
    let cron: Option<Box<str>> = row.try_get("cron_expr")?;
    let rule = match (every, cron) {
        (Some(period), _) => {
            Rule::Every { period_ms: period.unsigned_abs(), start: maybe_time(row, "starts_at")? }
        }
        (None, Some(expr)) => Rule::Cron {
            expr,
            zone: row.try_get("timezone")?,
            gap: choice(row, "dst_gap", &words::DST_GAP)?,
            fold: choice(row, "dst_fold", &words::DST_FOLD)?,
        },
        (None, None) => return Ok(None),
    };
    Ok(Some(Recurrence {
        rule,
        misfire: choice(row, "misfire", &words::MISFIRE)?,
        catch_up_ms: number(row, "catch_up")?,
        overlap: choice(row, "overlap", &words::OVERLAP)?,
    }))
}

fn wait(row: &SqliteRow) -> Result<Option<WaitView>> {
    let code: Option<&str> = row.try_get("wait")?;
    if code.is_none() {
        return Ok(None);
    }
    Ok(Some(WaitView {
        code: choice(row, "wait", &WAITS)?,
        message: row.try_get("wait_message")?,
        since: time(row, "wait_since")?,
        until: maybe_time(row, "wait_until")?,
    }))
}

fn last_run(row: &SqliteRow) -> Result<Option<RunView>> {
    let Some(run): Option<u32> = row.try_get("last_run")? else { return Ok(None) };
    Ok(Some(RunView {
        run: RunNumber(run),
        cause: choice(row, "last_run_cause", &CAUSES)?,
        scheduled_for: time(row, "last_run_scheduled_for")?,
        status: choice(row, "last_run_status", &STATUSES)?,
        reason: row.try_get("last_run_reason")?,
        attempts: row.try_get("last_run_attempts")?,
    }))
}

fn number(row: &SqliteRow, column: &str) -> Result<u64> {
    get::<i64>(row, column).map(i64::unsigned_abs)
}

fn time(row: &SqliteRow, column: &str) -> Result<Timestamp> {
    get(row, column).map(Timestamp::from_micros)
}

fn maybe_time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_micros))
}

fn bytes(row: &SqliteRow, column: &str) -> Result<Bytes> {
    get::<Vec<u8>>(row, column).map(Bytes::from)
}

fn choice<T: Copy>(row: &SqliteRow, column: &str, words: &[(&'static str, T)]) -> Result<T> {
    let word: &str = get(row, column)?;
    value(words, word).ok_or_else(|| odd(column, word))
}

fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, column: &str) -> Result<T> {
    row.try_get(column)
}

/// What this program did not write: a newer one did, or a person.
fn odd(column: &str, found: &str) -> Error {
    Error::Decode(
        format!("column {column} holds {found:?}, which this version does not know").into(),
    )
}
