//! `dtask work`: one worker process, also inside `dtask dev`.
//!
//! A thin shell around `dtask_core::worker`: it keeps a connection, runs handlers and hands
//! results back. Which attempt starts, stops or is reported how is decided there.
//!
//! As a library: register functions in [`Handlers`], then await [`run`].

mod function;
mod handlers;
mod host;
mod session;

#[cfg(not(madsim))]
mod exec;
#[cfg(not(madsim))]
mod group;
#[cfg(not(madsim))]
mod process;
#[cfg(all(test, not(madsim)))]
mod tests;
#[cfg(not(madsim))]
pub mod watchdog;

use std::time::Duration;

use dtask_core::id::InstanceId;

pub use function::{TaskError, TaskHandle};
#[cfg(not(madsim))]
pub use handlers::OWN_PROGRAM;
pub use handlers::{Begun, Control, Events, HandlerError, Handlers, Log, Runner};

/// What a worker process is told.
#[derive(Debug)]
pub struct WorkConfig {
    /// Its name; executions show it.
    pub name: String,
    /// This life of the process: random and not zero (see [`random_instance`]).
    pub instance: InstanceId,
    /// gRPC `host:port` of the nodes to ask, at least one.
    pub servers: Vec<String>,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// Queues that it serves; empty means all.
    pub queues: Vec<String>,
    /// `k=v` labels.
    pub labels: Vec<String>,
    /// How long running attempts may take once `shutdown` has resolved; after that they are
    /// handed back without costing an attempt.
    pub drain_timeout: Duration,
    /// What it can run.
    pub handlers: Handlers,
}

/// Why a worker's life ended against its will.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The options make no sense; the operator's move.
    #[error("{0}")]
    Config(String),
    /// The leader refused the worker for good.
    #[error("the cluster refuses this worker: {reason}")]
    Refused {
        /// By its word.
        reason: String,
    },
}

/// How a worker's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Results that no leader acknowledged in time; their attempts end with their leases.
    pub unacknowledged: usize,
}

/// Works until `shutdown` resolves, then drains. Dropping the future kills every handler.
///
/// # Errors
/// When the options make no sense, or the cluster refuses this worker for good. An unreachable
/// cluster is no error: the worker goes on trying.
pub async fn run(
    config: WorkConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, WorkError> {
    check(&config)?;
    host::run(config, shutdown).await
}

/// A random number for [`WorkConfig::instance`].
#[cfg(not(madsim))]
pub fn random_instance() -> InstanceId {
    InstanceId(uuid::Uuid::new_v4().as_u64_pair().0.max(1))
}

fn check(config: &WorkConfig) -> Result<(), WorkError> {
    use dtask_core::limits;
    let fault = |text: String| Err(WorkError::Config(text));
    if config.servers.is_empty() {
        return fault("a worker needs at least one server (--server HOST:PORT)".into());
    }
    if config.slots == 0 || config.slots > limits::WORKER_SLOTS_MAX {
        return fault(format!(
            "--slots is {}, it must be 1 to {}",
            config.slots,
            limits::WORKER_SLOTS_MAX
        ));
    }
    let kinds = config.handlers.kinds();
    if kinds.is_empty() {
        return fault(
            "the worker has nothing to run: give --handler TYPE=COMMAND or --allow-exec".into(),
        );
    }
    let names = std::iter::once(&config.name).chain(&config.queues).chain(&config.labels);
    for name in names.map(String::as_str).chain(kinds.iter().map(|kind| &**kind)) {
        let chars = name.chars().count();
        if chars == 0 || chars > limits::NAME_CHARS_MAX {
            return fault(format!(
                "{name:?} has {chars} characters, names, types, queues and labels have 1 to {}",
                limits::NAME_CHARS_MAX
            ));
        }
    }
    Ok(())
}
