//! What may be said before the disk has answered, and what may not.

use alloc::vec::Vec;

use raft::eraftpb::MessageType as Kind;

use super::cluster::Cluster;
use crate::consensus::Role;
use crate::consensus::{Body, Envelope, RaftMessage, Turn};
use crate::id::NodeId;

fn messages(sends: &[Envelope]) -> Vec<(NodeId, RaftMessage)> {
    sends
        .iter()
        .flat_map(|envelope| match &envelope.body {
            Body::Raft(messages) => {
                messages.iter().map(|message| (envelope.to, message.clone())).collect()
            }
            Body::Introduce { .. }
            | Body::Reject { .. }
            | Body::Announce { .. }
            | Body::Snapshot(_) => Vec::new(),
        })
        .collect()
}

fn acknowledges(turn: &Turn, index: u64) -> bool {
    messages(&turn.sends).iter().any(|(_, message)| {
        message.kind == Kind::MsgAppendResponse as u8 && !message.reject && message.index >= index
    })
}

/// The leader's append with `text` to a follower, taken off the wire.
fn append_of(cluster: &mut Cluster, leader: NodeId, text: &str) -> (NodeId, Envelope, u64) {
    cluster.keep_sent = true;
    cluster.sent.clear();
    cluster.isolate(leader);
    let (_, index) = cluster.propose(leader, text);
    let envelope = cluster
        .sent
        .iter()
        .find(|envelope| {
            messages(core::slice::from_ref(*envelope))
                .iter()
                .any(|(_, message)| message.entries.iter().any(|entry| entry.index == index))
        })
        .cloned()
        .expect("a leader appends before its own fsync");
    (envelope.to, envelope, index)
}

fn drain(cluster: &mut Cluster, id: NodeId) -> Turn {
    let now = cluster.clock();
    let mut turn = Turn::default();
    cluster.machine(id).drain(now, &mut turn);
    turn
}

#[test]
fn an_acknowledgement_waits_for_its_own_fsync() {
    let (mut cluster, leader) = Cluster::led(40, &[1, 2, 3]);
    cluster.run(200);
    let (to, envelope, index) = append_of(&mut cluster, leader, "a");
    let now = cluster.clock();
    cluster.machine(to).step_peer(now, envelope);
    let turn = drain(&mut cluster, to);
    let n = turn.persists.last().expect("the entry is written").n;
    assert!(!acknowledges(&turn, index));
    cluster.machine(to).persisted(now, n);
    assert!(acknowledges(&drain(&mut cluster, to), index));
}

#[test]
fn a_repeated_append_is_not_acknowledged_during_the_fsync_of_its_first_copy() {
    // P3.2: the second copy yields a Ready that writes nothing, with an acknowledgement in it.
    let (mut cluster, leader) = Cluster::led(41, &[1, 2, 3]);
    cluster.run(200);
    let (to, envelope, index) = append_of(&mut cluster, leader, "a");
    let now = cluster.clock();
    cluster.machine(to).step_peer(now, envelope.clone());
    let first = drain(&mut cluster, to);
    cluster.machine(to).step_peer(now, envelope);
    let second = drain(&mut cluster, to);
    assert!(second.persists.is_empty());
    assert!(!acknowledges(&second, index));
    let n = first.persists.last().expect("written").n;
    cluster.machine(to).persisted(now, n);
    assert!(acknowledges(&drain(&mut cluster, to), index));
}

#[test]
fn a_vote_is_durable_before_it_is_told_or_asked_for() {
    let mut cluster = Cluster::new(42, &[1, 2, 3]);
    for id in cluster.ids() {
        cluster.member(id).fsync_micros = 30_000;
    }
    cluster.keep_sent = true;
    cluster.run_until_led(20_000);
    let votes = [Kind::MsgRequestVote as u8, Kind::MsgRequestVoteResponse as u8];
    let mut seen = 0;
    // The cluster compares each message with its sender's durable state (`check_promises`).
    for (_, message) in messages(&cluster.sent) {
        seen += usize::from(votes.contains(&message.kind));
    }
    assert!(seen >= 3);
}

