//! The writer's statements: one upsert of many rows, a column an array (UNNEST), so that a batch
//! costs a few round trips whatever its size.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use dtask_core::spec::draft::words;
use dtask_core::spec::{Recurrence, Rule};
use dtask_core::state::history::{AttemptRow, HistoryGap, RunRow, TaskRow};
use dtask_core::time::Timestamp;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, Error, Result};

use super::columns::{Moment, storable};
use crate::history::queries::signed;
use crate::history::words::{CAUSES, OUTCOMES, STATUSES, WAITS, word};

/// Rows of one statement.
const ROWS_MAX: usize = 1_000;
/// Payloads and outputs of one statement: PostgreSQL takes no message of 1 GiB, and its memory for
/// one is a multiple of this.
const BYTES_MAX: usize = 16 << 20;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    Bytes,
    Time,
}

use Kind::{Flag, Number, Text, Time};

/// A table as its upsert sees it: the columns in the order in which rows bind them.
struct Table {
    name: &'static str,
    key: &'static str,
    columns: &'static [(&'static str, Kind)],
    /// When an existing row gives way.
    newer: &'static str,
}

static TASKS: Table = Table {
    name: "tasks",
    key: "id",
    columns: &[
        ("id", Text),
        ("incarnation", Number),
        ("change", Number),
        ("deleted", Flag),
        ("name", Text),
        ("type", Text),
        ("queue", Text),
        ("status", Text),
        ("priority", Number),
        ("payload", Kind::Bytes),
        ("at", Time),
        ("every", Number),
        ("starts_at", Time),
        ("cron_expr", Text),
        ("timezone", Text),
        ("dst_gap", Text),
        ("dst_fold", Text),
        ("misfire", Text),
        ("catch_up", Number),
        ("overlap", Text),
        ("max_retries", Number),
        ("backoff", Text),
        ("backoff_base", Number),
        ("backoff_max", Number),
        ("no_retry_exit", Text),
        ("timeout", Number),
        ("wait", Text),
        ("wait_message", Text),
        ("wait_since", Time),
        ("wait_until", Time),
        ("last_run", Number),
        ("last_run_cause", Text),
        ("last_run_scheduled_for", Time),
        ("last_run_status", Text),
        ("last_run_reason", Text),
        ("last_run_attempts", Number),
        ("last_run_retry_of", Number),
        ("last_success_at", Time),
        ("last_failure_at", Time),
        ("consecutive_failures", Number),
        ("runs_count", Number),
        ("revision", Number),
        ("created_at", Time),
        ("updated_at", Time),
        ("next_run_at", Time),
        ("finished_at", Time),
    ],
    newer: "excluded.incarnation > tasks.incarnation \
            OR excluded.incarnation = tasks.incarnation AND excluded.change >= tasks.change",
};

static RUNS: Table = Table {
    name: "runs",
    key: "task_id, incarnation, run",
    columns: &[
        ("task_id", Text),
        ("incarnation", Number),
        ("run", Number),
        ("change", Number),
        ("cause", Text),
        ("scheduled_for", Time),
        ("status", Text),
        ("reason", Text),
        ("attempts", Number),
        ("retry_of", Number),
    ],
    newer: "excluded.change >= runs.change",
};

static ATTEMPTS: Table = Table {
    name: "execution_logs",
    key: "id",
    columns: &[
        ("id", Number),
        ("change", Number),
        ("task_id", Text),
        ("incarnation", Number),
        ("run", Number),
        ("attempt", Number),
        ("queue", Text),
        ("worker_id", Text),
        ("status", Text),
        ("stop_requested", Flag),
        ("output", Kind::Bytes),
        ("log_tail", Kind::Bytes),
        ("error", Text),
        ("exit_code", Number),
        ("scheduled_for", Time),
        ("opened_at", Time),
        ("started_at", Time),
        ("finished_at", Time),
    ],
    newer: "excluded.change >= execution_logs.change",
};

static UPSERT_TASKS: LazyLock<String> = LazyLock::new(|| TASKS.upsert());
static UPSERT_RUNS: LazyLock<String> = LazyLock::new(|| RUNS.upsert());
static UPSERT_ATTEMPTS: LazyLock<String> = LazyLock::new(|| ATTEMPTS.upsert());

impl Table {
    fn upsert(&self) -> String {
        let columns = self.columns.iter();
        let names: Vec<_> = columns.clone().map(|(name, _)| *name).collect();
        let arrays = columns.clone().enumerate().map(|(index, (_, kind))| {
            let array = match kind {
                Text => "text[]",
                Number => "bigint[]",
                Flag => "boolean[]",
                Kind::Bytes => "bytea[]",
                Time => "timestamptz[]",
            };
            format!("${}::{array}", index + 1)
        });
        let arrays: Vec<_> = arrays.collect();
        let set: Vec<_> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        format!(
            "INSERT INTO {} ({}) SELECT * FROM unnest({}) ON CONFLICT ({}) DO UPDATE SET {} \
             WHERE {}",
            self.name,
            names.join(", "),
            arrays.join(", "),
            self.key,
            set.join(", "),
            self.newer
        )
    }
}

