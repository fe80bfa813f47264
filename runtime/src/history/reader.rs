//! Reads of history by any node, on threads of their own, from either database.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use dtask_core::id::{ClusterId, Token};
use dtask_core::state::history::{AttemptRow, RunRow};
use dtask_core::state::view::TaskView;
use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;

use super::claim;
use super::queries::{self, Sql};
use super::rows::{self, Columns};
use super::spans::Words;
use crate::serve::ports::{ExecutionQuery, HistoryAway, HistoryRead, Rows, RunQuery, TaskQuery};

/// Between two looks at the cursor.
const COVERS_POLL: Duration = Duration::from_millis(10);

/// What a database must do for a reader.
pub trait Source: fmt::Debug + Clone + Send + Sync + 'static {
    /// How it finds the rows with a word.
    const WORDS: Words;

    /// Answers a question; each row is handed to `decode`.
    fn ask<T: Send + 'static>(
        &self,
        question: Sql,
        decode: impl Fn(&dyn Columns) -> sqlx::Result<T> + Send,
    ) -> impl Future<Output = sqlx::Result<Vec<T>>> + Send;

    /// Where the writer stands.
    fn through(&self) -> impl Future<Output = sqlx::Result<i64>> + Send;

    /// An error as people may see it.
    fn say(&self, error: &sqlx::Error) -> String;
}

/// Reads one database.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    /// Sleeps and connections live here, whichever runtime asks. Ended without waiting, since a
    /// runtime may not be dropped inside another.
    runtime: Option<Runtime>,
}

impl<S: Source> Reader<S> {
    /// A reader of what `source` opens on the reader's own runtime.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub(super) fn of(source: impl FnOnce() -> S) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("history-read")
            .enable_all()
            .build()?;
        let source = {
            let _inside = runtime.enter();
            source()
        };
        Ok(Self { source, runtime: Some(runtime) })
    }

    /// Runs a read on the reader's own threads.
    fn on_own_threads<T: Send + 'static>(
        &self,
        read: impl Future<Output = sqlx::Result<T>> + Send + 'static,
    ) -> Rows<'static, T> {
        let task = self.runtime.as_ref().map(|runtime| runtime.spawn(read));
        let source = self.source.clone();
        Box::pin(async move {
            let Some(task) = task else { return Err(HistoryAway("it is closed".into())) };
            match task.await {
                Ok(read) => read.map_err(|error| HistoryAway(source.say(&error))),
                Err(ended) => Err(HistoryAway(ended.to_string())),
            }
        })
    }

    /// Asks and decodes the rows.
    pub(super) fn all<T: Send + 'static>(
        &self,
        question: Sql,
        decode: impl Fn(&dyn Columns) -> sqlx::Result<T> + Send + 'static,
    ) -> Rows<'static, Vec<T>> {
        let source = self.source.clone();
        self.on_own_threads(async move { source.ask(question, decode).await })
    }

    fn first<T: Send + 'static>(
        &self,
        question: Sql,
        decode: impl Fn(&dyn Columns) -> sqlx::Result<T> + Send + 'static,
    ) -> Rows<'static, Option<T>> {
        let all = self.all(question, decode);
        Box::pin(async move { Ok(all.await?.into_iter().next()) })
    }
}

impl<S> Drop for Reader<S> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<S: Source> HistoryRead for Reader<S> {
    fn covers(&self, number: u64, within: Duration) -> BoxFuture<'_, bool> {
        let source = self.source.clone();
        let covered = self.on_own_threads(async move {
            let wait = tokio::time::timeout(within, async {
                loop {
                    // A database that is not there yet may come within the time.
                    let through = source.through().await;
                    if through.is_ok_and(|through| through.unsigned_abs() >= number) {
                        return;
                    }
                    tokio::time::sleep(COVERS_POLL).await;
                }
            });
            Ok(wait.await.is_ok())
        });
        Box::pin(async move { covered.await.unwrap_or(false) })
    }

    fn cluster(&self) -> Rows<'_, Option<ClusterId>> {
        let claim = |row: &dyn Columns| Ok(row.text("cluster_id")?.and_then(claim::read_cluster));
        let claim = self.first(queries::claim(), claim);
        Box::pin(async move { Ok(claim.await?.flatten()) })
    }

    fn task<'a>(&'a self, id: &'a str) -> Rows<'a, Option<TaskView>> {
        self.first(queries::task(id), rows::task)
    }

    fn is_before_gap<'a>(&'a self, id: &'a str) -> Rows<'a, bool> {
        let gap = self.first(queries::gap_behind(id), |row| row.number("first"));
        Box::pin(async move { Ok(gap.await?.is_some()) })
    }

    fn tasks(&self, query: TaskQuery) -> Rows<'_, Vec<TaskView>> {
        self.all(queries::task_page(&query, S::WORDS), rows::task)
    }

    fn runs(&self, query: RunQuery) -> Rows<'_, Vec<RunRow>> {
        self.all(queries::runs(query), rows::run)
    }

    fn executions(&self, query: ExecutionQuery) -> Rows<'_, Vec<AttemptRow>> {
        self.all(queries::execution_page(&query, S::WORDS), rows::attempt)
    }

    fn execution(&self, token: Token) -> Rows<'_, Option<AttemptRow>> {
        self.first(queries::execution(token), rows::attempt)
    }
}
