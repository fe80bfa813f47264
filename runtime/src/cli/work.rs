//! `dtask work`: its options, and a worker's life as a process.

use std::time::Duration;

use clap::Args;
use dtask_core::spec::text::parse_duration_ms;

use super::fail::{Failure, code};
use super::log::{self, LogOptions};
use super::out;
use super::signals::Signals;
use crate::work::{self, Handlers, WorkConfig, WorkError};

/// `dtask work`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  dtask work --allow-exec\n  dtask work --server 127.0.0.1:7101,127.0.0.1:7102 --handler resize=./resize.sh --slots 4"
)]
pub(crate) struct WorkArgs {
    /// The name that executions show; the host's name by default
    #[arg(long, env = "DTASK_NAME", value_name = "NAME")]
    name: Option<String>,
    /// How many attempts run at once
    #[arg(
        long,
        env = "DTASK_SLOTS",
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(dtask_core::limits::WORKER_SLOTS_MAX))
    )]
    slots: u32,
    /// A label, for people
    #[arg(long, env = "DTASK_LABEL", value_name = "K=V", value_delimiter = ',')]
    label: Vec<String>,
    /// A queue to serve; all queues when none is named
    #[arg(long, env = "DTASK_QUEUE", value_name = "QUEUE", value_delimiter = ',')]
    queue: Vec<String>,
    /// A type to run, and the command that runs it: payload on stdin, result on stdout
    #[arg(long, env = "DTASK_HANDLER", value_name = "TYPE=COMMAND")]
    handler: Vec<String>,
    /// Run any command line that a task of type exec names
    #[arg(long, env = "DTASK_ALLOW_EXEC", value_parser = clap::builder::BoolishValueParser::new())]
    allow_exec: bool,
    /// A variable of this environment that handlers see
    #[arg(long, env = "DTASK_PASS_ENV", value_name = "NAME", value_delimiter = ',')]
    pass_env: Vec<String>,
    /// How long running attempts may take to finish at SIGTERM before they are handed back
    #[arg(long, env = "DTASK_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    drain_timeout: String,
    /// What is logged
    #[command(flatten)]
    log: LogOptions,
    /// A type that ends at once, in this process (for `dtask bench`)
    #[arg(long, value_name = "TYPE", hide = true)]
    noop: Option<String>,
}

impl WorkArgs {
    /// Works until a signal asks it to stop, then drains; a second signal does not wait.
    ///
    /// # Errors
    /// Options that make no sense; a cluster that refuses this worker.
    pub(crate) fn run(&self, servers: &[String]) -> Result<(), Failure> {
        let config = self.config(servers)?;
        log::start(&self.log)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
            let life = work::run(config, async {
                let _asked_or_gone = stopping.await;
            });
            tokio::pin!(life);
            let signal = tokio::select! {
                biased;
                ended = &mut life => return ended_of(ended),
                signal = signals.next() => signal,
            };
            let span = &self.drain_timeout;
            out::note(&format!("draining for at most {span}; the signal again kills what runs"));
            let _gone = stop.send(());
            tokio::select! {
                biased;
                ended = life => ended_of(ended),
                _ = signals.next() => Err(Failure::quiet(code::SIGNAL + signal)),
            }
        })
    }

    fn config(&self, servers: &[String]) -> Result<WorkConfig, Failure> {
        for label in &self.label {
            if label.split_once('=').is_none_or(|(key, _)| key.is_empty()) {
                return Err(Failure::usage(format!("--label: `{label}` is not a label"))
                    .hint("write K=V, such as zone=a"));
            }
        }
        let drain = parse_duration_ms("drain_timeout", &self.drain_timeout)?;
        let mut handlers = Handlers::new().pass_env(self.pass_env.iter().cloned());
        if self.allow_exec || !self.handler.is_empty() {
            handlers = handlers.watchdog(work::OWN_PROGRAM)?;
        }
        for handler in &self.handler {
            handlers = handlers.command(handler).map_err(handler_failure)?;
        }
        if self.allow_exec {
            handlers = handlers.exec().map_err(handler_failure)?;
        }
        if let Some(kind) = &self.noop {
            handlers = handlers.noop(kind.as_str()).map_err(handler_failure)?;
        }
        Ok(WorkConfig {
            name: self.name.clone().unwrap_or_else(host_name),
            instance: work::random_instance(),
            servers: servers.to_vec(),
            slots: self.slots,
            queues: self.queue.clone(),
            labels: self.label.clone(),
            drain_timeout: Duration::from_millis(drain),
            handlers,
        })
    }
}

fn handler_failure(error: work::HandlerError) -> Failure {
    Failure::usage(format!("--handler: {error}"))
}

fn ended_of(ended: Result<work::Drained, WorkError>) -> Result<(), Failure> {
    match ended {
        Ok(work::Drained { unacknowledged: 0 }) => Ok(()),
        Ok(work::Drained { unacknowledged }) => Err(Failure::new(
            code::REFUSED,
            format!("{unacknowledged} results were not acknowledged: no leader answered in time"),
        )
        .hint("their attempts end with their leases and run again if they may")),
        Err(error @ WorkError::Config(_)) => Err(Failure::usage(error.to_string())),
        Err(error @ WorkError::Refused { .. }) => {
            Err(Failure::new(code::REFUSED, error.to_string()))
        }
    }
}

/// The machine's name.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "worker".to_owned() } else { name }
}
