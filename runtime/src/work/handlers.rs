//! Which types a worker runs, and how one attempt is begun, stopped and ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dtask_core::id::Token;
use dtask_core::time::Instant;
use dtask_core::worker::{Assignment, Ending, Input, Signal};
use tokio::sync::mpsc;

use super::function::{FunctionRunner, TaskError, TaskHandle};

/// This process's binary, also after the file was replaced by a newer one.
#[cfg(not(madsim))]
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Runs attempts of one type.
pub trait Runner: Send + Sync + 'static {
    /// Begins an attempt. One that ends at once says so; any other tells `events` of its end and
    /// listens to the control that it returns.
    fn begin(&self, assignment: Box<Assignment>, events: Events) -> Begun;
}

/// What became of a begun attempt.
pub enum Begun {
    /// It has ended; `events` was dropped unused.
    Ended(Ending),
    /// It runs.
    Running(Box<dyn Control>),
}

/// Stops a running attempt.
pub trait Control: Send + 'static {
    /// Asks it to end, or ends it.
    fn signal(&mut self, signal: Signal);
}

/// Where an attempt tells what happens to it. Dropped without [`Events::ended`] it reports a
/// failure, so that no attempt is forgotten when its handler panics.
#[derive(Debug)]
pub struct Events {
    log: Log,
    told: bool,
}

/// Where an attempt's live output goes. What is written after its end is dropped.
#[derive(Clone, Debug)]
pub struct Log {
    token: Token,
    inbox: mpsc::Sender<Input>,
}

/// Why a handler cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// Two handlers for one type.
    #[error("two handlers are given for the type {0:?}")]
    Twice(String),
    /// Not `TYPE=COMMAND`.
    #[error("{0:?} is not TYPE=COMMAND (for instance resize=./resize.sh)")]
    Malformed(String),
}

/// The types that a worker runs.
#[derive(Default)]
pub struct Handlers {
    runners: BTreeMap<Box<str>, Arc<dyn Runner>>,
    /// Variables of the worker's own environment that processes get besides the usual ones.
    #[cfg(not(madsim))]
    pass_env: Vec<String>,
    /// Kills processes when the worker cannot.
    #[cfg(not(madsim))]
    watchdog: Option<Arc<super::watchdog::Watchdog>>,
}

impl Handlers {
    /// No types yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a runner of one's own.
    ///
    /// # Errors
    /// When the type has one.
    pub fn runner(
        mut self,
        kind: impl Into<Box<str>>,
        runner: impl Runner,
    ) -> Result<Self, HandlerError> {
        let kind = kind.into();
        if self.runners.contains_key(&kind) {
            return Err(HandlerError::Twice(kind.into()));
        }
        self.runners.insert(kind, Arc::new(runner));
        Ok(self)
    }

    /// Registers an async function. It gets the attempt with its token and payload, and returns
    /// the result. It is told when it shall stop ([`TaskHandle::stopped`]) and dropped at its
    /// next await when it does not; code that never awaits cannot be stopped, so side effects
    /// rely on the fencing token.
    ///
    /// # Errors
    /// When the type has a handler.
    pub fn function<F, R>(
        self,
        kind: impl Into<Box<str>>,
        function: F,
    ) -> Result<Self, HandlerError>
    where
        F: Fn(TaskHandle) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Bytes, TaskError>> + Send + 'static,
    {
        self.runner(kind, FunctionRunner::new(function))
    }

    /// Registers a type whose attempts succeed at once, without a task of their own (`dtask
    /// bench`).
    ///
    /// # Errors
    /// When the type has a handler.
    pub fn noop(self, kind: impl Into<Box<str>>) -> Result<Self, HandlerError> {
        self.runner(kind, Noop)
    }

    /// Passes these variables of the worker's own environment to processes. Counts for handlers
    /// registered after it.
    #[cfg(not(madsim))]
    pub fn pass_env(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.pass_env.extend(names);
        self
    }

    /// Starts a watchdog for processes of handlers registered after it: they do not outlive their
    /// lease, whatever happens to this process (frozen, killed). `program` is a binary that calls
    /// [`super::watchdog::intercept`] first, usually [`OWN_PROGRAM`] itself.
    ///
    /// # Errors
    /// When it cannot be started.
    #[cfg(not(madsim))]
    pub fn watchdog(mut self, program: impl AsRef<std::path::Path>) -> std::io::Result<Self> {
        self.watchdog = Some(Arc::new(super::watchdog::Watchdog::start(program.as_ref())?));
        Ok(self)
    }

