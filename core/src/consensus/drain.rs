//! The end of a turn: raft's Ready drained completely, by the asynchronous API (P3.1).

use alloc::vec::Vec;

use raft::eraftpb::{ConfChangeV2, EntryType, Message, MessageType};
use raft::{ReadState, Ready, StateRole};

use super::convert;
use super::group::{Group, Outstanding};
use super::message::{HardState, LogEntry, RaftMessage};
use super::turn::Turn;
use crate::consensus::Role;
use crate::consensus::{LogFact, Persist};
use crate::id::NodeId;

impl Group {
    /// Everything that follows; messages are appended to `mail`.
    pub(super) fn drain(&mut self, turn: &mut Turn, mail: &mut Vec<(NodeId, RaftMessage)>) {
        self.try_reads();
        self.release_held(mail);
        while self.raw.has_ready() {
            self.drain_ready(turn, mail);
            self.settle_reads();
            // A leader, or its first commit, may have become known: a dropped read succeeds now.
            self.try_reads();
        }
        self.record_compaction(turn);
        let commit = self.raw.raft.raft_log.committed;
        let overtaken = self.inbound.overtaken(commit);
        if turn.installed.is_none() {
            turn.refused_snapshot = overtaken;
        }
        self.outbound_mail(mail);
        let role = self.current_role();
        if role != self.role {
            if role.role != Role::Leader || role.term != self.role.term {
                self.outbound.clear();
            }
            self.role = role;
            turn.role = Some(role);
        }
    }

    fn drain_ready(&mut self, turn: &mut Turn, mail: &mut Vec<(NodeId, RaftMessage)>) {
        let mut ready = self.raw.ready();
        self.last_ready = ready.number();
        let before = self.hard_state;
        if let Some(state) = ready.hs() {
            self.hard_state = convert::hard_state_out(state);
        }
        if ready.must_sync() {
            self.record(&ready, before, turn);
        }
        let committed = ready.take_committed_entries();
        let reads = ready.take_read_states();
        let at_once = ready.take_messages();
        let after_persist = ready.take_persisted_messages();
        self.call(|raw| raw.advance_append_async(ready));
        if self.outstanding.is_empty() {
            // Nothing waits for the disk: raft's book of Readies would grow for ever.
            let number = self.last_ready;
            self.call(|raw| raw.on_persist_ready(number));
        }
        self.hand_out(committed, turn);
        for ReadState { index, request_ctx } in reads {
            self.reads.answered(&request_ctx, index, &mut turn.reads);
        }
        // P3.3: a leader's appends may overtake its own fsync, never that of its term and vote.
        let vote = self.outstanding.iter().rev().find(|o| o.votes).map_or(0, |o| o.n);
        self.post(vote, at_once, turn, mail);
        // P3.2, upholds S4: whatever a follower or candidate says waits for every earlier Persist,
        // also when its own Ready wrote nothing. A repeated append during the fsync of its first
        // copy yields an empty Ready whose acknowledgement is not true yet.
        let all = self.outstanding.iter().rev().find(|o| o.ready != 0).map_or(0, |o| o.n);
        self.post(all, after_persist, turn, mail);
    }

    /// The record of a Ready that must be synced. A commit-only Ready writes nothing; its commit
    /// rides in the next record (P3.1).
    fn record(&mut self, ready: &Ready, before: HardState, turn: &mut Turn) {
        let meta = (!ready.snapshot().is_empty()).then(|| convert::snapshot_out(ready.snapshot()));
        if let Some(meta) = &meta {
            self.raw.mut_store().reset(meta.clone());
            self.handed = meta.index;
            turn.installed = Some(meta.clone());
        }
        self.raw.mut_store().append(ready.entries());
        let entries: Vec<LogEntry> =
            ready.entries().iter().cloned().map(convert::entry_out).collect();
        let after = self.hard_state;
        self.outstanding.push_back(Outstanding {
            n: self.next_persist,
            ready: ready.number(),
            grows: meta.is_some() || !entries.is_empty(),
            votes: (before.term, before.vote) != (after.term, after.vote),
            snapshot: meta.as_ref().map_or(0, |meta| meta.index),
        });
        self.persist(after, entries, meta.map(LogFact::Reset), turn);
    }

