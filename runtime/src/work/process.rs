//! Handlers that are processes: started in a group of their own with a clean environment, read
//! until they end, and killed whole.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dtask_core::limits;
use dtask_core::worker::{Assignment, Ending, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;

use super::group::Group;
use super::handlers::{Begun, Control, Events, Log, Runner};
use super::watchdog::Watchdog;
use crate::serve::clock::{Clock as _, SystemClock};

/// Variables of the worker's own environment that every process gets.
const USUAL_ENV: [&str; 3] = ["PATH", "HOME", "LANG"];
/// How much is read from a pipe at a time.
const READ_BYTES: usize = 16 << 10;
/// After the group is gone, how long pipes are still read: only a process that left the group can
/// hold them open then, and nobody waits for that.
const PIPE_GRACE: Duration = Duration::from_secs(2);

/// A command that the operator gave for a type.
#[derive(Debug)]
pub(super) struct CommandRunner {
    command: String,
    processes: Processes,
}

/// What all processes of a worker share.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes {
    /// Variables of the worker's own environment that they get, read once.
    pub(super) env: BTreeMap<String, OsString>,
    /// Kills them when the worker cannot.
    pub(super) watchdog: Option<Arc<Watchdog>>,
}

impl CommandRunner {
    pub(super) fn new(command: &str, processes: Processes) -> Self {
        Self { command: command.to_owned(), processes }
    }
}

impl Runner for CommandRunner {
    fn begin(&self, assignment: Box<Assignment>, events: Events) -> Begun {
        let mut env = self.processes.env.clone();
        env.extend(task_env(&assignment));
        let launch = Launch {
            argv: vec!["sh".into(), "-c".into(), self.command.clone()],
            env,
            cwd: None,
            stdin: assignment.payload,
            stdout: Stdout::Result,
            watchdog: self.processes.watchdog.clone(),
        };
        Begun::Running(Box::new(launch.spawn(events)))
    }
}

/// A process to start.
#[derive(Debug)]
pub(super) struct Launch {
    /// Not empty.
    pub(super) argv: Vec<String>,
    /// All of its environment.
    pub(super) env: BTreeMap<String, OsString>,
    pub(super) cwd: Option<String>,
    pub(super) stdin: Bytes,
    pub(super) stdout: Stdout,
    pub(super) watchdog: Option<Arc<Watchdog>>,
}

/// What becomes of stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdout {
    /// It is the result and no part of the log (`--handler`).
    Result,
    /// It is part of the log, and its tail is the result (`exec`).
    Logged,
}

/// Passes signals on to a running process group.
#[derive(Debug)]
pub(super) struct ProcessControl {
    signals: mpsc::UnboundedSender<Signal>,
}

impl Control for ProcessControl {
    fn signal(&mut self, signal: Signal) {
        // At most two a life. An error means that it has ended meanwhile.
        let _ = self.signals.send(signal);
    }
}

impl Launch {
    /// Starts it in a task of its own. When the control is dropped, everything is killed.
    pub(super) fn spawn(self, events: Events) -> ProcessControl {
        let (signals, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let ending = self.run(&events, asked).await;
            events.ended(ending).await;
        });
        ProcessControl { signals }
    }

    async fn run(mut self, events: &Events, mut asked: mpsc::UnboundedReceiver<Signal>) -> Ending {
        let mut group = match self.start() {
            Ok(group) => group,
            Err(error) => return not_started(&self.argv[0], &error),
        };
        events.started().await;
        let child = group.child();
        let stdin = feed(child.stdin.take(), std::mem::take(&mut self.stdin));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut kept = Kept::new(self.stdout);
        let status = {
            let log = events.log();
            let shown = (self.stdout == Stdout::Logged).then_some(log);
            let out = read(stdout, shown, |data| kept.push(data));
            let err = read(stderr, Some(log), |_| {});
            let mut pipes = std::pin::pin!(async { tokio::join!(out, err, stdin) });
            let mut piped = false;
            let status = loop {
                tokio::select! {
                    biased;
                    signal = asked.recv() => match signal {
                        Some(signal) => group.signal(signal),
                        // The worker is gone.
                        None => return Ending::failure("the worker ended", true),
                    },
                    exited = group.exited() => break match exited {
                        Ok(()) => group.reap().await,
                        Err(error) => Err(error),
                    },
                    _ = &mut pipes, if !piped => piped = true,
                }
            };
            if !piped {
                let _ = tokio::time::timeout(PIPE_GRACE, pipes).await;
            }
            status
        };
        if let Some(error) = group.failure() {
            return not_started(&self.argv[0], &error);
        }
        match status {
            Ok(status) => ending(status, kept.into_result()),
            Err(error) => Ending::failure(format!("cannot wait for the process: {error}"), true),
        }
    }

    fn start(&self) -> io::Result<Group> {
        let mut command = match &self.watchdog {
            Some(watchdog) => watchdog.launcher(&self.argv),
            None => {
                let mut command = Command::new(&self.argv[0]);
                command.args(&self.argv[1..]);
                command
            }
        };
        command
            .env_clear()
            .envs(&self.env)
            .stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        Group::spawn(&mut command, self.watchdog.clone())
    }
}

