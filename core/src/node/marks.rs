//! Digests of the state at marked indexes, compared with the other voters' (P5.3).
//!
//! Equal indexes of one log give equal states, so a digest that differs from what a majority of the
//! voters has proves that this node's memory, disk or program went wrong. A pair that differs proves
//! no more than that one of them did.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::consensus::Mark;
use crate::id::NodeId;
use crate::time::Instant;

/// Marks of this node that are kept: nodes apply within this many of each other, or one of them is
/// sent a snapshot.
const OWN_MAX: usize = 64;
/// Marks of another node that are kept.
const PEER_MAX: usize = 16;
/// Marks in one message: those of the last moments.
const TOLD_MAX: usize = 4;
/// A difference that no majority has decided by then is taken for undecidable.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the marks prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing is wrong, as far as is known.
    Sound,
    /// A majority agrees on another state than this node's at this index.
    Diverged(u64),
    /// Voters differ at this index, and no majority is known to agree.
    Split(u64),
}

/// The marks of all members.
#[derive(Debug)]
pub(super) struct Marks {
    every: u64,
    own: VecDeque<Mark>,
    peers: BTreeMap<NodeId, VecDeque<Mark>>,
    /// An index at which voters were seen to differ, and since when no majority has decided.
    differed: Option<(u64, Instant)>,
}

impl Marks {
    /// No marks; one is made at each index divisible by `every`.
    pub(super) const fn new(every: u64) -> Self {
        Self { every, own: VecDeque::new(), peers: BTreeMap::new(), differed: None }
    }

    /// Whether an index is marked: each so many, and those whose entry says nothing, as the first
    /// one of a term does.
    pub(super) const fn is_marked(&self, index: u64, data: &[u8]) -> bool {
        index.is_multiple_of(self.every) || data.is_empty()
    }

    /// Voters differ, and no majority is known to agree: another mark may decide it.
    pub(super) const fn is_undecided(&self) -> bool {
        self.differed.is_some()
    }

    /// This node has applied a marked index.
    pub(super) fn note(&mut self, mark: Mark) {
        self.own.push_back(mark);
        if self.own.len() > OWN_MAX {
            self.own.pop_front();
        }
    }

    /// The state was replaced: what the old one showed says nothing of the new one.
    pub(super) fn forget_own(&mut self) {
        self.own.clear();
        self.differed = None;
    }

    /// What to tell the others: the newest, and the roundest of those that are kept. Where marks
    /// come faster than messages the newest of two members may never be of one index; the roundest
    /// is the same for all of them, and stays it for some messages.
    pub(super) fn newest(&self) -> Vec<Mark> {
        let mut told: Vec<Mark> = self.own.iter().rev().take(TOLD_MAX - 1).copied().collect();
        let roundest = self.own.iter().max_by_key(|mark| mark.index.trailing_zeros());
        if let Some(mark) = roundest.filter(|mark| !told.contains(mark)) {
            told.push(*mark);
        }
        told
    }

    /// A member told its marks.
    pub(super) fn hear(&mut self, from: NodeId, marks: &[Mark]) {
        let known = self.peers.entry(from).or_default();
        for mark in marks.iter().take(TOLD_MAX) {
            // The newest word counts: a node that was restarted may have been mended.
            known.retain(|old| old.index != mark.index);
            known.push_back(*mark);
            if known.len() > PEER_MAX {
                known.pop_front();
            }
        }
    }

    /// What the marks prove: the newest index at which a majority is known to agree decides. Under
    /// load members tell of different indexes, so that only few are known of all of them, and none
    /// for long: a difference counts until a majority is known to agree there or later.
    pub(super) fn judge(&mut self, now: Instant, own: NodeId, voters: &[NodeId]) -> Finding {
        let majority = voters.len() / 2 + 1;
        let own_vote = usize::from(voters.contains(&own));
        let (mut differs, mut agreed) = (None, None);
        for mark in self.own.iter().rev() {
            let others = voters.iter().filter(|id| **id != own);
            let others: Vec<Mark> =
                others.filter_map(|id| self.mark_of(*id, mark.index)).copied().collect();
            let votes = |mark: &Mark| others.iter().filter(|other| *other == mark).count();
            if others.iter().any(|other| other != mark && votes(other) >= majority) {
                return Finding::Diverged(mark.index);
            }
            if votes(mark) + own_vote >= majority {
                agreed = Some(mark.index);
                break;
            }
            if others.iter().any(|other| other != mark) {
                differs = differs.or(Some(mark.index));
            }
        }
        self.differed = self.differed.filter(|(index, _)| agreed.is_none_or(|at| at < *index));
        self.differed = self.differed.or(differs.map(|index| (index, now)));
        match self.differed {
            Some((index, since)) if now.since(since) >= PATIENCE => Finding::Split(index),
            Some(_) | None => Finding::Sound,
        }
    }

