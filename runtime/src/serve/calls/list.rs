//! Lists (P8.7): one path through the history database, overlaid with what memory knows better;
//! without a database the live tasks alone, and the answer says so.

use std::collections::BTreeMap;

use dtask_core::id::{RunNumber, Token};
use dtask_core::leader::calls::is_terminal;
use dtask_core::node::{Reply, Request, TaskFilter};
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::history::{AttemptRow, RunRow};
use dtask_core::state::view::{AttemptView, RunView, TaskView};
use dtask_proto::v1;

use super::page::{self, Place};
use super::{Call, Calls, No, odd};
use crate::api::{Fault, spec, views};
use crate::serve::ports::{ExecutionQuery, HistoryRead, RunQuery, TaskQuery};

/// What memory holds of one task.
struct Live {
    task: TaskView,
    runs: Vec<RunView>,
    attempts: Vec<AttemptView>,
}

impl Calls {
    /// A page of tasks.
    pub async fn tasks(
        &self,
        mut request: v1::ListTasksRequest,
    ) -> Result<v1::ListTasksResponse, Fault> {
        let limit = page::size(request.page_size)?;
        let newest_first = newest_first(&request.order_by)?;
        let filter = spec::task_filter(&request)?;
        let token = std::mem::take(&mut request.page_token);
        request.page_size = None;
        let fingerprint = page::fingerprint(&request);
        let after = match Place::read(&token, fingerprint)? {
            Some(Place::Walk(cursor)) => {
                return self.walk(filter, cursor, limit, request.stale, fingerprint).await;
            }
            Some(Place::Task(at, id)) => Some((at, id)),
            Some(Place::Run(..) | Place::Execution(_)) | None => None,
        };
        let Some(history) = self.history().await.ok().flatten() else {
            return self.walk(filter, 0, limit, request.stale, fingerprint).await;
        };
        let level = self.level(history, request.stale).await?;
        let query = TaskQuery { filter: filter.clone(), newest_first, after, limit: limit + 1 };
        let rows = match history.tasks(query).await {
            Ok(rows) => rows,
            Err(away) => {
                self.away(&away);
                return self.walk(filter, 0, limit, request.stale, fingerprint).await;
            }
        };
        let (rows, next) = cut(rows, limit, |row| Place::Task(row.created_at, row.id.clone()));
        let Some(rows) = self.overlay(history, rows, &filter).await? else {
            return self.walk(filter, 0, limit, request.stale, fingerprint).await;
        };
        let tasks = rows.into_iter().map(views::task).collect();
        let next_page_token = next.map_or_else(String::new, |place| place.token(fingerprint));
        Ok(v1::ListTasksResponse { tasks, next_page_token, partial: !level })
    }

    /// Live tasks alone.
    async fn walk(
        &self,
        filter: TaskFilter,
        cursor: u64,
        limit: u32,
        stale: bool,
        fingerprint: u32,
    ) -> Result<v1::ListTasksResponse, Fault> {
        let question = Request::Tasks { ids: None, filter, cursor, limit, stale };
        match self.put(Call::default(), question).await {
            Ok(Reply::Tasks { tasks, next, .. }) => Ok(v1::ListTasksResponse {
                tasks: tasks.into_iter().map(views::task).collect(),
                next_page_token: next
                    .map_or_else(String::new, |cursor| Place::Walk(cursor).token(fingerprint)),
                partial: true,
            }),
            Ok(reply) => Err(odd(&reply)),
            Err(No::Refused(fault)) => Err(fault),
            Err(No::AskLeader(_)) => Err(Fault::no_leader()),
        }
    }

    /// Rows with the live fields of those that are in memory; a row that no longer matches is
    /// left out. `None` when the database went away meanwhile.
    async fn overlay(
        &self,
        history: &dyn HistoryRead,
        rows: Vec<TaskView>,
        filter: &TaskFilter,
    ) -> Result<Option<Vec<TaskView>>, Fault> {
        let ids: Vec<Box<str>> = rows.iter().map(|row| row.id.clone()).collect();
        let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let filter_none = TaskFilter::default();
        let question =
            Request::Tasks { ids: Some(ids), filter: filter_none, cursor: 0, limit, stale: true };
        let (live, deleted) = match self.put(Call::default(), question).await {
            Ok(Reply::Tasks { tasks, deleted, .. }) => (tasks, deleted),
            Ok(reply) => return Err(odd(&reply)),
            Err(No::Refused(fault)) => return Err(fault),
            Err(No::AskLeader(_)) => return Err(Fault::no_leader()),
        };
        let mut live: BTreeMap<(Box<str>, u64), TaskView> =
            live.into_iter().map(|task| ((task.id.clone(), task.serial), task)).collect();
        let mut shown = Vec::with_capacity(rows.len());
        for row in rows {
            let row = match live.remove(&(row.id.clone(), row.serial)) {
                Some(live) => live,
                // Upholds S19: history has not heard of it yet.
                None if deleted.contains(&row.id) => continue,
                None if is_terminal(row.status) => row,
                // It left memory after the page was read, so its last row is stored by now. A row
                // of a later creation has a place of its own in the list.
                None => match history.task(&row.id).await {
                    Ok(Some(last)) if last.serial == row.serial => last,
                    Ok(_) => continue,
                    Err(away) => {
                        self.away(&away);
                        return Ok(None);
                    }
                },
            };
            if filter.statuses.is_empty() || filter.statuses.contains(&row.status) {
                shown.push(row);
            }
        }
        Ok(Some(shown))
    }

