//! Machines that fail below a process: disks that are full, syncs that fail or take long, clocks
//! that jump.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use super::{Case, Field, Plan};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "disk-full-leader",
        says: "the leader's file system fills up; it stops, says why, and comes back with room",
        short: true,
        plan: Plan::SMALL_DISKS,
        gap_max: 8,
        strike: disk_full_leader,
    },
    Case {
        name: "disk-full-follower",
        says: "a follower's file system fills up; it stops, says why, and comes back with room",
        short: false,
        plan: Plan::SMALL_DISKS,
        gap_max: 4,
        strike: disk_full_follower,
    },
    Case {
        name: "disk-full-most",
        says: "two of three file systems fill up: writes are refused until there is room again",
        short: false,
        plan: Plan::SMALL_DISKS,
        gap_max: 30,
        strike: disk_full_most,
    },
    Case {
        name: "sync-error-leader",
        says: "one sync of the leader's log fails, twice; it dies of it, never tries again",
        short: true,
        plan: Plan::SHIM,
        gap_max: 8,
        strike: sync_error_leader,
    },
    Case {
        name: "sync-error-follower",
        says: "one sync of a follower's log fails, twice; it dies of it, never tries again",
        short: false,
        plan: Plan::SHIM,
        gap_max: 4,
        strike: sync_error_follower,
    },
    Case {
        name: "sync-error-start",
        says: "a follower's n-th sync after its start fails, for n from 1 to 8",
        short: false,
        plan: Plan::SHIM,
        gap_max: 4,
        strike: sync_error_start,
    },
    Case {
        name: "sync-slow-leader",
        says: "each sync of the leader's log takes 700 ms longer; it hands leadership on",
        short: false,
        plan: Plan::SHIM,
        gap_max: 8,
        strike: sync_slow_leader,
    },
    Case {
        name: "clock-leader",
        says: "the leader's clock falls back by an hour, the next one's leaps ahead by 10 min",
        short: true,
        plan: Plan::SHIM,
        gap_max: 8,
        strike: clock_leader,
    },
    Case {
        name: "clock-follower",
        says: "a follower's clock is an hour ahead when the leader dies: the other one leads",
        short: false,
        plan: Plan::SHIM,
        gap_max: 8,
        strike: clock_follower,
    },
    Case {
        name: "clock-all",
        says: "all clocks leap ahead by a minute, then fall back",
        short: false,
        plan: Plan::SHIM,
        gap_max: 8,
        strike: clock_all,
    },
];

const FULL: &str = "No space left";

fn disk_full_leader(field: &mut Field) -> Result<()> {
    let leader = field.cluster.leader()?;
    disk_full(field, leader)
}

fn disk_full_follower(field: &mut Field) -> Result<()> {
    let follower = field.cluster.follower()?;
    disk_full(field, follower)
}

fn disk_full(field: &mut Field, id: usize) -> Result<()> {
    field.disks[id - 1].fill()?;
    field.strike();
    outgrow_a_segment(field)?;
    let status = field.cluster.ended(id, Duration::from_secs(60))?;
    dies_clearly(field, id, status, FULL)?;
    // The others go on meanwhile.
    field.rest(2.0);
    // While it is still full, a new life ends as clearly, or goes on with what room is left.
    field.cluster.start(id)?;
    field.rest(2.0);
    find_room(field, id)?;
    field.rest(2.0);
    Ok(())
}

fn disk_full_most(field: &mut Field) -> Result<()> {
    let (leader, follower) = (field.cluster.leader()?, field.cluster.follower()?);
    let full = [leader, follower];
    full.iter().try_for_each(|id| field.disks[id - 1].fill())?;
    field.strike();
    outgrow_a_segment(field)?;
    for id in full {
        let status = field.cluster.ended(id, Duration::from_secs(60))?;
        dies_clearly(field, id, status, FULL)?;
    }
    // Answers that are under way still arrive; then nobody has a majority.
    field.rest(1.0);
    field.refuses_writes(4.0)?;
    full.iter().try_for_each(|id| field.cluster.start(*id))?;
    field.rest(2.0);
    full.iter().try_for_each(|id| find_room(field, *id))?;
    field.cluster.leader()?;
    field.rest(2.0);
    Ok(())
}

/// Payloads for more than the log's first segment (4 MiB).
fn outgrow_a_segment(field: &mut Field) -> Result<()> {
    field.more("heavy", 90, 3, 64 << 10)
}

/// Its disk gets room; the node is started again if it has ended.
fn find_room(field: &mut Field, id: usize) -> Result<()> {
    field.disks[id - 1].free()?;
    if !field.cluster.is_up(id) {
        let status = field.cluster.ended(id, Duration::from_secs(1))?;
        dies_clearly(field, id, status, FULL)?;
        field.cluster.start(id)?;
    }
    Ok(())
}

fn sync_error_leader(field: &mut Field) -> Result<()> {
    for _ in 0..2 {
        let leader = field.cluster.leader()?;
        sync_error(field, leader)?;
    }
    Ok(())
}

