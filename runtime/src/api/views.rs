//! What a node shows, as messages: tasks, runs, attempts, workers, the cluster.

use std::sync::Arc;

use dtask_core::limits;
use dtask_core::node::{Accepted, ClusterView, NodeView, Role, WorkerView};
use dtask_core::spec::{AttemptOutcome, Backoff, DstFold, DstGap, Misfire, Overlap, Rule};
use dtask_core::state::view::{
    AttemptView, RunCause, RunView, TaskStatus, TaskView, WaitCode, WaitView,
};
use dtask_core::time::Timestamp;
use dtask_proto::v1;

/// A task's zone when it has no cron expression.
const UTC: &str = "UTC";

/// An accepted task.
pub fn accepted(id: String, accepted: &Accepted) -> v1::SubmitTaskResponse {
    v1::SubmitTaskResponse {
        id,
        created: accepted.new,
        status: status(accepted.status).into(),
        created_at: accepted.created_at.as_micros(),
        next_run_at: micros(accepted.next_run_at),
    }
}

/// A task.
pub fn task(view: TaskView) -> v1::Task {
    let profile = Arc::unwrap_or_clone(view.profile);
    let retry = profile.retry;
    let last_run = view.last_run.map(|last| run(&view.id, last));
    let mut task = v1::Task {
        name: view.name.into(),
        r#type: profile.kind.into(),
        status: status(view.status).into(),
        at: micros(view.at),
        timezone: UTC.to_owned(),
        payload: view.payload,
        queue: profile.queue.into(),
        priority: view.priority.into(),
        max_retries: retry.max_retries.into(),
        backoff: backoff(retry.backoff).into(),
        backoff_base: millis(retry.backoff_base_ms),
        backoff_max: millis(retry.backoff_max_ms),
        no_retry_exit: retry.no_retry_exit,
        timeout: millis(profile.run_timeout_ms),
        wait: view.wait.map(wait),
        last_run,
        last_success_at: micros(view.last_success_at),
        last_failure_at: micros(view.last_failure_at),
        consecutive_failures: view.consecutive_failures,
        runs_count: view.runs_count,
        revision: view.revision,
        incarnation: view.serial,
        created_at: view.created_at.as_micros(),
        updated_at: view.updated_at.as_micros(),
        next_run_at: micros(view.next_run_at),
        finished_at: micros(view.finished_at),
        id: view.id.into(),
        ..v1::Task::default()
    };
    if let Some(recurrence) = view.recurrence {
        task.misfire = misfire(recurrence.misfire).into();
        task.catch_up = Some(millis(recurrence.catch_up_ms));
        task.overlap = overlap(recurrence.overlap).into();
        match recurrence.rule {
            Rule::Every { period_ms, start: _ } => task.every = Some(millis(period_ms)),
            Rule::Cron { expr, zone, gap, fold } => {
                task.cron_expr = Some(expr.into());
                task.timezone = zone.into();
                task.dst_gap = dst_gap(gap).into();
                task.dst_fold = dst_fold(fold).into();
            }
        }
    }
    task
}

/// How a task stands.
pub fn task_status(view: TaskView) -> v1::GetStatusResponse {
    let last_run = view.last_run.map(|last| run(&view.id, last));
    v1::GetStatusResponse {
        id: view.id.into(),
        status: status(view.status).into(),
        wait: view.wait.map(wait),
        last_run,
        revision: view.revision,
        next_run_at: micros(view.next_run_at),
        finished_at: micros(view.finished_at),
    }
}

/// A run of `task_id`.
pub fn run(task_id: &str, view: RunView) -> v1::Run {
    v1::Run {
        task_id: task_id.to_owned(),
        run: view.run.0,
        cause: cause(view.cause).into(),
        scheduled_for: view.scheduled_for.as_micros(),
        status: status(view.status).into(),
        reason: view.reason.into(),
        attempts: view.attempts.into(),
        retry_of: view.retry_of.map(|run| run.0),
    }
}

