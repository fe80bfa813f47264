//! Equal seeds give equal runs; whatever the network does, nodes agree.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::cluster::Cluster;

/// A run of `seconds` under loss, delay, partitions, crashes and snapshots.
fn stormy(seed: u64, seconds: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, &[1, 2, 3]);
    cluster.run_until_led(20_000);
    cluster.delay_micros = 1_000 + seed % 7 * 4_000;
    cluster.loss_percent = seed % 5 * 5;
    let ids = cluster.ids();
    for step in 0..seconds * 10 {
        let at = cluster.rng.below(3) as usize;
        let id = ids[at];
        let running = cluster.members[&id].machine.is_some();
        match cluster.rng.below(20) {
            0 => cluster.isolate(id),
            1..=3 => cluster.heal(),
            4 if running => cluster.crash(id),
            5..=9 if !running => cluster.start(id),
            10 => cluster.member(id).fsync_micros = 200,
            11 => cluster.member(id).fsync_micros = 60_000,
            12 if running
                && !cluster.members[&id].applied.is_empty()
                && !cluster.machine(id).transferring() =>
            {
                cluster.snapshot(id);
            }
            _ => {}
        }
        if let Some(leader) = cluster.leader() {
            let text = format!("{step}");
            if cluster.machine(leader).propose(text.into_bytes().into()).is_ok() {
                cluster.flush(leader);
            }
        }
        cluster.run(100);
    }
    cluster
}

/// Heals everything and waits until all nodes hold the same.
fn settle(cluster: &mut Cluster) -> Vec<String> {
    cluster.heal();
    cluster.loss_percent = 0;
    for id in cluster.ids() {
        assert_eq!(cluster.member(id).halted, None);
        cluster.member(id).fsync_micros = 200;
        if cluster.member(id).machine.is_none() {
            cluster.start(id);
        }
    }
    cluster.run(1_000);
    let leader = cluster.run_until_led(20_000);
    cluster.propose(leader, "end");
    cluster.run(50_000);
    let texts = cluster.texts(leader);
    for id in cluster.ids() {
        assert_eq!(cluster.texts(id), texts, "node {id}");
    }
    assert_eq!(texts.last().map(String::as_str), Some("end"));
    texts
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in [1, 2, 3] {
        let (first, second) = (stormy(seed, 20), stormy(seed, 20));
        assert!(first.trace.len() > 200, "{} lines", first.trace.len());
        assert_eq!(first.trace, second.trace);
    }
    assert_ne!(stormy(4, 2).trace, stormy(5, 2).trace);
}

#[test]
fn nodes_agree_after_any_storm() {
    let mut installed = 0;
    let mut terms = 0;
    for seed in 100..140 {
        let mut cluster = stormy(seed, 20);
        settle(&mut cluster);
        installed += cluster.members.values().map(|member| member.installed).sum::<u64>();
        terms += cluster.leaders.len();
    }
    assert!(installed > 0, "no storm installed a snapshot");
    assert!(terms > 80, "{terms} leaders in 40 storms");
}
