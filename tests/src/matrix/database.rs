//! A PostgreSQL server that is stopped, killed, slow, or loses what becomes of a COMMIT. No run may
//! wait for it, and nothing may be missing or doubled in it afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Case, Field, Plan};
use crate::cut::{Cut, Cutter};
use crate::postgres::{Postgres, Stop};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "database-stop",
        says: "PostgreSQL is stopped for a minute; runs go on",
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
    field.rest(60.0);
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