/// An attempt of `task_id`.
pub fn execution(task_id: &str, view: AttemptView) -> v1::Execution {
    v1::Execution {
        id: view.token.0,
        task_id: task_id.to_owned(),
        run: view.run.0,
        attempt: view.attempt.into(),
        worker_id: view.worker.into(),
        status: execution_status(view.outcome).into(),
        output: view.output,
        error: view.error.into(),
        exit_code: view.exit_code.filter(|code| *code >= 0),
        signal: view.exit_code.filter(|code| *code < 0).map(i32::saturating_abs),
        scheduled_for: view.scheduled_for.as_micros(),
        opened_at: view.opened_at.as_micros(),
        started_at: micros(view.started_at),
        finished_at: micros(view.finished_at),
    }
}

/// A worker.
pub fn worker(view: WorkerView) -> v1::Worker {
    let labels = view.labels.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    v1::Worker {
        name: view.name.into(),
        instance: format!("{:016x}", view.instance),
        slots: view.slots,
        running: view.running,
        types: view.kinds.into_iter().map(Into::into).collect(),
        queues: view.queues.into_iter().map(Into::into).collect(),
        labels: labels.collect(),
        draining: view.draining,
        connected: view.connected,
        silent: millis(view.silent_ms),
    }
}

/// The cluster.
pub fn cluster(view: ClusterView) -> v1::Cluster {
    v1::Cluster {
        cluster_id: view.cluster.map_or_else(String::new, |id| format!("{:016x}", id.0)),
        node_id: view.node.0,
        leader: view.leader.map(|id| id.0),
        term: view.term,
        commit_index: view.commit_index,
        applied_index: view.applied_index,
        digest: Some(v1::Digest {
            index: view.applied_index,
            value: format!("{:032x}", view.digest),
        }),
        history_lag: view.history_lag,
        paused: None,
        limits: Some(bounds(view.outbox_bytes_max)),
        nodes: view.nodes.into_iter().map(node).collect(),
        live_tasks: view.live_tasks,
        at: view.at.as_micros(),
        executions_opened: view.attempts_opened,
        executions_running: view.attempts_running,
    }
}

fn node(view: NodeView) -> v1::Node {
    v1::Node {
        id: view.id.0,
        grpc: view.grpc.into(),
        http: view.http.into(),
        role: role(view.role).into(),
        match_index: view.match_index,
        alive: view.alive,
        clock_offset_ms: view.clock_offset_ms,
        diverged: view.diverged,
    }
}

/// The bounds in force; only that of the outbox is an option.
pub fn bounds(outbox_bytes_max: u64) -> v1::Limits {
    v1::Limits {
        payload_bytes_max: limits::PAYLOAD_BYTES_MAX as u64,
        result_bytes_max: limits::RESULT_BYTES_MAX as u64,
        output_tail_bytes_max: limits::OUTPUT_TAIL_BYTES_MAX as u64,
        batch_tasks_max: limits::BATCH_TASKS_MAX as u64,
        batch_bytes_max: limits::BATCH_BYTES_MAX as u64,
        name_chars_max: limits::NAME_CHARS_MAX as u64,
        cron_chars_max: limits::CRON_CHARS_MAX as u64,
        live_tasks_max: limits::LIVE_TASKS_MAX,
        inflight_bytes_max: limits::INFLIGHT_BYTES_MAX as u64,
        outbox_bytes_max,
        dedup_ids_max: limits::DEDUP_IDS_MAX as u64,
        dedup_window: i64::try_from(limits::DEDUP_WINDOW.as_millis()).unwrap_or(i64::MAX),
    }
}

