//! A sole voter with a learner: nobody's answer stands between its election and its appends.

use alloc::vec;
use alloc::vec::Vec;

use raft::eraftpb::MessageType;

use crate::consensus::{Body, ConfState, Consensus, ConsensusConfig, Recovered, Turn, bootstrap};
use crate::id::{GroupId, Incarnation, NodeId};
use crate::time::{Instant, Now, Timestamp};

const US: NodeId = NodeId(1);
const LEARNER: NodeId = NodeId(2);

fn sole_voter() -> Consensus {
    let voters = vec![(US, Incarnation(11))];
    let conf = ConfState { voters: vec![US], learners: vec![LEARNER], ..ConfState::default() };
    let recovered = Recovered {
        incarnation: Incarnation(11),
        life: 1,
        formed: Some((bootstrap::cluster_id(&voters), voters)),
        conf: Some(conf),
        ..Recovered::default()
    };
    let config = ConsensusConfig::new(GroupId(1), US, vec![US], Incarnation(11), 7);
    Consensus::new(config, &recovered)
}

/// Turns at every tick until something is to be persisted; the turn that says so.
fn until_it_writes(node: &mut Consensus, from: u64) -> (Turn, Now) {
    for tick in from..from + 60 {
        let mono = Instant::from_micros(tick * 50_000);
        let now = Now { mono, wall: Timestamp::from_micros(0) };
        let mut turn = Turn::default();
        node.drain(now, &mut turn);
        if !turn.persists.is_empty() {
            return (turn, now);
        }
    }
    panic!("a sole voter elects itself");
}

fn appends(turn: &Turn) -> Vec<NodeId> {
    let messages = turn.sends.iter().flat_map(|envelope| match &envelope.body {
        Body::Raft(messages) => messages.iter().map(|it| (it.kind, envelope.to)).collect(),
        Body::Introduce { .. }
        | Body::Reject { .. }
        | Body::Announce { .. }
        | Body::Snapshot(_) => Vec::new(),
    });
    messages.filter(|(kind, _)| *kind == MessageType::MsgAppend as u8).map(|(_, to)| to).collect()
}

/// P3.3: it votes for itself, leads, and has an entry for the learner in one turn. Were that sent
/// before its term and vote are durable, a crash would let it lead the same term again with another
/// entry at the same index.
#[test]
fn a_sole_voters_appends_wait_for_its_own_vote() {
    let mut node = sole_voter();
    let (turn, now) = until_it_writes(&mut node, 1);
    let last = turn.persists.last().expect("it writes");
    assert_eq!((last.hard_state.term, last.hard_state.vote), (1, US.0));
    assert_eq!(appends(&turn), []);
    // The vote is durable: the entry may overtake the sync of its own bytes.
    node.persisted(now, last.n);
    let mut after = Turn::default();
    node.drain(now, &mut after);
    assert_eq!(appends(&after), [LEARNER]);
}
