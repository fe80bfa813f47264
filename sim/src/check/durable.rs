//! What each node's disk holds for certain: S4 (nothing is claimed before it is durable) and S25's
//! half that concerns crashes (recovery yields exactly something that was written).
//!
//! The image is kept beside the real bytes, from the `Persist` effects and the syncs that the
//! World performed; the log's own codec is not trusted.

use std::collections::{BTreeMap, VecDeque};

use dtask_core::consensus::{HardState, RaftMessage};
use dtask_core::id::NodeId;
use dtask_core::log::{LogFact, Persist, Recovered};
use xxhash_rust::xxh3::xxh3_64;

use super::wire::{is_leaders_word, kind};
use super::{Verdict, Violation, hold};

/// Entries by index, in few words each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Marks {
    /// The snapshot that the log continues: (index, term).
    snapshot: (u64, u64),
    /// Index of the first entry.
    first: u64,
    /// Term and hash of each entry.
    entries: VecDeque<(u64, u64)>,
    /// The hard state of the newest record.
    hard: HardState,
    /// The cluster is formed.
    formed: bool,
}

impl Marks {
    fn last(&self) -> u64 {
        (self.first + self.entries.len() as u64).saturating_sub(1).max(self.snapshot.0)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.0 {
            return Some(self.snapshot.1);
        }
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(place).map(|entry| entry.0)
    }

    fn apply(&mut self, persist: &Mark) {
        self.hard = persist.hard;
        match persist.fact {
            Some(Fact::Reset(index, term)) => {
                self.snapshot = (index, term);
                self.entries.clear();
                self.first = index + 1;
                self.raise(term);
            }
            Some(Fact::Compacted(index, term)) => {
                while self.first <= index && self.entries.pop_front().is_some() {
                    self.first += 1;
                }
                self.snapshot = (index, term);
                self.first = self.first.max(index + 1);
            }
            Some(Fact::Formed) => self.formed = true,
            None => {}
        }
        for &(index, term, hash) in &persist.entries {
            if self.entries.is_empty() && self.first == 0 {
                self.first = index;
            }
            self.entries.truncate(index.saturating_sub(self.first) as usize);
            self.entries.push_back((term, hash));
        }
    }

    /// A snapshot's term may be above the hard state's: then no vote was given in it (P4.3).
    fn raise(&mut self, term: u64) {
        if term > self.hard.term {
            self.hard.term = term;
            self.hard.vote = 0;
        }
    }

    fn from_recovered(recovered: &Recovered) -> Self {
        let snapshot = recovered.meta.as_ref().map_or((0, 0), |meta| (meta.index, meta.term));
        let entries: VecDeque<(u64, u64)> =
            recovered.entries.iter().map(|entry| (entry.term, xxh3_64(&entry.data))).collect();
        Self {
            snapshot,
            first: recovered.entries.first().map_or(snapshot.0 + 1, |entry| entry.index),
            entries,
            hard: recovered.hard_state,
            formed: recovered.formed.is_some(),
        }
    }

    /// Tells whether `recovered` is what these marks say, but for the commit index.
    fn fits(&self, recovered: &Self) -> bool {
        let mut mine = self.clone();
        mine.raise(mine.snapshot.1);
        let vote = (mine.hard.term, mine.hard.vote) == (recovered.hard.term, recovered.hard.vote);
        vote && mine.formed == recovered.formed
            && mine.last() == recovered.last()
            && mine.snapshot == recovered.snapshot
            && (recovered.snapshot.0 + 1..=recovered.last())
                .all(|index| mine.entry(index) == recovered.entry(index))
    }

    fn entry(&self, index: u64) -> Option<(u64, u64)> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(place).copied()
    }
}

/// A `Persist` in few words.
#[derive(Clone, Debug)]
struct Mark {
    n: u64,
    hard: HardState,
    entries: Vec<(u64, u64, u64)>,
    fact: Option<Fact>,
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    Formed,
    Compacted(u64, u64),
    Reset(u64, u64),
}

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub struct Image {
    durable: Marks,
    /// Handed to the disk and not yet synced.
    pending: VecDeque<Mark>,
    /// The last index that it held in each term, at any time: an acknowledgement may leave after a
    /// later term has cut what it was for, as it may arrive late.
    reached: BTreeMap<u64, u64>,
}

impl Image {
    /// A `Persist` was handed to the disk.
    pub fn written(&mut self, persist: &Persist) {
        let fact = persist.fact.as_ref().map(|fact| match fact {
            LogFact::Formed { .. } => Fact::Formed,
            LogFact::Compacted(meta) => Fact::Compacted(meta.index, meta.term),
            LogFact::Reset(meta) => Fact::Reset(meta.index, meta.term),
        });
        let entries = persist
            .entries
            .iter()
            .map(|entry| (entry.index, entry.term, xxh3_64(&entry.data)))
            .collect();
        self.pending.push_back(Mark { n: persist.n, hard: persist.hard_state, entries, fact });
    }

    /// Whether it holds who the voters are.
    pub const fn is_formed(&self) -> bool {
        self.durable.formed
    }

    /// Every `Persist` up to and including `n` was synced.
    pub fn synced(&mut self, n: u64) {
        while self.pending.front().is_some_and(|mark| mark.n <= n) {
            if let Some(mark) = self.pending.pop_front() {
                self.durable.apply(&mark);
                let reached = self.reached.entry(self.durable.hard.term).or_default();
                *reached = self.durable.last().max(*reached);
            }
        }
    }

