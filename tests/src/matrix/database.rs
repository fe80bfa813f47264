//! A PostgreSQL server that is stopped, killed, slow, or loses what becomes of a COMMIT. No run may
//! wait for it, and nothing may be missing or doubled in it afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Case, Field, Plan};
use crate::cut::{Cut, Cutter};
use crate::http;
use crate::postgres::{Postgres, RESTORED, Stop, UNDONE};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "database-stop",
        says: "PostgreSQL is stopped for three minutes; runs go on",
        short: false,
        plan: Plan::POSTGRES,
        gap_max: 4,
        strike: stop,
    },
    Case {
        name: "database-kill",
        says: "PostgreSQL is killed at work four times, and recovers",
        short: false,
        plan: Plan::POSTGRES,
        gap_max: 4,
        strike: kill,
    },
    Case {
        name: "database-commit",
        says: "the connection is cut in COMMIT: before it arrives, and before it is answered",
        short: true,
        plan: Plan::POSTGRES,
        gap_max: 4,
        strike: commit,
    },
    Case {
        name: "database-slow",
        says: "PostgreSQL stands still for 900 ms of each second, for 10 s",
        short: false,
        plan: Plan::POSTGRES,
        gap_max: 4,
        strike: slow,
    },
    Case {
        name: "database-kill-leader",
        says: "PostgreSQL and the leader are killed together; the next one goes on with both",
        short: false,
        plan: Plan::POSTGRES,
        gap_max: 8,
        strike: kill_leader,
    },
    Case {
        name: "database-older-dump",
        says: "PostgreSQL is restored from an older dump at work: the gap is what was lost",
        short: true,
        plan: Plan::POSTGRES,
        gap_max: 4,
        strike: older_dump,
    },
    Case {
        name: "database-bound",
        says: "PostgreSQL is stopped until 32 MiB wait for it: refusals, then a gap",
        short: false,
        plan: Plan { history_memory: Some(32 << 20), ..Plan::POSTGRES },
        gap_max: 4,
        strike: |field| bound(field, Heavy { bound: 32 << 20, bytes: 60_000 }),
    },
    Case {
        name: "database-bound-whole",
        says: "the same with the default bound, 1 GiB",
        short: false,
        plan: Plan::POSTGRES,
        gap_max: 4,
        strike: |field| bound(field, Heavy { bound: 1 << 30, bytes: 1_000_000 }),
    },
];

fn server(field: &mut Field) -> Result<&mut Postgres> {
    Ok(&mut field.database.as_mut().context("the plan has PostgreSQL")?.0)
}

fn cutter(field: &Field) -> Result<&Cutter> {
    Ok(&field.database.as_ref().context("the plan has PostgreSQL")?.1)
}

fn stop(field: &mut Field) -> Result<()> {
    field.strike();
    server(field)?.stop(Stop::Fast)?;
    field.rest(180.0);
    server(field)?.start_again()?;
    field.rest(2.0);
    Ok(())
}

fn kill(field: &mut Field) -> Result<()> {
    field.strike();
    for _ in 0..4 {
        server(field)?.kill()?;
        field.rest(1.0);
        server(field)?.start_again()?;
        field.rest(2.5);
    }
    Ok(())
}

fn commit(field: &mut Field) -> Result<()> {
    field.strike();
    for (cuts, cut) in (1..).zip([Cut::BeforeAnswer, Cut::BeforeCommit].repeat(3)) {
        cutter(field)?.next(cut);
        field.cluster.until("a COMMIT is cut", Duration::from_secs(20), |_| {
            Ok((cutter(field)?.cuts() == cuts).then_some(()))
        })?;
        field.rest(0.2);
    }
    Ok(())
}

fn slow(field: &mut Field) -> Result<()> {
    field.strike();
    for _ in 0..10 {
        server(field)?.freeze()?;
        field.rest(0.9);
        server(field)?.thaw()?;
        field.rest(0.1);
    }
    Ok(())
}

fn kill_leader(field: &mut Field) -> Result<()> {
    for _ in 0..2 {
        let leader = field.cluster.leader()?;
        field.strike();
        server(field)?.kill()?;
        field.cluster.kill(leader)?;
        field.rest(3.0);
        server(field)?.start_again()?;
        field.cluster.start(leader)?;
        field.rest(3.0);
    }
    Ok(())
}

