//! Rows back into views, whichever database they come from.

use bytes::Bytes;
use dtask_core::id::{RunNumber, Token};
use dtask_core::spec::draft::words;
use dtask_core::spec::{Profile, Recurrence, Retry, Rule};
use dtask_core::state::history::{AttemptRow, RunRow};
use dtask_core::state::view::{AttemptView, RunView, TaskView, WaitView};
use dtask_core::time::Timestamp;
use sqlx::{Error, Result};

use super::words::{CAUSES, OUTCOMES, STATUSES, WAITS, value};

/// A row as its columns: what differs between databases. Every column may be NULL here; a value
/// that must be there is asked for with `there`.
pub trait Columns {
    /// Words and free text.
    fn text(&self, column: &str) -> Result<Option<&str>>;
    /// Numbers of any width.
    fn number(&self, column: &str) -> Result<Option<i64>>;
    /// Yes or no.
    fn flag(&self, column: &str) -> Result<bool>;
    /// Payloads and outputs.
    fn bytes(&self, column: &str) -> Result<Vec<u8>>;
    /// Moments.
    fn time(&self, column: &str) -> Result<Option<Timestamp>>;
}

/// A row of `tasks`.
pub(super) fn task(row: &dyn Columns) -> Result<TaskView> {
    Ok(TaskView {
        id: text(row, "id")?,
        serial: number(row, "incarnation")?,
        name: text(row, "name")?,
        profile: profile(row)?.into(),
        payload: bytes(row, "payload")?,
        priority: number(row, "priority")?,
        recurrence: recurrence(row)?,
        at: row.time("at")?,
        status: choice(row, "status", &STATUSES)?,
        wait: wait(row)?,
        last_run: last_run(row)?,
        runs_count: number(row, "runs_count")?,
        last_success_at: row.time("last_success_at")?,
        last_failure_at: row.time("last_failure_at")?,
        consecutive_failures: number(row, "consecutive_failures")?,
        revision: number(row, "revision")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        next_run_at: row.time("next_run_at")?,
        finished_at: row.time("finished_at")?,
    })
}

/// A row of `runs`.
pub(super) fn run(row: &dyn Columns) -> Result<RunRow> {
    Ok(RunRow {
        number: number(row, "change")?,
        task_id: text(row, "task_id")?,
        incarnation: number(row, "incarnation")?,
        view: RunView {
            run: RunNumber(number(row, "run")?),
            cause: choice(row, "cause", &CAUSES)?,
            scheduled_for: time(row, "scheduled_for")?,
            status: choice(row, "status", &STATUSES)?,
            reason: text(row, "reason")?,
            attempts: number(row, "attempts")?,
            retry_of: maybe_run(row, "retry_of")?,
        },
    })
}

/// A row of `execution_logs`.
pub(super) fn attempt(row: &dyn Columns) -> Result<AttemptRow> {
    let run = RunNumber(number(row, "run")?);
    Ok(AttemptRow {
        number: number(row, "change")?,
        task_id: text(row, "task_id")?,
        incarnation: number(row, "incarnation")?,
        run,
        queue: text(row, "queue")?,
        view: AttemptView {
            token: Token(number(row, "id")?),
            run,
            attempt: number(row, "attempt")?,
            worker: text(row, "worker_id")?,
            outcome: choice(row, "status", &OUTCOMES)?,
            stop_requested: row.flag("stop_requested")?,
            output: bytes(row, "output")?,
            tail: bytes(row, "log_tail")?,
            error: text(row, "error")?,
            exit_code: match row.number("exit_code")? {
                Some(_) => Some(number(row, "exit_code")?),
                None => None,
            },
            scheduled_for: time(row, "scheduled_for")?,
            opened_at: time(row, "opened_at")?,
            started_at: row.time("started_at")?,
            finished_at: row.time("finished_at")?,
        },
    })
}

fn profile(row: &dyn Columns) -> Result<Profile> {
    let no_retry_exit = text(row, "no_retry_exit")?;
    Ok(Profile {
        kind: text(row, "type")?,
        queue: text(row, "queue")?,
        retry: Retry {
            max_retries: number(row, "max_retries")?,
            backoff: choice(row, "backoff", &words::BACKOFF)?,
            backoff_base_ms: number(row, "backoff_base")?,
            backoff_max_ms: number(row, "backoff_max")?,
            no_retry_exit: serde_json::from_str(&no_retry_exit)
                .map_err(|error| odd("no_retry_exit", &error.to_string()))?,
        },
        run_timeout_ms: number(row, "timeout")?,
    })
}

fn recurrence(row: &dyn Columns) -> Result<Option<Recurrence>> {
    let rule = match (row.number("every")?, row.text("cron_expr")?) {
        (Some(_), _) => {
            Rule::Every { period_ms: number(row, "every")?, start: row.time("starts_at")? }
        }
        (None, Some(expr)) => Rule::Cron {
            expr: expr.into(),
            zone: text(row, "timezone")?,
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

fn wait(row: &dyn Columns) -> Result<Option<WaitView>> {
    if row.text("wait")?.is_none() {
        return Ok(None);
    }
    Ok(Some(WaitView {
        code: choice(row, "wait", &WAITS)?,
        message: text(row, "wait_message")?.into(),
        since: time(row, "wait_since")?,
        until: row.time("wait_until")?,
    }))
}

fn last_run(row: &dyn Columns) -> Result<Option<RunView>> {
    if row.number("last_run")?.is_none() {
        return Ok(None);
    }
    Ok(Some(RunView {
        run: RunNumber(number(row, "last_run")?),
        cause: choice(row, "last_run_cause", &CAUSES)?,
        scheduled_for: time(row, "last_run_scheduled_for")?,
        status: choice(row, "last_run_status", &STATUSES)?,
        reason: text(row, "last_run_reason")?,
        attempts: number(row, "last_run_attempts")?,
        retry_of: maybe_run(row, "last_run_retry_of")?,
    }))
}

fn maybe_run(row: &dyn Columns, column: &str) -> Result<Option<RunNumber>> {
    match row.number(column)? {
        Some(_) => Ok(Some(RunNumber(number(row, column)?))),
        None => Ok(None),
    }
}

fn there<T>(value: Option<T>, column: &str) -> Result<T> {
    value.ok_or_else(|| odd(column, "NULL"))
}

/// A number in its own width: this program writes no other.
fn number<T: TryFrom<i64>>(row: &dyn Columns, column: &str) -> Result<T> {
    let number = there(row.number(column)?, column)?;
    T::try_from(number).map_err(|_| odd(column, &number.to_string()))
}

fn text(row: &dyn Columns, column: &str) -> Result<Box<str>> {
    there(row.text(column)?, column).map(Box::from)
}

fn time(row: &dyn Columns, column: &str) -> Result<Timestamp> {
    there(row.time(column)?, column)
}

fn bytes(row: &dyn Columns, column: &str) -> Result<Bytes> {
    row.bytes(column).map(Bytes::from)
}

fn choice<T: Copy>(row: &dyn Columns, column: &str, words: &[(&'static str, T)]) -> Result<T> {
    let word = there(row.text(column)?, column)?;
    value(words, word).ok_or_else(|| odd(column, word))
}

/// What this program did not write: a newer one did, or a person.
fn odd(column: &str, found: &str) -> Error {
    Error::Decode(
        format!("column {column} holds {found:?}, which this version does not know").into(),
    )
}
