//! `dtask task …`

use std::cell::Cell;

use clap::{Args, Subcommand};
use dtask_core::client::Repeat;
use dtask_core::spec::text::parse_time;
use dtask_core::time::Timestamp;
use dtask_proto::v1::{self, TaskStatus};

use super::calls::Calls;
use super::fail::{Failure, code};
use super::logs::{self, Which};
use super::out::{self, Out};
use super::{submit, tables, wait};
use crate::serve::calls::fresh_id;

/// `dtask task …`
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// List tasks, newest first
    List(ListArgs),
    /// Show a task with all its effective values
    #[command(after_help = "Example:\n  dtask task get report -o json")]
    Get {
        /// The task's id
        id: String,
        /// Ask one node, which may lag behind
        #[arg(long)]
        stale: bool,
    },
    /// List the occasions of a task, the skipped ones with their reason
    #[command(after_help = "Example:\n  dtask task runs report")]
    Runs {
        /// The task's id
        id: String,
        /// Ask one node, which may lag behind
        #[arg(long)]
        stale: bool,
    },
    /// List the attempts of a task
    #[command(after_help = "Example:\n  dtask task executions report --run 3")]
    Executions {
        /// The task's id
        id: String,
        /// Only of this run
        #[arg(long, value_name = "N")]
        run: Option<u32>,
        /// Ask one node, which may lag behind
        #[arg(long)]
        stale: bool,
    },
    /// Print what an attempt printed; the latest attempt of the latest run by default
    #[command(after_help = "Examples:\n  dtask task logs report\n  dtask task logs -f report")]
    Logs {
        /// The task's id
        id: String,
        /// Stay until the attempt ends
        #[arg(short, long)]
        follow: bool,
        /// Of this run
        #[arg(long, value_name = "N")]
        run: Option<u32>,
        /// Of this attempt of the run
        #[arg(long, value_name = "N")]
        attempt: Option<u32>,
    },
    /// Wait for a task's end: exit code 0 when it succeeded, 1 when not, 7 when the time is up
    #[command(after_help = "Example:\n  dtask task wait report --timeout 10m")]
    Wait {
        /// The task's id
        id: String,
        /// A certain run
        #[arg(long, value_name = "N")]
        run: Option<u32>,
        /// How long to wait
        #[arg(long, value_name = "DURATION")]
        timeout: Option<String>,
    },
    /// End a task, or one run of a recurring task
    #[command(after_help = "Example:\n  dtask task cancel report --run 3")]
    Cancel {
        /// The task's id
        id: String,
        /// Only this run
        #[arg(long, value_name = "N")]
        run: Option<u32>,
    },
    /// Add a run now, beside the schedule, also of a task that has ended
    #[command(after_help = "Example:\n  dtask task trigger report")]
    Trigger {
        /// The task's id
        id: String,
    },
    /// Repeat a run that has ended: the latest one, or a certain one
    #[command(after_help = "Example:\n  dtask task retry report --run 3")]
    Retry {
        /// The task's id
        id: String,
        /// This run
        #[arg(long, value_name = "N")]
        run: Option<u32>,
    },
    /// Remove a task
    #[command(after_help = "Example:\n  dtask task delete report --cancel")]
    Delete {
        /// The task's id
        id: String,
        /// Also when it runs: stop it first
        #[arg(long)]
        cancel: bool,
    },
}

/// `dtask task list`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  dtask task list --status pending,running\n  dtask task list --queue mail --created-after 2026-01-05T00:00:00Z -o json"
)]
pub(crate) struct ListArgs {
    /// Only these: waiting, ready, pending (both), running, succeeded, failed, cancelled, skipped
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// Only of this type
    #[arg(long)]
    r#type: Option<String>,
    /// Only of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only of this name
    #[arg(long)]
    name: Option<String>,
    /// Only from this moment on
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Only before this moment
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    /// Oldest first
    #[arg(long)]
    oldest_first: bool,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    page_size: u32,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
    /// Ask one node, which may lag behind
    #[arg(long)]
    stale: bool,
}

