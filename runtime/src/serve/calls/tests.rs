//! Reads that meet a task on its way out of memory: it is there neither when its row is read nor when
//! memory is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dtask_core::id;
use dtask_core::id::{ClusterId, NodeId};
use dtask_core::node::request::ClusterView;
use dtask_core::spec::{AttemptOutcome, Profile};
use dtask_core::state::history::{AttemptRow, RunRow};
use dtask_core::state::view::{AttemptView, TaskStatus, TaskView};
use dtask_core::time::Timestamp;
use dtask_proto::v1;
use futures_util::future::BoxFuture;

use super::*;
use crate::serve::inbox::{Answer, Arrival, Inbox, inbox};
use crate::serve::ports::{ExecutionQuery, HistoryAway, Rows, RunQuery, TaskQuery};

fn task(status: TaskStatus) -> TaskView {
    let at = Timestamp::from_micros(1_000_000);
    TaskView {
        id: "a".into(),
        serial: 7,
        name: "a".into(),
        profile: Profile {
            kind: "mail".into(),
            queue: "default".into(),
            retry: dtask_core::spec::Retry {
                max_retries: 0,
                backoff: dtask_core::spec::Backoff::Fixed,
                backoff_base_ms: 1,
                backoff_max_ms: 1,
                no_retry_exit: Vec::new(),
            },
            run_timeout_ms: 1_000,
        }
        .into(),
        payload: bytes::Bytes::new(),
        priority: 5,
        recurrence: None,
        at: None,
        status,
        wait: None,
        last_run: None,
        runs_count: 1,
        last_success_at: None,
        last_failure_at: None,
        consecutive_failures: 0,
        revision: 1,
        created_at: at,
        updated_at: at,
        next_run_at: None,
        finished_at: None,
    }
}

fn attempt(outcome: Option<AttemptOutcome>) -> AttemptRow {
    let run = id::RunNumber(1);
    let view = AttemptView {
        token: id::Token(3),
        run,
        attempt: 1,
        worker: "w".into(),
        outcome,
        output: bytes::Bytes::new(),
        error: "".into(),
        tail: bytes::Bytes::new(),
        exit_code: None,
        scheduled_for: Timestamp::from_micros(1),
        opened_at: Timestamp::from_micros(1),
        started_at: None,
        finished_at: None,
        stop_requested: false,
    };
    AttemptRow {
        number: 1,
        task_id: "a".into(),
        incarnation: 7,
        queue: "default".into(),
        run,
        view,
    }
}

/// A database that stores the task's end just after its page, or its execution, was read.
#[derive(Default)]
struct Moving {
    read: AtomicBool,
    away: bool,
    /// Whose it is, if not [`OURS`].
    other: Option<ClusterId>,
    /// How the task ends; `None` means well.
    end: Option<TaskStatus>,
}

const OURS: ClusterId = ClusterId(9);

impl Moving {
    fn now<T: Send + 'static>(&self, before: T, after: T) -> Rows<'_, T> {
        let read = self.read.swap(true, Ordering::Relaxed);
        let answer = match (read, self.away) {
            (false, _) => Ok(before),
            (true, false) => Ok(after),
            (true, true) => Err(HistoryAway("unplugged".into())),
        };
        Box::pin(async { answer })
    }
}

impl HistoryRead for Moving {
    fn covers(&self, _: u64, _: Duration) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }

    fn cluster(&self) -> Rows<'_, Option<ClusterId>> {
        Box::pin(async { Ok(Some(self.other.unwrap_or(OURS))) })
    }

    fn task<'a>(&'a self, _: &'a str) -> Rows<'a, Option<TaskView>> {
        let end = self.end.unwrap_or(TaskStatus::Succeeded);
        self.now(Some(task(TaskStatus::Running)), Some(task(end)))
    }

    fn is_before_gap<'a>(&'a self, _: &'a str) -> Rows<'a, bool> {
        self.now(false, false)
    }

    fn tasks(&self, _: TaskQuery) -> Rows<'_, Vec<TaskView>> {
        self.now(vec![task(TaskStatus::Running)], vec![task(TaskStatus::Succeeded)])
    }

    fn runs(&self, _: RunQuery) -> Rows<'_, Vec<RunRow>> {
        self.now(Vec::new(), Vec::new())
    }

    fn executions(&self, _: ExecutionQuery) -> Rows<'_, Vec<AttemptRow>> {
        self.now(Vec::new(), Vec::new())
    }

    fn execution(&self, _: id::Token) -> Rows<'_, Option<AttemptRow>> {
        self.now(Some(attempt(None)), Some(attempt(Some(AttemptOutcome::Succeeded))))
    }
}

fn cluster_view() -> ClusterView {
    ClusterView {
        cluster: Some(OURS),
        node: NodeId(1),
        leader: Some(NodeId(1)),
        term: 1,
        commit_index: 9,
        applied_index: 9,
        digest: 0,
        history_lag: 0,
        outbox_bytes_max: 1 << 30,
        changes: 9,
        live_tasks: 0,
        attempts_opened: 0,
        attempts_running: 0,
        conf: Default::default(),
        nodes: Vec::new(),
        at: Timestamp::from_micros(1),
    }
}

