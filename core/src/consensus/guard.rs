//! What raft-rs must not be shown: messages on which it would panic, or that no honest peer sends.

use alloc::format;
use alloc::string::String;

use raft::eraftpb::MessageType as Kind;

use super::message::RaftMessage;
use crate::id::NodeId;
use crate::limits::{NUMBER_MAX, TERM_MAX};

/// What the guard must know of raft's state.
pub(super) struct Facts {
    pub(super) me: NodeId,
    pub(super) term: u64,
    pub(super) last_index: u64,
    pub(super) leading: bool,
    /// Up to where the sender's log is known to match, when leading.
    pub(super) matched: u64,
}

/// Why a message is not stepped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is late, or repeats what is known.
    Stale,
    /// No honest peer says this.
    Hostile(String),
    /// It proves that this node's disk has lost what it had acknowledged.
    LostTail(String),
}

/// The kinds that travel between nodes. Proposals and transfers are never forwarded (P3.6).
pub(super) fn kind_of(number: u8) -> Option<Kind> {
    use protobuf::ProtobufEnum;
    match Kind::from_i32(i32::from(number))? {
        Kind::MsgHup
        | Kind::MsgBeat
        | Kind::MsgPropose
        | Kind::MsgUnreachable
        | Kind::MsgSnapStatus
        | Kind::MsgCheckQuorum
        | Kind::MsgTransferLeader => None,
        kind @ (Kind::MsgAppend
        | Kind::MsgAppendResponse
        | Kind::MsgRequestVote
        | Kind::MsgRequestVoteResponse
        | Kind::MsgSnapshot
        | Kind::MsgHeartbeat
        | Kind::MsgHeartbeatResponse
        | Kind::MsgTimeoutNow
        | Kind::MsgReadIndex
        | Kind::MsgReadIndexResp
        | Kind::MsgRequestPreVote
        | Kind::MsgRequestPreVoteResponse) => Some(kind),
    }
}

/// Judges one message.
pub(super) fn judge(kind: Kind, message: &RaftMessage, facts: &Facts) -> Result<(), Stop> {
    let local = kind == Kind::MsgReadIndex;
    if local != (message.term == 0) || message.term > TERM_MAX {
        return Err(hostile(format!("{kind:?} of term {}", message.term)));
    }
    if message.priority != 0 {
        // Nobody has one here. A vote refused for its priority in term zero makes raft-rs panic.
        return Err(hostile(format!("{kind:?} of priority {}", message.priority)));
    }
    match kind {
        Kind::MsgAppend => entries(message),
        Kind::MsgHeartbeat if message.term >= facts.term && message.commit > facts.last_index => {
            // The leader names no more than this node has acknowledged, and acknowledgements
            // follow persistence: raft-rs panics here, at every heartbeat to come.
            Err(Stop::LostTail(format!(
                "the log ends at index {}, yet the leader was told that {} is durable here",
                facts.last_index, message.commit
            )))
        }
        Kind::MsgAppendResponse if facts.leading && message.term == facts.term => {
            response(message, facts)
        }
        Kind::MsgSnapshot => snapshot(message, facts.me),
        Kind::MsgReadIndex | Kind::MsgReadIndexResp if message.entries.len() != 1 => {
            Err(hostile(format!("{kind:?} with {} contexts", message.entries.len())))
        }
        _ => Ok(()),
    }
}

/// Entries must follow `index` without gaps, with terms that never fall.
fn entries(message: &RaftMessage) -> Result<(), Stop> {
    let mut term = message.log_term;
    let mut index = message.index;
    // Beyond its own log raft-rs takes every place for one of term zero, so that this would match
    // there; only the place before the first entry has that term.
    if (index == 0) != (term == 0) {
        return Err(hostile(format!("entries after {index}/{term}")));
    }
    for entry in &message.entries {
        if index.checked_add(1) != Some(entry.index) || entry.term < term || entry.term == 0 {
            return Err(hostile(format!(
                "entry {}/{} after {index}/{term}",
                entry.index, entry.term
            )));
        }
        (index, term) = (entry.index, entry.term);
    }
    if term > message.term {
        return Err(hostile(format!("entries of term {term} in term {}", message.term)));
    }
    Ok(())
}

fn response(message: &RaftMessage, facts: &Facts) -> Result<(), Stop> {
    if message.reject {
        // raft-rs 0.7 would probe below what is known to match (its issue 555).
        if message.request_snapshot == 0 && message.reject_hint < facts.matched {
            return Err(Stop::Stale);
        }
        return Ok(());
    }
    if message.index > facts.last_index {
        return Err(hostile(format!(
            "acknowledges index {} of a log that ends at {}",
            message.index, facts.last_index
        )));
    }
    Ok(())
}

fn snapshot(message: &RaftMessage, me: NodeId) -> Result<(), Stop> {
    let Some(meta) = &message.snapshot else {
        return Err(hostile("a snapshot without its metadata".into()));
    };
    // Recovery takes an index that is never reached for damage: installed, it would end the node.
    if !(1..=NUMBER_MAX).contains(&meta.index) || meta.term == 0 || meta.term > message.term {
        return Err(hostile(format!("a snapshot at {}/{}", meta.index, meta.term)));
    }
    if !meta.conf.is_sound() {
        return Err(hostile(format!("a snapshot with the membership {:?}", meta.conf)));
    }
    if !meta.conf.voters.contains(&me) && !meta.conf.learners.contains(&me) {
        return Err(Stop::Stale);
    }
    Ok(())
}

