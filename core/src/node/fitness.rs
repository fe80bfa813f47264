//! Whether this node should lead, and who should instead.
//!
//! A node that is unfit still votes, replicates and, when nobody else can, leads: what it gives up
//! is the first try at an election, and the leadership once another voter can take it. So a rule of
//! fitness costs time at worst, never the cluster: a majority that is alive elects somebody.

use core::time::Duration;

use super::clocks;
use super::io::{Effect, Note, Unfit};
use super::marks::Finding;
use super::vitals::Rest;
use super::{Node, Reply, Role};
use crate::consensus::{Body, Envelope, PeerProgress};
use crate::id::NodeId;
use crate::machine::Outbox;
use crate::time::Now;

/// Between two tries to hand leadership on: while one lasts, nothing is proposed.
const HAND_ON_EVERY: Duration = Duration::from_secs(3);

impl Node {
    /// Judges this node by what is known, before the turn plans.
    pub(super) fn weigh(&mut self, now: Now, out: &mut Outbox<Effect>) {
        let (id, consensus) = (self.config.id, &self.consensus);
        self.vitals.begin_turn(now, id, || consensus.conf());
        self.weigh_state(now, out);
        let (mut ahead, voters) = self.vitals.clocks(now);
        // P6.2
        self.clock_error = clocks::correction(&mut ahead, voters);
        let slow = self.syncs.slowest(now.mono) > self.sync_max();
        let unsettled = !self.vitals.is_settled(now);
        self.consensus.set_reluctant(self.clock_error != 0 || slow || unsettled);
        if self.diverged.is_some() {
            self.hand_on(now, Unfit::State, out);
        } else if self.clock_error != 0 {
            self.hand_on(now, Unfit::Clock, out);
        } else if self.syncs.waits(now.mono) > self.sync_max() {
            self.hand_on(now, Unfit::Disk, out);
        }
    }

    /// P5.3: what the marks prove.
    fn weigh_state(&mut self, now: Now, out: &mut Outbox<Effect>) {
        if self.diverged.is_some() || !self.marks_heard {
            return;
        }
        let finding = self.marks.judge(now.mono, self.config.id, &self.consensus.conf().voters);
        self.marks_heard = finding != Finding::Sound;
        let before = self.split.take();
        match finding {
            Finding::Sound => {}
            Finding::Diverged(index) => self.diverge(index, out),
            Finding::Split(index) => {
                self.split = Some(index);
                if before.is_none() {
                    let text = alloc::format!(
                        "voters have different states at index {index}, and no majority agrees: \
                         nothing is dispatched; stop the nodes, keep copies of their data \
                         directories, and restore the newest backup"
                    );
                    out.push(Effect::Note(Note::Warning { text }));
                }
            }
        }
    }

    /// This node's state is proven wrong: from here on it serves nothing, while its log votes.
    pub(super) fn diverge(&mut self, index: u64, out: &mut Outbox<Effect>) {
        self.diverged = Some(index);
        self.consensus.bar();
        out.push(Effect::Note(Note::Diverged { index }));
        if self.leader.is_some() {
            self.step_down(out);
            let term = self.role.term;
            out.push(Effect::Note(Note::Following { term, leader: None }));
        }
        for ticket in self.waits.leave() {
            let reply = Reply::Rejected(self.not_leader());
            out.push(Effect::Answer { ticket, reply });
        }
    }

    /// The time that a leader stamps with: its own clock, or where the voters' median is at least
    /// (P6.2).
    pub(super) const fn stamped(&self, now: Now) -> Now {
        Now { mono: now.mono, wall: now.wall.plus_micros(self.clock_error) }
    }

    /// Tells the members that are due how this node is, on the way with `envelope` if it goes to
    /// one of them.
    pub(super) fn tell_vitals(&mut self, now: Now, envelope: &mut Envelope) {
        if matches!(envelope.body, Body::Raft(_)) && self.vitals.is_due(envelope.to) {
            let rest = Rest { marks: self.marks.newest(), sync: self.syncs.slowest(now.mono) };
            envelope.vitals = self.vitals.speak(now, envelope.to, rest).map(Into::into);
        }
    }

    /// Tells the others that are due, which no message went to.
    pub(super) fn tell_rest(&mut self, now: Now, out: &mut Outbox<Effect>) {
        while let Some(to) = self.vitals.untold() {
            let mut envelope = self.consensus.empty_envelope(to);
            self.tell_vitals(now, &mut envelope);
            out.push(Effect::Send(envelope.into()));
        }
    }

    fn hand_on(&mut self, now: Now, why: Unfit, out: &mut Outbox<Effect>) {
        if self.consensus.role() != Role::Leader || now.mono < self.hand_on_at {
            return;
        }
        // Without a better one leadership stays: handed to and fro it would serve nobody.
        let Some(to) = self.successor(now, why) else { return };
        if self.consensus.transfer_leader(Some(to)) {
            self.hand_on_at = now.mono + HAND_ON_EVERY;
            out.push(Effect::Note(Note::HandsOn { to, why }));
        }
    }

    /// The most caught-up voter that is better where this node is not fit, as far as is known for
    /// certain.
    pub(super) fn successor(&self, now: Now, why: Unfit) -> Option<NodeId> {
        let voters = self.consensus.conf().voters;
        let own_disk = self.consensus.durable_index();
        let is_fit = |peer: &PeerProgress| {
            let off = self.vitals.ahead(now, peer.id).map(|ahead| ahead - self.clock_error);
            let clock = off.is_some_and(|off| off.abs() <= clocks::TOLERANCE);
            // Whoever has acknowledged what the own disk does not hold yet is faster.
            let disk = self.vitals.sync(now, peer.id).is_some_and(|sync| sync <= self.sync_max())
                && peer.match_index > own_disk;
            let fit = match why {
                Unfit::State => true,
                Unfit::Clock => clock && !self.marks.differs(peer.id),
                Unfit::Disk => clock && disk && !self.marks.differs(peer.id),
            };
            voters.contains(&peer.id) && peer.alive && fit
        };
        let peers = self.consensus.progress().into_iter().filter(is_fit);
        let best = peers.max_by_key(|peer| (peer.match_index, core::cmp::Reverse(peer.id)));
        best.map(|peer| peer.id)
    }

    /// A leader's disk may take this long to sync (P3.9).
    fn sync_max(&self) -> Duration {
        self.consensus.election_timeout() / 2
    }
}
