//! Whether this node should lead, and who should instead.
//!
//! A node that is unfit still votes, replicates and, when nobody else can, leads: what it gives up
//! is the first try at an election, and the leadership once another voter can take it. So a rule of
//! fitness costs time at worst, never the cluster: a majority that is alive elects somebody.

use core::time::Duration;

use super::clocks;
use super::io::{Effect, Note, Unfit};
use super::{Node, Role};
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
        let (mut ahead, voters) = self.vitals.clocks(now);
        // P6.2
        self.clock_error = clocks::correction(&mut ahead, voters);
        self.consensus.set_reluctant(self.clock_error != 0 || !self.vitals.is_settled(now));
        if self.clock_error != 0 {
            self.hand_on(now, Unfit::Clock, out);
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
        if matches!(envelope.body, Body::Raft(_)) {
            envelope.vitals = self.vitals.speak(now, envelope.to).map(Into::into);
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
        let Some(to) = self.successor(now) else { return };
        if self.consensus.transfer_leader(Some(to)) {
            self.hand_on_at = now.mono + HAND_ON_EVERY;
            out.push(Effect::Note(Note::HandsOn { to, why }));
        }
    }

    /// The most caught-up voter that is fit, as far as is known for certain.
    pub(super) fn successor(&self, now: Now) -> Option<NodeId> {
        let voters = self.consensus.conf().voters;
        let is_fit = |peer: &PeerProgress| {
            let off = self.vitals.ahead(now, peer.id).map(|ahead| ahead - self.clock_error);
            let clock = off.is_some_and(|off| off.abs() <= clocks::TOLERANCE);
            voters.contains(&peer.id) && peer.alive && clock
        };
        let peers = self.consensus.progress().into_iter().filter(is_fit);
        let best = peers.max_by_key(|peer| (peer.match_index, core::cmp::Reverse(peer.id)));
        best.map(|peer| peer.id)
    }
}