/// A node that has nothing in memory, but for what it knows of deletes.
async fn empty_node(mut inbox: Inbox, deleted: &[&str]) {
    while let Some(arrival) = inbox.arrivals.recv().await {
        let Arrival::Ask { request, answer: Answer::Once(answer), .. } = arrival else { continue };
        let reply = match request {
            Request::Barrier => Reply::Applied { index: 9, changes: 9 },
            Request::Cluster => Reply::Cluster(Box::new(cluster_view())),
            Request::Tasks { .. } => {
                let deleted = deleted.iter().map(|id| Box::from(*id)).collect();
                Reply::Tasks { tasks: Vec::new(), deleted, next: None }
            }
            _ => Reply::NotLive { stored: 9, ended: 9 },
        };
        // A caller that has gone needs none.
        let _gone = answer.send(reply);
    }
}

fn calls(history: Moving) -> Calls {
    calls_after(history, &[])
}

fn calls_after(history: Moving, deleted: &'static [&'static str]) -> Calls {
    let (node, inbox) = inbox();
    tokio::spawn(empty_node(inbox, deleted));
    let status = Arc::new(NodeStatus::new(NodeId(1)));
    Calls::new(node, status, Some(Arc::new(history)))
}

#[tokio::test]
async fn a_list_shows_the_end_of_a_task_that_leaves_memory_after_its_row_was_read() {
    let page = calls(Moving::default()).tasks(v1::ListTasksRequest::default()).await;
    let page = page.expect("a page");
    let shown: Vec<_> = page.tasks.iter().map(v1::Task::status).collect();
    assert_eq!((shown, page.partial), (vec![v1::TaskStatus::Succeeded], false));
}

#[tokio::test]
async fn a_list_leaves_out_what_was_deleted_before_history_hears_of_it() {
    let ended = || Moving { read: true.into(), ..Moving::default() };
    let page = calls(ended()).tasks(v1::ListTasksRequest::default()).await.expect("a page");
    assert_eq!(page.tasks.len(), 1);
    let calls = calls_after(ended(), &["a"]);
    let page = calls.tasks(v1::ListTasksRequest::default()).await.expect("a page");
    assert_eq!(page.tasks, []);
}

#[tokio::test]
async fn a_list_of_what_runs_leaves_such_a_task_out() {
    let request =
        v1::ListTasksRequest { status: vec![v1::TaskStatus::Running.into()], ..Default::default() };
    let page = calls(Moving::default()).tasks(request).await.expect("a page");
    assert_eq!(page.tasks, []);
}

#[tokio::test]
async fn a_list_whose_database_goes_away_meanwhile_says_that_it_is_partial() {
    let history = Moving { away: true, ..Moving::default() };
    let page = calls(history).tasks(v1::ListTasksRequest::default()).await.expect("what is live");
    assert_eq!((page.tasks, page.partial), (vec![], true));
}

#[tokio::test]
async fn an_execution_that_leaves_memory_after_its_row_was_read_shows_its_end() {
    let request = v1::GetExecutionRequest { id: 3, ..Default::default() };
    let shown = calls(Moving::default()).execution(request).await.expect("it is known");
    assert_eq!(shown.status(), v1::ExecutionStatus::Succeeded);
}

#[tokio::test]
async fn rows_of_another_cluster_are_not_shown_as_ours() {
    let calls = calls(Moving { other: Some(ClusterId(0xbeef)), ..Moving::default() });
    let request = || v1::GetTaskRequest { id: "a".into(), ..Default::default() };
    let fault = calls.task(request()).await.expect_err("it is not our task");
    assert_eq!(fault.0.reason, "HISTORY_UNAVAILABLE");
    assert!(fault.0.detail.contains("belongs to cluster 000000000000beef"), "{}", fault.0.detail);
    let request = v1::GetExecutionRequest { id: 3, ..Default::default() };
    let fault = calls.execution(request).await.expect_err("nor our execution");
    assert_eq!(fault.0.reason, "HISTORY_UNAVAILABLE");
    let page = calls.tasks(v1::ListTasksRequest::default()).await.expect("what is live");
    assert_eq!((page.tasks, page.partial), (vec![], true));
}

async fn cancel(end: TaskStatus) -> Result<v1::Task, Fault> {
    let history = Moving { read: true.into(), end: Some(end), ..Moving::default() };
    let request = v1::CancelTaskRequest { id: "a".to_owned(), ..Default::default() };
    calls(history).cancel_task(Call::default(), request).await
}

#[tokio::test]
async fn a_cancel_repeated_after_the_task_left_memory_is_answered_as_the_first() {
    let task = cancel(TaskStatus::Cancelled).await.expect("it was cancelled");
    assert_eq!((task.id.as_str(), task.status()), ("a", v1::TaskStatus::Cancelled));
}

#[tokio::test]
async fn a_cancel_after_another_end_is_told_which() {
    let fault = cancel(TaskStatus::Succeeded).await.expect_err("it has ended");
    assert_eq!(fault.0.reason, "TERMINAL");
    assert!(fault.0.detail.contains("succeeded"), "{}", fault.0.detail);
}