    /// Registers a command for a type, written `TYPE=COMMAND`: run by `sh -c`, payload on stdin,
    /// result on stdout, log on stderr.
    ///
    /// # Errors
    /// When it is written otherwise, or the type has a handler.
    #[cfg(not(madsim))]
    pub fn command(self, spec: &str) -> Result<Self, HandlerError> {
        let (kind, command) = spec
            .split_once('=')
            .map(|(kind, command)| (kind.trim(), command.trim()))
            .filter(|(kind, command)| !kind.is_empty() && !command.is_empty())
            .ok_or_else(|| HandlerError::Malformed(spec.to_owned()))?;
        let runner = super::process::CommandRunner::new(command, self.processes());
        self.runner(kind, runner)
    }

    /// Registers the type `exec`: command lines that callers send. A cluster that anyone reaches
    /// is then a remote shell, so the operator must ask for it.
    ///
    /// # Errors
    /// When `exec` is registered.
    #[cfg(not(madsim))]
    pub fn exec(self) -> Result<Self, HandlerError> {
        let runner = super::exec::ExecRunner::new(self.processes());
        self.runner("exec", runner)
    }

    #[cfg(not(madsim))]
    fn processes(&self) -> super::process::Processes {
        super::process::Processes {
            env: super::process::base_env(&self.pass_env),
            watchdog: self.watchdog.clone(),
        }
    }

    /// No process may outlive this moment without another word.
    #[cfg(not(madsim))]
    pub(super) fn guard(&self, until: Instant) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.guard(until);
        }
    }

    /// Handlers end with the simulated process.
    #[cfg(madsim)]
    pub(super) const fn guard(&self, _: Instant) {}

    /// The registered types.
    pub fn kinds(&self) -> Vec<Box<str>> {
        self.runners.keys().cloned().collect()
    }

    pub(super) fn begin(&self, assignment: Box<Assignment>, events: Events) -> Begun {
        match self.runners.get(&assignment.kind) {
            Some(runner) => runner.begin(assignment, events),
            None => {
                events.unused();
                let text = format!("this worker does not run the type {:?}", assignment.kind);
                Begun::Ended(Ending::failure(text, true))
            }
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.runners.keys()).finish()
    }
}

impl Log {
    /// Appends to the attempt's log. Waits while the worker is behind, which slows a handler that
    /// writes faster than anyone can read.
    pub async fn write(&self, data: Bytes) {
        if !data.is_empty() {
            // An error means that the worker's life is over: nobody is left to tell.
            let _ = self.inbox.send(Input::Output { token: self.token, data }).await;
        }
    }
}

impl Events {
    pub(super) const fn new(token: Token, inbox: mpsc::Sender<Input>) -> Self {
        Self { log: Log { token, inbox }, told: false }
    }

    /// The attempt ends within `begin`: nothing is told.
    pub fn unused(mut self) {
        self.told = true;
    }

    /// The handler has started.
    pub async fn started(&self) {
        let _ = self.log.inbox.send(Input::Started { token: self.log.token }).await;
    }

    /// Where the live output goes.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The handler has ended and nothing of it is left.
    pub async fn ended(mut self, ending: Ending) {
        // Told only after the wait: a task that is aborted in it must still report.
        if let Ok(permit) = self.log.inbox.reserve().await {
            permit.send(Input::Ended { token: self.log.token, ending });
        }
        self.told = true;
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let ending = Ending::failure("the handler ended without a word (panicked or killed)", true);
        let input = Input::Ended { token: self.log.token, ending };
        if let Err(mpsc::error::TrySendError::Full(input)) = self.log.inbox.try_send(input) {
            let inbox = self.log.inbox.clone();
            tokio::spawn(async move {
                let _ = inbox.send(input).await;
            });
        }
    }
}

struct Noop;

impl Runner for Noop {
    fn begin(&self, _: Box<Assignment>, events: Events) -> Begun {
        events.unused();
        Begun::Ended(Ending::success(Bytes::new()))
    }
}
