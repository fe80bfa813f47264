//! What this node and the others tell each other of themselves, beside raft's messages.
//!
//! A clock is read across the network as NTP does it: each message carries a mark, the answer names
//! it, and the time that both took bounds the error. A message that waited anywhere (a paused
//! process, a slow link) therefore says nothing, instead of something wrong.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::consensus::{ConfState, Mark, Vitals};
use crate::id::NodeId;
use crate::time::{Instant, Now, Timestamp};

/// Between two messages to a peer: of ten that may be lost, one must arrive while a sample counts.
const EVERY: Duration = Duration::from_millis(500);
/// The same while a voter's clock is not known after the start: elections are near.
const EVERY_AT_FIRST: Duration = Duration::from_millis(100);
/// After the start a node waits this long to hear every voter's clock before it campaigns.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// A sample counts for this long: on it, at worst, hangs how long a cluster may be without a leader.
const FRESH: Duration = Duration::from_secs(5);
/// A question and its answer that took longer say nothing: half of it bounds the error.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// Marks whose sending is remembered: as many as fit into a round trip and the peer's own pace.
const MARKS: usize = 8;

/// The vitals of the other members, and the pace of our own.
#[derive(Debug)]
pub(super) struct PeerVitals {
    /// The newest mark that was sent.
    mark: u64,
    due: Instant,
    /// When the voters were first known.
    began: Option<Instant>,
    /// Members that are told in this turn.
    untold: Vec<NodeId>,
    /// The other voters.
    voters: Vec<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Marks sent to it, and when.
    asked: VecDeque<(u64, Instant)>,
    /// The newest mark heard from it, and when.
    heard: Option<(u64, Instant)>,
    /// Its wall clock, and when it showed that.
    clock: Option<(Timestamp, Instant)>,
    /// Its slowest sync, and when it told of that.
    sync: Option<(Duration, Instant)>,
}

/// What a node tells of itself beside its clock.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Digests, the newest first (P5.3).
    pub(super) marks: Vec<Mark>,
    /// The slowest sync of late (P3.9).
    pub(super) sync: Duration,
}

impl PeerVitals {
    /// Nothing is known. `life` is the log's: marks rise across lives.
    pub(super) const fn new(life: u64) -> Self {
        Self {
            mark: life << 32,
            due: Instant::from_micros(0),
            began: None,
            untold: Vec::new(),
            voters: Vec::new(),
            peers: BTreeMap::new(),
        }
    }

    /// Begins a turn; `conf` is asked for when the members are due to be told.
    pub(super) fn begin_turn(&mut self, now: Now, own: NodeId, conf: impl Fn() -> ConfState) {
        if now.mono < self.due {
            return;
        }
        self.due = now.mono + if self.is_settled(now) { EVERY } else { EVERY_AT_FIRST };
        let conf = conf();
        let members = conf.voters.iter().chain(&conf.voters_outgoing).chain(&conf.learners);
        self.untold = members.copied().filter(|id| *id != own).collect();
        self.untold.sort_unstable();
        self.untold.dedup();
        self.peers.retain(|id, _| self.untold.contains(id));
        self.voters = conf.voters;
        self.voters.retain(|id| *id != own);
        if self.began.is_none() && !self.voters.is_empty() {
            self.began = Some(now.mono);
        }
    }

    /// Whether every voter's clock is known, or it was waited for long enough after the start: a
    /// node that leads before it has heard of its wrong clock would stamp with it.
    pub(super) fn is_settled(&self, now: Now) -> bool {
        let waited = self.began.is_some_and(|began| now.mono.since(began) >= SETTLED_AFTER);
        waited || self.voters.iter().all(|voter| self.ahead(now, *voter).is_some())
    }

    /// Whether `to` is to be told in this turn.
    pub(super) fn is_due(&self, to: NodeId) -> bool {
        self.untold.contains(&to)
    }

    /// What to tell `to` with a message that goes there anyway; nothing when it was told lately.
    pub(super) fn speak(&mut self, now: Now, to: NodeId, rest: Rest) -> Option<Vitals> {
        let place = self.untold.iter().position(|id| *id == to)?;
        self.untold.remove(place);
        self.mark += 1;
        let peer = self.peers.entry(to).or_default();
        peer.asked.push_back((self.mark, now.mono));
        if peer.asked.len() > MARKS {
            peer.asked.pop_front();
        }
        let echo = peer.heard.map(|(mark, at)| (mark, now.mono.since(at)));
        let Rest { marks, sync } = rest;
        Some(Vitals { wall: now.wall, mark: self.mark, echo, marks, sync })
    }

    /// Who has not been told in this turn.
    pub(super) fn untold(&self) -> Option<NodeId> {
        self.untold.first().copied()
    }