/// Notes a gap. A gap that grew before its row was stored has one row.
pub(super) async fn gap(db: &mut PgConnection, gap: &HistoryGap) -> Result<()> {
    sqlx::query(
        "INSERT INTO dtask_gaps (first, last, tasks, runs, executions) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (first) DO UPDATE SET last = excluded.last, \
         tasks = excluded.tasks, runs = excluded.runs, executions = excluded.executions",
    )
    .bind(signed(gap.from))
    .bind(signed(gap.to))
    .bind(signed(gap.dropped.tasks))
    .bind(signed(gap.dropped.runs))
    .bind(signed(gap.dropped.attempts))
    .execute(db)
    .await?;
    Ok(())
}

/// Upserts tasks.
pub(super) async fn tasks(db: &mut PgConnection, rows: &[TaskRow]) -> Result<()> {
    // A statement may meet each row once, and a batch may hold two lives of an id.
    let mut newest: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    let age = |row: &TaskRow| (row.view.serial, row.number);
    for (index, row) in rows.iter().enumerate() {
        let kept = newest.entry(&row.view.id).or_insert(index);
        if age(&rows[*kept]) <= age(row) {
            *kept = index;
        }
    }
    let mut kept: Vec<usize> = newest.into_values().collect();
    kept.sort_unstable();
    let rows = kept.into_iter().map(|index| &rows[index]);
    upsert(db, &TASKS, &UPSERT_TASKS, rows, bind_task).await
}

/// Upserts runs.
pub(super) async fn runs(db: &mut PgConnection, rows: &[RunRow]) -> Result<()> {
    upsert(db, &RUNS, &UPSERT_RUNS, rows.iter(), bind_run).await
}

/// Upserts attempts.
pub(super) async fn attempts(db: &mut PgConnection, rows: &[AttemptRow]) -> Result<()> {
    upsert(db, &ATTEMPTS, &UPSERT_ATTEMPTS, rows.iter(), bind_attempt).await
}

async fn upsert<'r, R: 'r>(
    db: &mut PgConnection,
    table: &Table,
    sql: &'static str,
    rows: impl Iterator<Item = &'r R>,
    bind: fn(&mut Rows<'r>, &'r R),
) -> Result<()> {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let mut statement = Rows::of(table);
        while !statement.is_full()
            && let Some(row) = rows.next()
        {
            bind(&mut statement, row);
            statement.end_row();
        }
        sqlx::query_with(sql, statement.arguments()?).execute(&mut *db).await?;
    }
    Ok(())
}

/// The values of one statement, a column an array.
struct Rows<'r> {
    columns: Vec<Column<'r>>,
    /// The column that is bound next.
    next: usize,
    rows: usize,
    bytes: usize,
}

enum Column<'r> {
    Text(Vec<Option<Cow<'r, str>>>),
    Number(Vec<Option<i64>>),
    Flag(Vec<bool>),
    Bytes(Vec<&'r [u8]>),
    Time(Vec<Option<Moment>>),
}

impl<'r> Rows<'r> {
    fn of(table: &Table) -> Self {
        let columns = table.columns.iter().map(|(_, kind)| match kind {
            Text => Column::Text(Vec::new()),
            Number => Column::Number(Vec::new()),
            Flag => Column::Flag(Vec::new()),
            Kind::Bytes => Column::Bytes(Vec::new()),
            Time => Column::Time(Vec::new()),
        });
        Self { columns: columns.collect(), next: 0, rows: 0, bytes: 0 }
    }

    const fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    fn end_row(&mut self) {
        assert_eq!(self.next, self.columns.len(), "a row has every column");
        (self.next, self.rows) = (0, self.rows + 1);
    }

    fn arguments(self) -> Result<PgArguments> {
        let mut arguments = PgArguments::default();
        for column in self.columns {
            match column {
                Column::Text(values) => arguments.add(values),
                Column::Number(values) => arguments.add(values),
                Column::Flag(values) => arguments.add(values),
                Column::Bytes(values) => arguments.add(values),
                Column::Time(values) => arguments.add(values),
            }
            .map_err(Error::Encode)?;
        }
        Ok(arguments)
    }

    fn column(&mut self) -> &mut Column<'r> {
        self.next += 1;
        &mut self.columns[self.next - 1]
    }

    fn maybe_text(&mut self, value: Option<Cow<'r, str>>) -> &mut Self {
        match self.column() {
            Column::Text(values) => values.push(value.map(storable)),
            _ => unreachable!("rows bind columns in the table's order"),
        }
        self
    }

    fn text(&mut self, value: &'r str) -> &mut Self {
        self.maybe_text(Some(Cow::Borrowed(value)))
    }

    fn maybe_number(&mut self, value: Option<i64>) -> &mut Self {
        match self.column() {
            Column::Number(values) => values.push(value),
            _ => unreachable!("rows bind columns in the table's order"),
        }
        self
    }

    fn number(&mut self, value: impl Into<u64>) -> &mut Self {
        self.maybe_number(Some(signed(value.into())))
    }

    fn flag(&mut self, value: bool) -> &mut Self {
        match self.column() {
            Column::Flag(values) => values.push(value),
            _ => unreachable!("rows bind columns in the table's order"),
        }
        self
    }

    fn bytes(&mut self, value: &'r Bytes) -> &mut Self {
        self.bytes += value.len();
        match self.column() {
            Column::Bytes(values) => values.push(value),
            _ => unreachable!("rows bind columns in the table's order"),
        }
        self
    }

    fn maybe_time(&mut self, value: Option<Timestamp>) -> &mut Self {
        match self.column() {
            Column::Time(values) => values.push(value.map(Moment)),
            _ => unreachable!("rows bind columns in the table's order"),
        }
        self
    }

    fn time(&mut self, value: Timestamp) -> &mut Self {
        self.maybe_time(Some(value))
    }

    fn nulls(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            match self.column() {
                Column::Text(values) => values.push(None),
                Column::Number(values) => values.push(None),
                Column::Time(values) => values.push(None),
                Column::Flag(_) | Column::Bytes(_) => unreachable!("they are never NULL"),
            }
        }
        self
    }
}

