//! `dtask submit`: options become a checked spec; the id is chosen here, so that a submit whose
//! answer is lost can be repeated and is accepted once (P8.3).

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use clap::Args;
use dtask_core::client::Repeat;
use dtask_core::limits;
use dtask_core::spec::FieldError;
use dtask_core::spec::text::{parse_duration_ms, parse_time};
use dtask_core::time::Timestamp;
use dtask_proto::json::{Named, names};
use dtask_proto::v1;
use serde_json::{Map, Value};

use super::calls::Calls;
use super::fail::Failure;
use super::out::{self, Out};
use super::{cron, wait};
use crate::api;

/// `dtask submit`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  dtask submit -- ./report.sh --all\n  dtask submit resize --payload '{\"image\": 7}' --queue media --priority 9\n  dtask submit --cron '30 2 * * 1-5' --timezone Europe/Paris --id report -- ./report.sh\n  dtask submit resize --payload @image.json --wait"
)]
pub(crate) struct SubmitArgs {
    /// The task's type: the handler that runs it
    #[arg(value_name = "TYPE", required_unless_present = "command", conflicts_with = "command")]
    pub kind: Option<String>,
    /// Everything about the task
    #[command(flatten)]
    pub options: TaskOptions,
    /// What the handler gets: TEXT, @FILE, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-", conflicts_with = "command")]
    pub payload: Option<String>,
    /// Wait for its end and print its result
    #[arg(long)]
    pub wait: bool,
    /// With --wait: how long to wait (exit code 7 when it passes)
    #[arg(long, value_name = "DURATION", requires = "wait")]
    pub wait_timeout: Option<String>,
    /// A command line to run (type exec)
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// The options that define a task, of `submit` and `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TaskOptions {
    /// Its id; repeating a submit with the same id is safe
    #[arg(long)]
    pub id: Option<String>,
    /// A name for people
    #[arg(long)]
    pub name: Option<String>,
    /// The line that its runs stand in
    #[arg(long)]
    pub queue: Option<String>,
    /// 0 to 9, 9 first
    #[arg(long, value_name = "0..9", allow_negative_numbers = true)]
    pub priority: Option<String>,
    /// A variable for the command
    #[arg(long, value_name = "NAME=VALUE", requires = "command")]
    pub env: Vec<String>,
    /// The directory that the command runs in, on the worker
    #[arg(long, value_name = "DIR", requires = "command")]
    pub cwd: Option<String>,
    /// When, and what if that cannot be
    #[command(flatten)]
    pub schedule: ScheduleOptions,
    /// What follows a failure
    #[command(flatten)]
    pub retry: RetryOptions,
}

/// The options that say when a task runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "When")]
pub(crate) struct ScheduleOptions {
    /// Once, not before this moment (RFC 3339; without an offset it needs --timezone)
    #[arg(long, value_name = "TIME", group = "when")]
    pub at: Option<String>,
    /// Once, after this span
    #[arg(long, value_name = "DURATION", group = "when")]
    pub r#in: Option<String>,
    /// Again and again, this far apart
    #[arg(long, value_name = "DURATION", group = "when")]
    pub every: Option<String>,
    /// With --every: the moment to count from
    #[arg(long, value_name = "TIME")]
    pub starts_at: Option<String>,
    /// Again and again, by a cron expression of five, six or seven fields
    #[arg(long, value_name = "EXPR", group = "when", allow_hyphen_values = true)]
    pub cron: Option<String>,
    /// The IANA zone of --cron, --at and --starts-at
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Fire times inside the hour that spring skips: auto, skip, next
    #[arg(long, value_name = "RULE")]
    pub dst_gap: Option<String>,
    /// Fire times inside the hour that autumn repeats: auto, first, second, both
    #[arg(long, value_name = "RULE")]
    pub dst_fold: Option<String>,
    /// What follows a missed fire time: skip, fire_once
    #[arg(long, value_name = "RULE")]
    pub misfire: Option<String>,
    /// A fire time older than this is skipped
    #[arg(long, value_name = "DURATION")]
    pub catch_up: Option<String>,
    /// What follows a fire time while a run is not over: allow, skip
    #[arg(long, value_name = "RULE")]
    pub overlap: Option<String>,
}

