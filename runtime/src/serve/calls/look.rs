//! Looking at one thing: a task, its status, an execution, the workers, the cluster; and waiting.

use std::time::Duration;

use dtask_core::id::{RunNumber, Token};
use dtask_core::node::{Reply, Request};
use dtask_core::state::history::AttemptRow;
use dtask_core::state::view::TaskView;
use dtask_proto::v1;
use tonic::Code;

use super::forward::{Kind, Tasks, marked};
use super::{Call, Calls, No, odd};
use crate::api::{Fault, views};
use crate::serve::metrics::Reading;
use crate::serve::ports::HistoryRead;

/// How long a read waits for the history database to come level (P8.7).
pub(super) const LEVEL_MAX: Duration = Duration::from_secs(2);
/// How long a wait lasts whose caller names no end: below what proxies cut off.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// How far this node may lag and still be ready.
const READY_MAX: Duration = Duration::from_secs(5);

impl Calls {
    /// One task.
    pub async fn task(&self, request: v1::GetTaskRequest) -> Result<v1::Task, Fault> {
        Ok(views::task(self.view(&request.id, request.stale).await?))
    }

    /// How one task stands.
    pub async fn task_status(
        &self,
        request: v1::GetTaskRequest,
    ) -> Result<v1::GetStatusResponse, Fault> {
        Ok(views::task_status(self.view(&request.id, request.stale).await?))
    }

    /// State first, then history (P8.7).
    pub(super) async fn view(&self, id: &str, stale: bool) -> Result<TaskView, Fault> {
        match self.put(Call::default(), Request::Task { id: id.into(), stale }).await {
            Ok(Reply::Task(view)) => Ok(*view),
            Ok(Reply::NotLive { .. }) => self.stored(id).await,
            Ok(reply) => Err(odd(&reply)),
            Err(No::Refused(fault)) => Err(fault),
            Err(No::AskLeader(_)) => Err(Fault::no_leader()),
        }
    }

    /// A task that is not in memory. A body leaves memory only once it is stored, so what the
    /// database does not have does not exist; a database that is away proves nothing (P8.6).
    pub(super) async fn stored(&self, id: &str) -> Result<TaskView, Fault> {
        let Some(history) = self.history().await? else {
            return Err(Fault::not_found("task", id));
        };
        match history.task(id).await {
            Ok(Some(view)) => Ok(view),
            Ok(None) => Err(Fault::not_found("task", id)),
            Err(away) => Err(self.away(&away)),
        }
    }

    pub(super) fn away(&self, away: &crate::serve::ports::HistoryAway) -> Fault {
        tracing::warn!(node = self.status.id.0, error = %away, "history was not read");
        Fault::history_unavailable()
    }

    /// Waits until this node has applied what was committed when the call came, and the database
    /// has what was applied then. False when the database stays behind.
    pub(super) async fn level(
        &self,
        history: &dyn HistoryRead,
        stale: bool,
    ) -> Result<bool, Fault> {
        if stale {
            return Ok(true);
        }
        match self.put(Call::default(), Request::Barrier).await {
            Ok(Reply::Applied { changes, .. }) => Ok(history.covers(changes, LEVEL_MAX).await),
            Ok(reply) => Err(odd(&reply)),
            Err(No::Refused(fault)) => Err(fault),
            Err(No::AskLeader(_)) => Err(Fault::no_leader()),
        }
    }

    /// One execution.
    pub async fn execution(
        &self,
        request: v1::GetExecutionRequest,
    ) -> Result<v1::Execution, Fault> {
        let row = self.attempt(Token(request.id), request.stale).await?;
        Ok(views::execution(&row.task_id, row.view))
    }

    /// The row of an attempt, with what memory knows better.
    pub(super) async fn attempt(&self, token: Token, stale: bool) -> Result<AttemptRow, Fault> {
        let missing = || Fault::not_found("execution", &token.to_string());
        let Some(history) = self.history().await? else {
            let detail = "without a history database executions are found by their task only";
            return Err(Fault::new(Code::Unimplemented, "HISTORY_UNAVAILABLE", detail));
        };
        self.level(history, stale).await?;
        let row = history.execution(token).await.map_err(|away| self.away(&away))?;
        let mut row = row.ok_or_else(missing)?;
        if row.view.outcome.is_none() {
            let question = Request::Attempts { id: row.task_id.clone(), stale: true };
            let live = match self.put(Call::default(), question).await {
                Ok(Reply::Attempts { attempts, .. }) => {
                    attempts.into_iter().find(|live| live.token == token)
                }
                Ok(_) | Err(_) => None,
            };
            match live {
                Some(live) => row.view = live,
                // It left memory after its row was read, so its last row is stored by now.
                None => {
                    let last = history.execution(token).await.map_err(|away| self.away(&away))?;
                    row = last.ok_or_else(missing)?;
                }
            }
        }
        Ok(row)
    }

