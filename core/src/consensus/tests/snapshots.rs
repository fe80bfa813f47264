//! A follower that the log no longer reaches.

use super::cluster::Cluster;
use crate::id::NodeId;

/// Node ids other than the leader's.
fn followers(cluster: &Cluster, leader: NodeId) -> (NodeId, NodeId) {
    let mut others = cluster.ids().into_iter().filter(|id| *id != leader);
    (others.next().expect("three nodes"), others.next().expect("three nodes"))
}

#[test]
fn a_follower_beyond_the_log_catches_up_by_snapshot() {
    let (mut cluster, leader) = Cluster::led(20, &[1, 2, 3]);
    let (slow, _) = followers(&cluster, leader);
    cluster.crash(slow);
    for i in 0..20 {
        cluster.propose(leader, &alloc::format!("e{i}"));
        cluster.run(5);
    }
    cluster.run(200);
    cluster.snapshot(leader);
    cluster.propose(leader, "tail");
    cluster.run(100);
    cluster.start(slow);
    cluster.run(3_000);
    assert_eq!(cluster.texts(slow), cluster.texts(leader));
    assert_eq!(cluster.member(slow).installed, 1);
    assert!(!cluster.machine(leader).transferring());
    assert!(cluster.machine(leader).progress().iter().all(|peer| peer.alive && !peer.snapshot));
}

#[test]
fn a_crash_after_the_snapshot_was_installed_recovers_from_it() {
    let (mut cluster, leader) = Cluster::led(21, &[1, 2, 3]);
    let (slow, _) = followers(&cluster, leader);
    cluster.crash(slow);
    for i in 0..20 {
        cluster.propose(leader, &alloc::format!("e{i}"));
    }
    cluster.run(200);
    cluster.snapshot(leader);
    cluster.start(slow);
    cluster.run(2_000);
    cluster.crash(slow);
    cluster.propose(leader, "while down");
    cluster.run(100);
    cluster.start(slow);
    cluster.run(2_000);
    assert_eq!(cluster.texts(slow), cluster.texts(leader));
}

#[test]
fn a_compaction_in_the_turn_of_an_installation_does_not_undo_it() {
    let (mut cluster, leader) = Cluster::led(23, &[1, 2, 3]);
    let (slow, _) = followers(&cluster, leader);
    cluster.propose(leader, "before");
    cluster.run(500);
    cluster.crash(slow);
    for i in 0..20 {
        cluster.propose(leader, &alloc::format!("e{i}"));
    }
    cluster.run(200);
    cluster.snapshot(leader);
    cluster.compacts_at_install = true;
    cluster.start(slow);
    cluster.run(2_000);
    assert_eq!(cluster.member(slow).installed, 1);
    cluster.crash(slow);
    cluster.start(slow);
    cluster.run(2_000);
    assert_eq!(cluster.texts(slow), cluster.texts(leader));
}

#[test]
fn a_follower_that_dies_while_it_receives_is_sent_the_snapshot_again() {
    let (mut cluster, leader) = Cluster::led(22, &[1, 2, 3]);
    let (slow, _) = followers(&cluster, leader);
    cluster.crash(slow);
    for i in 0..50 {
        cluster.propose(leader, &alloc::format!("e{i}"));
    }
    cluster.run(200);
    cluster.snapshot(leader);
    cluster.start(slow);
    while cluster.member(slow).shadow.is_none() {
        cluster.run(1);
    }
    assert!(cluster.machine(leader).transferring());
    cluster.crash(slow);
    cluster.machine(leader).unreachable(slow);
    cluster.flush(leader);
    cluster.run(300);
    cluster.start(slow);
    cluster.run(5_000);
    assert_eq!(cluster.texts(slow), cluster.texts(leader));
    assert_eq!(cluster.member(slow).installed, 1);
}

#[test]
fn a_follower_that_lost_delivered_pieces_is_sent_them_again_within_seconds() {
    let (mut cluster, leader) = Cluster::led(24, &[1, 2, 3]);
    let (slow, _) = followers(&cluster, leader);
    cluster.crash(slow);
    for i in 0..50 {
        cluster.propose(leader, &alloc::format!("e{i}"));
    }
    cluster.run(200);
    cluster.snapshot(leader);
    cluster.start(slow);
    while cluster.member(slow).shadow.is_none() {
        cluster.run(1);
    }
    // The crash is so short that the leader's connection does not break: nobody tells it.
    cluster.crash(slow);
    cluster.run(10);
    assert!(cluster.machine(leader).transferring());
    cluster.start(slow);
    cluster.run(4_000);
    assert_eq!(cluster.texts(slow), cluster.texts(leader));
    assert_eq!(cluster.member(slow).installed, 1);
    assert!(!cluster.machine(leader).transferring());
}

#[test]
fn a_node_that_compacted_restarts_from_its_own_snapshot() {
    let (mut cluster, leader) = Cluster::led(23, &[1, 2, 3]);
    for i in 0..10 {
        cluster.propose(leader, &alloc::format!("e{i}"));
    }
    cluster.run(200);
    cluster.snapshot(leader);
    assert_eq!(cluster.machine(leader).log_bytes(), 0);
    cluster.run(100);
    cluster.propose(leader, "tail");
    cluster.run(100);
    cluster.crash(leader);
    cluster.start(leader);
    cluster.run(3_000);
    assert_eq!(cluster.texts(leader).len(), 11);
}