#[test]
fn no_election_begins_while_entries_are_in_mid_fsync() {
    // P3.4: raft-rs panics when it becomes leader with entries that are not persisted.
    let (mut cluster, leader) = Cluster::led(43, &[1, 2, 3]);
    cluster.run(200);
    let (to, envelope, _) = append_of(&mut cluster, leader, "a");
    let start = cluster.clock();
    cluster.machine(to).step_peer(start, envelope);
    let n = drain(&mut cluster, to).persists.last().expect("written").n;
    let mut now = start;
    for _ in 0..200 {
        now.mono = now.mono + crate::limits::TICK;
        cluster.machine(to).wake(now);
    }
    assert_eq!(cluster.machine(to).role(), Role::Follower, "ten seconds of a slow disk");
    cluster.machine(to).persisted(now, n);
    now.mono = now.mono + crate::limits::TICK;
    cluster.machine(to).wake(now);
    assert_eq!(cluster.machine(to).role(), Role::Candidate, "then at once");
}

#[test]
fn a_handed_over_leadership_waits_for_the_disk() {
    let (mut cluster, leader) = Cluster::led(44, &[1, 2, 3]);
    cluster.run(200);
    let (to, append, _) = append_of(&mut cluster, leader, "a");
    let now = cluster.clock();
    let mut order = append.clone();
    let term = cluster.machine(leader).term();
    let kind = Kind::MsgTimeoutNow as u8;
    order.body = Body::Raft([RaftMessage { kind, term, ..RaftMessage::default() }].into());
    cluster.machine(to).step_peer(now, append);
    let n = drain(&mut cluster, to).persists.last().expect("written").n;
    cluster.machine(to).step_peer(now, order);
    assert_eq!(cluster.machine(to).role(), Role::Follower);
    cluster.machine(to).persisted(now, n);
    assert_eq!(cluster.machine(to).role(), Role::Candidate);
}

#[test]
fn the_imposed_election_timeout_holds_after_every_call() {
    let (mut cluster, first) = Cluster::led(45, &[1, 2, 3]);
    for round in 0..20 {
        cluster.run(70);
        if round == 5 {
            cluster.isolate(first);
        }
        if round == 12 {
            cluster.heal();
        }
        for id in cluster.ids() {
            let group = cluster.machine(id).group().expect("formed");
            let imposed = group.imposed_timeout();
            assert_eq!(group.raw.raft.randomized_election_timeout(), imposed);
        }
    }
}

#[test]
fn a_commit_alone_writes_nothing() {
    let (mut cluster, leader) = Cluster::led(46, &[1, 2, 3]);
    cluster.run(300);
    cluster.propose(leader, "a");
    let before = cluster.trace.len();
    cluster.run(100);
    let persists =
        cluster.trace[before..].iter().filter(|line| line.contains("persists: [Persist"));
    // One record a follower; the commits that follow ride in later records.
    assert_eq!(persists.count(), 2);
}

#[test]
fn a_heartbeat_that_proves_a_lost_tail_halts_the_node() {
    let (mut cluster, leader) = Cluster::led(47, &[1, 2, 3]);
    for i in 0..5 {
        cluster.propose(leader, &alloc::format!("e{i}"));
    }
    cluster.run(300);
    let victim = cluster.ids().into_iter().find(|id| *id != leader).expect("three nodes");
    cluster.crash(victim);
    let durable = &mut cluster.member(victim).durable;
    durable.entries.truncate(2);
    durable.hard_state.commit = durable.hard_state.commit.min(2);
    cluster.start(victim);
    cluster.run(1_000);
    let reason = cluster.member(victim).halted.clone().expect("it halts instead of panicking");
    assert!(reason.contains("lost acknowledged entries"), "{reason}");
}
