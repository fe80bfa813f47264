//! Spans: SQLite's index of words that most rows share. A list in the order of a number (`created_at`
//! of tasks, `id` of executions) is cut into spans of equal length, and `dtask_spans` names those
//! in which a word occurs. A page reads the word's spans in order, and of each span all rows.
//!
//! An index with an entry for each row costs the writer a tree to touch for each row. Where rows
//! come fast, a span has hundreds of them and one entry; where they come slowly, a span is one row.
//! However rare a word, each row of a page costs at most a span.

use super::queries::{Sql, Value};

/// How a database finds the rows with a word of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Each in an index of its column.
    InIndexes,
    /// Types, queues and workers in `dtask_spans`.
    InSpans,
}

/// A list by a word: what `dtask_spans` calls it, and how long its spans are.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) name: &'static str,
    /// The spans' length, as a power of two.
    bits: u32,
}

/// A millisecond of creations, which is one entry of the log or a few.
const TASK_BITS: u32 = 10;
/// 256 executions.
const EXECUTION_BITS: u32 = 8;

pub(super) const TASK_TYPES: List = List { name: "tasks.type", bits: TASK_BITS };
pub(super) const TASK_QUEUES: List = List { name: "tasks.queue", bits: TASK_BITS };
pub(super) const WORKERS: List = List { name: "execution_logs.worker_id", bits: EXECUTION_BITS };
pub(super) const EXECUTION_QUEUES: List =
    List { name: "execution_logs.queue", bits: EXECUTION_BITS };

impl List {
    /// The span in which a number lies.
    pub(super) const fn span(self, number: i64) -> i64 {
        number >> self.bits
    }
}

/// The spans in which all of some words occur.
pub(super) struct Spans<'q> {
    /// At least one, all of one table.
    words: Vec<(List, &'q str)>,
}

impl<'q> Spans<'q> {
    /// `None` when no filter names a word.
    pub(super) fn of(filters: &[(List, &'q Option<Box<str>>)]) -> Option<Self> {
        let given = |(list, word): &(List, &'q Option<Box<str>>)| Some((*list, word.as_deref()?));
        let words: Vec<_> = filters.iter().filter_map(given).collect();
        (!words.is_empty()).then_some(Self { words })
    }

    /// The tables and the beginning of the condition: the rows of `table` of which `column` lies in
    /// these spans and, to the span, between two bounds. The tables are read in this order, span
    /// after span (`CROSS JOIN` says so to SQLite), so `spans.span` may lead the rows' order.
    pub(super) fn of_rows(
        &self,
        sql: &mut Sql,
        table: &str,
        column: &str,
        from: Option<i64>,
        to: Option<i64>,
    ) {
        sql.push("dtask_spans AS spans CROSS JOIN ");
        for also in 1..self.words.len() {
            sql.push(format_args!("dtask_spans AS spans{also} CROSS JOIN "));
        }
        sql.push(format_args!("{table} WHERE TRUE"));
        for (at, (list, word)) in self.words.iter().enumerate() {
            let spans = if at == 0 { "spans".to_owned() } else { format!("spans{at}") };
            sql.push(format_args!(" AND {spans}.list = '{}' AND {spans}.word = ", list.name));
            sql.text(*word);
            if at > 0 {
                sql.push(format_args!(" AND {spans}.span = spans.span"));
                continue;
            }
            if let Some(from) = from {
                sql.push(" AND spans.span >= ").bind(Value::Number(list.span(from)));
            }
            if let Some(to) = to {
                sql.push(" AND spans.span <= ").bind(Value::Number(list.span(to)));
            }
            let length = 1_i64 << list.bits;
            let last = length - 1;
            sql.push(format_args!(
                " AND {column} BETWEEN spans.span * {length} AND spans.span * {length} + {last}"
            ));
        }
    }
}
