//! The contract on a real SQLite file.

use std::path::PathBuf;

use dtask_core::node::TaskFilter;
use dtask_runtime::history::{SqliteReader, SqliteWriter, Writer as _};
use dtask_runtime::serve::ports::{ExecutionQuery, HistoryRead as _, TaskQuery};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::contract::{Backend, CLUSTER};

crate::every_fact!(File);

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    async fn stranger(&self) -> SqliteConnection {
        let url = format!("sqlite:{}", self.path.display());
        SqliteConnection::connect(&url).await.expect("a file")
    }
}

impl Backend for File {
    type Writer = SqliteWriter;
    type Reader = SqliteReader;

    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("history.db");
        Self { _dir: dir, path }
    }

    fn writer(&self) -> SqliteWriter {
        SqliteWriter::new(self.path.clone())
    }

    fn reader(&self) -> SqliteReader {
        SqliteReader::new(&self.path).expect("a thread")
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.stranger().await).await.expect("executed");
    }

    async fn numbers(&self, sql: &'static str) -> Vec<i64> {
        let row = sqlx::query(sql).fetch_one(&mut self.stranger().await).await.expect("a row");
        (0..row.len()).map(|column| row.get(column)).collect()
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_away_and_not_empty() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let reader = SqliteReader::new(&dir.path().join("none.db")).expect("a thread");
    let away = reader.task("x").await.expect_err("no file");
    assert!(away.to_string().starts_with("the history database cannot be read"), "{away}");
}

#[tokio::test]
async fn rows_from_before_spans_are_found_by_their_words() {
    let db = File::empty();
    let options = SqliteConnectOptions::new().filename(&db.path).create_if_missing(true);
    let mut old = SqliteConnection::connect_with(&options).await.expect("a file");
    let mut migrations = sqlx::migrate!("../migrations/sqlite");
    migrations.migrations.to_mut().truncate(5);
    migrations.run_direct(None, &mut old, false).await.expect("migrates");
    sqlx::raw_sql("BEGIN").execute(&mut old).await.expect("begins");
    for number in 1..=700 {
        let kind = if number % 7 == 0 { "resize" } else { "exec" };
        let worker = if number % 100 == 0 { "w2" } else { "w1" };
        let rows = format!(
            "INSERT INTO tasks (id, incarnation, change, deleted, name, type, queue, status, \
             priority, payload, max_retries, backoff, backoff_base, backoff_max, no_retry_exit, \
             timeout, consecutive_failures, runs_count, revision, created_at, updated_at) \
             VALUES ('t{number}', {number}, 1, 0, 't{number}', '{kind}', 'default', 'succeeded', 5, \
             x'', 0, 'fixed', 1, 1, '[]', 1, 0, 0, 1, {number} * 300, 0); \
             INSERT INTO execution_logs (id, change, task_id, incarnation, run, attempt, worker_id, \
             status, stop_requested, output, log_tail, error, scheduled_for, opened_at, queue) \
             VALUES ({number}, 1, 't{number}', {number}, 1, 1, '{worker}', 'succeeded', 0, x'', \
             x'', '', 1, 1, 'default')"
        );
        sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut old).await.expect("inserted");
    }
    sqlx::raw_sql("COMMIT").execute(&mut old).await.expect("commits");
    old.close().await.expect("closes");
    db.writer().open(CLUSTER).await.expect("migrates");
    let reader = db.reader();
    let tasks = |kind: Option<&str>, queue: Option<&str>| {
        let (kind, queue) = (kind.map(Box::from), queue.map(Box::from));
        let filter = TaskFilter { kind, queue, ..TaskFilter::default() };
        let page = reader.tasks(TaskQuery { filter, limit: 1_000, ..TaskQuery::default() });
        async move { page.await.expect("readable").len() }
    };
    assert_eq!(tasks(Some("resize"), None).await, 100);
    assert_eq!(tasks(None, Some("default")).await, 700);
    assert_eq!(tasks(Some("resize"), Some("default")).await, 100);
    let executions = |worker: Option<&str>, queue: Option<&str>| {
        let (worker, queue) = (worker.map(Box::from), queue.map(Box::from));
        let page = reader.executions(ExecutionQuery {
            worker,
            queue,
            limit: 1_000,
            ..ExecutionQuery::default()
        });
        async move { page.await.expect("readable").len() }
    };
    assert_eq!(executions(Some("w2"), None).await, 7);
    assert_eq!(executions(None, Some("default")).await, 700);
}
