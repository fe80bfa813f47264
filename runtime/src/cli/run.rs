//! `dtask run`: a command line on a worker as if it ran here.

use std::convert::Infallible;

use clap::Args;
use dtask_core::client::Repeat;
use dtask_proto::v1::{self, ExecutionStatus, TaskStatus};
use tokio::time::{Duration, sleep};

use super::calls::Calls;
use super::fail::{Failure, code};
use super::logs::{self, Place, Stop, Which};
use super::out::{self, Out};
use super::submit::{TaskOptions, submit};
use super::{task, wait};

/// How long a task may be silent before the caller is told why.
const PATIENCE: Duration = Duration::from_secs(1);

/// `dtask run`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  dtask run -- sh -c 'echo hello from $DTASK_TASK_ID'\n  dtask run --timeout 10m --queue build -- make all\n  dtask run --detach -- ./report.sh"
)]
pub(crate) struct RunArgs {
    /// Everything about the task
    #[command(flatten)]
    options: TaskOptions,
    /// Print the id and return; the task runs on
    #[arg(long)]
    detach: bool,
    /// The command line
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl RunArgs {
    /// Runs the command; fails with its exit code.
    ///
    /// # Errors
    /// The command's own exit code, 124 when it ran too long, 128 + n when signal n killed it,
    /// 125 when it could not be run.
    pub(crate) async fn run(&self, calls: &Calls, out: &Out) -> Result<(), Failure> {
        if let Some(option) = self.options.schedule.first_given() {
            return Err(Failure::usage(format!("{option}: `dtask run` runs a command now"))
                .hint(format!("dtask submit {option} … -- {}", self.command.join(" "))));
        }
        let payload = self.options.exec_payload(&self.command)?;
        let mut spec = self.options.spec(super::EXEC, payload, super::now())?;
        spec.max_retries = Some(spec.max_retries.unwrap_or(0));
        let id = spec.id.clone();
        let accepted = tokio::select! {
            biased;
            stopped = tokio::signal::ctrl_c() => {
                // It may have been accepted already, or be on its way.
                stopped?;
                return cancel(calls, &id).await;
            }
            accepted = submit(calls, spec) => accepted.map_err(own)?,
        };
        if self.detach {
            return out.show(&accepted, |accepted| accepted.id.clone());
        }
        attend(calls, &accepted.id).await
    }
}

/// Streams the task's output to its end; Ctrl-C cancels it.
async fn attend(calls: &Calls, id: &str) -> Result<(), Failure> {
    tokio::select! {
        biased;
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            cancel(calls, id).await
        }
        ended = to_the_end(calls, id) => {
            let (ended, last) = ended.map_err(own)?;
            outcome(&ended, last.as_ref())
        }
        never = say_why_it_waits(calls, id) => match never {},
    }
}

async fn to_the_end(
    calls: &Calls,
    id: &str,
) -> Result<(wait::Ended, Option<v1::Execution>), Failure> {
    stream(calls, id).await?;
    let ended = wait::until_done(calls, id, None, None).await?;
    let last = wait::last_execution(calls, id, None).await?;
    Ok((ended, last))
}

/// What DTask fails at has an exit code of its own, since the others are the command's.
fn own(failure: Failure) -> Failure {
    if failure.message.is_empty() { failure } else { Failure { code: code::RUN_FAILED, ..failure } }
}

/// Prints the output of every attempt until the task has ended.
async fn stream(calls: &Calls, id: &str) -> Result<(), Failure> {
    let mut place = Place::default();
    loop {
        match logs::read(calls, id, Which::default(), true, &mut place).await? {
            Stop::Broken => continue,
            Stop::End | Stop::Nothing => {}
        }
        // Each attempt's output begins anew.
        match next_attempt(calls, id, place.execution).await? {
            Some(next) => place = Place { execution: Some(next), offset: 0 },
            None => return Ok(()),
        }
    }
}

/// The attempt after `past`, once there is one; `None` when the task ends without another.
async fn next_attempt(calls: &Calls, id: &str, past: Option<u64>) -> Result<Option<u64>, Failure> {
    loop {
        let request = v1::WaitTaskRequest { id: id.to_owned(), run: None, timeout: Some(200) };
        let answer = calls
            .call(Repeat::Read, async |mut to| to.tasks.wait_task(request.clone()).await)
            .await?;
        // Listed after the wait: an attempt that ended with the task is not left out.
        let all = wait::executions(calls, id, None).await?;
        let later = all.iter().map(|execution| execution.id).filter(|id| Some(*id) > past).min();
        if later.is_some() || answer.done {
            return Ok(later);
        }
    }
}

