//! Reads of the history database, as the runtime's trait asks for them.

use std::time::Duration;

use dtask_core::id::{ClusterId, Token};
use dtask_core::node::TaskFilter;
use dtask_core::state::history::{AttemptRow, RunRow, TaskRow};
use dtask_core::state::view::TaskView;
use dtask_runtime::serve::ports::{
    ExecutionQuery, HistoryAway, HistoryRead, Rows, RunQuery, TaskQuery,
};
use futures_util::future::{BoxFuture, FutureExt as _};

use super::database::Database;
use crate::world::history::HistoryDb;

/// How often a wait for the cursor looks.
const LOOK: Duration = Duration::from_millis(50);

/// A node's reader.
#[derive(Clone)]
pub struct SimReader(pub Database);

impl SimReader {
    fn read<'a, T: Send + 'a>(
        &'a self,
        pick: impl FnOnce(&HistoryDb) -> T + Send + 'a,
    ) -> Rows<'a, T> {
        async move {
            self.0.reach().await.map_err(HistoryAway)?;
            Ok(pick(&self.0.witness().books().history))
        }
        .boxed()
    }
}

impl HistoryRead for SimReader {
    fn covers(&self, number: u64, within: Duration) -> BoxFuture<'_, bool> {
        async move {
            let until = tokio::time::Instant::now() + within;
            loop {
                let near = self.0.reach().await.is_ok();
                if near && self.0.witness().books().history.through() >= number {
                    return true;
                }
                if tokio::time::Instant::now() >= until {
                    return false;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        .boxed()
    }

    fn cluster(&self) -> Rows<'_, Option<ClusterId>> {
        self.read(HistoryDb::cluster)
    }

    fn task<'a>(&'a self, id: &'a str) -> Rows<'a, Option<TaskView>> {
        self.read(move |db| db.task(id).filter(|row| !row.deleted).map(|row| row.view.clone()))
    }

    fn is_before_gap<'a>(&'a self, id: &'a str) -> Rows<'a, bool> {
        self.read(move |db| db.task(id).is_some_and(|row| db.gaps().any(|gap| gap.to > row.number)))
    }

    fn tasks(&self, query: TaskQuery) -> Rows<'_, Vec<TaskView>> {
        self.read(move |db| {
            let key = |row: &TaskRow| (row.view.created_at, row.view.id.clone());
            let newest = |row: &&TaskRow| {
                db.task(&row.view.id).is_some_and(|it| it.view.serial == row.view.serial)
            };
            let mut rows: Vec<&TaskRow> = db
                .tasks()
                .filter(|row| !row.deleted && fits(&query.filter, &row.view))
                .filter(newest)
                .filter(|row| match &query.after {
                    Some(after) if query.newest_first => key(row) < *after,
                    Some(after) => key(row) > *after,
                    None => true,
                })
                .collect();
            rows.sort_by_key(|row| key(row));
            if query.newest_first {
                rows.reverse();
            }
            rows.into_iter().take(query.limit as usize).map(|row| row.view.clone()).collect()
        })
    }

    fn runs(&self, query: RunQuery) -> Rows<'_, Vec<RunRow>> {
        self.read(move |db| {
            db.runs()
                .filter(|row| row.task_id == query.task_id)
                .filter(|row| query.after.is_none_or(|it| (row.incarnation, row.view.run) > it))
                .take(query.limit as usize)
                .cloned()
                .collect()
        })
    }

    fn executions(&self, query: ExecutionQuery) -> Rows<'_, Vec<AttemptRow>> {
        self.read(move |db| {
            let queue_of = |row: &AttemptRow| {
                db.incarnation(&row.task_id, row.incarnation)
                    .map(|task| task.view.profile.queue.clone())
            };
            db.attempts()
                .filter(|row| query.task_id.as_ref().is_none_or(|id| *id == row.task_id))
                .filter(|row| {
                    query.outcomes.is_empty() || query.outcomes.contains(&row.view.outcome)
                })
                .filter(|row| query.worker.as_ref().is_none_or(|name| *name == row.view.worker))
                .filter(|row| query.queue.is_none() || query.queue == queue_of(row))
                .filter(|row| query.run.is_none_or(|run| run == row.run))
                .filter(|row| query.after.is_none_or(|after| row.view.token > after))
                .take(query.limit as usize)
                .cloned()
                .collect()
        })
    }

    fn execution(&self, token: Token) -> Rows<'_, Option<AttemptRow>> {
        self.read(move |db| db.attempts().find(|row| row.view.token == token).cloned())
    }
}

fn fits(filter: &TaskFilter, view: &TaskView) -> bool {
    (filter.statuses.is_empty() || filter.statuses.contains(&view.status))
        && filter.kind.as_ref().is_none_or(|kind| *kind == view.profile.kind)
        && filter.queue.as_ref().is_none_or(|queue| *queue == view.profile.queue)
        && filter.name.as_ref().is_none_or(|name| *name == view.name)
        && filter.created_after.is_none_or(|moment| view.created_at >= moment)
        && filter.created_before.is_none_or(|moment| view.created_at < moment)
}
