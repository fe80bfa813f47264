//! A process group of our own making, from the first process's start until the last one's end.
//!
//! The first process's exit is seen through a pidfd before it is reaped: until then its number,
//! which is the group's, cannot be given to anyone else, so a signal never hits a stranger.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::Arc;

use dtask_core::worker::Signal;
use rustix::process::{self, Pid, PidfdFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use super::watchdog::Watchdog;

/// A running process group. Dropped, all of it is killed.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    pid: Pid,
    exit: AsyncFd<OwnedFd>,
    /// The first process is reaped: the number is not ours any more.
    over: bool,
    /// Knows the group too.
    watchdog: Option<Arc<Watchdog>>,
}

impl Group {
    /// Starts a command as the first process of a new group. With a watchdog it is one that names
    /// itself to it ([`Watchdog::launcher`]).
    pub(super) fn spawn(
        command: &mut Command,
        watchdog: Option<Arc<Watchdog>>,
    ) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| io::Error::other("the process has no number"))?;
        if let Some(watchdog) = &watchdog {
            watchdog.started(pid);
        }
        let watched = process::pidfd_open(pid, PidfdFlags::empty()).map_err(Into::into);
        match watched.and_then(watch) {
            Ok(exit) => Ok(Self { child, pid, exit, over: false, watchdog }),
            Err(error) => {
                // Not yet reaped, so the number is still its.
                let _ = process::kill_process_group(pid, process::Signal::KILL);
                if let Some(watchdog) = &watchdog {
                    watchdog.forget(pid);
                }
                Err(error)
            }
        }
    }

    /// The first process, for its pipes.
    pub(super) const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        let signal = match signal {
            Signal::Term => process::Signal::TERM,
            Signal::Kill => process::Signal::KILL,
        };
        if !self.over {
            // ESRCH: all have ended already.
            let _ = process::kill_process_group(self.pid, signal);
        }
    }

    /// Waits until the first process has exited. It is not reaped by that. Safe to drop and call
    /// again.
    pub(super) async fn exited(&self) -> io::Result<()> {
        self.exit.readable().await.map(|mut ready| ready.retain_ready())
    }

    /// After [`Group::exited`]: kills what is left of the group and reaps the first process.
    pub(super) async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.end();
        self.over = true;
        self.child.wait().await
    }

    /// After [`Group::reap`]: why the command was never executed, if it was not.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.watchdog.as_ref()?.failure(self.pid)
    }

    fn end(&self) {
        self.signal(Signal::Kill);
        if let Some(watchdog) = &self.watchdog
            && !self.over
        {
            watchdog.forget(self.pid);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// A pidfd becomes readable when its process exits.
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may close early; an OwnedFd does not"
    )]
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}
