//! One node that something stays wrong with, once all else is well: no bound can be named for it
//! among other faults, yet the cluster must get by (L9).

use dtask_core::time::Timestamp;

use super::World;
use super::config::log_uniform;
use super::event::{Event, Fault};
use crate::check::{Violation, hold};

/// After the healing it is quiet for this long before the fault: the nodes know each other again.
const AFTER_MICROS: u64 = 6_000_000;
/// L9's bound: some tries to hand leadership to one that is caught up.
const LEADS_MICROS: u64 = 15_000_000;
/// How far beyond true time a stamp may be for all that a node can know of it: P6.2's second, and
/// half of the longest round trip that counts.
const STAMP_MICROS: i64 = 1_250_000;

/// The node, and what the World remembers to judge it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odd {
    /// Which node, once it has been struck, and when that was.
    struck: Option<(usize, u64)>,
    /// The newest stamp that was seen, and a moment before which it was not.
    stamped: (u64, i64),
    /// The last look.
    looked: u64,
}

impl World {
    /// Where every voter lives on, one of them may be struck: the others must lead.
    pub(super) fn plan_odd(&mut self) {
        let voters = self.config.nodes;
        if voters < 3 || self.core.len() < voters || self.rng.odd.chance(1, 2) {
            return;
        }
        self.odd = Some(Odd { looked: self.at, ..Odd::default() });
        let after = AFTER_MICROS + self.rng.odd.below(4_000_000);
        self.agenda.push(self.at + after, Event::Fault(Fault::Odd));
    }

    /// The leader's wall clock, or another's, goes wrong by more than all others may tolerate.
    pub(super) fn odd_strikes(&mut self) {
        let leader = self.nodes.iter().position(|node| node.leads_since.is_some());
        let other = self.rng.odd.below(self.config.nodes as u64) as usize;
        let who = if self.rng.odd.chance(3, 4) { leader.unwrap_or(other) } else { other };
        let far = log_uniform(&mut self.rng.odd, 2_000_000, 600_000_000);
        let step = far as i64 * if self.rng.odd.chance(1, 2) { 1 } else { -1 };
        self.note(who as u32 + 1, "clock goes wrong", [far, u64::from(step < 0), 0]);
        self.nodes[who].clock.step(step);
        if let Some(odd) = &mut self.odd {
            odd.struck = Some((who, self.at));
        }
    }

    /// L9: a node whose clock is known to be wrong does not go on leading, and no entry is stamped
    /// with it (P6.2). True once there is nothing more to see.
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
        hold!(
            "L9",
            led < LEADS_MICROS,
            "node {} has led for {} s with a clock that the others know to be wrong",
            who + 1,
            led / 1_000_000
        );
        // Time that faults before the healing drove ahead goes on by itself (P6.1).
        let right = self.config.epoch + self.at as i64;
        hold!(
            "L9",
            stamped <= right.max(before + (self.at - seen) as i64) + STAMP_MICROS,
            "an entry is stamped {} by a clock that the others know to be wrong",
            Timestamp::from_micros(stamped)
        );
        Ok(self.at - since > LEADS_MICROS)
    }
}
