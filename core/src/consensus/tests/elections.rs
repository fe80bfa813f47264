//! Who leads, and what is agreed.

use super::cluster::Cluster;
use crate::consensus::ProposeError;
use crate::consensus::Role;
use crate::id::NodeId;

#[test]
fn three_nodes_elect_one_leader_and_commit() {
    let (mut cluster, leader) = Cluster::led(1, &[1, 2, 3]);
    let (term, index) = cluster.propose(leader, "a");
    cluster.propose(leader, "b");
    cluster.run(300);
    for id in cluster.ids() {
        assert_eq!(cluster.texts(id), ["a", "b"], "node {id}");
        assert_eq!(cluster.machine(id).leader(), Some(leader));
    }
    assert_eq!(cluster.history[&index].0, term);
}

#[test]
fn a_single_node_forms_elects_itself_and_commits() {
    let (mut cluster, leader) = Cluster::led(2, &[7]);
    cluster.propose(leader, "a");
    cluster.run(50);
    assert_eq!(cluster.texts(NodeId(7)), ["a"]);
}

#[test]
fn only_the_leader_takes_proposals() {
    let (mut cluster, leader) = Cluster::led(3, &[1, 2, 3]);
    for id in cluster.ids().into_iter().filter(|id| *id != leader) {
        assert_eq!(cluster.machine(id).propose("x".into()), Err(ProposeError::NotLeading));
    }
}

#[test]
fn a_dead_leader_is_replaced_and_rejoins_as_follower() {
    let (mut cluster, first) = Cluster::led(4, &[1, 2, 3]);
    cluster.propose(first, "a");
    cluster.run(100);
    cluster.crash(first);
    cluster.run(2_500);
    let second = cluster.run_until_led(5_000);
    assert_ne!(first, second);
    cluster.propose(second, "b");
    cluster.run(200);
    cluster.start(first);
    cluster.run(1_000);
    assert_eq!(cluster.texts(first), ["a", "b"]);
    assert_eq!(cluster.machine(first).role(), Role::Follower);
}

#[test]
fn an_isolated_leader_steps_down_and_its_tail_is_replaced() {
    let (mut cluster, first) = Cluster::led(5, &[1, 2, 3]);
    cluster.propose(first, "kept");
    cluster.run(100);
    cluster.isolate(first);
    let (lost_term, lost_index) = cluster.propose(first, "lost");
    cluster.run(3_000);
    assert_ne!(cluster.machine(first).role(), Role::Leader);
    let second = cluster.run_until_led(5_000);
    assert_ne!(first, second);
    cluster.propose(second, "new");
    cluster.run(200);
    cluster.heal();
    cluster.run(2_000);
    for id in cluster.ids() {
        assert_eq!(cluster.texts(id), ["kept", "new"], "node {id}");
    }
    // P3.6: the index was applied with another term, so the proposal is known to be lost.
    assert_ne!(cluster.history[&lost_index].0, lost_term);
}

#[test]
fn a_minority_commits_nothing() {
    let (mut cluster, leader) = Cluster::led(6, &[1, 2, 3]);
    cluster.run(100);
    cluster.isolate(leader);
    let before = cluster.machine(leader).commit_index();
    cluster.propose(leader, "x");
    cluster.run(400);
    assert_eq!(cluster.machine(leader).commit_index(), before);
}

#[test]
fn leadership_is_handed_over_on_request() {
    let (mut cluster, first) = Cluster::led(7, &[1, 2, 3]);
    cluster.run(200);
    assert!(cluster.machine(first).transfer_leader(None));
    cluster.flush(first);
    cluster.run(200);
    let second = cluster.run_until_led(300);
    assert_ne!(first, second);
    assert!(!cluster.machine(first).transfer_leader(None), "a follower has nothing to hand over");
}

#[test]
fn a_read_is_confirmed_on_leader_and_follower() {
    let (mut cluster, leader) = Cluster::led(8, &[1, 2, 3]);
    let (_, index) = cluster.propose(leader, "a");
    cluster.run(100);
    for id in cluster.ids() {
        let read = cluster.machine(id).read().expect("formed");
        cluster.flush(id);
        cluster.run(50);
        assert!(cluster.member(id).reads[&read] >= index, "node {id}");
    }
}

#[test]
fn an_isolated_leader_confirms_no_read_until_it_is_heard_again() {
    let (mut cluster, leader) = Cluster::led(9, &[1, 2, 3]);
    cluster.run(100);
    cluster.isolate(leader);
    let read = cluster.machine(leader).read().expect("formed");
    cluster.flush(leader);
    cluster.run(3_000);
    assert!(!cluster.member(leader).reads.contains_key(&read));
    let other = cluster.run_until_led(5_000);
    let (_, index) = cluster.propose(other, "later");
    cluster.run(100);
    cluster.heal();
    cluster.run(2_000);
    // The retry with a fresh context is answered by the new leader, and not with a stale index.
    assert!(cluster.member(leader).reads[&read] >= index);
}

#[test]
fn a_read_that_was_dropped_in_silence_is_retried() {
    let mut cluster = Cluster::new(10, &[1, 2, 3]);
    // Formed, but nobody leads: raft drops the request without a word.
    while cluster.machine(NodeId(1)).read().is_none() {
        cluster.run(10);
    }
    cluster.flush(NodeId(1));
    assert!(cluster.leader().is_none());
    cluster.run_until_led(10_000);
    cluster.run(500);
    assert!(!cluster.member(NodeId(1)).reads.is_empty());
}