/// Variables of the worker's own environment for its processes, read once.
pub(super) fn base_env(pass_env: &[String]) -> BTreeMap<String, OsString> {
    let names = USUAL_ENV.into_iter().chain(pass_env.iter().map(String::as_str));
    names.filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?))).collect()
}

/// What a process is told of its attempt (interface.md: Handlers).
pub(super) fn task_env(assignment: &Assignment) -> impl Iterator<Item = (String, OsString)> {
    let deadline = match assignment.run_timeout_ms {
        0 => String::new(),
        ms => (SystemClock.now().wall + Duration::from_millis(ms)).to_string(),
    };
    [
        ("ID", assignment.task_id.to_string()),
        ("NAME", assignment.task_name.to_string()),
        ("RUN", assignment.run.to_string()),
        ("ATTEMPT", assignment.attempt.to_string()),
        ("FENCING_TOKEN", assignment.token.to_string()),
        ("SCHEDULED_FOR", assignment.scheduled_for.to_string()),
        ("DEADLINE", deadline),
    ]
    .into_iter()
    .map(|(name, value)| (format!("DTASK_TASK_{name}"), value.into()))
}

async fn feed(pipe: Option<ChildStdin>, data: Bytes) {
    if let Some(mut pipe) = pipe {
        // A process that does not read to the end has had enough.
        let _ = pipe.write_all(&data).await;
    }
}

async fn read(
    pipe: Option<impl AsyncRead + Unpin>,
    log: Option<&Log>,
    mut keep: impl FnMut(&[u8]),
) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        keep(&buffer[..n]);
        if let Some(log) = log {
            log.write(Bytes::copy_from_slice(&buffer[..n])).await;
        }
    }
}

/// What is kept of stdout, within the bounds of a result.
struct Kept {
    which: Stdout,
    data: VecDeque<u8>,
}

impl Kept {
    const fn new(which: Stdout) -> Self {
        Self { which, data: VecDeque::new() }
    }

    fn push(&mut self, data: &[u8]) {
        match self.which {
            Stdout::Result => {
                // One byte above the bound says that it was passed (P7.8).
                let room = limits::RESULT_BYTES_MAX + 1 - self.data.len();
                self.data.extend(&data[..data.len().min(room)]);
            }
            Stdout::Logged => {
                self.data.extend(data);
                let surplus = self.data.len().saturating_sub(limits::OUTPUT_TAIL_BYTES_MAX);
                self.data.drain(..surplus);
            }
        }
    }

    /// JSON as it is; other text as a JSON string without its last line break; other bytes as
    /// they are.
    fn into_result(self) -> Bytes {
        let data = Vec::from(self.data);
        if data.is_empty() || data.len() > limits::RESULT_BYTES_MAX {
            return data.into();
        }
        if serde_json::from_slice::<&serde_json::value::RawValue>(&data).is_ok() {
            return Bytes::copy_from_slice(data.trim_ascii());
        }
        match std::str::from_utf8(&data) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(text);
                serde_json::Value::from(text).to_string().into()
            }
            Err(_) => data.into(),
        }
    }
}

/// How an exit reads: 0 succeeds, anything else may be retried; which codes are final is the
/// task's to say, and the leader knows (`no_retry_exit`).
fn ending(status: ExitStatus, output: Bytes) -> Ending {
    let (code, error) = match (status.code(), status.signal()) {
        (Some(0), _) => (0, String::new()),
        (Some(code), _) => (code, format!("exit code {code}")),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            (-signal, format!("killed by signal {signal}"))
        }
    };
    Ending {
        succeeded: code == 0,
        retryable: true,
        exit_code: Some(code),
        output,
        error: error.into(),
    }
}

/// A program that cannot be started has a shell's exit code; another worker may have it.
fn not_started(program: &str, error: &io::Error) -> Ending {
    let exit_code = match error.kind() {
        io::ErrorKind::NotFound => Some(127),
        io::ErrorKind::PermissionDenied => Some(126),
        _ => None,
    };
    let text = format!("cannot start {program:?}: {error}");
    Ending { exit_code, ..Ending::failure(text, true) }
}
