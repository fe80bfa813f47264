//! The process that watches.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use dtask_core::time::Instant;
use rustix::process::{Pid, Signal, kill_process_group, setsid};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};

use super::NAME;
use super::frame::{FRAME_BYTES, Frame};
use crate::serve::clock::{Clock as _, SystemClock};

/// The longest sleep while anything runs: a timer stands still while the machine sleeps, the clock
/// that leases are measured by does not.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches until the worker is gone.
pub(super) fn run() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return ExitCode::FAILURE,
    };
    match runtime.block_on(watch()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn watch() -> io::Result<()> {
    setsid()?;
    // Else `ps` and `top` name it after the link that it was executed by.
    std::fs::write("/proc/self/comm", NAME)?;
    // Whoever stops a service signals all of its processes, and the worker then needs time to
    // drain: this one ends with the worker and no sooner.
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    let _deaf: Vec<_> = kinds.into_iter().map(signal).collect::<io::Result<_>>()?;
    let pipe = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    rustix::io::write(io::stdout(), b"!")?;
    let mut watched = Watched::default();
    loop {
        // Everything that was said comes before the deadline: what is over is not killed.
        let gone = watched.hear(&pipe)?;
        if gone || SystemClock.now().mono >= watched.until {
            watched.kill();
        }
        if gone {
            return Ok(());
        }
        let left = watched.until.since(SystemClock.now().mono).min(LOOK_EVERY);
        tokio::select! {
            biased;
            readable = pipe.readable() => readable?,
            () = tokio::time::sleep(left), if !watched.groups.is_empty() => {}
        }
    }
}

/// One deadline and every group.
#[derive(Debug, Default)]
struct Watched {
    until: Instant,
    groups: HashSet<Pid>,
}

impl Watched {
    /// Takes in what the pipe holds; true when the worker is gone.
    fn hear(&mut self, pipe: &Receiver) -> io::Result<bool> {
        let mut buffer = [0; 64 * FRAME_BYTES];
        loop {
            match pipe.try_read(&mut buffer) {
                Ok(0) => return Ok(true),
                // Whole frames: writes are atomic, and the buffer holds a whole number of them.
                Ok(length) => {
                    let (frames, _) = buffer[..length].as_chunks();
                    frames.iter().copied().filter_map(Frame::read).for_each(|it| self.take(it));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Until(at) => self.until = at,
            Frame::Watch(group) => drop(self.groups.insert(group)),
            Frame::Forget(group) => drop(self.groups.remove(&group)),
            Frame::Failed(..) => {}
        }
    }

    /// Upholds S11: the lease may be another worker's from here on.
    fn kill(&mut self) {
        for group in std::mem::take(&mut self.groups) {
            // ESRCH: all of it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