fn bind_task<'r>(row: &mut Rows<'r>, task: &'r TaskRow) {
    let view = &task.view;
    let profile = &view.profile;
    row.text(&view.id).number(view.serial).number(task.number).flag(task.deleted);
    row.text(&view.name).text(&profile.kind).text(&profile.queue);
    row.text(word(&STATUSES, &view.status)).number(view.priority).bytes(&view.payload);
    row.maybe_time(view.at);
    match &view.recurrence {
        None => row.nulls(9),
        Some(recurrence) => bind_recurrence(row, recurrence),
    };
    let retry = &profile.retry;
    row.number(retry.max_retries).text(word(&words::BACKOFF, &retry.backoff));
    row.number(retry.backoff_base_ms).number(retry.backoff_max_ms);
    // JSON: [1,2].
    row.maybe_text(Some(format!("{:?}", retry.no_retry_exit).into()));
    row.number(profile.run_timeout_ms);
    match &view.wait {
        None => row.nulls(4),
        Some(wait) => row
            .text(word(&WAITS, &wait.code))
            .text(&wait.message)
            .time(wait.since)
            .maybe_time(wait.until),
    };
    match &view.last_run {
        None => row.nulls(7),
        Some(run) => row
            .number(run.run.0)
            .text(word(&CAUSES, &run.cause))
            .time(run.scheduled_for)
            .text(word(&STATUSES, &run.status))
            .text(&run.reason)
            .number(run.attempts)
            .maybe_number(run.retry_of.map(|run| i64::from(run.0))),
    };
    row.maybe_time(view.last_success_at).maybe_time(view.last_failure_at);
    row.number(view.consecutive_failures).number(view.runs_count).number(view.revision);
    row.time(view.created_at).time(view.updated_at);
    row.maybe_time(view.next_run_at).maybe_time(view.finished_at);
}

/// `every` to `overlap`.
fn bind_recurrence<'b, 'r>(row: &'b mut Rows<'r>, recurrence: &'r Recurrence) -> &'b mut Rows<'r> {
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

fn bind_run<'r>(row: &mut Rows<'r>, run: &'r RunRow) {
    let view = &run.view;
    row.text(&run.task_id).number(run.incarnation).number(view.run.0).number(run.number);
    row.text(word(&CAUSES, &view.cause)).time(view.scheduled_for);
    row.text(word(&STATUSES, &view.status)).text(&view.reason).number(view.attempts);
    row.maybe_number(view.retry_of.map(|run| i64::from(run.0)));
}

fn bind_attempt<'r>(row: &mut Rows<'r>, attempt: &'r AttemptRow) {
    let view = &attempt.view;
    row.number(view.token.0).number(attempt.number).text(&attempt.task_id);
    row.number(attempt.incarnation).number(attempt.run.0).number(view.attempt);
    row.text(&attempt.queue).text(&view.worker).text(word(&OUTCOMES, &view.outcome));
    row.flag(view.stop_requested).bytes(&view.output).bytes(&view.tail).text(&view.error);
    row.maybe_number(view.exit_code.map(i64::from));
    row.time(view.scheduled_for).time(view.opened_at);
    row.maybe_time(view.started_at).maybe_time(view.finished_at);
}
