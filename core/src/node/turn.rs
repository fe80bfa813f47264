//! The end of a turn: plan, propose, drain raft's Ready completely, apply, answer, emit (P1.2).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::io::{Effect, Note, Unfit};
use super::reads::Question;
use super::request::{Rejection, Reply, Role};
use super::{Node, start};
use crate::consensus::{LogEntry, Mark, RoleChange, Turn};
use crate::leader::{Leader, Terms};
use crate::machine::Outbox;
use crate::state::State;
use crate::time::Now;

/// Between two announcements of a node's addresses: a commit takes far less, a lost message may
/// cost a caller one look-up.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(3);
/// Between two entries by which undecided voters compare their states: members tell of their marks
/// twice a second.
const ASK_MARKS_EVERY: Duration = Duration::from_secs(1);

impl Node {
    pub(super) fn flush(&mut self, now: Now, out: &mut Outbox<Effect>) {
        self.consensus.wake(now);
        self.weigh(now, out);
        self.announce(now);
        let applied = self.state.applied_index();
        // Ends: a proposal is committed by a later turn at the earliest, since it has to be
        // durable first (P3.1), so the second pass finds nothing more to propose or to ask.
        loop {
            let asked = self.begin_reads();
            self.drain(now, out);
            if self.halted || !(self.plan(now, out) || asked) {
                break;
            }
        }
        for ticket in self.reads.impatient(now.mono) {
            out.push(Effect::Answer { ticket, reply: Reply::Rejected(Rejection::NoLeader) });
        }
        if let Some(leader) = &mut self.leader {
            leader.end_turn(now, &self.state, out);
        }
        if self.state.applied_index() > applied {
            out.push(Effect::Note(Note::Applied { index: self.state.applied_index() }));
        }
        if !self.halted {
            self.tell_rest(now, out);
            self.walk(out);
        }
    }

    /// P3.6: tells the leader where this node is reached, until that is agreed. The leader's own
    /// word needs no message. raft's ticks wake often enough.
    fn announce(&mut self, now: Now) {
        let (id, own) = (self.config.id, &self.config.addresses);
        let agreed = self.state.addresses(id) == Some((&*own.grpc, &*own.http));
        if agreed || own.grpc.is_empty() || now.mono < self.announce_at {
            return;
        }
        let Some(leader) = self.leader_elsewhere() else { return };
        self.announce_at = now.mono + ANNOUNCE_EVERY;
        self.consensus.announce(leader, own.grpc.clone(), own.http.clone());
    }

    /// Begins a ReadIndex round for what was asked since the last one.
    fn begin_reads(&mut self) -> bool {
        if !self.reads.wants_round() || !self.may_read() {
            return false;
        }
        let Some(id) = self.consensus.read() else { return false };
        self.reads.begin(id);
        true
    }

    /// raft drops a leader's reads until the first entry of its term is committed.
    fn may_read(&self) -> bool {
        match &self.leader {
            Some(leader) => leader.is_awake(),
            None => self.role.leader.is_some(),
        }
    }

    fn plan(&mut self, now: Now, out: &mut Outbox<Effect>) -> bool {
        let (stamped, still) = (self.stamped(now), self.split.is_some());
        let Some(leader) = &mut self.leader else { return false };
        // P5.3: an entry that says nothing is marked by all. Without it a quiet cluster, or one that
        // dispatches nothing, would not learn who is right.
        let asks = self.marks.is_undecided() && now.mono >= self.ask_marks_at;
        if asks {
            self.ask_marks_at = now.mono + ASK_MARKS_EVERY;
        }
        let asked = asks && self.consensus.propose(Bytes::new()).is_ok();
        leader.stand_still(still);
        let mut unknown = Vec::new();
        leader.plan(stamped, &self.state, &mut unknown, out);
        let mut proposed = asked;
        while let Some(data) = leader.next_proposal() {
            match self.consensus.propose(data) {
                Ok((term, index)) => {
                    leader.proposed(term, index);
                    proposed = true;
                }
                // Leadership is on its way elsewhere, or too much waits for commit: the draft
                // stays first in line.
                Err(_) => break,
            }
        }
        for asked in unknown {
            self.reads.ask(now.mono, Question::Unknown(asked));
            proposed = true;
        }
        proposed
    }

    fn drain(&mut self, now: Now, out: &mut Outbox<Effect>) {
        let mut turn = core::mem::take(&mut self.turn);
        self.consensus.drain(now, &mut turn);
        self.take_turn(now, &mut turn, out);
        self.turn = turn;
    }

