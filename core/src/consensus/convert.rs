//! raft-rs's types to ours and back, field by field, so that its parser never sees the network.

use alloc::vec::Vec;

use raft::eraftpb;

use super::message::{ConfState, HardState, LogEntry, RaftMessage, SnapshotMeta};
use crate::id::NodeId;

pub(super) fn entry_out(entry: eraftpb::Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        conf_change: entry.entry_type != eraftpb::EntryType::EntryNormal,
        data: entry.data,
    }
}

pub(super) fn entry_in(entry: LogEntry) -> eraftpb::Entry {
    eraftpb::Entry {
        // One kind of membership change exists: the second version (P10.4).
        entry_type: if entry.conf_change {
            eraftpb::EntryType::EntryConfChangeV2
        } else {
            eraftpb::EntryType::EntryNormal
        },
        index: entry.index,
        term: entry.term,
        data: entry.data,
        ..eraftpb::Entry::default()
    }
}

pub(super) const fn hard_state_out(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

pub(super) fn hard_state_in(state: HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
        ..eraftpb::HardState::default()
    }
}

pub(super) fn conf_out(conf: &eraftpb::ConfState) -> ConfState {
    fn ids(raw: &[u64]) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = raw.iter().copied().map(NodeId).collect();
        ids.sort_unstable();
        ids
    }
    ConfState {
        voters: ids(&conf.voters),
        learners: ids(&conf.learners),
        voters_outgoing: ids(&conf.voters_outgoing),
        learners_next: ids(&conf.learners_next),
        auto_leave: conf.auto_leave,
    }
}

pub(super) fn conf_in(conf: &ConfState) -> eraftpb::ConfState {
    fn ids(ids: &[NodeId]) -> Vec<u64> {
        ids.iter().map(|id| id.0).collect()
    }
    eraftpb::ConfState {
        voters: ids(&conf.voters),
        learners: ids(&conf.learners),
        voters_outgoing: ids(&conf.voters_outgoing),
        learners_next: ids(&conf.learners_next),
        auto_leave: conf.auto_leave,
        ..eraftpb::ConfState::default()
    }
}

pub(super) fn snapshot_in(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let into = snapshot.mut_metadata();
    into.index = meta.index;
    into.term = meta.term;
    into.set_conf_state(conf_in(&meta.conf));
    snapshot
}

pub(super) fn snapshot_out(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    SnapshotMeta { index: meta.index, term: meta.term, conf: conf_out(meta.get_conf_state()) }
}

pub(super) fn message_out(message: eraftpb::Message) -> RaftMessage {
    RaftMessage {
        kind: message.msg_type as u8,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: message.snapshot.as_ref().map(snapshot_out),
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
        entries: message.entries.into_iter().map(entry_out).collect(),
    }
}

/// `kind` was checked by the guard; an unknown number yields `None`.
pub(super) fn message_in(
    from: NodeId,
    to: NodeId,
    message: RaftMessage,
) -> Option<eraftpb::Message> {
    use protobuf::ProtobufEnum;
    let kind = eraftpb::MessageType::from_i32(i32::from(message.kind))?;
    let mut raw = eraftpb::Message {
        to: to.0,
        from: from.0,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
        ..eraftpb::Message::default()
    };
    raw.set_msg_type(kind);
    if let Some(meta) = &message.snapshot {
        raw.set_snapshot(snapshot_in(meta));
    }
    let entries: Vec<eraftpb::Entry> = message.entries.into_iter().map(entry_in).collect();
    raw.set_entries(entries.into());
    Some(raw)
}
