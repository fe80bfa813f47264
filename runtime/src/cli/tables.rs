//! What people see of tasks, runs, executions, workers and the cluster.

use dtask_proto::json::{duration, moment, names};
use dtask_proto::v1::{self, ExecutionStatus, Role, RunCause, TaskStatus};

use super::out::{facts, table};
use super::wait;

/// Many tasks.
pub(crate) fn tasks(tasks: &[v1::Task]) -> String {
    let rows = tasks.iter().map(|task| {
        [
            task.id.clone(),
            if task.name == task.id { String::new() } else { task.name.clone() },
            task.r#type.clone(),
            name::<TaskStatus>(task.status),
            schedule(task),
            when(task.next_run_at),
            when(Some(task.created_at)),
        ]
    });
    table(["ID", "NAME", "TYPE", "STATUS", "SCHEDULE", "NEXT RUN", "CREATED"], rows)
}

/// One task, with every effective value.
pub(crate) fn task(task: &v1::Task) -> String {
    let recurring = task.every.is_some() || task.cron_expr.is_some();
    let only = |text: String| Some(text).filter(|text| recurring && !text.is_empty());
    let retries = format!(
        "{} ({} {} to {})",
        task.max_retries,
        name::<v1::Backoff>(task.backoff),
        duration::format(task.backoff_base),
        duration::format(task.backoff_max)
    );
    let waits = task.wait.as_ref().map(|wait| {
        let until = wait.until.map(|at| format!(", until {}", when(Some(at)))).unwrap_or_default();
        format!("{} ({}{until})", wait.message, name::<v1::WaitCode>(wait.code))
    });
    facts([
        ("id", Some(task.id.clone())),
        ("name", Some(task.name.clone()).filter(|name| *name != task.id)),
        ("type", Some(task.r#type.clone())),
        ("status", Some(name::<TaskStatus>(task.status))),
        ("waits", waits),
        ("schedule", Some(schedule(task))),
        ("misfire", only(name::<v1::Misfire>(task.misfire))),
        ("catch up", task.catch_up.map(duration::format)),
        ("overlap", only(name::<v1::Overlap>(task.overlap))),
        ("dst gap", only(name::<v1::DstGap>(task.dst_gap))),
        ("dst fold", only(name::<v1::DstFold>(task.dst_fold))),
        ("queue", Some(task.queue.clone())),
        ("priority", Some(task.priority.to_string())),
        ("retries", Some(retries)),
        ("no retry exit", list(&task.no_retry_exit)),
        ("timeout", Some(duration::format(task.timeout))),
        ("payload", Some(payload(&task.payload)).filter(|text| !text.is_empty())),
        ("runs", Some(task.runs_count.to_string())),
        ("last run", task.last_run.as_ref().map(last_run)),
        ("last success", task.last_success_at.map(|at| when(Some(at)))),
        ("last failure", task.last_failure_at.map(|at| when(Some(at)))),
        (
            "failures in a row",
            Some(task.consecutive_failures).filter(|n| *n > 0).map(|n| n.to_string()),
        ),
        ("next run", task.next_run_at.map(|at| when(Some(at)))),
        ("created", Some(when(Some(task.created_at)))),
        ("updated", Some(when(Some(task.updated_at)))),
        ("finished", task.finished_at.map(|at| when(Some(at)))),
    ])
}

/// The runs of a task.
pub(crate) fn runs(runs: &[v1::Run]) -> String {
    let rows = runs.iter().map(|run| {
        [
            run.run.to_string(),
            name::<RunCause>(run.cause),
            when(Some(run.scheduled_for)),
            name::<TaskStatus>(run.status),
            run.attempts.to_string(),
            run.reason.clone(),
        ]
    });
    table(["RUN", "CAUSE", "SCHEDULED FOR", "STATUS", "ATTEMPTS", "REASON"], rows)
}

/// Attempts.
pub(crate) fn executions(executions: &[v1::Execution]) -> String {
    let rows = executions.iter().map(|execution| {
        [
            execution.id.to_string(),
            execution.task_id.clone(),
            format!("{}/{}", execution.run, execution.attempt),
            execution.worker_id.clone(),
            name::<ExecutionStatus>(execution.status),
            execution.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            when(execution.started_at),
            took(execution),
            wait::why(execution),
        ]
    });
    table(["ID", "TASK", "RUN", "WORKER", "STATUS", "EXIT", "STARTED", "TOOK", "ERROR"], rows)
}

/// One attempt.
pub(crate) fn execution(execution: &v1::Execution) -> String {
    facts([
        ("id", Some(execution.id.to_string())),
        ("task", Some(execution.task_id.clone())),
        ("run", Some(execution.run.to_string())),
        ("attempt", Some(execution.attempt.to_string())),
        ("worker", Some(execution.worker_id.clone())),
        ("status", Some(name::<ExecutionStatus>(execution.status))),
        ("exit code", execution.exit_code.map(|code| code.to_string())),
        ("signal", execution.signal.map(|signal| signal.to_string())),
        ("error", Some(execution.error.clone()).filter(|text| !text.is_empty())),
        ("output", Some(payload(&execution.output)).filter(|text| !text.is_empty())),
        ("scheduled for", Some(when(Some(execution.scheduled_for)))),
        ("opened", Some(when(Some(execution.opened_at)))),
        ("started", execution.started_at.map(|at| when(Some(at)))),
        ("finished", execution.finished_at.map(|at| when(Some(at)))),
    ])
}

/// Workers.
pub(crate) fn workers(workers: &[v1::Worker]) -> String {
    let rows = workers.iter().map(|worker| {
        let state = match (worker.connected, worker.draining) {
            (false, _) => "away",
            (true, true) => "draining",
            (true, false) => "connected",
        };
        let labels: Vec<_> = worker.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        [
            worker.name.clone(),
            state.to_owned(),
            format!("{}/{}", worker.running, worker.slots),
            worker.types.join(","),
            if worker.queues.is_empty() { "all".to_owned() } else { worker.queues.join(",") },
            labels.join(","),
            duration::format(worker.silent),
        ]
    });
    table(["WORKER", "STATE", "RUNNING", "TYPES", "QUEUES", "LABELS", "SILENT"], rows)
}

/// The cluster.
pub(crate) fn cluster(cluster: &v1::Cluster) -> String {
    let leader = cluster.leader.map_or_else(|| "none".to_owned(), |id| format!("node {id}"));
    let summary = facts([
        ("cluster", Some(cluster.cluster_id.clone()).filter(|id| !id.is_empty())),
        ("leader", Some(leader)),
        ("term", Some(cluster.term.to_string())),
        ("committed", Some(cluster.commit_index.to_string())),
        ("applied", Some(format!("{} (node {})", cluster.applied_index, cluster.node_id))),
        ("live tasks", Some(cluster.live_tasks.to_string())),
        ("running", Some(cluster.executions_running.to_string())),
        ("history lag", Some(cluster.history_lag.to_string())),
    ]);
    let rows = cluster.nodes.iter().map(|node| {
        let alive = match node.alive {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        [
            node.id.to_string(),
            if node.diverged {
                format!("{}, diverged", name::<Role>(node.role))
            } else {
                name::<Role>(node.role)
            },
            alive.to_owned(),
            node.match_index.map(|index| index.to_string()).unwrap_or_default(),
            node.clock_offset_ms.map(|ms| format!("{ms:+} ms")).unwrap_or_default(),
            node.grpc.clone(),
            node.http.clone(),
        ]
    });
    let nodes = table(["NODE", "ROLE", "ALIVE", "MATCH", "CLOCK", "GRPC", "HTTP"], rows);
    format!("{summary}\n\n{nodes}")
}

/// A status in interface.md's word.
pub(crate) fn status(status: TaskStatus) -> String {
    name::<TaskStatus>(status.into())
}

fn name<E: names::Named>(number: i32) -> String {
    names::name::<E>(number).unwrap_or_default().to_owned()
}

fn schedule(task: &v1::Task) -> String {
    match (&task.cron_expr, task.every, task.at) {
        (Some(expr), _, _) => format!("{expr} ({})", task.timezone),
        (None, Some(every), _) => format!("every {}", duration::format(every)),
        (None, None, Some(at)) => format!("at {}", when(Some(at))),
        (None, None, None) => "now".to_owned(),
    }
}

fn last_run(run: &v1::Run) -> String {
    let reason = if run.reason.is_empty() { String::new() } else { format!(": {}", run.reason) };
    format!("{} {}{reason}", run.run, name::<TaskStatus>(run.status))
}

/// A moment to the second; nothing when there is none.
fn when(micros: Option<i64>) -> String {
    micros
        .and_then(|micros| moment::format(micros - micros.rem_euclid(1_000_000)))
        .unwrap_or_default()
}

fn took(execution: &v1::Execution) -> String {
    match (execution.started_at, execution.finished_at) {
        (Some(from), Some(to)) => duration::format((to - from).max(0) / 1_000),
        _ => String::new(),
    }
}

fn list(codes: &[i32]) -> Option<String> {
    let codes: Vec<_> = codes.iter().map(ToString::to_string).collect();
    if codes.is_empty() { None } else { Some(codes.join(", ")) }
}

/// The beginning of a payload, on one line.
fn payload(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(bytes);
    let line: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > SHOWN { format!("{line}… ({} bytes)", bytes.len()) } else { line }
}
