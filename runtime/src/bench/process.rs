//! CPU time and memory of processes, from /proc.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// User and system time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold spaces; utime and stime
    // are the 14th and 15th (proc_pid_stat(5)).
    let ticks = fields(&stat, 11).take(2).sum();
    Ok(ticks_time(ticks))
}

/// As [`cpu_time`], with all children: those that live, and those that have ended and were waited
/// for (the 16th and 17th field).
pub(crate) fn family_cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut ticks: u64 = fields(&stat, 11).take(4).sum();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let child = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(child) = child.filter(|child| parent(*child) == Some(pid)) {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
            ticks += fields(&stat.unwrap_or_default(), 11).take(2).sum::<u64>();
        }
    }
    Ok(ticks_time(ticks))
}

fn ticks_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

/// The numbers behind a process's name, from one of them on.
fn fields(stat: &str, first: usize) -> impl Iterator<Item = u64> {
    let after = stat.rsplit(") ").next().unwrap_or_default();
    after.split(' ').skip(first).map_while(|field| field.parse().ok())
}

/// Who started a process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    fields(&stat, 1).next().and_then(|pid| u32::try_from(pid).ok())
}

/// A process's program.
pub(crate) fn name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Resident memory of a process, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
    Ok(pages.context("an odd /proc/PID/statm")? * rustix::param::page_size() as u64)
}
