//! The first start (P4.1).

use super::cluster::Cluster;
use crate::consensus::Recovered;
use crate::consensus::{Body, Envelope};
use crate::id::{GroupId, Incarnation, NodeId};

#[test]
fn nothing_but_introductions_leaves_before_the_list_is_durable() {
    let mut cluster = Cluster::new(30, &[1, 2, 3]);
    cluster.keep_sent = true;
    cluster.member(NodeId(1)).fsync_micros = 200_000;
    cluster.run(150);
    let own = |envelope: &&Envelope| envelope.from.0 == NodeId(1);
    let raft = |envelope: &Envelope| matches!(envelope.body, Body::Raft(_));
    assert!(cluster.sent.iter().filter(own).count() > 0);
    assert!(!cluster.sent.iter().filter(own).any(raft));
    assert_eq!(cluster.machine(NodeId(1)).cluster_id(), None);
    cluster.run_until_led(10_000);
    cluster.run(500);
    let id = cluster.machine(NodeId(1)).cluster_id();
    assert!(id.is_some());
    for node in cluster.ids() {
        assert_eq!(cluster.machine(node).cluster_id(), id);
    }
}

#[test]
fn a_cluster_does_not_form_while_a_voter_is_missing() {
    let mut cluster = Cluster::new(31, &[1, 2, 3]);
    cluster.isolate(NodeId(3));
    cluster.run(5_000);
    assert!(cluster.machine(NodeId(1)).cluster_id().is_none());
    cluster.heal();
    cluster.run_until_led(10_000);
}

#[test]
fn a_node_whose_directory_was_emptied_halts_with_the_remedy() {
    let (mut cluster, leader) = Cluster::led(32, &[1, 2, 3]);
    let emptied = cluster.ids().into_iter().find(|id| *id != leader).expect("three nodes");
    cluster.crash(emptied);
    cluster.member(emptied).durable = Recovered::default();
    cluster.member(emptied).incarnation = Incarnation(9_999);
    cluster.keep_sent = true;
    cluster.start(emptied);
    cluster.run(2_000);
    let reason = cluster.member(emptied).halted.clone().expect("it halts");
    assert!(reason.contains("restore that directory"), "{reason}");
    let spoke = |envelope: &Envelope| {
        envelope.from.0 == emptied && !matches!(envelope.body, Body::Introduce { .. })
    };
    assert!(!cluster.sent.iter().any(spoke), "it never votes");
    cluster.propose(leader, "on");
    cluster.run(200);
    assert_eq!(cluster.texts(leader), ["on"]);
}

#[test]
fn envelopes_of_another_cluster_life_or_recipient_are_refused() {
    let (mut cluster, leader) = Cluster::led(33, &[1, 2, 3]);
    cluster.keep_sent = true;
    cluster.run(150);
    let genuine = cluster
        .sent
        .iter()
        .find(|envelope| envelope.from.0 == leader && matches!(envelope.body, Body::Raft(_)))
        .cloned()
        .expect("a heartbeat");
    let to = genuine.to;
    let commit = cluster.machine(to).commit_index();
    let now = cluster.clock();
    let raise = |envelope: &mut Envelope| {
        if let Body::Raft(messages) = &mut envelope.body {
            messages[0].term += 50;
        }
    };
    let term = cluster.machine(to).term();
    for spoil in [
        |e: &mut Envelope| e.group = GroupId(9),
        |e: &mut Envelope| e.cluster = None,
        |e: &mut Envelope| e.from.1 = Incarnation(1),
        |e: &mut Envelope| e.from.0 = NodeId(77),
        |e: &mut Envelope| e.to = NodeId(77),
    ] {
        let mut envelope = genuine.clone();
        raise(&mut envelope);
        spoil(&mut envelope);
        cluster.machine(to).step_peer(now, envelope);
        assert_eq!(cluster.machine(to).term(), term);
    }
    assert_eq!(cluster.machine(to).commit_index(), commit);
    // The same message from the right sender is believed.
    let mut envelope = genuine;
    raise(&mut envelope);
    cluster.machine(to).step_peer(now, envelope);
    assert_eq!(cluster.machine(to).term(), term + 50);
}

#[test]
fn a_restarted_node_resumes_without_introductions() {
    let (mut cluster, leader) = Cluster::led(34, &[1, 2, 3]);
    cluster.run(200);
    cluster.crash(leader);
    cluster.start(leader);
    assert!(cluster.machine(leader).cluster_id().is_some());
}
