//! Links between network namespaces that are cut, in both directions or in one.

use anyhow::{Context as _, Result};

use super::{Case, Field, Plan};
use crate::spaces::Spaces;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "cut-leader",
        says: "the leader's link is cut for 8 s",
        short: true,
        plan: Plan::NAMESPACES,
        gap_max: 12,
        strike: cut_leader,
    },
    Case {
        name: "cut-follower",
        says: "a follower's link is cut for 8 s",
        short: false,
        plan: Plan::NAMESPACES,
        gap_max: 8,
        strike: cut_follower,
    },
    Case {
        name: "cut-all",
        says: "every node's link is cut for 8 s: nobody has a majority",
        short: false,
        plan: Plan::NAMESPACES,
        gap_max: 20,
        strike: cut_all,
    },
    Case {
        name: "cut-worker",
        says: "a worker's link is cut for 20 s, longer than its lease",
        short: false,
        plan: Plan::NAMESPACES,
        gap_max: 8,
        strike: cut_worker,
    },
    Case {
        name: "mute-leader",
        says: "nothing that the leader sends reaches the other nodes for 8 s; it hears them",
        short: true,
        plan: Plan::NAMESPACES,
        gap_max: 12,
        strike: mute_leader,
    },
    Case {
        name: "deaf-leader",
        says: "the leader hears no other node for 8 s; they hear it",
        short: false,
        plan: Plan::NAMESPACES,
        gap_max: 12,
        strike: deaf_leader,
    },
];

/// The place of the worker that has a namespace.
const WORKER: usize = 4;

fn spaces(field: &Field) -> Result<&Spaces> {
    field.spaces.as_ref().context("the plan has namespaces")
}

fn cut(field: &mut Field, places: &[usize], seconds: f64) -> Result<()> {
    field.strike();
    places.iter().try_for_each(|place| spaces(field)?.cut(*place))?;
    field.rest(seconds);
    places.iter().try_for_each(|place| spaces(field)?.join(*place))?;
    field.rest(4.0);
    Ok(())
}

fn cut_leader(field: &mut Field) -> Result<()> {
    let leader = field.cluster.leader()?;
    cut(field, &[leader], 8.0)
}

fn cut_follower(field: &mut Field) -> Result<()> {
    let follower = field.cluster.follower()?;
    cut(field, &[follower], 8.0)
}

fn cut_all(field: &mut Field) -> Result<()> {
    let all: Vec<usize> = field.cluster.ids().collect();
    cut(field, &all, 8.0)
}

fn cut_worker(field: &mut Field) -> Result<()> {
    cut(field, &[WORKER], 20.0)
}

fn mute_leader(field: &mut Field) -> Result<()> {
    let leader = field.cluster.leader()?;
    let others = field.cluster.ids().filter(|id| *id != leader);
    one_way(field, &others.map(|other| (leader, other)).collect::<Vec<_>>())
}

fn deaf_leader(field: &mut Field) -> Result<()> {
    let leader = field.cluster.leader()?;
    let others = field.cluster.ids().filter(|id| *id != leader);
    one_way(field, &others.map(|other| (other, leader)).collect::<Vec<_>>())
}

fn one_way(field: &mut Field, routes: &[(usize, usize)]) -> Result<()> {
    field.strike();
    routes.iter().try_for_each(|(from, to)| spaces(field)?.silence(*from, *to))?;
    field.rest(8.0);
    routes.iter().try_for_each(|(from, to)| spaces(field)?.unsilence(*from, *to))?;
    field.rest(4.0);
    Ok(())
}