fn wait(view: WaitView) -> v1::Wait {
    let code = match view.code {
        WaitCode::NotDue => v1::WaitCode::NotDue,
        WaitCode::Backoff => v1::WaitCode::Backoff,
        WaitCode::NoWorkerForType => v1::WaitCode::NoWorkerForType,
        WaitCode::NoFreeSlot => v1::WaitCode::NoFreeSlot,
        WaitCode::NoLeader => v1::WaitCode::NoLeader,
    };
    v1::Wait {
        code: code.into(),
        message: view.message,
        since: view.since.as_micros(),
        until: micros(view.until),
        position: None,
    }
}

/// A status on the wire.
pub const fn status(status: TaskStatus) -> v1::TaskStatus {
    match status {
        TaskStatus::Waiting => v1::TaskStatus::Waiting,
        TaskStatus::Ready => v1::TaskStatus::Ready,
        TaskStatus::Running => v1::TaskStatus::Running,
        TaskStatus::Succeeded => v1::TaskStatus::Succeeded,
        TaskStatus::Failed => v1::TaskStatus::Failed,
        TaskStatus::Cancelled => v1::TaskStatus::Cancelled,
        TaskStatus::Skipped => v1::TaskStatus::Skipped,
    }
}

/// interface.md's word for a status.
pub fn status_word(of: TaskStatus) -> &'static str {
    dtask_proto::json::names::name::<v1::TaskStatus>(status(of).into()).unwrap_or_default()
}

/// An attempt's status on the wire; `None` is an attempt that has not ended.
pub const fn execution_status(outcome: Option<AttemptOutcome>) -> v1::ExecutionStatus {
    match outcome {
        None => v1::ExecutionStatus::Running,
        Some(AttemptOutcome::Succeeded) => v1::ExecutionStatus::Succeeded,
        Some(AttemptOutcome::Failed) => v1::ExecutionStatus::Failed,
        Some(AttemptOutcome::TimedOut) => v1::ExecutionStatus::TimedOut,
        Some(AttemptOutcome::Lost) => v1::ExecutionStatus::Lost,
        Some(AttemptOutcome::Cancelled) => v1::ExecutionStatus::Cancelled,
        Some(AttemptOutcome::Interrupted) => v1::ExecutionStatus::Interrupted,
    }
}

const fn cause(cause: RunCause) -> v1::RunCause {
    match cause {
        RunCause::Submit => v1::RunCause::Submit,
        RunCause::Schedule => v1::RunCause::Schedule,
        RunCause::Trigger => v1::RunCause::Trigger,
    }
}

const fn role(role: Role) -> v1::Role {
    match role {
        Role::Leader => v1::Role::Leader,
        Role::Candidate => v1::Role::Candidate,
        Role::Follower => v1::Role::Follower,
        Role::Learner => v1::Role::Learner,
    }
}

const fn backoff(choice: Backoff) -> v1::Backoff {
    match choice {
        Backoff::Fixed => v1::Backoff::Fixed,
        Backoff::Exponential => v1::Backoff::Exponential,
    }
}

const fn misfire(choice: Misfire) -> v1::Misfire {
    match choice {
        Misfire::Skip => v1::Misfire::Skip,
        Misfire::FireOnce => v1::Misfire::FireOnce,
    }
}

const fn overlap(choice: Overlap) -> v1::Overlap {
    match choice {
        Overlap::Allow => v1::Overlap::Allow,
        Overlap::Skip => v1::Overlap::Skip,
    }
}

const fn dst_gap(choice: DstGap) -> v1::DstGap {
    match choice {
        DstGap::Auto => v1::DstGap::Auto,
        DstGap::Skip => v1::DstGap::Skip,
        DstGap::Next => v1::DstGap::Next,
    }
}

const fn dst_fold(choice: DstFold) -> v1::DstFold {
    match choice {
        DstFold::Auto => v1::DstFold::Auto,
        DstFold::First => v1::DstFold::First,
        DstFold::Second => v1::DstFold::Second,
        DstFold::Both => v1::DstFold::Both,
    }
}

fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// Durations stay below their bounds, far from the edge of the wire's type.
fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