    /// A page of a task's runs, oldest first.
    pub async fn runs(
        &self,
        mut request: v1::ListRunsRequest,
    ) -> Result<v1::ListRunsResponse, Fault> {
        let limit = page::size(request.page_size)?;
        let token = std::mem::take(&mut request.page_token);
        request.page_size = None;
        let fingerprint = page::fingerprint(&request);
        let after = match Place::read(&token, fingerprint)? {
            Some(Place::Run(incarnation, run)) => Some((incarnation, run)),
            Some(Place::Task(..) | Place::Execution(_) | Place::Walk(_)) | None => None,
        };
        let task_id: Box<str> = request.task_id.as_str().into();
        let live = self.live(&task_id, request.stale).await?;
        let query = RunQuery { task_id: task_id.clone(), after, limit: limit + 1 };
        let (stored, partial) = match self.history().await.ok().flatten() {
            Some(history) => self.stored_runs(history, query, request.stale).await?,
            None => (Vec::new(), true),
        };
        if live.is_none() && stored.is_empty() && after.is_none() {
            // A one-shot has no row of its own in `runs`: the task tells its only run.
            let task = self.stored(&task_id).await?;
            let runs = task.last_run.map(|run| views::run(&task_id, run)).into_iter().collect();
            return Ok(v1::ListRunsResponse { runs, next_page_token: String::new(), partial });
        }
        let mut rows: BTreeMap<(u64, RunNumber), RunView> = BTreeMap::new();
        let whole = stored.len() <= limit as usize;
        let last = stored.last().map(|row| (row.incarnation, row.view.run));
        rows.extend(stored.into_iter().map(|row| ((row.incarnation, row.view.run), row.view)));
        for (serial, run) in live.iter().flat_map(|live| live.only_runs()) {
            let key = (serial, run.run);
            if after.is_none_or(|after| key > after) && (whole || last.is_some_and(|l| key <= l)) {
                rows.insert(key, run);
            }
        }
        let rows = rows.into_iter().collect();
        let (rows, next) = cut(rows, limit, |((serial, run), _)| Place::Run(*serial, *run));
        Ok(v1::ListRunsResponse {
            runs: rows.into_iter().map(|(_, run)| views::run(&task_id, run)).collect(),
            next_page_token: next.map_or_else(String::new, |place| place.token(fingerprint)),
            partial,
        })
    }

    async fn stored_runs(
        &self,
        history: &dyn HistoryRead,
        query: RunQuery,
        stale: bool,
    ) -> Result<(Vec<RunRow>, bool), Fault> {
        let level = self.level(history, stale).await?;
        match history.runs(query).await {
            Ok(rows) => Ok((rows, !level)),
            Err(away) => {
                self.away(&away);
                Ok((Vec::new(), true))
            }
        }
    }

    /// A page of executions, of one task or of all, oldest first.
    pub async fn executions(
        &self,
        mut request: v1::ListExecutionsRequest,
    ) -> Result<v1::ListExecutionsResponse, Fault> {
        let limit = page::size(request.page_size)?;
        let token = std::mem::take(&mut request.page_token);
        request.page_size = None;
        let fingerprint = page::fingerprint(&request);
        let after = match Place::read(&token, fingerprint)? {
            Some(Place::Execution(token)) => Some(token),
            Some(Place::Task(..) | Place::Run(..) | Place::Walk(_)) | None => None,
        };
        let query = execution_query(&request, after, limit + 1)?;
        let live = match &query.task_id {
            Some(id) => self.live(id, request.stale).await?,
            None => None,
        };
        let (stored, partial) = match self.history().await.ok().flatten() {
            Some(history) => {
                let level = self.level(history, request.stale).await?;
                match history.executions(query.clone()).await {
                    Ok(rows) => (rows, !level),
                    Err(away) => {
                        self.away(&away);
                        (Vec::new(), true)
                    }
                }
            }
            None => (Vec::new(), true),
        };
        if let (Some(id), None, true) = (&query.task_id, &live, stored.is_empty()) {
            self.stored(id).await?;
        }
        let rows = merge(stored, live, &query, limit);
        let (rows, next) = cut(rows, limit, |row: &AttemptRow| Place::Execution(row.view.token));
        Ok(v1::ListExecutionsResponse {
            executions: rows
                .into_iter()
                .map(|row| views::execution(&row.task_id, row.view))
                .collect(),
            next_page_token: next.map_or_else(String::new, |place| place.token(fingerprint)),
            partial,
        })
    }

