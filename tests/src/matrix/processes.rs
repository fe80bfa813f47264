//! Processes that die by kill -9, and processes that stand still (SIGSTOP) and go on.

use anyhow::Result;
use rustix::process::Signal;

use super::{Case, Field, Plan};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "kill-leader",
        says: "the leader is killed three times, and starts again",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 8,
        strike: kill_leader,
    },
    Case {
        name: "kill-follower",
        says: "a follower is killed three times, and starts again",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 4,
        strike: kill_follower,
    },
    Case {
        name: "kill-worker",
        says: "each worker is killed with what it runs, and starts again",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 4,
        strike: kill_worker,
    },
    Case {
        name: "kill-all",
        says: "all nodes are killed at once, twice, and start again",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 12,
        strike: kill_all,
    },
    Case {
        name: "stop-leader",
        says: "the leader stands still for 6 s, twice",
        short: true,
        plan: Plan::PLAIN,
        gap_max: 12,
        strike: stop_leader,
    },
    Case {
        name: "stop-follower",
        says: "a follower stands still for 6 s",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 8,
        strike: stop_follower,
    },
    Case {
        name: "stop-worker",
        says: "a worker stands still for 20 s, longer than its lease",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 4,
        strike: stop_worker,
    },
    Case {
        name: "stop-worker-long",
        says: "a worker stands still for 25 s while its handlers could go on for 30 s",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 4,
        strike: stop_worker_long,
    },
    Case {
        name: "kill-worker-long",
        says: "a worker is killed while its handlers could go on for 30 s",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 4,
        strike: kill_worker_long,
    },
    Case {
        name: "stop-all",
        says: "all nodes stand still for 8 s",
        short: false,
        plan: Plan::PLAIN,
        gap_max: 16,
        strike: stop_all,
    },
];

fn kill_leader(field: &mut Field) -> Result<()> {
    for _ in 0..3 {
        let leader = field.cluster.leader()?;
        field.strike();
        field.cluster.kill(leader)?;
        field.rest(3.0);
        field.cluster.start(leader)?;
        field.rest(1.5);
    }
    Ok(())
}

fn kill_follower(field: &mut Field) -> Result<()> {
    for _ in 0..3 {
        let follower = field.cluster.follower()?;
        field.strike();
        field.cluster.kill(follower)?;
        field.rest(2.0);
        field.cluster.start(follower)?;
        field.rest(1.0);
    }
    Ok(())
}

fn kill_worker(field: &mut Field) -> Result<()> {
    for worker in [1, 2] {
        field.strike();
        field.cluster.kill_worker(worker)?;
        field.rest(1.0);
        field.cluster.restart_worker(worker)?;
        field.rest(1.5);
    }
    // The lost attempts' leases end meanwhile.
    field.rest(14.0);
    Ok(())
}

fn kill_all(field: &mut Field) -> Result<()> {
    for _ in 0..2 {
        field.strike();
        field.cluster.ids().try_for_each(|id| field.cluster.kill(id))?;
        field.rest(1.0);
        field.cluster.start_all()?;
        field.cluster.leader()?;
        field.rest(4.0);
    }
    Ok(())
}

fn stop_leader(field: &mut Field) -> Result<()> {
    for _ in 0..2 {
        let leader = field.cluster.leader()?;
        field.strike();
        field.cluster.signal(leader, Signal::STOP)?;
        field.rest(6.0);
        field.cluster.signal(leader, Signal::CONT)?;
        field.rest(2.0);
    }
    Ok(())
}

fn stop_follower(field: &mut Field) -> Result<()> {
    let follower = field.cluster.follower()?;
    field.strike();
    field.cluster.signal(follower, Signal::STOP)?;
    field.rest(6.0);
    field.cluster.signal(follower, Signal::CONT)?;
    field.rest(2.0);
    Ok(())
}

fn stop_worker(field: &mut Field) -> Result<()> {
    field.strike();
    field.cluster.signal_worker(1, Signal::STOP)?;
    field.rest(20.0);
    field.cluster.signal_worker(1, Signal::CONT)?;
    field.rest(2.0);
    Ok(())
}

/// Handlers that outlast a lease (15 s), at both workers.
const LONG_MS: u32 = 30_000;

fn long_handlers(field: &mut Field) -> Result<()> {
    field.more("outlasting", 8, LONG_MS, 0)?;
    field.rest(2.0);
    field.strike();
    Ok(())
}

/// P7.4: whoever stands in for the worker ends its handlers before another worker may begin.
fn stop_worker_long(field: &mut Field) -> Result<()> {
    long_handlers(field)?;
    field.cluster.signal_worker(1, Signal::STOP)?;
    field.rest(25.0);
    field.cluster.signal_worker(1, Signal::CONT)?;
    field.rest(2.0);
    Ok(())
}

fn kill_worker_long(field: &mut Field) -> Result<()> {
    long_handlers(field)?;
    field.cluster.kill_worker(1)?;
    field.rest(25.0);
    field.cluster.restart_worker(1)?;
    field.rest(2.0);
    Ok(())
}

fn stop_all(field: &mut Field) -> Result<()> {
    field.strike();
    field.cluster.ids().try_for_each(|id| field.cluster.signal(id, Signal::STOP))?;
    field.rest(8.0);
    field.cluster.ids().try_for_each(|id| field.cluster.signal(id, Signal::CONT))?;
    field.rest(4.0);
    Ok(())
}
