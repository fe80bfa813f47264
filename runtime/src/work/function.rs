//! Handlers that are async functions of the worker's own process.

use std::sync::Arc;

use bytes::Bytes;
use dtask_core::worker::{Assignment, Ending, Signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::handlers::{Begun, Control, Events, Log, Runner};

/// An attempt, as its function sees it.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    /// Task, run, attempt, payload, and the fencing token to give to stores outside.
    pub assignment: Arc<Assignment>,
    stop: watch::Receiver<bool>,
    log: Log,
}

impl TaskHandle {
    /// Resolves when the function shall come to an end (cancelled, timed out, lease lost, worker
    /// draining). It has a few seconds; then it is dropped at its next await.
    pub async fn stopped(&mut self) {
        // An error means that nobody can ask any more: the function is about to be dropped.
        if self.stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Writes to the attempt's log.
    pub async fn log(&self, text: impl Into<Bytes>) {
        self.log.write(text.into()).await;
    }
}

/// Why a function failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TaskError {
    /// For people.
    pub message: String,
    /// Another attempt may help.
    pub retryable: bool,
}

impl TaskError {
    /// A failure that another attempt may mend.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true }
    }

    /// A failure for good.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: false }
    }
}

pub(super) struct FunctionRunner<F> {
    function: Arc<F>,
}

impl<F> FunctionRunner<F> {
    pub(super) fn new(function: F) -> Self {
        Self { function: Arc::new(function) }
    }
}

impl<F, R> Runner for FunctionRunner<F>
where
    F: Fn(TaskHandle) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, TaskError>> + Send + 'static,
{
    fn begin(&self, assignment: Box<Assignment>, events: Events) -> Begun {
        let (asks, stop) = watch::channel(false);
        let log = events.log().clone();
        let handle = TaskHandle { assignment: Arc::from(assignment), stop, log };
        let function = self.function.clone();
        let task = tokio::spawn(async move {
            events.started().await;
            let ending = match function(handle).await {
                Ok(output) => Ending::success(output),
                Err(error) => Ending::failure(error.message, error.retryable),
            };
            events.ended(ending).await;
        });
        Begun::Running(Box::new(FunctionControl { asks, task }))
    }
}

struct FunctionControl {
    asks: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Control for FunctionControl {
    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Term => {
                self.asks.send_replace(true);
            }
            Signal::Kill => self.task.abort(),
        }
    }
}

impl Drop for FunctionControl {
    /// The attempt has ended, or the worker has.
    fn drop(&mut self) {
        self.task.abort();
    }
}