    /// A member said how it is.
    pub(super) fn hear(&mut self, now: Now, from: NodeId, vitals: &Vitals) {
        let peer = self.peers.entry(from).or_default();
        // A repeated or late copy must not pass for a new question.
        if peer.heard.is_none_or(|(mark, _)| mark < vitals.mark) {
            peer.heard = Some((vitals.mark, now.mono));
            peer.sync = Some((vitals.sync, now.mono));
        }
        let Some((mark, age)) = vitals.echo else { return };
        let Some(&(_, sent)) = peer.asked.iter().find(|(asked, _)| *asked == mark) else { return };
        let both_ways = now.mono.since(sent).saturating_sub(age);
        if both_ways <= ROUND_TRIP_MAX {
            peer.clock = Some((vitals.wall + both_ways / 2, now.mono));
        }
    }

    /// How far a member's wall clock is ahead of ours, in microseconds, if that is known.
    pub(super) fn ahead(&self, now: Now, peer: NodeId) -> Option<i64> {
        let (wall, at) = self.peers.get(&peer)?.clock?;
        let age = now.mono.since(at);
        let theirs = (wall + age).as_micros();
        (age <= FRESH).then(|| theirs.saturating_sub(now.wall.as_micros()))
    }

    /// A member's slowest sync, if it told of it lately.
    pub(super) fn sync(&self, now: Now, peer: NodeId) -> Option<Duration> {
        let (sync, at) = self.peers.get(&peer)?.sync?;
        (now.mono.since(at) <= FRESH).then_some(sync)
    }

    /// The known clocks of the other voters, as [`Self::ahead`] has them; how many voters there are.
    pub(super) fn clocks(&self, now: Now) -> (Vec<i64>, usize) {
        let known = self.voters.iter().filter_map(|voter| self.ahead(now, *voter));
        (known.collect(), self.voters.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const US: NodeId = NodeId(1);
    const THEM: NodeId = NodeId(2);

    fn at(millis: u64, wall: i64) -> Now {
        Now {
            mono: Instant::from_micros(millis * 1_000),
            wall: Timestamp::from_micros(wall * 1_000),
        }
    }

    fn conf() -> ConfState {
        ConfState { voters: vec![US, THEM], ..ConfState::default() }
    }

    /// A question at 1,000 ms, answered by a clock that shows `wall` and has held it for `held`,
    /// and heard at `heard`.
    fn answered(wall: i64, held: u64, heard: u64) -> PeerVitals {
        let mut vitals = PeerVitals::new(1);
        vitals.begin_turn(at(1_000, 0), US, conf);
        let asked = vitals.speak(at(1_000, 1_000), THEM, Rest::default()).expect("it is due");
        let answer = Vitals {
            wall: at(0, wall).wall,
            mark: 7,
            echo: Some((asked.mark, Duration::from_millis(held))),
            ..Vitals::default()
        };
        vitals.hear(at(heard, heard as i64), THEM, &answer);
        vitals
    }

    #[test]
    fn half_of_the_round_trip_is_added() {
        // 40 ms on the way, 300 ms at the peer, whose clock is 10 s ahead.
        let vitals = answered(11_320, 300, 1_340);
        assert_eq!(vitals.ahead(at(1_340, 1_340), THEM), Some(10_000_000));
    }

    #[test]
    fn a_message_that_waited_says_nothing() {
        let vitals = answered(11_000, 300, 1_900);
        assert_eq!(vitals.ahead(at(1_900, 1_900), THEM), None);
    }

    #[test]
    fn a_step_of_our_own_clock_is_seen_at_once() {
        let vitals = answered(1_170, 300, 1_340);
        assert_eq!(vitals.ahead(at(2_000, 2_000), THEM), Some(-150_000));
        assert_eq!(vitals.ahead(at(2_000, 62_000), THEM), Some(-60_150_000));
    }

    #[test]
    fn a_sample_is_forgotten_after_five_seconds() {
        let vitals = answered(1_320, 300, 1_340);
        assert!(vitals.ahead(at(6_340, 6_340), THEM).is_some());
        assert_eq!(vitals.ahead(at(6_341, 6_341), THEM), None);
    }

    #[test]
    fn answers_to_another_life_say_nothing() {
        let mut vitals = PeerVitals::new(2);
        vitals.begin_turn(at(1_000, 0), US, conf);
        vitals.speak(at(1_000, 1_000), THEM, Rest::default());
        let answer = Vitals { echo: Some(((1 << 32) + 1, Duration::ZERO)), ..Vitals::default() };
        vitals.hear(at(1_001, 1_001), THEM, &answer);
        assert_eq!(vitals.ahead(at(1_001, 1_001), THEM), None);
    }
}
