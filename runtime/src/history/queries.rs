//! The questions that the API asks of history, as SQL that both databases understand.
//!
//! Pages are keyset pages: each begins behind the last row of the one before, at a place in an
//! index. A filter that accepts several words becomes one arm a word: each arm reads its own index
//! in the page's order and stops at the page's length, which no index does for `IN` or `OR`.

use std::fmt::Write as _;

use dtask_core::id::Token;
use dtask_core::node::TaskFilter;
use dtask_core::state::view::TaskStatus;
use dtask_core::time::Timestamp;

use super::spans::{self, Spans, Words};
use super::words::{OUTCOMES, STATUSES, word};
use crate::serve::ports::{ExecutionQuery, RunQuery, TaskQuery};

/// The columns of `tasks`, in the order in which the writers bind them.
pub(super) const TASKS: &str = "id, incarnation, change, deleted, name, type, queue, status, \
     priority, payload, at, every, starts_at, cron_expr, timezone, dst_gap, dst_fold, misfire, \
     catch_up, overlap, max_retries, backoff, backoff_base, backoff_max, no_retry_exit, timeout, \
     wait, wait_message, wait_since, wait_until, last_run, last_run_cause, \
     last_run_scheduled_for, last_run_status, last_run_reason, last_run_attempts, \
     last_run_retry_of, last_success_at, last_failure_at, consecutive_failures, runs_count, revision, created_at, \
     updated_at, next_run_at, finished_at";
/// The columns of `runs`.
pub(super) const RUNS: &str = "task_id, incarnation, run, change, cause, scheduled_for, status, reason, attempts, \
     retry_of";
/// The columns of `execution_logs`.
pub(super) const EXECUTIONS: &str = "id, change, task_id, incarnation, run, attempt, queue, \
     worker_id, status, stop_requested, output, log_tail, error, exit_code, scheduled_for, \
     opened_at, started_at, finished_at";

/// Where the writer stands.
pub(super) const THROUGH: &str = "SELECT through FROM dtask_cursor WHERE one = 1";

/// Whose database it is.
pub(super) fn claim() -> Sql {
    Sql::new("SELECT cluster_id FROM dtask_cursor WHERE one = 1")
}

/// A value in a question.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text.
    Text(Box<str>),
    /// A number.
    Number(i64),
    /// A moment, which each database writes in its own way.
    Time(Timestamp),
}

/// A question: its text, with `$1`, `$2`, … for its values.
#[derive(Clone, Debug)]
pub struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Sql {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, text: impl std::fmt::Display) -> &mut Self {
        // Writing into a string cannot fail.
        let _ = write!(self.text, "{text}");
        self
    }

    pub(super) fn bind(&mut self, value: Value) -> &mut Self {
        self.values.push(value);
        let place = self.values.len();
        self.push(format_args!("${place}"))
    }

    pub(super) fn text(&mut self, value: impl Into<Box<str>>) -> &mut Self {
        self.bind(Value::Text(value.into()))
    }
}

/// The newest incarnation of a task that was not deleted.
pub(super) fn task(id: &str) -> Sql {
    let mut sql = Sql::new(format!("SELECT {TASKS} FROM tasks WHERE NOT deleted AND id = "));
    sql.text(id);
    sql
}

/// A gap behind the row of [`task`].
pub(super) fn gap_behind(id: &str) -> Sql {
    let mut sql = Sql::new(
        "SELECT gaps.first FROM tasks JOIN dtask_gaps gaps ON gaps.last > tasks.change \
         WHERE NOT deleted AND id = ",
    );
    sql.text(id).push(" LIMIT 1");
    sql
}

/// One execution.
pub(super) fn execution(token: Token) -> Sql {
    let mut sql = Sql::new(format!("SELECT {EXECUTIONS} FROM execution_logs WHERE id = "));
    sql.bind(Value::Number(signed(token.0)));
    sql
}

/// A page of a task's runs.
pub(super) fn runs(query: RunQuery) -> Sql {
    let mut sql = Sql::new(format!("SELECT {RUNS} FROM runs WHERE task_id = "));
    sql.text(query.task_id);
    if let Some((incarnation, run)) = query.after {
        sql.push(" AND (incarnation, run) > (").bind(Value::Number(signed(incarnation)));
        sql.push(", ").bind(Value::Number(run.0.into())).push(")");
    }
    sql.push(" ORDER BY incarnation, run LIMIT ").push(query.limit);
    sql
}

/// How a task is named in a question for a name.
#[derive(Clone, Copy)]
enum Named {
    /// By a name of its own, which the index of names holds.
    ByName,
    /// By its id, for want of a name.
    ById,
}