fn sync_error_follower(field: &mut Field) -> Result<()> {
    for _ in 0..2 {
        let follower = field.cluster.follower()?;
        sync_error(field, follower)?;
    }
    Ok(())
}

fn sync_error(field: &mut Field, id: usize) -> Result<()> {
    let faults = &field.faults[id - 1];
    let before = faults.failed()?;
    faults.fail_sync(1)?;
    field.strike();
    let status = field.cluster.ended(id, Duration::from_secs(10))?;
    let faults = &field.faults[id - 1];
    ensure!(faults.failed()? == before + 1, "the process died before its sync failed");
    let syncs = faults.syncs()?;
    dies_clearly(field, id, status, "cannot sync")?;
    field.rest(2.0);
    ensure!(field.faults[id - 1].syncs()? == syncs, "a process that is gone syncs");
    field.cluster.start(id)?;
    field.rest(2.0);
    Ok(())
}

/// Opening a log syncs too: none of those may be ignored, and none leaves a log that cannot be
/// opened again.
fn sync_error_start(field: &mut Field) -> Result<()> {
    let follower = field.cluster.follower()?;
    field.strike();
    for n in 1..=8 {
        field.cluster.kill(follower)?;
        field.faults[follower - 1].fail_sync(n)?;
        field.cluster.start(follower)?;
        let status = field.cluster.ended(follower, Duration::from_secs(20))?;
        dies_clearly(field, follower, status, "cannot sync")?;
    }
    field.cluster.start(follower)?;
    field.rest(2.0);
    Ok(())
}

/// P3.9: a leader whose disk is slow hands leadership on.
fn sync_slow_leader(field: &mut Field) -> Result<()> {
    let leader = field.cluster.leader()?;
    field.strike();
    field.faults[leader - 1].slow_syncs(Duration::from_millis(700))?;
    hands_leadership_on(field, leader)?;
    field.rest(6.0);
    field.faults[leader - 1].slow_syncs(Duration::ZERO)?;
    field.rest(2.0);
    Ok(())
}

fn hands_leadership_on(field: &Field, leader: usize) -> Result<()> {
    field.cluster.until("leadership is handed on", Duration::from_secs(10), |cluster| {
        Ok((cluster.leader()? != leader).then_some(()))
    })
}

/// S26: a failure of the disk is the end of the process, with a status and one line that tell it.
fn dies_clearly(
    field: &Field,
    id: usize,
    status: std::process::ExitStatus,
    words: &str,
) -> Result<()> {
    ensure!(!status.success(), "node {id} calls it a success that its disk failed");
    let log = field.cluster.log_of_life(id);
    let lines = log.lines().filter(|line| line.contains(words)).count();
    ensure!(lines == 1, "node {id} ended with {status}; {lines} lines say `{words}`: {log}");
    Ok(())
}

/// P6.2: a leader whose clock is off hands leadership on, and the cluster's time is not moved by it.
fn clock_leader(field: &mut Field) -> Result<()> {
    field.strike();
    for seconds in [-3_600, 600] {
        let leader = field.cluster.leader()?;
        field.faults[leader - 1].shift_clock(seconds)?;
        hands_leadership_on(field, leader)?;
        field.rest(2.0);
        let ahead = time_is_ahead_by(field)?;
        ensure!((-5..=5).contains(&ahead), "the cluster's time is {ahead} s ahead at {seconds}");
        field.faults[leader - 1].shift_clock(0)?;
        field.rest(2.0);
    }
    Ok(())
}

/// By how many seconds the cluster's time is ahead of this machine's.
fn time_is_ahead_by(field: &Field) -> Result<i64> {
    let leader = field.cluster.leader()?;
    let view = field.cluster.http(leader, "/v1/cluster")?;
    let at: Timestamp = view["at"].as_str().context("the cluster's time")?.parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(at.as_second() - i64::try_from(now)?)
}

fn clock_follower(field: &mut Field) -> Result<()> {
    let (leader, follower) = (field.cluster.leader()?, field.cluster.follower()?);
    field.strike();
    field.faults[follower - 1].shift_clock(3_600)?;
    field.rest(2.0);
    field.cluster.kill(leader)?;
    field.rest(4.0);
    let next = field.cluster.leader()?;
    ensure!(next != follower, "node {next} leads, and its clock is an hour ahead");
    field.cluster.start(leader)?;
    field.rest(1.0);
    field.faults[follower - 1].shift_clock(0)?;
    field.rest(2.0);
    Ok(())
}

fn clock_all(field: &mut Field) -> Result<()> {
    field.strike();
    for seconds in [60, 0] {
        field.faults.iter().try_for_each(|faults| faults.shift_clock(seconds))?;
        field.rest(4.0);
        // Replicated time follows the clocks ahead, and never falls back (P6.1).
        let ahead = time_is_ahead_by(field)?;
        ensure!((45..=65).contains(&ahead), "the cluster's time is {ahead} s ahead at {seconds}");
    }
    Ok(())
}
