//! CPU time and memory of processes, from /proc.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// User and system time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold spaces; utime and stime
    // are the 14th and 15th (proc_pid_stat(5)).
    let after = stat.rsplit(") ").next().context("an odd /proc/PID/stat")?;
    let mut fields = after.split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks().zip(ticks()).map(|(user, system)| user + system);
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks.context("an odd /proc/PID/stat")? * 1_000 / per_second))
}

/// Resident memory of a process, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
    Ok(pages.context("an odd /proc/PID/statm")? * rustix::param::page_size() as u64)
}