    fn take_turn(&mut self, now: Now, turn: &mut Turn, out: &mut Outbox<Effect>) {
        if let Some(reason) = turn.halt.take() {
            return self.halt(reason, out);
        }
        for (node, grpc, http) in turn.announced.drain(..) {
            if let Some(leader) = &mut self.leader {
                leader.announced(node, grpc, http);
            }
        }
        for persist in turn.persists.drain(..) {
            self.syncs.asked(now.mono, persist.n);
            out.push(Effect::Persist(persist));
        }
        for text in turn.warnings.drain(..) {
            out.push(Effect::Note(Note::Warning { text }));
        }
        if let Some(cluster) = turn.formed.take() {
            if let Some(voters) = self.consensus.formed_by() {
                self.state = State::new(start::index_key(voters))
                    .keeping_ended_ids(self.config.ended_ids_max);
            }
            out.push(Effect::Note(Note::Formed { cluster }));
        }
        for piece in turn.pieces.drain(..) {
            self.receive_piece(piece, out);
        }
        if let Some(index) = turn.refused_snapshot.take() {
            self.refuse_snapshot(index, out);
        }
        if let Some(meta) = turn.installed.take() {
            self.install(&meta, out);
        }
        for entry in turn.committed.drain(..) {
            if self.halted {
                return;
            }
            self.apply(now, &entry, out);
        }
        for mut send in turn.sends.drain(..) {
            self.tell_vitals(now, &mut send);
            out.push(Effect::Send(Box::new(send)));
        }
        for send in turn.send_snapshots.drain(..) {
            let (to, index, term) = (send.to, send.index, send.term);
            // P5.3: nobody gets a state from here that may be wrong.
            if self.diverged.is_some() {
                self.consensus.snapshot_sent(to, false);
                continue;
            }
            out.push(Effect::SendSnapshot { to, index, term });
        }
        // After the entries: those of the old role were proposed under it (P3.6).
        if let Some(change) = turn.role.take() {
            self.turn_role(now, change, out);
        }
        for (id, index) in turn.reads.drain(..) {
            self.reads.ended(id, index);
        }
        for question in self.reads.ready(self.state.applied_index()) {
            self.resolve(now, question, out);
        }
    }

    fn apply(&mut self, now: Now, entry: &LogEntry, out: &mut Outbox<Effect>) {
        let data: &[u8] = if entry.conf_change { &[] } else { &entry.data };
        self.changes.clear();
        if let Err(error) = self.state.apply(entry.index, data, &mut self.changes) {
            // P5.1: never skipped, and never guessed at.
            return self.halt(alloc::format!("{error}; start a newer version of dtask"), out);
        }
        self.snapshots.applied(entry);
        if self.marks.is_marked(entry.index, data) {
            let (level, digest) = (self.state.level(), self.state.digest());
            self.marks.note(Mark { index: entry.index, level, digest });
        }
        if let Some(leader) = &mut self.leader {
            leader.applied(now, (entry.term, entry.index), &self.state, &self.changes, out);
            if !leader.is_awake() && entry.term == leader.term() {
                leader.wake(now, &self.state, out);
            }
        }
        if self.waits.is_empty() {
            return;
        }
        for finished in &self.changes.finished {
            for (ticket, reply) in self.waits.look(finished.task, &self.state) {
                out.push(Effect::Answer { ticket, reply });
            }
        }
    }

    fn turn_role(&mut self, now: Now, change: RoleChange, out: &mut Outbox<Effect>) {
        let leads = change.role == Role::Leader;
        let known = (self.role.term, self.role.leader);
        if known.1 != change.leader {
            self.announce_at = now.mono;
        }
        self.role = change;
        if self.leader.as_ref().is_some_and(|leader| !leads || leader.term() != change.term) {
            self.step_down(out);
        }
        if leads && self.leader.is_none() && self.diverged.is_none() {
            self.lead(now, change.term);
        }
        if !leads && known != (change.term, change.leader) {
            let (term, leader) = (change.term, change.leader);
            out.push(Effect::Note(Note::Following { term, leader }));
        }
    }

    fn lead(&mut self, now: Now, term: u64) {
        let Some(cluster) = self.consensus.cluster_id() else { return };
        let addresses = &self.config.addresses;
        let terms = Terms {
            cluster,
            node: self.config.id,
            addresses: (addresses.grpc.clone(), addresses.http.clone()),
            lease_ttl: self.config.lease_ttl,
            heartbeat: self.config.lease_heartbeat,
            level: crate::state::LEVEL,
            inflight_bytes_max: self.config.inflight_bytes_max,
            outbox_bytes_max: self.config.outbox_bytes_max,
            ended_kept: self.config.ended_kept,
        };
        self.leader = Some(Box::new(Leader::new(terms, term, now)));
        if self.stopping {
            self.consensus.transfer_leader(self.successor(now, Unfit::Clock));
        }
    }

    pub(super) fn step_down(&mut self, out: &mut Outbox<Effect>) {
        let Some(leader) = self.leader.take() else { return };
        let not_done = self.not_leader();
        for ticket in self.reads.step_down() {
            out.push(Effect::Answer { ticket, reply: Reply::Rejected(not_done.clone()) });
        }
        leader.step_down(&not_done, &self.not_leader_frame(), out);
    }

    fn resolve(&mut self, now: Now, question: Question, out: &mut Outbox<Effect>) {
        match question {
            Question::Ask(ticket, _) if self.diverged.is_some() => {
                let reply = Reply::Rejected(self.not_leader());
                out.push(Effect::Answer { ticket, reply });
            }
            Question::Ask(ticket, request) => self.answer(now, ticket, request, out),
            Question::Confirm(confirm) => {
                if let Some(leader) = &mut self.leader {
                    leader.confirmed(now, confirm, &self.state, out);
                }
            }
            Question::Unknown(asked) => match &mut self.leader {
                Some(leader) => leader.change(asked, &self.state, out),
                None => {
                    let reply = Reply::Rejected(self.not_leader());
                    out.push(Effect::Answer { ticket: asked.ticket, reply });
                }
            },
        }
    }
}