impl TaskCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Invalid options, what the cluster refused, or what `wait` waited for.
    pub(crate) async fn run(&self, calls: &Calls, out: &Out) -> Result<(), Failure> {
        match self {
            Self::List(args) => args.run(calls, out).await,
            Self::Get { id, stale } => {
                let request = v1::GetTaskRequest { id: id.clone(), stale: *stale };
                let task = calls
                    .call(Repeat::Read, async |mut to| to.tasks.get_task(request.clone()).await)
                    .await?;
                out.show(&task, tables::task)
            }
            Self::Runs { id, stale } => runs(calls, out, id, *stale).await,
            Self::Executions { id, run, stale } => executions(calls, out, id, *run, *stale).await,
            Self::Logs { id, follow, run, attempt } => {
                let which =
                    Which { run: *run, execution: execution(calls, id, *run, *attempt).await? };
                logs::print(calls, id, which, *follow).await
            }
            Self::Wait { id, run, timeout } => {
                let timeout = submit::span("timeout", timeout.as_ref())?;
                let ended = wait::until_done(calls, id, *run, timeout).await?;
                out.show(&ended.task, |task| {
                    format!("{} {}", task.id, tables::status(ended.status()))
                })?;
                ended.outcome(wait::last_execution(calls, id, *run).await?.as_ref())
            }
            Self::Cancel { id, run } => {
                let task = cancel(calls, id, *run).await?;
                out.show(&task, brief)
            }
            Self::Trigger { id } => {
                // Sent again after a lost answer, it adds no second run (P8.3).
                let request_id = fresh_id();
                let request = |retry| v1::TriggerTaskRequest {
                    id: id.clone(),
                    request_id: request_id.clone(),
                    retry,
                };
                let task = calls
                    .call(Repeat::SameId, async |mut to| {
                        to.tasks.trigger_task(request(to.again)).await
                    })
                    .await?;
                out.show(&task, brief)
            }
            Self::Retry { id, run } => {
                let request_id = fresh_id();
                let request = |retry| v1::RetryTaskRequest {
                    id: id.clone(),
                    run: *run,
                    request_id: request_id.clone(),
                    retry,
                };
                let task = calls
                    .call(Repeat::SameId, async |mut to| {
                        to.tasks.retry_task(request(to.again)).await
                    })
                    .await?;
                out.show(&task, brief)
            }
            Self::Delete { id, cancel } => {
                let task = delete(calls, id, *cancel).await?;
                out.show(&task, |task| format!("{} deleted", task.id))
            }
        }
    }
}

impl ListArgs {
    async fn run(&self, calls: &Calls, out: &Out) -> Result<(), Failure> {
        let moment = |field, text: &Option<String>| match text {
            Some(text) => parse_time(field, text, None).map(Timestamp::as_micros).map(Some),
            None => Ok(None),
        };
        let request = v1::ListTasksRequest {
            status: self
                .status
                .iter()
                .map(|word| submit::word::<TaskStatus>("status", Some(word)))
                .collect::<Result<_, _>>()?,
            r#type: self.r#type.clone().unwrap_or_default(),
            queue: self.queue.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            created_after: moment("created_after", &self.created_after)?,
            created_before: moment("created_before", &self.created_before)?,
            order_by: if self.oldest_first { "created_at" } else { "" }.to_owned(),
            page_size: Some(self.page_size),
            page_token: self.page_token.clone(),
            stale: self.stale,
        };
        let page = calls
            .call(Repeat::Read, async |mut to| to.tasks.list_tasks(request.clone()).await)
            .await?;
        out.show(&page, |page| tables::tasks(&page.tasks))?;
        if out.is_table() {
            partial(page.partial);
            if !page.next_page_token.is_empty() {
                out::note(&format!("more: add --page-token {}", page.next_page_token));
            }
        }
        Ok(())
    }
}