    /// Waits until a task's latest run, or a certain one, has ended.
    pub async fn wait_task(
        &self,
        call: Call,
        request: v1::WaitTaskRequest,
    ) -> Result<v1::WaitTaskResponse, Fault> {
        let timeout = request.timeout.map_or(WAIT_DEFAULT, |millis| {
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        let id: Box<str> = request.id.as_str().into();
        let question = Request::Wait { id: id.clone(), run: request.run.map(RunNumber) };
        match tokio::time::timeout(timeout, self.put(call, question)).await {
            Ok(Ok(Reply::Task(view))) => {
                Ok(v1::WaitTaskResponse { done: true, task: Some(views::task(*view)) })
            }
            Ok(Ok(Reply::NotLive { .. })) => {
                let task = views::task(self.stored(&id).await?);
                Ok(v1::WaitTaskResponse { done: true, task: Some(task) })
            }
            Ok(Ok(reply)) => Err(odd(&reply)),
            Ok(Err(No::Refused(fault))) => Err(fault),
            Ok(Err(No::AskLeader(address))) => {
                let wait =
                    |mut client: Tasks| async move { client.wait_task(marked(request)).await };
                self.leaders.call(&address, Kind::Read, wait).await
            }
            Err(_) => {
                let task = views::task(self.view(&id, false).await?);
                Ok(v1::WaitTaskResponse { done: false, task: Some(task) })
            }
        }
    }

    /// Connected workers, as the leader knows them.
    pub async fn workers(&self, call: Call) -> Result<v1::ListWorkersResponse, Fault> {
        match self.put(call, Request::Workers).await {
            Ok(Reply::Workers(workers)) => {
                let workers = workers.into_iter().map(views::worker).collect();
                Ok(v1::ListWorkersResponse { workers })
            }
            Ok(reply) => Err(odd(&reply)),
            Err(No::Refused(fault)) => Err(fault),
            Err(No::AskLeader(address)) => {
                self.leaders
                    .call_admin(&address, |mut client| async move {
                        client.list_workers(marked(v1::ListWorkersRequest {})).await
                    })
                    .await
            }
        }
    }

    /// The cluster as this node sees it, at once.
    pub async fn cluster(&self) -> Result<v1::Cluster, Fault> {
        match self.put(Call::default(), Request::Cluster).await {
            Ok(Reply::Cluster(view)) => Ok(views::cluster(*view)),
            Ok(reply) => Err(odd(&reply)),
            Err(No::Refused(fault)) => Err(fault),
            Err(No::AskLeader(_)) => Err(Fault::no_leader()),
        }
    }

    /// Whether a leader is known and this node is less than five seconds behind it.
    ///
    /// # Errors
    /// The reason, for people.
    pub async fn ready(&self) -> Result<(), Fault> {
        if self.cluster().await?.leader.is_none() {
            return Err(Fault::no_leader());
        }
        let barrier = self.put(Call::default(), Request::Barrier);
        match tokio::time::timeout(READY_MAX, barrier).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(No::Refused(fault))) => Err(fault),
            Ok(Err(No::AskLeader(_))) => Err(Fault::no_leader()),
            Err(_) => {
                let detail = format!("this node is more than {} s behind", READY_MAX.as_secs());
                Err(Fault::new(Code::Unavailable, "LAGGING", detail))
            }
        }
    }

    /// What the metrics page shows of the moment.
    pub async fn reading(&self) -> Result<Reading, Fault> {
        let view = match self.put(Call::default(), Request::Cluster).await {
            Ok(Reply::Cluster(view)) => view,
            Ok(reply) => return Err(odd(&reply)),
            Err(No::Refused(fault)) => return Err(fault),
            Err(No::AskLeader(_)) => return Err(Fault::no_leader()),
        };
        let is_leader = view.leader == Some(view.node);
        let own = view.nodes.iter().find(|node| node.id == view.node);
        let clock_offset_ms = own.and_then(|node| node.clock_offset_ms).unwrap_or_default();
        let diverged = own.is_some_and(|node| node.diverged);
        let slots = match self.put(Call { forwarded: true }, Request::Workers).await {
            Ok(Reply::Workers(workers)) if is_leader => {
                let connected = workers.iter().filter(|worker| worker.connected);
                Some(connected.fold((0, 0), |(taken, free), worker| {
                    let idle = worker.slots.saturating_sub(worker.running);
                    (taken + u64::from(worker.running), free + u64::from(idle))
                }))
            }
            _ => None,
        };
        Ok(Reading {
            term: view.term,
            is_leader,
            applied_index: view.applied_index,
            history_lag: view.history_lag,
            live_tasks: view.live_tasks,
            clock_offset_ms,
            diverged,
            slots,
        })
    }
}
