//! Bits that rot at rest: one flips in what a marker vouches for while its node is down. The node
//! must find it, name it and stay away (P4.4); the cluster goes on without it.

use super::World;
use super::trace::Probe;

impl World {
    /// A node has died with `vouched` bytes of a segment before a marker. Never so many rot that
    /// no quorum would be left, and none before every node knows the voters: a cluster that waits
    /// for a voter's incarnation (P4.1) waits for ever for one that has halted.
    pub(super) fn rot(&mut self, who: usize, vouched: Option<(String, u64)>) {
        let (percent, rng) = (self.config.disk.rot_percent, &mut self.rng.disk);
        let rotten = self.nodes.iter().filter(|node| node.rotten).count();
        let spare = (self.config.nodes - 1) / 2;
        let may =
            percent > 0 && rotten < spare && self.nodes.iter().all(|node| node.image.is_formed());
        let Some((name, end)) = vouched.filter(|_| may) else { return };
        if !rng.chance(percent, 100) {
            return;
        }
        let (place, bit) = (rng.below(end), rng.below(8) as u32);
        if self.nodes[who].disk.rot(&name, place, bit) {
            self.nodes[who].rotten = true;
            self.note(who as u32 + 1, "a bit rots", [place, u64::from(bit), 0]);
        }
    }

    /// S25: damage to what was synced is found before use.
    pub(super) fn rot_is_met(&mut self, who: usize) {
        match self.find_log(who) {
            Err(found) => {
                self.nodes[who].halted = true;
                self.probes.hit(Probe::RotFound);
                self.note(who as u32 + 1, "halts: damaged", [found.detail.len() as u64, 0, 0]);
            }
            Ok(_) => {
                let detail = format!("node {} reads a log in which a synced bit flipped", who + 1);
                self.fail("S25", detail);
            }
        }
    }
}
