//! The watchdog of a worker's processes: another process, in a session of its own, that kills them
//! when the worker cannot (P7.4): frozen beyond its lease, or dead.
//!
//! It is the worker's own binary, executed again. It hears through a pipe of one deadline and of
//! every process group; a handler's first process is that binary too (`launch`), which names
//! itself in the pipe before it becomes the handler, so that no handler runs unknown. The pipe's
//! end means that the worker is dead: everything is killed at once.

mod frame;
mod launch;
mod process;

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dtask_core::time::Instant;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Pid;
use tracing::warn;

use frame::{FRAME_BYTES, Frame};

/// First argument of the process that watches.
const WATCH: &str = "--watch-handlers";
/// First argument of a handler's first process.
const LAUNCH: &str = "--launch-handler";
/// What `ps` shows of the process that watches.
const NAME: &str = "dtask-watchdog";
/// Frames that may wait behind a full pipe, beside the four thousand in it. A watchdog that reads
/// none of so many is as good as dead.
const UNSENT_MAX: usize = 1_024;

/// Becomes a watchdog or a handler when the process was started as one. To be called first in
/// `main` by every binary that gives itself to [`super::Handlers::watchdog`].
pub fn intercept() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let first = words.next()?;
    if first == WATCH {
        Some(process::run())
    } else if first == LAUNCH {
        Some(launch::run(words))
    } else {
        None
    }
}

/// A running watchdog. When the last handle is dropped, it kills what it still knows and ends.
#[derive(Debug)]
pub(super) struct Watchdog {
    program: PathBuf,
    state: Mutex<State>,
    /// Where launchers tell that a program cannot be executed: their end, kept open for them.
    failures: PipeWriter,
}

#[derive(Debug)]
struct State {
    process: Child,
    /// The watchdog reads the other end.
    pipe: PipeWriter,
    /// Pipes of watchdogs that have died: a launcher may still be about to open one by its number,
    /// which must not become another file's.
    dead_pipes: Vec<PipeWriter>,
    /// Frames that did not fit into the pipe: the watchdog is frozen.
    unsent: VecDeque<Frame>,
    until: Instant,
    groups: HashSet<Pid>,
    failures: PipeReader,
    /// Failures that were read for others.
    failed: Vec<(Pid, io::Error)>,
}

impl Watchdog {
    /// Starts it. Waits for its first word, so that no signal to the worker's session reaches it.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let (process, pipe) = spawn(program)?;
        let (read, failures) = io::pipe()?;
        unblock(&read)?;
        let state = State {
            process,
            pipe,
            dead_pipes: Vec::new(),
            unsent: VecDeque::new(),
            until: Instant::default(),
            groups: HashSet::new(),
            failures: read,
            failed: Vec::new(),
        };
        Ok(Self { program: program.to_owned(), state: Mutex::new(state), failures })
    }

    /// Moves the deadline.
    pub(super) fn guard(&self, until: Instant) {
        let mut state = self.state();
        state.until = until;
        self.tell(&mut state, Frame::Until(until));
    }

    /// The command that makes the watchdog know a process and then becomes `argv`.
    pub(super) fn launcher(&self, argv: &[String]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        let path = |fd: i32| OsString::from(format!("/proc/{}/fd/{fd}", std::process::id()));
        command
            .arg(LAUNCH)
            .arg(std::process::id().to_string())
            .arg(path(self.state().pipe.as_raw_fd()))
            .arg(path(self.failures.as_raw_fd()))
            .args(argv);
        command
    }

    /// A launcher was started.
    pub(super) fn started(&self, group: Pid) {
        self.state().groups.insert(group);
    }

    /// A group is about to be over. To be called before its first process is reaped: then its
    /// number may be another's.
    pub(super) fn forget(&self, group: Pid) {
        let mut state = self.state();
        if state.groups.remove(&group) {
            self.tell(&mut state, Frame::Forget(group));
        }
    }

    /// Why a launcher that has exited did not become its handler, if it did not.
    pub(super) fn failure(&self, group: Pid) -> Option<io::Error> {
        let mut state = self.state();
        let mut bytes = [0; FRAME_BYTES];
        while let Ok(FRAME_BYTES) = state.failures.read(&mut bytes) {
            if let Some(Frame::Failed(pid, errno)) = Frame::read(bytes) {
                state.failed.push((pid, io::Error::from_raw_os_error(errno)));
            }
        }
        let place = state.failed.iter().position(|(pid, _)| *pid == group)?;
        Some(state.failed.swap_remove(place).1)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame behind those that wait. A watchdog that has died is replaced by another, which
    /// hears everything anew.
    fn tell(&self, state: &mut State, frame: Frame) {
        state.unsent.push_back(frame);
        if let Err(error) = state.send() {
            warn!(%error, "the watchdog of handlers does not hear, starting another");
            // Dead, or frozen: then it may not wake up beside the next one with an old deadline.
            let _already_over = state.process.kill().and_then(|()| state.process.wait());
            match spawn(&self.program) {
                Ok((process, pipe)) => {
                    state.process = process;
                    let dead = std::mem::replace(&mut state.pipe, pipe);
                    state.dead_pipes.push(dead);
                    state.unsent.clear();
                    state.unsent.push_back(Frame::Until(state.until));
                    state.unsent.extend(state.groups.iter().map(|&group| Frame::Watch(group)));
                    let _next_time = state.send();
                }
                Err(error) => warn!(%error, "no other watchdog: no handler can start"),
            }
        }
    }
}

impl State {
    /// Sends what waits, as far as the pipe takes it. An error means that nobody reads any more.
    fn send(&mut self) -> io::Result<()> {
        while let Some(frame) = self.unsent.front() {
            match self.pipe.write(&frame.bytes()) {
                Ok(_) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if self.unsent.len() > UNSENT_MAX { Err(error) } else { Ok(()) };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Starts a watchdog process and returns the pipe that it reads.
fn spawn(program: &Path) -> io::Result<(Child, PipeWriter)> {
    let (read, write) = io::pipe()?;
    let (mut ready, say_ready) = io::pipe()?;
    unblock(&write)?;
    let mut command = Command::new(program);
    command
        .arg0(NAME)
        .arg(WATCH)
        .arg(format!("of-worker={}", std::process::id()))
        .env_clear()
        .current_dir("/")
        .stdin(read)
        .stdout(say_ready)
        .stderr(Stdio::null());
    // Not waited for at the end: it ends after this process, or a moment after its pipe is closed.
    let child = command.spawn()?;
    // This side's copies of the watchdog's ends go with it.
    drop(command);
    match ready.read(&mut [0])? {
        0 => Err(io::Error::other("the watchdog ended before its first word")),
        _ => Ok((child, write)),
    }
}

fn unblock(pipe: &impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(pipe)?;
    Ok(fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}