    /// What memory holds of a task; `None` when it holds nothing.
    async fn live(&self, id: &str, stale: bool) -> Result<Option<Live>, Fault> {
        match self.put(Call::default(), Request::Attempts { id: id.into(), stale }).await {
            Ok(Reply::Attempts { task, runs, attempts }) => {
                Ok(Some(Live { task: *task, runs, attempts }))
            }
            Ok(Reply::NotLive { .. }) => Ok(None),
            Ok(reply) => Err(odd(&reply)),
            Err(No::Refused(fault)) => Err(fault),
            Err(No::AskLeader(_)) => Err(Fault::no_leader()),
        }
    }
}

impl Live {
    fn only_runs(&self) -> Vec<(u64, RunView)> {
        self.runs.iter().map(|run| (self.task.serial, run.clone())).collect()
    }
}

/// Stored rows and live attempts by token; the live one is newer.
fn merge(
    stored: Vec<AttemptRow>,
    live: Option<Live>,
    query: &ExecutionQuery,
    limit: u32,
) -> Vec<AttemptRow> {
    let whole = stored.len() <= limit as usize;
    let last = stored.last().map(|row| row.view.token);
    let mut rows: BTreeMap<Token, AttemptRow> =
        stored.into_iter().map(|row| (row.view.token, row)).collect();
    if let Some(live) = live {
        let fits = |view: &AttemptView| {
            query.after.is_none_or(|after| view.token > after)
                && (whole || last.is_some_and(|last| view.token <= last))
                && query.run.is_none_or(|run| view.run == run)
                && query.queue.as_deref().is_none_or(|queue| *live.task.profile.queue == *queue)
                && query.worker.as_deref().is_none_or(|worker| *view.worker == *worker)
                && (query.outcomes.is_empty() || query.outcomes.contains(&view.outcome))
        };
        let serial = live.task.serial;
        for view in live.attempts {
            if fits(&view) {
                let row = AttemptRow {
                    number: 0,
                    task_id: live.task.id.clone(),
                    incarnation: serial,
                    run: view.run,
                    queue: live.task.profile.queue.clone(),
                    view,
                };
                rows.insert(row.view.token, row);
            } else {
                // A row that the live attempt no longer matches is out of date.
                rows.remove(&view.token);
            }
        }
    }
    rows.into_values().collect()
}

fn execution_query(
    request: &v1::ListExecutionsRequest,
    after: Option<Token>,
    limit: u32,
) -> Result<ExecutionQuery, Fault> {
    let given = |text: &str| (!text.is_empty()).then(|| text.into());
    let outcomes = request.status.iter().map(|number| outcome(*number));
    Ok(ExecutionQuery {
        task_id: given(&request.task_id),
        outcomes: outcomes.collect::<Result<_, _>>()?,
        worker: given(&request.worker),
        queue: given(&request.queue),
        run: request.run.map(RunNumber),
        after,
        limit,
    })
}

/// `None` is an attempt that runs.
fn outcome(number: i32) -> Result<Option<AttemptOutcome>, Fault> {
    match v1::ExecutionStatus::try_from(number) {
        Ok(v1::ExecutionStatus::Running) => Ok(None),
        Ok(v1::ExecutionStatus::Succeeded) => Ok(Some(AttemptOutcome::Succeeded)),
        Ok(v1::ExecutionStatus::Failed) => Ok(Some(AttemptOutcome::Failed)),
        Ok(v1::ExecutionStatus::TimedOut) => Ok(Some(AttemptOutcome::TimedOut)),
        Ok(v1::ExecutionStatus::Lost) => Ok(Some(AttemptOutcome::Lost)),
        Ok(v1::ExecutionStatus::Cancelled) => Ok(Some(AttemptOutcome::Cancelled)),
        Ok(v1::ExecutionStatus::Interrupted) => Ok(Some(AttemptOutcome::Interrupted)),
        Ok(v1::ExecutionStatus::Unspecified) | Err(_) => {
            let detail = format!("{number} is not a status that this node knows");
            Err(Fault::invalid("status", detail, "upgrade the node, or leave the status out"))
        }
    }
}

fn newest_first(order: &str) -> Result<bool, Fault> {
    match order {
        "" | "created_at desc" => Ok(true),
        "created_at" | "created_at asc" => Ok(false),
        other => {
            let detail = format!("there is no order {other:?}");
            Err(Fault::invalid("order_by", detail, "`created_at` or `created_at desc`"))
        }
    }
}

/// The first `limit` rows, and where the next page begins if there are more.
fn cut<T>(mut rows: Vec<T>, limit: u32, place: impl Fn(&T) -> Place) -> (Vec<T>, Option<Place>) {
    let limit = limit as usize;
    if rows.len() <= limit {
        return (rows, None);
    }
    rows.truncate(limit);
    let next = rows.last().map(place);
    (rows, next)
}