/// What was lost is exact: the dump's cursor is read before anybody may move it, the lost one's
/// when nobody may any more.
fn older_dump(field: &mut Field) -> Result<()> {
    const THROUGH: &str = "SELECT through FROM dtask_cursor";
    let (load, runtime) = field.load()?;
    load.lasting(runtime, "in-the-dump", 5)?;
    field.rest(1.0);
    let dump = field.cluster.folder().join("dump");
    server(field)?.dump("dtask", &dump)?;
    let (load, runtime) = field.load()?;
    load.lasting(runtime, "behind-the-dump", 5)?;
    field.rest(2.0);
    field.strike();
    let server = server(field)?;
    server.restore_beside(&dump)?;
    let is: u64 = server.psql(RESTORED, THROUGH)?.parse()?;
    server.put_in_place("dtask")?;
    let was: u64 = server.psql(UNDONE, THROUGH)?.parse()?;
    ensure!(is < was, "the dump holds change {is}, the database held {was}");
    field.undone.restored(was, is);
    let gap = gap(field)?;
    ensure!(gap.0 == is + 1, "gap {gap:?} does not begin behind change {is}");
    field.rest(2.0);
    Ok(())
}

/// Waits for the first gap.
fn gap(field: &mut Field) -> Result<(u64, u64)> {
    let Field { cluster, database, .. } = field;
    let (server, _) = database.as_ref().context("the plan has PostgreSQL")?;
    let found = cluster.until("the gap is named", Duration::from_secs(60), |_| {
        let sql = "SELECT first, last FROM dtask_gaps ORDER BY first LIMIT 1";
        let row = server.psql("dtask", sql).unwrap_or_default();
        Ok(row.split_once('|').map(|(first, last)| (first.to_owned(), last.to_owned())))
    })?;
    Ok((found.0.parse()?, found.1.parse()?))
}

/// What fills the outbox.
struct Heavy {
    /// Its bound, in bytes.
    bound: u64,
    /// What a task's payload weighs.
    bytes: usize,
}

/// Tasks that are accepted while there is room, and run in two waves: the first takes the outbox
/// past three quarters of its bound, the second past 95 % of it.
fn bound(field: &mut Field, Heavy { bound, bytes }: Heavy) -> Result<()> {
    let tasks = |percent: u64| (bound * percent / 100 / bytes as u64) as u32;
    let waves = [("first", tasks(85)), ("second", tasks(40))];
    field.strike();
    server(field)?.stop(Stop::Fast)?;
    let (load, runtime) = field.load()?;
    load.lasting(runtime, "waits", 5)?;
    for (queue, count) in waves {
        load.heavy(runtime, queue, count, bytes)?;
    }
    for (queue, count) in waves {
        field.worker(queue, None)?;
        field.have_ended(queue, count)?;
        if queue == "first" {
            new_work_is_refused(field)?;
        }
    }
    field.rest(1.0);
    server(field)?.start_again()?;
    gap(field)?;
    // What the bound let wait is written at the disk's speed.
    field.cluster.until("history catches up", Duration::from_secs(300), |cluster| {
        let lag = cluster.views().ok().and_then(|views| views[0]["history_lag"].as_u64());
        Ok(lag.is_some_and(|lag| lag < 1_000).then_some(()))
    })?;
    field.rest(2.0);
    Ok(())
}

/// P9.5: new submits and triggers are refused at every node, and say when to come again; a cancel
/// is taken.
fn new_work_is_refused(field: &mut Field) -> Result<()> {
    for id in field.cluster.ids() {
        for (path, body) in [
            ("/v1/tasks", json!({"id": "refused", "type": "effect", "payload": "3"})),
            ("/v1/tasks/waits-0/trigger", json!({})),
        ] {
            let answer = http::post(&field.cluster, id, path, &body)?;
            ensure!(answer.status == 429 && answer.again, "{path} at node {id} is {answer:?}");
        }
    }
    let (load, runtime) = field.load()?;
    load.cancel(runtime, "waits-1")
}