    /// The record that lets older segments go, after everything that this turn has written.
    fn record_compaction(&mut self, turn: &mut Turn) {
        let Some(meta) = self.compacted.take() else { return };
        if meta.index < self.raw.store().snapshot_index() {
            // Upholds S25: a newer snapshot was installed in this very turn. Its record stands
            // already, and the log must not be said to begin before it again.
            return;
        }
        self.outstanding.push_back(Outstanding {
            n: self.next_persist,
            ready: 0,
            grows: false,
            votes: false,
            snapshot: 0,
        });
        self.persist(self.hard_state, Vec::new(), Some(LogFact::Compacted(meta)), turn);
    }

    fn persist(
        &mut self,
        hard_state: HardState,
        entries: Vec<LogEntry>,
        fact: Option<LogFact>,
        turn: &mut Turn,
    ) {
        turn.persists.push(Persist { n: self.next_persist, hard_state, entries, fact });
        self.next_persist += 1;
    }

    fn hand_out(&mut self, committed: Vec<raft::eraftpb::Entry>, turn: &mut Turn) {
        for entry in committed {
            self.handed = entry.index;
            if entry.entry_type != EntryType::EntryNormal {
                self.change_membership(&entry.data);
            }
            turn.committed.push(convert::entry_out(entry));
        }
        self.advance_applied();
    }

    /// raft has checked the change when it was proposed; one that cannot be read or applied
    /// changes nothing, on every node alike.
    fn change_membership(&mut self, data: &[u8]) {
        let Some(change) = decode_change(data) else { return };
        let _ = self.call(|raw| raw.apply_conf_change(&change));
    }

    fn try_reads(&mut self) {
        if let Some(context) = self.reads.next_try(self.tick) {
            self.call(|raw| raw.read_index(context.to_vec()));
        }
    }

    /// Tells reads when they may succeed.
    fn settle_reads(&mut self) {
        let raft = &self.raw.raft;
        let committed_own = raft.state == StateRole::Leader
            && self.settled_term < raft.term
            && raft.commit_to_current_term();
        if committed_own {
            self.settled_term = raft.term;
        }
        let leader = raft.leader_id;
        if committed_own || leader != self.read_leader {
            self.read_leader = leader;
            self.reads.hasten();
        }
    }

    /// Puts messages into the mail, or holds them until `Persist` `until` is durable.
    fn post(
        &mut self,
        until: u64,
        messages: Vec<Message>,
        turn: &mut Turn,
        mail: &mut Vec<(NodeId, RaftMessage)>,
    ) {
        for message in messages {
            let to = NodeId(message.to);
            let snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let message = convert::message_out(message);
            if snapshot {
                turn.send_snapshots.extend(self.outbound.begin(to, message));
            } else if until > self.durable {
                self.held.push((until, to, message));
            } else {
                mail.push((to, message));
            }
        }
    }

    fn release_held(&mut self, mail: &mut Vec<(NodeId, RaftMessage)>) {
        let durable = self.durable;
        mail.extend(
            self.held.extract_if(.., |(until, _, _)| *until <= durable).map(|(_, to, m)| (to, m)),
        );
    }

    fn outbound_mail(&mut self, mail: &mut Vec<(NodeId, RaftMessage)>) {
        let raft = &self.raw.raft;
        let in_snapshot = |id: NodeId| {
            raft.state == StateRole::Leader
                && raft
                    .prs()
                    .get(id.0)
                    .is_some_and(|progress| progress.state == raft::ProgressState::Snapshot)
        };
        self.outbound.retain(in_snapshot);
        self.outbound.repeats(self.tick, |to, message| mail.push((to, message)));
    }
}

fn decode_change(data: &[u8]) -> Option<ConfChangeV2> {
    use protobuf::Message as _;
    let mut change = ConfChangeV2::default();
    change.merge_from_bytes(data).ok()?;
    Some(change)
}
