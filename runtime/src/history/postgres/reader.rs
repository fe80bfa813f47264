//! Reads of the database, each bounded in time: a server that does not answer is away.

use std::time::Duration;

use dtask_core::id::Token;
use sqlx::postgres::{PgArguments, PgPool, PgPoolOptions};
use sqlx::{Arguments as _, AssertSqlSafe, Error, Executor as _};

use super::columns::{Moment, storable};
use super::url::PostgresUrl;
use super::{CONNECT_TIMEOUT, settings};
use crate::history::queries::{self, Sql, Value};
use crate::history::reader::{Reader, Source};
use crate::history::rows::Columns;
use crate::history::spans::Words;
use crate::serve::ports::{ExecutionQuery, HistoryAway, RunQuery, TaskQuery};

/// Connections of one node, and so questions answered side by side; further ones wait.
const CONNECTIONS_MAX: u32 = 4;
/// A connection that nobody used for this long is given back to the server.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long a question waits for a connection, the server's acceptance included.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the server may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Reads one PostgreSQL database.
pub type PostgresReader = Reader<Questions>;

/// The reader's connections.
#[derive(Clone, Debug)]
pub struct Questions {
    pool: PgPool,
    url: PostgresUrl,
}

impl PostgresReader {
    /// A reader of the database at `url`. Nothing is touched yet: a database that is not there is
    /// told by each read.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn new(url: PostgresUrl) -> std::io::Result<Self> {
        Self::of(|| {
            let pool = PgPoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .idle_timeout(IDLE_MAX)
                .acquire_timeout(ACQUIRE_TIMEOUT.min(CONNECT_TIMEOUT))
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        // Each page is planned for its own words: how often one occurs decides.
                        let own = "SET default_transaction_read_only = on; \
                                   SET plan_cache_mode = force_custom_plan; ";
                        let sql = format!("{own}{}", settings(ANSWER_MAX));
                        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
                    })
                })
                .connect_lazy_with((*url.options).clone());
            Questions { pool, url }
        })
    }
}

/// A question of the API.
#[derive(Clone, Debug)]
pub enum Page {
    /// One task.
    Task(Box<str>),
    /// A page of tasks.
    Tasks(TaskQuery),
    /// A page of runs.
    Runs(RunQuery),
    /// A page of executions.
    Executions(ExecutionQuery),
    /// One execution.
    Execution(Token),
}

impl PostgresReader {
    /// How the server finds a page: `EXPLAIN (ANALYZE, BUFFERS)`, a line a string.
    ///
    /// # Errors
    /// The database is away.
    pub async fn explain(&self, page: Page) -> Result<Vec<String>, HistoryAway> {
        let mut question = match page {
            Page::Task(id) => queries::task(&id),
            Page::Tasks(query) => queries::task_page(&query, Questions::WORDS),
            Page::Runs(query) => queries::runs(query),
            Page::Executions(query) => queries::execution_page(&query, Questions::WORDS),
            Page::Execution(token) => queries::execution(token),
        };
        question.text.insert_str(0, "EXPLAIN (ANALYZE, BUFFERS) ");
        let line = |row: &dyn Columns| Ok(row.text("QUERY PLAN")?.unwrap_or_default().to_owned());
        self.all(question, line).await
    }
}

impl Questions {
    /// One answer in time. A connection that owes one is not used again.
    async fn in_time<T>(
        &self,
        question: impl AsyncFnOnce(&mut sqlx::PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let mut connection = self.pool.acquire().await?;
        match tokio::time::timeout(ANSWER_MAX, question(&mut connection)).await {
            Ok(answer) => answer,
            Err(_) => {
                connection.close_on_drop();
                let detail = format!("no answer within {} s", ANSWER_MAX.as_secs());
                Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, detail)))
            }
        }
    }
}

impl Source for Questions {
    const WORDS: Words = Words::InIndexes;

    async fn ask<T: Send + 'static>(
        &self,
        question: Sql,
        decode: impl Fn(&dyn Columns) -> sqlx::Result<T> + Send,
    ) -> sqlx::Result<Vec<T>> {
        let Sql { text, values } = question;
        let mut arguments = PgArguments::default();
        for value in values {
            match value {
                Value::Text(text) => arguments.add(storable((&*text).into())),
                Value::Number(number) => arguments.add(number),
                Value::Time(at) => arguments.add(Moment(at)),
            }
            .map_err(Error::Encode)?;
        }
        let rows = self
            .in_time(async |connection| {
                sqlx::query_with(AssertSqlSafe(text), arguments).fetch_all(connection).await
            })
            .await?;
        rows.iter().map(|row| decode(row)).collect()
    }

    async fn through(&self) -> sqlx::Result<i64> {
        self.in_time(async |connection| {
            sqlx::query_scalar(queries::THROUGH).fetch_one(connection).await
        })
        .await
    }

    fn say(&self, error: &Error) -> String {
        self.url.hide(&error.to_string())
    }
}