    /// Whether a member's state differs from this node's at the newest index where both are known.
    pub(super) fn differs(&self, peer: NodeId) -> bool {
        let compared = self
            .own
            .iter()
            .rev()
            .find_map(|mark| self.mark_of(peer, mark.index).map(|theirs| theirs != mark));
        compared.unwrap_or(false)
    }

    fn mark_of(&self, peer: NodeId, index: u64) -> Option<&Mark> {
        self.peers.get(&peer)?.iter().find(|mark| mark.index == index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn mark(index: u64, digest: u128) -> Mark {
        Mark { index, level: 1, digest }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    /// Node 1 at index 8, and what the others said of it, judged after `seconds`.
    fn judged(own: u128, others: &[(u64, u128)], voters: &[NodeId], seconds: u64) -> Finding {
        let mut marks = Marks::new(8);
        marks.note(mark(8, own));
        for (id, digest) in others {
            marks.hear(NodeId(*id), &[mark(8, *digest)]);
        }
        marks.judge(at(0), NodeId(1), voters);
        marks.judge(at(seconds), NodeId(1), voters)
    }

    #[test]
    fn members_that_tell_at_other_moments_tell_one_index_too() {
        let told = |last: u64| {
            let mut marks = Marks::new(8);
            (1..=last).for_each(|n| marks.note(mark(8 * n, 1)));
            marks.newest()
        };
        // Twenty marks apart: the newest three of each are not the other's.
        let (early, late) = (told(100), told(120));
        assert_eq!(early.len(), TOLD_MAX);
        assert!(early.iter().any(|mark| late.contains(mark)), "{early:?}, {late:?}");
    }

    #[test]
    fn a_node_that_differs_from_a_majority_has_diverged() {
        assert_eq!(judged(5, &[(2, 6), (3, 6)], &VOTERS, 0), Finding::Diverged(8));
        assert_eq!(judged(5, &[(2, 5), (3, 6)], &VOTERS, 60), Finding::Sound);
    }

    #[test]
    fn a_learner_is_judged_and_does_not_vote() {
        assert_eq!(judged(5, &[(2, 6), (3, 6)], &VOTERS[1..], 0), Finding::Diverged(8));
        assert_eq!(judged(5, &[(4, 6), (5, 6)], &VOTERS, 60), Finding::Sound);
    }

    #[test]
    fn a_pair_that_differs_waits_for_the_third_and_then_for_nobody() {
        assert_eq!(judged(5, &[(2, 6)], &VOTERS, 0), Finding::Sound);
        assert_eq!(judged(5, &[(2, 6)], &VOTERS, 3), Finding::Split(8));
        assert_eq!(judged(5, &[(2, 6), (3, 7)], &VOTERS, 3), Finding::Split(8));
    }

    #[test]
    fn the_newest_common_index_counts() {
        let mut marks = Marks::new(8);
        for index in [8, 16, 24] {
            marks.note(mark(index, u128::from(index)));
        }
        marks.hear(NodeId(2), &[mark(8, 8), mark(16, 1)]);
        marks.hear(NodeId(3), &[mark(16, 1)]);
        assert_eq!(marks.judge(at(0), NodeId(1), &VOTERS), Finding::Diverged(16));
        assert!(marks.differs(NodeId(2)) && !marks.differs(NodeId(4)));
    }

    #[test]
    fn an_index_that_few_have_told_of_hides_no_older_one() {
        let mut marks = Marks::new(8);
        for index in [8, 16] {
            marks.note(mark(index, u128::from(index)));
        }
        marks.hear(NodeId(2), &[mark(8, 1), mark(16, 1)]);
        marks.hear(NodeId(3), &[mark(8, 1)]);
        assert_eq!(marks.judge(at(0), NodeId(1), &VOTERS), Finding::Diverged(8));
    }

    #[test]
    fn a_difference_that_is_no_longer_kept_still_counts() {
        let mut marks = Marks::new(8);
        marks.note(mark(8, 1));
        marks.hear(NodeId(2), &[mark(8, 2)]);
        assert_eq!(marks.judge(at(0), NodeId(1), &VOTERS), Finding::Sound);
        for index in 2..=OWN_MAX as u64 + 2 {
            marks.note(mark(index * 8, 1));
        }
        assert_eq!(marks.judge(at(3), NodeId(1), &VOTERS), Finding::Split(8));
        assert_eq!(marks.judge(at(60), NodeId(1), &VOTERS), Finding::Split(8));
        let newest = OWN_MAX as u64 * 8;
        marks.hear(NodeId(3), &[mark(newest, 1)]);
        assert_eq!(marks.judge(at(60), NodeId(1), &VOTERS), Finding::Sound);
    }

    #[test]
    fn a_mended_node_is_believed() {
        let mut marks = Marks::new(8);
        marks.note(mark(8, 8));
        marks.hear(NodeId(2), &[mark(8, 1)]);
        marks.hear(NodeId(2), &[mark(8, 8)]);
        assert!(!marks.differs(NodeId(2)));
    }
}
