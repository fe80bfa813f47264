//! Waiting for a task's end, and saying how it ended.

use std::time::{Duration, Instant};

use dtask_core::client::Repeat;
use dtask_proto::json::{duration, names};
use dtask_proto::v1::{self, ExecutionStatus, TaskStatus};

use super::calls::Calls;
use super::fail::{Failure, code};
use super::out::Out;
use super::{submit, tables};

/// One call waits this long; a longer wait is several calls, so that a lost node is noticed.
const CALL: Duration = Duration::from_secs(20);

/// A task whose run has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As it was then.
    pub task: v1::Task,
    run: Option<u32>,
}

/// Waits until the latest run, or run `run`, has ended.
///
/// # Errors
/// Exit code 7 when `timeout_ms` passes first; what the cluster refused.
pub(crate) async fn until_done(
    calls: &Calls,
    id: &str,
    run: Option<u32>,
    timeout_ms: Option<i64>,
) -> Result<Ended, Failure> {
    let begun = Instant::now();
    let whole = timeout_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    loop {
        let left = whole.map_or(CALL, |whole| whole.saturating_sub(begun.elapsed()).min(CALL));
        let request = v1::WaitTaskRequest {
            id: id.to_owned(),
            run,
            timeout: Some(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)),
        };
        let answer = calls
            .call_that_waits(left, Repeat::Read, async |mut to| {
                to.tasks.wait_task(request.clone()).await
            })
            .await?;
        match answer {
            v1::WaitTaskResponse { done: true, task: Some(task) } => {
                return Ok(Ended { task, run });
            }
            v1::WaitTaskResponse { task, .. } => {
                if whole.is_some_and(|whole| begun.elapsed() >= whole) {
                    return Err(timed_out(id, timeout_ms, task.as_ref()));
                }
            }
        }
    }
}

fn timed_out(id: &str, timeout_ms: Option<i64>, task: Option<&v1::Task>) -> Failure {
    let span = duration::format(timeout_ms.unwrap_or_default());
    let failure =
        Failure::new(code::WAIT_TIMED_OUT, format!("task {id} has not ended within {span}"));
    match task.and_then(|task| task.wait.as_ref()) {
        Some(wait) if !wait.message.is_empty() => failure.hint(wait.message.clone()),
        _ => failure,
    }
}

impl Ended {
    /// The task itself, or its latest run.
    #[cfg(test)]
    pub(super) const fn of(task: v1::Task) -> Self {
        Self { task, run: None }
    }

    /// How the run ended.
    pub(crate) fn status(&self) -> TaskStatus {
        let latest = self.task.last_run.as_ref();
        let of_run = latest.filter(|last| self.run.is_none_or(|run| last.run == run));
        of_run.map_or(self.task.status(), v1::Run::status)
    }

    /// Prints the result; fails with exit code 1 when the task did.
    ///
    /// # Errors
    /// The task did not succeed.
    pub(crate) async fn show(&self, calls: &Calls, out: &Out) -> Result<(), Failure> {
        let execution = last_execution(calls, &self.task.id, self.run).await?;
        match (&execution, out.is_table()) {
            (Some(execution), true) => submit::show_output(&execution.output)?,
            (Some(execution), false) => out.show(execution, tables::execution)?,
            (None, true) => {}
            (None, false) => out.show(&self.task, tables::task)?,
        }
        self.outcome(execution.as_ref())
    }

    /// Success, or exit code 1 with the reason.
    ///
    /// # Errors
    /// The task did not succeed.
    pub(crate) fn outcome(&self, execution: Option<&v1::Execution>) -> Result<(), Failure> {
        let status = self.status();
        if status == TaskStatus::Succeeded {
            return Ok(());
        }
        let word = names::name::<TaskStatus>(status.into()).unwrap_or("in an unknown state");
        let why = execution.map(why).unwrap_or_default();
        let why = match &self.task.last_run {
            Some(run) if why.is_empty() => run.reason.clone(),
            _ => why,
        };
        let mut message = format!("task {} {word}", self.task.id);
        if !why.is_empty() {
            message = format!("{message}: {why}");
        }
        Err(Failure::new(code::TASK_FAILED, message)
            .hint(format!("dtask task executions {}", self.task.id)))
    }
}

/// What an attempt says of its end.
pub(crate) fn why(execution: &v1::Execution) -> String {
    match (execution.error.as_str(), execution.exit_code, execution.signal) {
        ("", Some(code), _) if code != 0 => format!("exit code {code}"),
        ("", _, Some(signal)) => format!("killed by signal {signal}"),
        ("", _, _) if execution.status() == ExecutionStatus::TimedOut => "timed out".to_owned(),
        (error, _, _) => error.to_owned(),
    }
}

/// The newest attempt of a task, or of one of its runs.
///
/// # Errors
/// What the cluster refused.
pub(crate) async fn last_execution(
    calls: &Calls,
    id: &str,
    run: Option<u32>,
) -> Result<Option<v1::Execution>, Failure> {
    Ok(executions(calls, id, run).await?.pop())
}

/// The attempts of a task, or of one of its runs, oldest first.
///
/// # Errors
/// What the cluster refused.
pub(crate) async fn executions(
    calls: &Calls,
    id: &str,
    run: Option<u32>,
) -> Result<Vec<v1::Execution>, Failure> {
    let mut all = Vec::new();
    let mut request = v1::ListExecutionsRequest {
        task_id: id.to_owned(),
        run,
        page_size: Some(1_000),
        ..v1::ListExecutionsRequest::default()
    };
    loop {
        let page = calls
            .call(Repeat::Read, async |mut to| to.tasks.list_executions(request.clone()).await)
            .await?;
        all.extend(page.executions);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}
