//! The election timeout as a pure function.
//!
//! raft-rs draws it from the thread's entropy; whoever calls into it imposes this one afterwards,
//! so that equal inputs give equal elections (P3.5).

use crate::id::{Incarnation, NodeId};
use crate::rng::mix;

/// The timeout in ticks, within `ticks..2 * ticks`.
pub(super) const fn election_timeout(
    seed: u64,
    node: NodeId,
    incarnation: Incarnation,
    term: u64,
    campaigns: u64,
    ticks: usize,
) -> usize {
    let mut word = mix(seed ^ 0x656c_6563_7469_6f6e);
    word = mix(word ^ node.0);
    word = mix(word ^ incarnation.0);
    word = mix(word ^ term);
    word = mix(word ^ campaigns);
    ticks + (word % ticks as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_fill_their_range_and_repeat() {
        let mut seen = [false; 10];
        for campaign in 0..200 {
            let at = |campaign| election_timeout(7, NodeId(1), Incarnation(3), 2, campaign, 10);
            assert_eq!(at(campaign), at(campaign));
            seen[at(campaign) - 10] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
