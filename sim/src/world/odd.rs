//! One node that something goes wrong with for good, once all else is well: no bound can be named
//! for it among other faults, yet the cluster must get by (L9).

use bytes::Bytes;
use dtask_core::consensus::{Body, Envelope};
use dtask_core::time::Timestamp;

use super::World;
use super::config::log_uniform;
use super::event::{Event, Fault};
use super::trace::Probe;
use crate::check::{Verdict, Violation, hold};

/// After the healing it is quiet for this long before the fault: the nodes know each other again.
const AFTER_MICROS: u64 = 6_000_000;
/// L9's bound: to be told apart, and some tries to hand leadership to one that is caught up.
const BOUND_MICROS: u64 = 15_000_000;
/// How far beyond true time a stamp may be for all that a node can know of it: P6.2's second, and
/// half of the longest round trip that counts.
const STAMP_MICROS: i64 = 1_250_000;
/// A node that knows that its state is wrong is left without its leader for this long.
const LEADERLESS_MICROS: u64 = 4_000_000;
/// The payload of tasks that a node with a wrong memory does not remember as they are.
pub const FRAGILE: &[u8] = b"a payload that is easily mistaken";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The wall clock, by more than all others may tolerate (P6.2).
    Clock,
    /// A bit between the network and the log: the node's state is another one (P5.3).
    State,
    /// The disk: each sync takes longer than an election timeout (P3.9).
    Disk,
}

/// The node, and what the World remembers to judge it.
#[derive(Clone, Copy, Debug)]
pub struct Odd {
    kind: Kind,
    /// Which node, once it has been struck, and when that was.
    struck: Option<(usize, u64)>,
    /// A flipped bit has reached it.
    flipped: Option<u64>,
    /// It said that its state is wrong.
    told: Option<u64>,
    /// The newest stamp that was seen, and a moment before which it was not.
    stamped: (u64, i64),
    /// The last look.
    looked: u64,
}

impl World {
    /// Where every voter lives on, one of them may be struck: the others must lead.
    pub(super) fn plan_odd(&mut self) {
        let voters = self.config.nodes;
        if voters < 3 || self.core.len() < voters || self.rng.odd.chance(1, 4) {
            return;
        }
        let kind = [Kind::Clock, Kind::State, Kind::Disk][self.rng.odd.below(3) as usize];
        let (struck, flipped, told) = (None, None, None);
        self.odd = Some(Odd { kind, struck, flipped, told, stamped: (0, 0), looked: self.at });
        let after = AFTER_MICROS + self.rng.odd.below(4_000_000);
        self.agenda.push(self.at + after, Event::Fault(Fault::Odd));
    }

    /// Something goes wrong with the leader, or with another node.
    pub(super) fn odd_strikes(&mut self) {
        let Some(kind) = self.odd.map(|odd| odd.kind) else { return };
        let leader = self.nodes.iter().position(|node| node.leads_since.is_some());
        let other = self.rng.odd.below(self.config.nodes as u64) as usize;
        let hits_leader = self.rng.odd.chance(3, 4);
        let who = match kind {
            // A leader hears no entries.
            Kind::State if leader == Some(other) => (other + 1) % self.config.nodes,
            Kind::State => other,
            Kind::Clock | Kind::Disk if hits_leader => leader.unwrap_or(other),
            Kind::Clock | Kind::Disk => other,
        };
        match kind {
            Kind::Clock => {
                let far = log_uniform(&mut self.rng.odd, 2_000_000, 600_000_000);
                let step = far as i64 * if self.rng.odd.chance(1, 2) { 1 } else { -1 };
                self.note(who as u32 + 1, "clock goes wrong", [far, u64::from(step < 0), 0]);
                self.nodes[who].clock.step(step);
            }
            Kind::State => self.note(who as u32 + 1, "memory goes wrong", [0, 0, 0]),
            Kind::Disk => {
                let slow = self.rng.odd.range(600_000, 3_000_000);
                self.note(who as u32 + 1, "disk goes slow", [slow, 0, 0]);
                self.nodes[who].log.slow_micros = slow;
            }
        }
        if let Some(odd) = &mut self.odd {
            odd.struck = Some((who, self.at));
        }
    }

