//! Reads of the history file, by any node, on threads of their own.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dtask_core::id::Token;
use dtask_core::state::history::{AttemptRow, RunRow};
use dtask_core::state::view::TaskView;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{Sqlite, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{QueryBuilder, Row as _};
use tokio::runtime::Runtime;

use super::words::{OUTCOMES, STATUSES, word};
use super::{options, rows};
use crate::serve::ports::{ExecutionQuery, HistoryAway, HistoryRead, Rows, RunQuery, TaskQuery};

/// Connections, and so questions answered side by side; further ones wait.
const CONNECTIONS_MAX: u32 = 4;
/// How long a question waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at the cursor.
const COVERS_POLL: Duration = Duration::from_millis(10);

/// Reads one SQLite file.
#[derive(Debug)]
pub struct SqliteReader {
    pool: SqlitePool,
    /// Sleeps and connections live here, whichever runtime asks. Ended without waiting, since a
    /// runtime may not be dropped inside another.
    runtime: Option<Runtime>,
}

impl SqliteReader {
    /// A reader of the file at `path`, which need not exist yet: until then reads are refused.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("history-read")
            .enable_all()
            .build()?;
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options(path).read_only(true));
        Ok(Self { pool, runtime: Some(runtime) })
    }

    /// Runs a read on the reader's own threads.
    fn on_own_threads<T: Send + 'static>(
        &self,
        read: impl Future<Output = sqlx::Result<T>> + Send + 'static,
    ) -> Rows<'static, T> {
        let task = self.runtime.as_ref().map(|runtime| runtime.spawn(read));
        Box::pin(async move {
            let Some(task) = task else { return Err(HistoryAway("it is closed".into())) };
            match task.await {
                Ok(read) => read.map_err(|error| HistoryAway(error.to_string())),
                Err(ended) => Err(HistoryAway(ended.to_string())),
            }
        })
    }

    /// Runs a query and decodes its rows.
    fn all<T: Send + 'static>(
        &self,
        mut query: QueryBuilder<Sqlite>,
        decode: fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Rows<'static, Vec<T>> {
        let pool = self.pool.clone();
        self.on_own_threads(async move {
            let rows = query.build().fetch_all(&pool).await?;
            rows.iter().map(decode).collect()
        })
    }
}

impl Drop for SqliteReader {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl HistoryRead for SqliteReader {
    fn covers(&self, number: u64, within: Duration) -> BoxFuture<'_, bool> {
        let pool = self.pool.clone();
        let covered = self.on_own_threads(async move {
            let wait = tokio::time::timeout(within, async {
                loop {
                    // A file that is not there yet may come within the time.
                    if through(&pool).await.is_ok_and(|through| through >= number) {
                        return;
                    }
                    tokio::time::sleep(COVERS_POLL).await;
                }
            });
            Ok(wait.await.is_ok())
        });
        Box::pin(async move { covered.await.unwrap_or(false) })
    }

    fn task<'a>(&'a self, id: &'a str) -> Rows<'a, Option<TaskView>> {
        let mut query = QueryBuilder::new("SELECT * FROM tasks WHERE deleted = 0 AND id = ");
        query.push_bind(id.to_owned());
        first(self.all(query, rows::task))
    }

    fn tasks(&self, query: TaskQuery) -> Rows<'_, Vec<TaskView>> {
        self.all(task_page(query), rows::task)
    }

    fn runs(&self, query: RunQuery) -> Rows<'_, Vec<RunRow>> {
        let mut sql = QueryBuilder::new("SELECT * FROM runs WHERE task_id = ");
        sql.push_bind(query.task_id);
        if let Some((incarnation, run)) = query.after {
            sql.push(" AND (incarnation, run) > (").push_bind(signed(incarnation));
            sql.push(", ").push_bind(run.0).push(")");
        }
        sql.push(" ORDER BY incarnation, run LIMIT ").push_bind(query.limit);
        self.all(sql, rows::run)
    }

    fn executions(&self, query: ExecutionQuery) -> Rows<'_, Vec<AttemptRow>> {
        self.all(execution_page(query), rows::attempt)
    }

    fn execution(&self, token: Token) -> Rows<'_, Option<AttemptRow>> {
        let mut query = QueryBuilder::new("SELECT * FROM execution_logs WHERE id = ");
        query.push_bind(signed(token.0));
        first(self.all(query, rows::attempt))
    }
}

fn first<T: Send + 'static>(all: Rows<'static, Vec<T>>) -> Rows<'static, Option<T>> {
    Box::pin(async move { Ok(all.await?.into_iter().next()) })
}

async fn through(pool: &SqlitePool) -> sqlx::Result<u64> {
    let row = sqlx::query("SELECT through FROM dtask_cursor WHERE one = 1").fetch_one(pool).await?;
    row.try_get::<i64, _>(0).map(i64::unsigned_abs)
}

