//! One node that something goes wrong with for good, once all else is well, or all states but one:
//! no bound can be named for it among other faults, yet the cluster must get by (L9).

use dtask_core::time::Timestamp;

use super::World;
use super::config::log_uniform;
use super::event::{Event, Fault};
use crate::check::{Violation, hold};

/// After the healing it is quiet for this long before the fault: the nodes know each other again.
const AFTER_MICROS: u64 = 6_000_000;
/// L9's bound: to be told apart, and some tries to hand leadership to one that is caught up.
pub const BOUND_MICROS: u64 = 15_000_000;
/// How far beyond true time a stamp may be for all that a node can know of it: P6.2's second, and
/// half of the longest round trip that counts.
const STAMP_MICROS: i64 = 1_250_000;
/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The wall clock, by more than all others may tolerate (P6.2).
    Clock,
    /// A bit between the network and the log: the node's state is another one (P5.3).
    State,
    /// The same on all but one of the nodes that are up, each in its own way: no majority is right.
    Split,
    /// The disk: each sync takes longer than an election timeout (P3.9).
    Disk,
}

/// The node, and what the World remembers to judge it.
#[derive(Clone, Copy, Debug)]
pub struct Odd {
    /// What.
    pub kind: Kind,
    /// Which node, once it has been struck, and when that was.
    pub struck: Option<(usize, u64)>,
    /// Another one that was struck with it.
    pub also: Option<usize>,
    /// A flipped bit has reached one of them.
    pub flipped: Option<u64>,
    /// Which of them said that its state is wrong, and when.
    pub told: Option<(usize, u64)>,
    /// What it was asked.
    pub asked: u64,
    /// One of the struck installed a snapshot since: of others' making, it is right again.
    pub restored: bool,
    /// Attempts that were opened until everybody knew that no majority is right.
    pub opened: Option<u64>,
    /// The newest stamp that was seen, and a moment before which it was not.
    stamped: (u64, i64),
    /// The last look.
    looked: u64,
}

impl World {
    /// Where every voter lives on, one of them may be struck: the others must lead.
    pub(super) fn plan_odd(&mut self) {
        let voters = self.config.nodes;
        // Without history new work is refused in the end, and L9 asks for new work.
        let refusing = self.config.history.stays_away > 0;
        if voters < 3 || self.core.len() < voters || refusing || self.rng.odd.chance(1, 4) {
            return;
        }
        let mut kind = [Kind::Clock, Kind::State, Kind::Disk][self.rng.odd.below(3) as usize];
        let after = AFTER_MICROS + self.rng.odd.below(4_000_000);
        if kind == Kind::State && voters == 3 && self.rng.odd.chance(1, 3) {
            kind = Kind::Split;
        }
        self.odd = Some(Odd {
            kind,
            struck: None,
            also: None,
            flipped: None,
            told: None,
            asked: 0,
            restored: false,
            opened: None,
            stamped: (0, 0),
            looked: self.at,
        });
        self.agenda.push(self.at + after, Event::Fault(Fault::Odd));
    }

    /// Something goes wrong with the leader, or with another node.
    pub(super) fn odd_strikes(&mut self) {
        let Some(kind) = self.odd.map(|odd| odd.kind) else { return };
        if !self.flood_is_over() {
            self.agenda.push(self.at + AFTER_MICROS, Event::Fault(Fault::Odd));
            return;
        }
        let leader = self.nodes.iter().position(|node| node.leads_since.is_some());
        let other = self.rng.odd.below(self.config.nodes as u64) as usize;
        if kind == Kind::Split {
            return self.states_split(leader);
        }
        let hits_leader = self.rng.odd.chance(3, 4);
        let who = match kind {
            // A leader hears no entries.
            Kind::State if leader == Some(other) => (other + 1) % self.config.nodes,
            Kind::State | Kind::Split => other,
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
            Kind::State | Kind::Split => {
                self.note(who as u32 + 1, "memory goes wrong", [0, 0, 0]);
            }
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
        let kind = odd.kind;
        let led = self.nodes[who].leads_since.map_or(0, |from| self.at - from.max(since));
        hold!(
            "L9",
            led < BOUND_MICROS || kind == Kind::Split,
            "node {} has led for {} s although its {kind:?} is wrong",
            who + 1,
            led / 1_000_000
        );
        let over = match kind {
            Kind::Clock => {
                // Time that faults before the healing drove ahead goes on by itself (P6.1).
                let right = self.config.epoch + self.at as i64;
                hold!(
                    "L9",
                    stamped <= right.max(before + (self.at - seen) as i64) + STAMP_MICROS,
                    "an entry is stamped {} by a clock that the others know to be wrong",
                    Timestamp::from_micros(stamped)
                );
                self.at - since > BOUND_MICROS
            }
            Kind::Disk => self.at - since > BOUND_MICROS,
            Kind::State => self.l9_a_wrong_state_is_told(who, &odd)?,
            Kind::Split => self.l9_a_split_cluster_dispatches_nothing()?,
        };
        if !over && kind != Kind::Clock {
            self.fragile_submit();
        }
        Ok(over)
    }
}