impl ScheduleOptions {
    /// The first option that was given, as it is written.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        [
            ("--at", &self.at),
            ("--in", &self.r#in),
            ("--every", &self.every),
            ("--starts-at", &self.starts_at),
            ("--cron", &self.cron),
            ("--timezone", &self.timezone),
            ("--dst-gap", &self.dst_gap),
            ("--dst-fold", &self.dst_fold),
            ("--misfire", &self.misfire),
            ("--catch-up", &self.catch_up),
            ("--overlap", &self.overlap),
        ]
        .into_iter()
        .find(|(_, given)| given.is_some())
        .map(|(name, _)| name)
    }
}

/// The options that say what follows a failure.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Failures")]
pub(crate) struct RetryOptions {
    /// Further attempts after the first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_retries: Option<String>,
    /// How the wait between attempts grows: fixed, exponential
    #[arg(long, value_name = "RULE")]
    pub backoff: Option<String>,
    /// The wait before the first retry
    #[arg(long, value_name = "DURATION")]
    pub backoff_base: Option<String>,
    /// The longest wait before a retry
    #[arg(long, value_name = "DURATION")]
    pub backoff_max: Option<String>,
    /// An exit code that fails for good
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub no_retry_exit: Vec<i32>,
    /// The longest that one attempt may run
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
}

impl TaskOptions {
    /// The spec, checked, with an id; `now` is the moment that `--in` counts from.
    ///
    /// # Errors
    /// Every wrong option.
    pub(crate) fn spec(
        &self,
        kind: &str,
        payload: Bytes,
        now: Timestamp,
    ) -> Result<v1::TaskSpec, Failure> {
        let when = &self.schedule;
        let retry = &self.retry;
        let zone = when.timezone.as_deref();
        let at = match (&when.at, &when.r#in) {
            (Some(at), _) => Some(parse_time("at", at, zone)?.as_micros()),
            (None, Some(span)) => {
                let span = span_ms("in", span)?;
                Some(now.plus_micros(span.saturating_mul(1_000)).as_micros())
            }
            (None, None) => None,
        };
        let moment = |text: &String| parse_time("starts_at", text, zone).map(Timestamp::as_micros);
        let spec = v1::TaskSpec {
            id: self.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            name: self.name.clone().unwrap_or_default(),
            r#type: kind.to_owned(),
            payload,
            queue: self.queue.clone().unwrap_or_default(),
            priority: number("priority", self.priority.as_deref())?,
            at,
            every: span("every", when.every.as_ref())?,
            starts_at: when.starts_at.as_ref().map(moment).transpose()?,
            cron_expr: when.cron.clone().unwrap_or_default(),
            timezone: when.timezone.clone().unwrap_or_default(),
            dst_gap: word::<v1::DstGap>("dst_gap", when.dst_gap.as_ref())?,
            dst_fold: word::<v1::DstFold>("dst_fold", when.dst_fold.as_ref())?,
            misfire: word::<v1::Misfire>("misfire", when.misfire.as_ref())?,
            catch_up: span("catch_up", when.catch_up.as_ref())?,
            overlap: word::<v1::Overlap>("overlap", when.overlap.as_ref())?,
            max_retries: number("max_retries", retry.max_retries.as_deref())?,
            backoff: word::<v1::Backoff>("backoff", retry.backoff.as_ref())?,
            backoff_base: span("backoff_base", retry.backoff_base.as_ref())?,
            backoff_max: span("backoff_max", retry.backoff_max.as_ref())?,
            no_retry_exit: retry.no_retry_exit.clone(),
            timeout: span("timeout", retry.timeout.as_ref())?,
        };
        // The node checks again; here a mistake is told without one.
        if let Some(expr) = &when.cron {
            cron::check(expr)?;
        }
        api::spec::new_task(spec.clone(), String::new)?;
        Ok(spec)
    }

    /// The payload of an exec task.
    ///
    /// # Errors
    /// A variable without a value.
    pub(crate) fn exec_payload(&self, argv: &[String]) -> Result<Bytes, Failure> {
        let mut payload = Map::new();
        payload.insert("argv".to_owned(), argv.into());
        if !self.env.is_empty() {
            let mut env = Map::new();
            for variable in &self.env {
                let (name, value) = variable.split_once('=').ok_or_else(|| {
                    Failure::usage(format!("--env: `{variable}` has no value"))
                        .hint("write NAME=VALUE")
                })?;
                env.insert(name.to_owned(), value.into());
            }
            payload.insert("env".to_owned(), env.into());
        }
        if let Some(cwd) = &self.cwd {
            payload.insert("cwd".to_owned(), cwd.as_str().into());
        }
        Ok(Bytes::from(Value::from(payload).to_string()))
    }
}

