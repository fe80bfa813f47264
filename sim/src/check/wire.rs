//! What nodes may say to each other: S1, S2, S3, judged on every message that leaves.

use std::collections::BTreeMap;

use dtask_core::consensus::RaftMessage;
use dtask_core::id::NodeId;

use super::{Verdict, hold};

/// raft-rs's numbers of the message types that checkers look at.
pub mod kind {
    /// Entries, from the leader.
    pub const APPEND: u8 = 3;
    /// The answer to them.
    pub const APPEND_RESPONSE: u8 = 4;
    /// A candidate asks.
    pub const VOTE: u8 = 5;
    /// The answer to it.
    pub const VOTE_RESPONSE: u8 = 6;
    /// A snapshot's metadata, from the leader.
    pub const SNAPSHOT: u8 = 7;
    /// From the leader.
    pub const HEARTBEAT: u8 = 8;
    /// The answer to it.
    pub const HEARTBEAT_RESPONSE: u8 = 9;
    /// Hand over leadership.
    pub const TIMEOUT_NOW: u8 = 14;
    /// A read's answer.
    pub const READ_INDEX_RESPONSE: u8 = 16;
    /// A pre-candidate asks, in a term that it has not entered.
    pub const PRE_VOTE: u8 = 17;
    /// The answer to it.
    pub const PRE_VOTE_RESPONSE: u8 = 18;
}

/// Tells whether only a leader says this.
pub const fn is_leaders_word(kind: u8) -> bool {
    matches!(kind, kind::APPEND | kind::SNAPSHOT | kind::HEARTBEAT | kind::TIMEOUT_NOW)
}

/// Listens to the wire across all lives of all nodes.
#[derive(Debug, Default)]
pub struct Wire {
    leaders: BTreeMap<u64, NodeId>,
    votes: BTreeMap<(NodeId, u64), NodeId>,
    terms: BTreeMap<(NodeId, NodeId), u64>,
}

impl Wire {
    /// Judges a message from `from` to `to`.
    pub fn sent(&mut self, from: NodeId, to: NodeId, message: &RaftMessage) -> Verdict {
        self.s3_terms_never_fall(from, to, message)?;
        self.s2_one_vote_a_term(from, to, message)?;
        if is_leaders_word(message.kind) {
            self.s1_one_leader_a_term(message.term, from)?;
        }
        Ok(())
    }

    /// S1: at most one node leads in a term. Returns whether `leader` is new in this term.
    pub fn s1_one_leader_a_term(&mut self, term: u64, leader: NodeId) -> Verdict {
        let known = *self.leaders.entry(term).or_insert(leader);
        hold!("S1", known == leader, "term {term} is led by node {known} and by node {leader}");
        Ok(())
    }

    /// S2: a node grants one candidate a term, across its lives.
    fn s2_one_vote_a_term(&mut self, from: NodeId, to: NodeId, message: &RaftMessage) -> Verdict {
        let grants = match message.kind {
            // A candidate's request says that it voted for itself.
            kind::VOTE => Some(from),
            kind::VOTE_RESPONSE if !message.reject => Some(to),
            _ => None,
        };
        let Some(candidate) = grants else { return Ok(()) };
        let known = *self.votes.entry((from, message.term)).or_insert(candidate);
        hold!(
            "S2",
            known == candidate,
            "node {from} granted term {} to node {known} and to node {candidate}",
            message.term
        );
        Ok(())
    }

    /// S3: the term that a node sends to another never falls, across its lives. (What one turn says
    /// is sorted by recipient, so only each recipient hears it in order.) Pre-votes speak of terms
    /// that nobody has entered.
    fn s3_terms_never_fall(&mut self, from: NodeId, to: NodeId, message: &RaftMessage) -> Verdict {
        if matches!(message.kind, kind::PRE_VOTE | kind::PRE_VOTE_RESPONSE) || message.term == 0 {
            return Ok(());
        }
        let newest = self.terms.entry((from, to)).or_insert(0);
        hold!(
            "S3",
            message.term >= *newest,
            "node {from} sent node {to} term {} after term {newest} (message type {})",
            message.term,
            message.kind
        );
        *newest = message.term;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, term: u64) -> RaftMessage {
        RaftMessage { kind, term, ..RaftMessage::default() }
    }

    #[test]
    fn two_leaders_in_one_term_are_seen() {
        let mut wire = Wire::default();
        assert!(wire.sent(NodeId(1), NodeId(2), &message(kind::HEARTBEAT, 3)).is_ok());
        let verdict = wire.sent(NodeId(2), NodeId(1), &message(kind::APPEND, 3));
        assert_eq!(verdict.map_err(|violation| violation.id), Err("S1"));
    }

    #[test]
    fn two_votes_in_one_term_are_seen() {
        let mut wire = Wire::default();
        assert!(wire.sent(NodeId(3), NodeId(1), &message(kind::VOTE_RESPONSE, 3)).is_ok());
        let verdict = wire.sent(NodeId(3), NodeId(2), &message(kind::VOTE_RESPONSE, 3));
        assert_eq!(verdict.map_err(|violation| violation.id), Err("S2"));
    }

    #[test]
    fn a_falling_term_is_seen() {
        let mut wire = Wire::default();
        assert!(wire.sent(NodeId(3), NodeId(1), &message(kind::APPEND_RESPONSE, 3)).is_ok());
        let verdict = wire.sent(NodeId(3), NodeId(1), &message(kind::HEARTBEAT_RESPONSE, 2));
        assert_eq!(verdict.map_err(|violation| violation.id), Err("S3"));
    }
}