/// Says why the task is not running, each time that the reason changes. Never returns: trouble
/// with the cluster is the stream's to tell.
async fn say_why_it_waits(calls: &Calls, id: &str) -> Infallible {
    let mut said = String::new();
    loop {
        sleep(PATIENCE).await;
        let request = v1::GetTaskRequest { id: id.to_owned(), stale: false };
        let asked = calls
            .call(Repeat::Read, async |mut to| to.tasks.get_status(request.clone()).await)
            .await;
        let Ok(status) = asked else { continue };
        match status.wait {
            Some(wait) if wait.message != said => {
                out::note(&format!("waiting: {}", wait.message));
                said = wait.message;
            }
            Some(_) => {}
            None => said.clear(),
        }
    }
}

/// Ctrl-C: the task is cancelled; a second Ctrl-C does not wait for its end.
async fn cancel(calls: &Calls, id: &str) -> Result<(), Failure> {
    const INTERRUPTED: u8 = code::SIGNAL + 2;
    out::note(&format!("cancelling {id}; Ctrl-C again leaves without waiting"));
    let cancelled = async {
        task::cancel(calls, id, None).await?;
        wait::until_done(calls, id, None, None).await
    };
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::quiet(INTERRUPTED)),
        ended = cancelled => match ended {
            Ok(_) => Err(Failure::new(INTERRUPTED, format!("task {id} was cancelled"))),
            Err(failure) => Err(Failure { code: INTERRUPTED, ..failure }),
        },
    }
}

/// interface.md's exit codes of `dtask run`.
fn outcome(ended: &wait::Ended, last: Option<&v1::Execution>) -> Result<(), Failure> {
    let id = &ended.task.id;
    let Some(last) = last else {
        let why = match ended.status() {
            TaskStatus::Cancelled => format!("task {id} was cancelled before it started"),
            _ => format!("task {id} never started"),
        };
        return Err(Failure::new(code::RUN_FAILED, why));
    };
    let why = wait::why(last);
    match (last.status(), last.exit_code, last.signal) {
        (ExecutionStatus::Succeeded, _, _) => Ok(()),
        (ExecutionStatus::TimedOut, _, _) => {
            Err(Failure::new(code::RUN_TIMED_OUT, format!("task {id} timed out")))
        }
        (ExecutionStatus::Cancelled, _, _) => {
            Err(Failure::new(code::RUN_FAILED, format!("task {id} was cancelled")))
        }
        (ExecutionStatus::Lost, _, _) => Err(Failure::new(
            code::RUN_FAILED,
            format!("the worker {} fell silent while it ran task {id}", last.worker_id),
        )),
        (ExecutionStatus::Failed, Some(exit), _) if exit != 0 => {
            let code = u8::try_from(exit).unwrap_or(code::RUN_FAILED);
            // A command speaks for itself; one that could not be started cannot.
            let message = if why.contains("cannot start") { why } else { String::new() };
            Err(Failure::new(code, message))
        }
        (ExecutionStatus::Failed, _, Some(signal)) => {
            let signal = u8::try_from(signal).unwrap_or(0);
            Err(Failure::new(code::SIGNAL.saturating_add(signal), format!("task {id}: {why}")))
        }
        (
            ExecutionStatus::Failed
            | ExecutionStatus::Interrupted
            | ExecutionStatus::Running
            | ExecutionStatus::Unspecified,
            _,
            _,
        ) => Err(Failure::new(code::RUN_FAILED, format!("task {id} failed: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(execution: v1::Execution) -> u8 {
        let task = v1::Task { id: "a".into(), ..v1::Task::default() };
        let ended = wait::Ended::of(task);
        outcome(&ended, Some(&execution)).map_or_else(|failure| failure.code, |()| 0)
    }

    fn attempt(status: ExecutionStatus) -> v1::Execution {
        v1::Execution { status: status.into(), ..v1::Execution::default() }
    }

    #[test]
    fn the_exit_code_is_the_command_s_own_or_says_what_dtask_did() {
        assert_eq!(exit(attempt(ExecutionStatus::Succeeded)), 0);
        let failed = |exit_code| v1::Execution { exit_code, ..attempt(ExecutionStatus::Failed) };
        assert_eq!(exit(failed(Some(3))), 3);
        assert_eq!(exit(failed(None)), code::RUN_FAILED);
        let killed = v1::Execution { signal: Some(9), ..attempt(ExecutionStatus::Failed) };
        assert_eq!(exit(killed), 137);
        assert_eq!(exit(attempt(ExecutionStatus::TimedOut)), code::RUN_TIMED_OUT);
        assert_eq!(exit(attempt(ExecutionStatus::Lost)), code::RUN_FAILED);
    }
}