    /// S25: after a crash, recovery yields what was durable and then any number of the records
    /// that were under way, never less and never a mixture. What it yields counts as durable from
    /// then on, since opening the log syncs it.
    pub fn s25_recovery_yields_a_written_prefix(&mut self, recovered: &Recovered) -> Verdict {
        let found = Marks::from_recovered(recovered);
        let mut marks = std::mem::take(&mut self.durable);
        let pending = std::mem::take(&mut self.pending);
        let least = marks.last();
        let mut fits = marks.fits(&found);
        for mark in &pending {
            if fits {
                break;
            }
            marks.apply(mark);
            fits = marks.fits(&found);
        }
        if !fits {
            return Err(Violation::new(
                "S25",
                format!(
                    "recovered (last {}, snapshot {:?}, {:?}) is no written prefix: durable last \
                     {least}, written last {}, snapshot {:?}, {:?}, {} records under way",
                    found.last(),
                    found.snapshot,
                    found.hard,
                    marks.last(),
                    marks.snapshot,
                    marks.hard,
                    pending.len()
                ),
            ));
        }
        self.durable = found;
        Ok(())
    }

    /// S4: when a message leaves `from`, its disk holds what the message claims: the term; the
    /// vote; the entries of an acknowledgement; a leader's own vote before any leader's word.
    pub fn s4_claims_are_durable(
        &self,
        from: NodeId,
        to: NodeId,
        message: &RaftMessage,
    ) -> Verdict {
        let hard = &self.durable.hard;
        let claims_vote = match message.kind {
            kind::VOTE => Some(from),
            kind::VOTE_RESPONSE if !message.reject => Some(to),
            kind if is_leaders_word(kind) => Some(from),
            _ => None,
        };
        let claims_term = claims_vote.is_some()
            || matches!(
                message.kind,
                kind::VOTE_RESPONSE | kind::APPEND_RESPONSE | kind::HEARTBEAT_RESPONSE
            );
        if claims_term {
            hold!(
                "S4",
                hard.term >= message.term,
                "node {from} sent type {} in term {} while its disk holds term {}",
                message.kind,
                message.term,
                hard.term
            );
        }
        if let Some(vote) = claims_vote {
            hold!(
                "S4",
                hard.term > message.term || hard.vote == vote.0,
                "node {from} sent type {} for node {vote} in term {} while its disk holds vote {}",
                message.kind,
                message.term,
                hard.vote
            );
        }
        if message.kind == kind::APPEND_RESPONSE && !message.reject {
            let reached = self.reached.get(&message.term).copied().unwrap_or(0);
            let last = self.durable.last().max(reached);
            hold!(
                "S4",
                last >= message.index,
                "node {from} acknowledged index {} while its disk ends at {last}",
                message.index
            );
        }
        Ok(())
    }

    /// Tells whether the disk holds the entry.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        index < self.durable.snapshot.0 || self.durable.term_at(index) == Some(term)
    }

    /// The last index on the disk.
    pub fn last(&self) -> u64 {
        self.durable.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtask_core::consensus::LogEntry;

    fn persist(n: u64, term: u64, vote: u64, indexes: std::ops::Range<u64>) -> Persist {
        let entries = indexes.map(|index| LogEntry { index, term, ..LogEntry::default() });
        Persist {
            n,
            hard_state: HardState { term, vote, commit: 0 },
            entries: entries.collect(),
            fact: None,
        }
    }

    #[test]
    fn an_acknowledgement_before_the_sync_is_seen() {
        let mut image = Image::default();
        image.written(&persist(1, 2, 1, 1..4));
        let message = RaftMessage {
            kind: kind::APPEND_RESPONSE,
            term: 2,
            index: 3,
            ..RaftMessage::default()
        };
        let early = image.s4_claims_are_durable(NodeId(2), NodeId(1), &message);
        assert_eq!(early.map_err(|violation| violation.id), Err("S4"));
        image.synced(1);
        assert_eq!(image.s4_claims_are_durable(NodeId(2), NodeId(1), &message), Ok(()));
    }

    #[test]
    fn a_vote_other_than_the_durable_one_is_seen() {
        let mut image = Image::default();
        image.written(&persist(1, 2, 3, 1..1));
        image.synced(1);
        let message = RaftMessage { kind: kind::VOTE_RESPONSE, term: 2, ..RaftMessage::default() };
        let verdict = image.s4_claims_are_durable(NodeId(2), NodeId(1), &message);
        assert_eq!(verdict.map_err(|violation| violation.id), Err("S4"));
    }

    #[test]
    fn recovery_may_keep_records_under_way_but_loses_no_durable_one() {
        let mut image = Image::default();
        image.written(&persist(1, 1, 1, 1..3));
        image.written(&persist(2, 1, 1, 3..4));
        image.synced(1);
        let mut recovered = Recovered {
            hard_state: HardState { term: 1, vote: 1, commit: 0 },
            entries: persist(0, 1, 0, 1..4).entries,
            ..Recovered::default()
        };
        assert_eq!(image.clone().s25_recovery_yields_a_written_prefix(&recovered), Ok(()));
        recovered.entries.truncate(2);
        assert_eq!(image.clone().s25_recovery_yields_a_written_prefix(&recovered), Ok(()));
        recovered.entries.truncate(1);
        let verdict = image.s25_recovery_yields_a_written_prefix(&recovered);
        assert_eq!(verdict.map_err(|violation| violation.id), Err("S25"));
    }
}