/// Ends a task or a run. Sent again after a lost answer it stops nothing that runs since (P8.3).
pub(super) async fn cancel(calls: &Calls, id: &str, run: Option<u32>) -> Result<v1::Task, Failure> {
    let request_id = fresh_id();
    let request = |retry| v1::CancelTaskRequest {
        id: id.to_owned(),
        run,
        request_id: request_id.clone(),
        retry,
    };
    calls.call(Repeat::SameId, async |mut to| to.tasks.cancel_task(request(to.again)).await).await
}

/// Deletes a task. A task is deleted once; that it is gone after a sending whose answer was lost is
/// what the caller asked for, and not "not found" (P8.3).
async fn delete(calls: &Calls, id: &str, cancel: bool) -> Result<v1::Task, Failure> {
    let request = v1::DeleteTaskRequest { id: id.to_owned(), cancel };
    let again = Cell::new(false);
    let answer = calls
        .call(Repeat::SameId, async |mut to| {
            again.set(to.again);
            to.tasks.delete_task(request.clone()).await
        })
        .await;
    match answer {
        Err(gone) if gone.code == code::NOT_FOUND && again.get() => {
            Ok(v1::Task { id: id.to_owned(), ..v1::Task::default() })
        }
        answer => answer,
    }
}

/// One line about a task.
fn brief(task: &v1::Task) -> String {
    match &task.last_run {
        Some(run) => format!("{} {} (run {})", task.id, tables::status(task.status()), run.run),
        None => format!("{} {}", task.id, tables::status(task.status())),
    }
}

fn partial(partial: bool) {
    if partial {
        out::note("note: the history database is away; only what is live is shown");
    }
}

async fn runs(calls: &Calls, out: &Out, id: &str, stale: bool) -> Result<(), Failure> {
    let mut request = v1::ListRunsRequest {
        task_id: id.to_owned(),
        page_size: Some(1_000),
        stale,
        ..v1::ListRunsRequest::default()
    };
    let mut all = v1::ListRunsResponse::default();
    loop {
        let page = calls
            .call(Repeat::Read, async |mut to| to.tasks.list_runs(request.clone()).await)
            .await?;
        all.runs.extend(page.runs);
        all.partial |= page.partial;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if out.is_table() {
        partial(all.partial);
    }
    out.show(&all, |all| tables::runs(&all.runs))
}

async fn executions(
    calls: &Calls,
    out: &Out,
    id: &str,
    run: Option<u32>,
    stale: bool,
) -> Result<(), Failure> {
    let mut request = v1::ListExecutionsRequest {
        task_id: id.to_owned(),
        run,
        page_size: Some(1_000),
        stale,
        ..v1::ListExecutionsRequest::default()
    };
    let mut all = v1::ListExecutionsResponse::default();
    loop {
        let page = calls
            .call(Repeat::Read, async |mut to| to.tasks.list_executions(request.clone()).await)
            .await?;
        all.executions.extend(page.executions);
        all.partial |= page.partial;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if out.is_table() {
        partial(all.partial);
    }
    out.show(&all, |all| tables::executions(&all.executions))
}

/// The execution id of attempt `attempt` of a run, or of the latest run.
async fn execution(
    calls: &Calls,
    id: &str,
    run: Option<u32>,
    attempt: Option<u32>,
) -> Result<Option<u64>, Failure> {
    let Some(attempt) = attempt else { return Ok(None) };
    let latest = wait::last_execution(calls, id, run).await?;
    let run = latest.as_ref().map(|latest| latest.run);
    let request = v1::ListExecutionsRequest {
        task_id: id.to_owned(),
        run,
        page_size: Some(1_000),
        ..v1::ListExecutionsRequest::default()
    };
    let page = calls
        .call(Repeat::Read, async |mut to| to.tasks.list_executions(request.clone()).await)
        .await?;
    let found = page.executions.iter().find(|execution| execution.attempt == attempt);
    match found {
        Some(execution) => Ok(Some(execution.id)),
        None => Err(Failure::new(
            code::NOT_FOUND,
            format!("task {id} has no attempt {attempt} in that run"),
        )
        .hint(format!("dtask task executions {id}"))),
    }
}
