//! Reads of the history file.

use std::path::Path;
use std::time::Duration;

use dtask_core::time::Timestamp;
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Error, Result, Row as _};

use super::options;
use crate::history::queries::{self, Sql, Value};
use crate::history::reader::{Reader, Source};
use crate::history::rows::Columns;
use crate::history::spans::Words;

/// Connections, and so questions answered side by side; further ones wait.
const CONNECTIONS_MAX: u32 = 4;
/// How long a question waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads one SQLite file.
pub type SqliteReader = Reader<SqlitePool>;

impl SqliteReader {
    /// A reader of the file at `path`, which need not exist yet: until then reads are refused.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        Self::of(|| {
            SqlitePoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_lazy_with(options(path).read_only(true))
        })
    }
}

impl Source for SqlitePool {
    const WORDS: Words = Words::InSpans;

    async fn ask<T: Send + 'static>(
        &self,
        question: Sql,
        decode: impl Fn(&dyn Columns) -> Result<T> + Send,
    ) -> Result<Vec<T>> {
        let Sql { text, values } = question;
        let mut arguments = SqliteArguments::default();
        for value in values {
            match value {
                Value::Text(text) => arguments.add(text),
                Value::Number(number) => arguments.add(number),
                Value::Time(at) => arguments.add(at.as_micros()),
            }
            .map_err(Error::Encode)?;
        }
        let query = sqlx::query_with(AssertSqlSafe(text), arguments);
        let rows = query.fetch_all(self).await?;
        rows.iter().map(|row| decode(row)).collect()
    }

    async fn through(&self) -> Result<i64> {
        sqlx::query_scalar(queries::THROUGH).fetch_one(self).await
    }

    fn say(&self, error: &Error) -> String {
        error.to_string()
    }
}

impl Columns for SqliteRow {
    fn text(&self, column: &str) -> Result<Option<&str>> {
        self.try_get(column)
    }

    fn number(&self, column: &str) -> Result<Option<i64>> {
        self.try_get(column)
    }

    fn flag(&self, column: &str) -> Result<bool> {
        self.try_get(column)
    }

    fn bytes(&self, column: &str) -> Result<Vec<u8>> {
        self.try_get(column)
    }

    fn time(&self, column: &str) -> Result<Option<Timestamp>> {
        let micros: Option<i64> = self.try_get(column)?;
        Ok(micros.map(Timestamp::from_micros))
    }
}

#[cfg(test)]
mod tests {
    use dtask_core::id::{RunNumber, Token};
    use dtask_core::node::TaskFilter;
    use dtask_core::spec::AttemptOutcome;
    use dtask_core::state::view::TaskStatus;
    use sqlx::sqlite::SqliteConnection;

    use super::*;
    use crate::history::queries::{execution_page, task_page};
    use crate::serve::ports::{ExecutionQuery, TaskQuery};

    /// How SQLite would find the rows, one step a line.
    async fn plan(db: &mut SqliteConnection, query: Sql) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {}", query.text);
        let steps = sqlx::query(AssertSqlSafe(explain)).fetch_all(db).await.expect("explains");
        let lines: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
        lines.join("\n")
    }

    async fn empty() -> SqliteConnection {
        let mut db = <SqliteConnection as sqlx::Connection>::connect("sqlite::memory:")
            .await
            .expect("in memory");
        sqlx::migrate!("../migrations/sqlite")
            .run_direct(None, &mut db, false)
            .await
            .expect("migrates");
        db
    }

    const CREATION: &str =
        "SEARCH tasks USING INDEX tasks_by_creation (created_at>? AND created_at<?)";
    const TOKENS: &str = "SEARCH execution_logs USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";

    #[tokio::test]
    async fn each_filter_of_tasks_has_its_index() {
        let mut db = empty().await;
        let text = || Some(Box::from("x"));
        let one = vec![TaskStatus::Failed];
        let two = vec![TaskStatus::Failed, TaskStatus::Ready];
        let kind = TaskFilter { kind: text(), ..Default::default() };
        let queue = TaskFilter { queue: text(), ..Default::default() };
        let until = Some(Timestamp::default());
        let filters = [
            (TaskFilter::default(), "tasks_by_creation"),
            (kind.clone(), CREATION),
            (queue.clone(), CREATION),
            (TaskFilter { created_before: until, ..queue }, CREATION),
            (TaskFilter { queue: text(), ..kind.clone() }, CREATION),
            (TaskFilter { name: text(), ..Default::default() }, "tasks_by_name"),
            (TaskFilter { statuses: one.clone(), ..Default::default() }, "tasks_by_status"),
            (TaskFilter { statuses: one, ..kind }, "tasks_by_status"),
            (TaskFilter { statuses: two, ..Default::default() }, "tasks_by_status"),
            (
                TaskFilter { created_after: Some(Timestamp::MAX), ..Default::default() },
                "tasks_by_creation",
            ),
        ];
        for (filter, index) in filters {
            for newest_first in [false, true] {
                let after = Some((Timestamp::default(), "x".into()));
                let query = TaskQuery { filter: filter.clone(), newest_first, after, limit: 51 };
                let plan = plan(&mut db, task_page(&query, Words::InSpans)).await;
                assert!(plan.contains(index), "{index} is not used:\n{plan}");
                assert!(!plan.contains("SCAN tasks"), "{plan}");
                let spans = "SEARCH spans USING PRIMARY KEY (list=? AND word=? AND span";
                assert_eq!(plan.contains(spans), index == CREATION, "{plan}");
                let sorted = plan.contains("FOR ORDER BY");
                assert!(
                    !sorted || filter.name.is_some() || filter.statuses.len() > 1,
                    "rows come in order:\n{plan}"
                );
            }
        }
    }

    #[tokio::test]
    async fn each_filter_of_executions_has_its_index() {
        let mut db = empty().await;
        let base = ExecutionQuery { limit: 51, ..Default::default() };
        let text = || Some(Box::from("x"));
        let outcomes = vec![Some(AttemptOutcome::Failed)];
        let worker = ExecutionQuery { worker: text(), ..base.clone() };
        let queries = [
            (ExecutionQuery { task_id: text(), ..base.clone() }, "logs_by_task"),
            (ExecutionQuery { outcomes: outcomes.clone(), ..base.clone() }, "logs_by_status"),
            (ExecutionQuery { outcomes, ..worker.clone() }, "logs_by_status"),
            (worker.clone(), TOKENS),
            (ExecutionQuery { queue: text(), ..base.clone() }, TOKENS),
            (ExecutionQuery { queue: text(), after: Some(Token(5)), ..worker }, TOKENS),
            (
                ExecutionQuery { task_id: text(), run: Some(RunNumber(1)), ..base.clone() },
                "logs_by_task",
            ),
            (ExecutionQuery { after: Some(Token(5)), ..base }, "PRIMARY KEY"),
        ];
        for (query, index) in queries {
            let plan = plan(&mut db, execution_page(&query, Words::InSpans)).await;
            assert!(plan.contains(index), "{index} is not used:\n{plan}");
            assert!(!plan.contains("SCAN"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "rows come in order:\n{plan}");
        }
    }
}