/// A page of tasks.
pub(super) fn task_page(query: &TaskQuery, words: Words) -> Sql {
    let filter = &query.filter;
    let statuses: Vec<_> = filter.statuses.iter().map(|s| word(&STATUSES, s)).collect();
    let names: &[Named] = match filter.name {
        Some(_) => &[Named::ByName, Named::ById],
        None => &[],
    };
    let direction = if query.newest_first { "DESC" } else { "ASC" };
    let order = format!("created_at {direction}, id {direction}");
    let arms: Vec<_> = one_or_each(&statuses)
        .flat_map(|status| one_or_each(names).map(move |name| (status.copied(), name.copied())))
        .collect();
    union(&order, query.limit, &arms, |sql, (status, name)| {
        sql.push(format_args!("SELECT {TASKS} FROM "));
        let after = query.after.as_ref().map(|(at, _)| *at);
        let lists = [(spans::TASK_TYPES, &filter.kind), (spans::TASK_QUEUES, &filter.queue)];
        let by_spans = words == Words::InSpans && name.is_none() && !is_rare(*status);
        let spans = if by_spans { Spans::of(&lists) } else { None };
        let created_at = match &spans {
            // The sign hides the column from SQLite's choice of where to start: the span decides.
            Some(_) => "+created_at",
            None => "created_at",
        };
        match &spans {
            Some(spans) => {
                let (from, to) = if query.newest_first {
                    (filter.created_after, earlier(filter.created_before, after))
                } else {
                    (later(filter.created_after, after), filter.created_before)
                };
                let micros = |at: Option<Timestamp>| at.map(Timestamp::as_micros);
                spans.of_rows(sql, "tasks", "created_at", micros(from), micros(to));
            }
            None => {
                sql.push("tasks WHERE TRUE");
            }
        }
        sql.push(" AND NOT deleted");
        if let Some(status) = status {
            of_status(sql, status);
        }
        task_filter(sql, filter, *name, created_at);
        if let Some((at, id)) = &query.after {
            let beyond = if query.newest_first { "<" } else { ">" };
            // The first comparison is implied by the second, and lets SQLite start there.
            sql.push(format_args!(" AND {created_at} {beyond}= ")).bind(Value::Time(*at));
            sql.push(format_args!(" AND ({created_at}, id) {beyond} (")).bind(Value::Time(*at));
            sql.push(", ").text(id.clone()).push(")");
        }
        sql.push(" ORDER BY ");
        if spans.is_some() {
            sql.push(format_args!("spans.span {direction}, "));
        }
        sql.push(&order);
    })
}

/// The earlier one of two bounds.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// The later one of two bounds.
fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.max(other)
}

fn task_filter(sql: &mut Sql, filter: &TaskFilter, named: Option<Named>, created_at: &str) {
    if let Some(kind) = &filter.kind {
        sql.push(" AND type = ").text(kind.clone());
    }
    if let Some(queue) = &filter.queue {
        sql.push(" AND queue = ").text(queue.clone());
    }
    if let (Some(name), Some(named)) = (&filter.name, named) {
        match named {
            Named::ByName => sql.push(" AND name <> id AND name = ").text(name.clone()),
            Named::ById => sql.push(" AND name = id AND id = ").text(name.clone()),
        };
    }
    if let Some(from) = filter.created_after {
        sql.push(format_args!(" AND {created_at} >= ")).bind(Value::Time(from));
    }
    if let Some(to) = filter.created_before {
        sql.push(format_args!(" AND {created_at} < ")).bind(Value::Time(to));
    }
}

/// A page of executions.
pub(super) fn execution_page(query: &ExecutionQuery, words: Words) -> Sql {
    let outcomes: Vec<_> = query.outcomes.iter().map(|o| word(&OUTCOMES, o)).collect();
    let arms: Vec<_> = one_or_each(&outcomes).map(|outcome| outcome.copied()).collect();
    union("id", query.limit, &arms, |sql, status| {
        sql.push(format_args!("SELECT {EXECUTIONS} FROM "));
        let after = query.after.map_or(-1, |after| signed(after.0));
        let lists = [(spans::WORKERS, &query.worker), (spans::EXECUTION_QUEUES, &query.queue)];
        let by_spans = words == Words::InSpans && query.task_id.is_none() && !is_rare(*status);
        let spans = if by_spans { Spans::of(&lists) } else { None };
        match &spans {
            Some(spans) => {
                spans.of_rows(sql, "execution_logs", "id", Some(after), None);
                sql.push(" AND +id > ");
            }
            None => {
                sql.push("execution_logs WHERE id > ");
            }
        }
        sql.bind(Value::Number(after));
        if let Some(task) = &query.task_id {
            sql.push(" AND task_id = ").text(task.clone());
        }
        if let Some(status) = status {
            of_status(sql, status);
        }
        if let Some(worker) = &query.worker {
            sql.push(" AND worker_id = ").text(worker.clone());
        }
        if let Some(queue) = &query.queue {
            sql.push(" AND queue = ").text(queue.clone());
        }
        if let Some(run) = query.run {
            sql.push(" AND run = ").bind(Value::Number(run.0.into()));
        }
        sql.push(if spans.is_some() { " ORDER BY spans.span, id" } else { " ORDER BY id" });
    })
}

/// SQLite's indexes of statuses leave out the one that most rows have, and it uses them only when the
/// question says that it leaves it out too.
fn of_status(sql: &mut Sql, status: &str) {
    sql.push(" AND status = ").text(status);
    if is_rare(Some(status)) {
        sql.push(" AND status <> 'succeeded'");
    }
}

/// Whether the indexes of statuses hold it.
fn is_rare(status: Option<&str>) -> bool {
    status.is_some_and(|status| status != word(&STATUSES, &TaskStatus::Succeeded))
}

/// `None` for a filter that accepts everything, else each word once.
fn one_or_each<T>(words: &[T]) -> impl Iterator<Item = Option<&T>> {
    words.is_empty().then_some(None).into_iter().chain(words.iter().map(Some))
}

/// The first `limit` rows in an order, of those that any arm's question finds, which is in that
/// order. The arms exclude each other.
fn union<A>(order: &str, limit: u32, arms: &[A], question: impl Fn(&mut Sql, &A)) -> Sql {
    let mut sql = Sql::new("");
    let page = |sql: &mut Sql, arm: &A| {
        question(sql, arm);
        sql.push(format_args!(" LIMIT {limit}"));
    };
    if let [arm] = arms {
        page(&mut sql, arm);
        return sql;
    }
    for (number, arm) in arms.iter().enumerate() {
        sql.push(if number == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
        page(&mut sql, arm);
        sql.push(format_args!(") AS arm{number}"));
    }
    sql.push(format_args!(" ORDER BY {order} LIMIT {limit}"));
    sql
}

/// Numbers stay below 2^63 (tokens below 2^53, P7.1); one beyond is stored as the largest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