    /// A message on its way into a node: what it says of fragile tasks is mistaken by the odd one.
    pub(super) fn mistake(&mut self, who: usize, envelope: &mut Envelope) {
        let Some(odd) = &mut self.odd else { return };
        if odd.kind != Kind::State || odd.struck.is_none_or(|(node, _)| node != who) {
            return;
        }
        let Body::Raft(messages) = &mut envelope.body else { return };
        for entry in messages.iter_mut().flat_map(|message| &mut message.entries) {
            let place = entry.data.windows(FRAGILE.len()).position(|window| window == FRAGILE);
            if let Some(place) = place {
                let mut data = entry.data.to_vec();
                data[place] ^= 1;
                entry.data = Bytes::from(data);
                odd.flipped.get_or_insert(self.at);
            }
        }
    }

    /// Whether this node's state may be another one than the log's.
    pub(super) fn is_mistaken(&self, who: usize) -> bool {
        self.odd.is_some_and(|odd| {
            odd.flipped.is_some() && odd.struck.is_some_and(|(node, _)| node == who)
        })
    }

    /// A node says that its state is wrong.
    pub(super) fn told_of_divergence(&mut self, who: usize) {
        if !self.is_mistaken(who) {
            self.fail("S6", format!("node {} takes its state for wrong", who + 1));
            return;
        }
        self.probes.hit(Probe::Diverged);
        if let Some(odd) = &mut self.odd {
            odd.told = Some(self.at);
        }
        // The others elect somebody; a node that is told never leads.
        let mut others = (0..self.config.nodes).filter(|&node| node != who);
        if let Some(leader) = others.find(|&node| self.nodes[node].leads_since.is_some()) {
            self.node_crash(leader, false);
            let back = self.at + LEADERLESS_MICROS;
            self.agenda.push(back, Event::Fault(Fault::Restart(leader)));
        }
    }

    /// L9: once it knows, a node with a wrong state neither leads nor serves.
    pub(super) fn l9_a_wrong_state_serves_nobody(&self, who: usize, serves: bool) -> Verdict {
        let told = self.odd.and_then(|odd| odd.told);
        hold!(
            "L9",
            told.is_none() || !serves,
            "node {} leads or answers although it knows that its state is wrong",
            who + 1
        );
        Ok(())
    }

    /// L9: a node that is not fit does not go on leading, no entry is stamped with a wrong clock
    /// (P6.2), a wrong state is told apart (P5.3). True once there is nothing more to see.
    pub(super) fn l9_the_odd_one_does_not_lead(&mut self) -> Result<bool, Violation> {
        let Some(mut odd) = self.odd else { return Ok(true) };
        let (seen, before) = odd.stamped;
        let stamped = self.chain.ledger().at().as_micros();
        if stamped != before {
            odd.stamped = (odd.looked, stamped);
        }
        odd.looked = self.at;
        self.odd = Some(odd);
        let Some((who, since)) = odd.struck else { return Ok(false) };
        let led = self.nodes[who].leads_since.map_or(0, |from| self.at - from.max(since));
        let kind = odd.kind;
        hold!(
            "L9",
            led < BOUND_MICROS,
            "node {} has led for {} s although its {kind:?} is wrong",
            who + 1,
            led / 1_000_000
        );
        match kind {
            Kind::Clock => {
                // Time that faults before the healing drove ahead goes on by itself (P6.1).
                let right = self.config.epoch + self.at as i64;
                hold!(
                    "L9",
                    stamped <= right.max(before + (self.at - seen) as i64) + STAMP_MICROS,
                    "an entry is stamped {} by a clock that the others know to be wrong",
                    Timestamp::from_micros(stamped)
                );
            }
            Kind::State | Kind::Disk => {}
        }
        let over = match kind {
            Kind::Clock | Kind::Disk => self.at - since > BOUND_MICROS,
            Kind::State => {
                self.l9_a_wrong_state_is_told(who, &odd)?;
                odd.told.is_some_and(|told| self.at - told > 2 * LEADERLESS_MICROS)
            }
        };
        if !over && kind != Kind::Clock {
            self.fragile_submit();
        }
        Ok(over)
    }

    fn l9_a_wrong_state_is_told(&self, who: usize, odd: &Odd) -> Verdict {
        let struck = odd.struck.map_or(0, |(_, since)| since);
        let flipped = odd.flipped.unwrap_or(struck + BOUND_MICROS);
        hold!(
            "L9",
            odd.told.is_some() || self.at < flipped + BOUND_MICROS,
            "node {} does not know {} s after it was struck that its state is wrong",
            who + 1,
            (self.at - struck) / 1_000_000
        );
        Ok(())
    }
}
