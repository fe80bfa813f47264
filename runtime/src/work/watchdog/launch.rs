//! A handler's first process before it is the handler: it names itself to the watchdog, then
//! becomes the command. Without a watchdog that hears it, there is no handler.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::fs::OFlags;
use rustix::process::{getpid, getppid};

use super::frame::Frame;

/// Like a shell that finds no such program; the worker reads the reason from its pipe.
const NOT_STARTED: u8 = 127;

/// `words`: the worker's pid, the watchdog's pipe, the pipe for failures, program, arguments.
pub(super) fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(worker), Some(watchdog), Some(failures), Some(program)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return ExitCode::from(NOT_STARTED);
    };
    let error = match register(&worker, &watchdog) {
        Ok(()) => Command::new(program).args(words).exec(),
        Err(error) => error,
    };
    let failed = Frame::Failed(getpid(), error.raw_os_error().unwrap_or_default());
    // An error means that the worker is gone: nobody asks.
    let _ = open(&failures).and_then(|mut pipe| pipe.write_all(&failed.bytes()));
    ExitCode::from(NOT_STARTED)
}

/// Upholds S11: the watchdog has this process in its pipe before anything of the handler runs.
fn register(worker: &OsStr, watchdog: &OsStr) -> io::Result<()> {
    let mut pipe = open(watchdog)?;
    // The parent lives after the pipe was opened, so the pipe was its own, not that of a process
    // which has taken over its number.
    let parent = getppid().map(|pid| pid.to_string());
    if parent.is_none_or(|parent| worker != parent.as_str()) {
        return Err(rustix::io::Errno::SRCH.into());
    }
    pipe.write_all(&Frame::Watch(getpid()).bytes())
}

/// Fails at once where nobody reads. Closed when the handler begins.
fn open(path: &OsStr) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}
