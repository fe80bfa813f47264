//! Lines of the test's own between nodes and before them: slow, narrow, lossy, silent, reset.

use std::time::Duration;

use anyhow::Result;

use super::{Case, Field, Plan};
use crate::proxy::{Proxy, Way};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "wire-slow",
        says: "40 to 60 ms each way on every line for 8 s",
        short: false,
        plan: Plan::WIRES,
        gap_max: 6,
        strike: slow,
    },
    Case {
        name: "wire-narrow",
        says: "128 KiB/s on every line for 8 s",
        short: false,
        plan: Plan::WIRES,
        gap_max: 8,
        strike: narrow,
    },
    Case {
        name: "wire-loss",
        says: "2 % of the chunks come 200 ms late, and what follows them, for 8 s",
        short: false,
        plan: Plan::WIRES,
        gap_max: 8,
        strike: lossy,
    },
    Case {
        name: "wire-reset",
        says: "every connection is reset in mid-stream, every 300 ms for 8 s",
        short: true,
        plan: Plan::WIRES,
        gap_max: 10,
        strike: reset,
    },
    Case {
        name: "wire-half-open",
        says: "the leader's end of every connection is gone and the other end is not told",
        short: false,
        plan: Plan::WIRES,
        gap_max: 12,
        strike: half_open,
    },
    Case {
        name: "wire-stall",
        says: "every line of the leader stalls for 8 s; connections stay",
        short: false,
        plan: Plan::WIRES,
        gap_max: 14,
        strike: stall,
    },
    Case {
        name: "wire-one-way",
        says: "what the leader says to the other nodes stalls for 8 s; their words arrive",
        short: false,
        plan: Plan::WIRES,
        gap_max: 12,
        strike: one_way,
    },
];

fn all(field: &mut Field, ill: impl Fn(&Proxy)) {
    field.strike();
    field.wires.values().for_each(ill);
    field.rest(8.0);
    field.wires.values().for_each(Proxy::heal);
    field.rest(2.0);
}

fn slow(field: &mut Field) -> Result<()> {
    all(field, |wire| wire.delay(Duration::from_millis(40), Duration::from_millis(20)));
    Ok(())
}

fn narrow(field: &mut Field) -> Result<()> {
    all(field, |wire| wire.narrow(128 << 10));
    Ok(())
}

fn lossy(field: &mut Field) -> Result<()> {
    all(field, |wire| wire.lose(20));
    Ok(())
}

fn reset(field: &mut Field) -> Result<()> {
    field.strike();
    for _ in 0..26 {
        field.wires.values().for_each(Proxy::reset);
        field.rest(0.3);
    }
    field.rest(2.0);
    Ok(())
}

fn half_open(field: &mut Field) -> Result<()> {
    for _ in 0..2 {
        let leader = field.cluster.leader()?;
        field.strike();
        let to_leader = field.wires.iter().filter(|((_, to), _)| *to == leader);
        to_leader.for_each(|(_, wire)| wire.halve());
        field.rest(5.0);
    }
    Ok(())
}

fn stall(field: &mut Field) -> Result<()> {
    let leader = field.cluster.leader()?;
    let of_leader: Vec<_> =
        field.wires.keys().copied().filter(|(from, to)| [*from, *to].contains(&leader)).collect();
    field.strike();
    for wire in of_leader.iter().filter_map(|key| field.wires.get(key)) {
        wire.silence(Way::There, true);
        wire.silence(Way::Back, true);
    }
    field.rest(8.0);
    field.wires.values().for_each(Proxy::heal);
    field.rest(4.0);
    Ok(())
}

fn one_way(field: &mut Field) -> Result<()> {
    let leader = field.cluster.leader()?;
    field.strike();
    for ((from, to), wire) in &field.wires {
        // A node speaks on the connections that it opened, and is answered on them by HTTP/2 alone.
        if *from == leader {
            wire.silence(Way::There, true);
        } else if *from != 0 && *to == leader {
            wire.silence(Way::Back, true);
        }
    }
    field.rest(8.0);
    field.wires.values().for_each(Proxy::heal);
    field.rest(4.0);
    Ok(())
}