const fn hostile(why: String) -> Stop {
    Stop::Hostile(why)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::consensus::message::{ConfState, LogEntry, SnapshotMeta};

    fn facts() -> Facts {
        Facts { me: NodeId(1), term: 5, last_index: 10, leading: true, matched: 7 }
    }

    fn say(kind: Kind, change: impl FnOnce(&mut RaftMessage)) -> Result<(), Stop> {
        let mut message = RaftMessage { kind: kind as u8, term: 5, ..RaftMessage::default() };
        change(&mut message);
        judge(kind, &message, &facts())
    }

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index, term, ..LogEntry::default() }
    }

    #[test]
    fn local_and_forwarded_kinds_do_not_travel() {
        for kind in [Kind::MsgHup, Kind::MsgPropose, Kind::MsgTransferLeader] {
            assert_eq!(kind_of(kind as u8), None);
        }
        assert_eq!(kind_of(200), None);
        assert_eq!(kind_of(Kind::MsgAppend as u8), Some(Kind::MsgAppend));
    }

    #[test]
    fn entries_with_gaps_or_falling_terms_are_hostile() {
        let with = |entries: Vec<LogEntry>| {
            say(Kind::MsgAppend, |m| (m.index, m.log_term, m.entries) = (3, 2, entries))
        };
        assert_eq!(with(vec![entry(4, 2), entry(5, 5)]), Ok(()));
        assert!(matches!(with(vec![entry(4, 2), entry(6, 2)]), Err(Stop::Hostile(_))));
        assert!(matches!(with(vec![entry(4, 3), entry(5, 2)]), Err(Stop::Hostile(_))));
        assert!(matches!(with(vec![entry(4, 6)]), Err(Stop::Hostile(_))));
        assert!(matches!(with(vec![entry(9, 3)]), Err(Stop::Hostile(_))));
    }

    #[test]
    fn a_vote_with_a_priority_is_hostile() {
        let of = |priority| say(Kind::MsgRequestPreVote, |m| m.priority = priority);
        assert_eq!(of(0), Ok(()));
        assert!(matches!(of(-1), Err(Stop::Hostile(_))));
    }

    #[test]
    fn entries_after_a_place_without_a_term_are_hostile() {
        let after = |index, term| say(Kind::MsgAppend, |m| (m.index, m.log_term) = (index, term));
        assert_eq!(after(0, 0), Ok(()));
        assert!(matches!(after(12, 0), Err(Stop::Hostile(_))));
        assert!(matches!(after(0, 3), Err(Stop::Hostile(_))));
    }

    #[test]
    fn a_heartbeat_beyond_the_log_proves_a_lost_tail() {
        assert!(matches!(say(Kind::MsgHeartbeat, |m| m.commit = 11), Err(Stop::LostTail(_))));
        assert_eq!(say(Kind::MsgHeartbeat, |m| m.commit = 10), Ok(()));
        assert_eq!(say(Kind::MsgHeartbeat, |m| (m.term, m.commit) = (4, 11)), Ok(()));
    }

    #[test]
    fn a_rejection_below_the_known_match_is_stale() {
        let refuse =
            |hint| say(Kind::MsgAppendResponse, |m| (m.reject, m.reject_hint) = (true, hint));
        assert_eq!(refuse(6), Err(Stop::Stale));
        assert_eq!(refuse(7), Ok(()));
    }

    #[test]
    fn acknowledging_what_was_never_sent_is_hostile() {
        assert!(matches!(say(Kind::MsgAppendResponse, |m| m.index = 11), Err(Stop::Hostile(_))));
    }

    #[test]
    fn a_snapshot_at_an_index_that_is_never_reached_is_hostile() {
        let at = |index| {
            let conf = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
            let meta = SnapshotMeta { index, term: 2, conf };
            say(Kind::MsgSnapshot, |m| m.snapshot = Some(meta))
        };
        assert_eq!(at(NUMBER_MAX), Ok(()));
        assert!(matches!(at(NUMBER_MAX + 1), Err(Stop::Hostile(_))));
        assert!(matches!(at(0), Err(Stop::Hostile(_))));
    }

    #[test]
    fn a_snapshot_needs_a_sound_membership() {
        let with = |voters: &[u64], learners: &[u64]| {
            let ids = |raw: &[u64]| raw.iter().copied().map(NodeId).collect();
            let conf =
                ConfState { voters: ids(voters), learners: ids(learners), ..ConfState::default() };
            let meta = SnapshotMeta { index: 9, term: 2, conf };
            say(Kind::MsgSnapshot, |m| m.snapshot = Some(meta))
        };
        assert_eq!(with(&[1, 2, 3], &[]), Ok(()));
        assert_eq!(with(&[2, 3], &[]), Err(Stop::Stale));
        assert!(matches!(with(&[], &[1]), Err(Stop::Hostile(_))));
        assert!(matches!(with(&[2, 1], &[]), Err(Stop::Hostile(_))));
        assert!(matches!(with(&[1, 2], &[2]), Err(Stop::Hostile(_))));
        let voters = vec![NodeId(1), NodeId(2)];
        let conf = ConfState { auto_leave: true, voters, ..ConfState::default() };
        assert!(!conf.is_sound(), "there is no joint configuration to leave");
        assert!(matches!(say(Kind::MsgSnapshot, |_| ()), Err(Stop::Hostile(_))));
    }

    use alloc::vec::Vec;
}