impl SubmitArgs {
    /// Submits, and waits if asked to.
    ///
    /// # Errors
    /// Invalid options; what the cluster refused; with `--wait`, a task that failed.
    pub(crate) async fn run(&self, calls: &Calls, out: &Out) -> Result<(), Failure> {
        let now = super::now();
        let spec = match &self.kind {
            Some(kind) => self.options.spec(kind, self.payload()?, now)?,
            None => {
                let payload = self.options.exec_payload(&self.command)?;
                self.options.spec(super::EXEC, payload, now)?
            }
        };
        let timeout = span("wait_timeout", self.wait_timeout.as_ref())?;
        if self.wait && (spec.every.is_some() || !spec.cron_expr.is_empty()) {
            return Err(Failure::usage("--wait: a recurring task has no end")
                .hint("submit it without --wait; `dtask task wait ID --run N` waits for one run"));
        }
        let accepted = submit(calls, spec).await?;
        if !self.wait {
            return out.show(&accepted, |accepted| accepted.id.clone());
        }
        wait::until_done(calls, &accepted.id, None, timeout).await?.show(calls, out).await
    }

    fn payload(&self) -> Result<Bytes, Failure> {
        let bytes = match self.payload.as_deref() {
            None => return Ok(Bytes::new()),
            Some("-") => read(std::io::stdin().lock(), "standard input")?,
            Some(text) => match text.strip_prefix('@') {
                Some(path) => {
                    let file = std::fs::File::open(Path::new(path)).map_err(|error| {
                        Failure::usage(format!("--payload: cannot open {path}: {error}"))
                    })?;
                    read(file, path)?
                }
                None => text.as_bytes().to_vec(),
            },
        };
        Ok(Bytes::from(bytes))
    }
}

/// Submits a spec that has an id.
///
/// # Errors
/// What the cluster refused, or where it could not be reached.
pub(crate) async fn submit(
    calls: &Calls,
    spec: v1::TaskSpec,
) -> Result<v1::SubmitTaskResponse, Failure> {
    calls
        .call(Repeat::SameId, async |mut to| {
            let retry = to.again;
            to.tasks
                .submit_task(v1::SubmitTaskRequest {
                    task: Some(spec.clone()),
                    retry,
                    ..Default::default()
                })
                .await
        })
        .await
}

/// Reads one byte more than a payload may have: the check names the bound.
fn read(from: impl std::io::Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(limits::PAYLOAD_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("--payload: cannot read {name}: {error}")))?;
    Ok(bytes)
}

/// An optional duration in milliseconds.
pub(super) fn span(field: &str, text: Option<&String>) -> Result<Option<i64>, FieldError> {
    text.map(|text| span_ms(field, text)).transpose()
}

fn span_ms(field: &str, text: &str) -> Result<i64, FieldError> {
    parse_duration_ms(field, text).map(|ms| i64::try_from(ms).unwrap_or(i64::MAX))
}

/// A choice by its word; 0 when it was not given.
pub(super) fn word<E: Named>(field: &str, word: Option<&String>) -> Result<i32, FieldError> {
    let Some(word) = word else { return Ok(0) };
    names::number::<E>(&word.replace('-', "_"))
        .map_err(|detail| FieldError::invalid(field, detail, ""))
}

fn number(field: &str, text: Option<&str>) -> Result<Option<u32>, FieldError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            FieldError::invalid(field, format!("`{text}` is not a number from 0 on"), "")
        })
    };
    text.map(parse).transpose()
}

/// Prints a result as a handler gave it: text as it is, with a line end.
pub(super) fn show_output(output: &[u8]) -> Result<(), Failure> {
    let text = match serde_json::from_slice::<String>(output) {
        Ok(text) => text,
        Err(_) => return show_raw(output),
    };
    show_raw(text.as_bytes())
}

fn show_raw(bytes: &[u8]) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Ok(());
    }
    out::raw(bytes)?;
    if bytes.ends_with(b"\n") { Ok(()) } else { out::raw(b"\n") }
}