fn task_page(query: TaskQuery) -> QueryBuilder<Sqlite> {
    let TaskQuery { filter, newest_first, after, limit } = query;
    let mut sql = QueryBuilder::new("SELECT * FROM tasks WHERE deleted = 0");
    if !filter.statuses.is_empty() {
        sql.push(" AND status IN (");
        let mut list = sql.separated(", ");
        for status in &filter.statuses {
            list.push_bind(word(&STATUSES, status));
        }
        sql.push(")");
    }
    if let Some(kind) = filter.kind {
        sql.push(" AND type = ").push_bind(kind);
    }
    if let Some(queue) = filter.queue {
        sql.push(" AND queue = ").push_bind(queue);
    }
    if let Some(name) = filter.name {
        // The index holds names that differ from the id; a task without one is found by its id.
        let name: Arc<str> = name.into();
        sql.push(" AND (name <> id AND name = ").push_bind(name.clone());
        sql.push(" OR name = id AND id = ").push_bind(name).push(")");
    }
    if let Some(from) = filter.created_after {
        sql.push(" AND created_at >= ").push_bind(from.as_micros());
    }
    if let Some(to) = filter.created_before {
        sql.push(" AND created_at < ").push_bind(to.as_micros());
    }
    if let Some((at, id)) = after {
        let beyond = if newest_first { "<" } else { ">" };
        // The first comparison is implied by the second, and lets the index start there.
        sql.push(format_args!(" AND created_at {beyond}= ")).push_bind(at.as_micros());
        sql.push(format_args!(" AND (created_at, id) {beyond} (")).push_bind(at.as_micros());
        sql.push(", ").push_bind(id).push(")");
    }
    let order = if newest_first { "DESC" } else { "ASC" };
    sql.push(format_args!(" ORDER BY created_at {order}, id {order} LIMIT ")).push_bind(limit);
    sql
}

fn execution_page(query: ExecutionQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM execution_logs AS e WHERE 1 = 1");
    if let Some(task) = query.task_id {
        sql.push(" AND task_id = ").push_bind(task);
    }
    if !query.outcomes.is_empty() {
        sql.push(" AND status IN (");
        let mut list = sql.separated(", ");
        for outcome in &query.outcomes {
            list.push_bind(word(&OUTCOMES, outcome));
        }
        sql.push(")");
    }
    if let Some(worker) = query.worker {
        sql.push(" AND worker_id = ").push_bind(worker);
    }
    if let Some(queue) = query.queue {
        sql.push(" AND EXISTS (SELECT 1 FROM tasks WHERE tasks.id = e.task_id AND queue = ");
        sql.push_bind(queue).push(")");
    }
    if let Some(run) = query.run {
        sql.push(" AND run = ").push_bind(run.0);
    }
    if let Some(after) = query.after {
        sql.push(" AND id > ").push_bind(signed(after.0));
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(query.limit);
    sql
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use dtask_core::id::RunNumber;
    use dtask_core::node::TaskFilter;
    use dtask_core::spec::AttemptOutcome;
    use dtask_core::state::view::TaskStatus;
    use dtask_core::time::Timestamp;
    use sqlx::AssertSqlSafe;
    use sqlx::sqlite::SqliteConnection;

    use super::*;

    /// How SQLite would find the rows, one step a line.
    async fn plan(db: &mut SqliteConnection, query: QueryBuilder<Sqlite>) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {}", query.sql().as_str());
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

    #[tokio::test]
    async fn each_filter_of_tasks_has_its_index() {
        let mut db = empty().await;
        let text = || Some(Box::from("x"));
        let filters = [
            (TaskFilter::default(), "tasks_by_creation"),
            (TaskFilter { kind: text(), ..Default::default() }, "tasks_by_type"),
            (TaskFilter { queue: text(), ..Default::default() }, "tasks_by_queue"),
            (TaskFilter { name: text(), ..Default::default() }, "tasks_by_name"),
            (
                TaskFilter { statuses: vec![TaskStatus::Failed], ..Default::default() },
                "tasks_by_status",
            ),
            (
                TaskFilter { created_after: Some(Timestamp::MAX), ..Default::default() },
                "tasks_by_creation",
            ),
        ];
        for (filter, index) in filters {
            let after = Some((Timestamp::default(), "x".into()));
            let query = TaskQuery { filter, newest_first: true, after, limit: 51 };
            let plan = plan(&mut db, task_page(query)).await;
            assert!(plan.contains(index), "{index} is not used:\n{plan}");
            assert!(!plan.contains("SCAN"), "{plan}");
        }
    }

    #[tokio::test]
    async fn each_filter_of_executions_has_its_index() {
        let mut db = empty().await;
        let base = ExecutionQuery { limit: 51, ..Default::default() };
        let queries = [
            (ExecutionQuery { task_id: Some("x".into()), ..base.clone() }, "logs_by_task"),
            (
                ExecutionQuery { outcomes: vec![Some(AttemptOutcome::Failed)], ..base.clone() },
                "logs_by_status",
            ),
            (ExecutionQuery { worker: Some("x".into()), ..base.clone() }, "logs_by_worker"),
            (
                ExecutionQuery {
                    task_id: Some("x".into()),
                    run: Some(RunNumber(1)),
                    ..base.clone()
                },
                "logs_by_task",
            ),
            (ExecutionQuery { after: Some(Token(5)), ..base }, "PRIMARY KEY"),
        ];
        for (query, index) in queries {
            let plan = plan(&mut db, execution_page(query)).await;
            assert!(plan.contains(index), "{index} is not used:\n{plan}");
            assert!(!plan.contains("SCAN"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "rows come in order:\n{plan}");
        }
    }
}
