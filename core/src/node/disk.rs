//! How long this node's disk takes, as far as its `Persist`s show (P3.9).

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::time::Instant;

/// The slowest sync of this long, and of this long before, is remembered: a disk that was slow a
/// moment ago is slow.
const WINDOW: Duration = Duration::from_secs(5);

/// The syncs of one node.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Asked for and not answered: number and when.
    asked: VecDeque<(u64, Instant)>,
    began: Instant,
    slowest: Duration,
    before: Duration,
}

impl Syncs {
    /// A `Persist` was emitted.
    pub(super) fn asked(&mut self, now: Instant, n: u64) {
        self.asked.push_back((n, now));
    }

    /// Every `Persist` up to `n` is durable.
    pub(super) fn done(&mut self, now: Instant, n: u64) {
        self.turn(now);
        while let Some((_, since)) = self.asked.pop_front_if(|(asked, _)| *asked <= n) {
            self.slowest = self.slowest.max(now.since(since));
        }
    }

    /// For how long the oldest `Persist` has been under way.
    pub(super) fn waits(&self, now: Instant) -> Duration {
        self.asked.front().map_or(Duration::ZERO, |(_, since)| now.since(*since))
    }

    /// The slowest sync of late, one that is under way included.
    pub(super) fn slowest(&mut self, now: Instant) -> Duration {
        self.turn(now);
        self.slowest.max(self.before).max(self.waits(now))
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.since(self.began);
        if passed >= WINDOW {
            self.before = if passed < 2 * WINDOW { self.slowest } else { Duration::ZERO };
            self.slowest = Duration::ZERO;
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn a_sync_under_way_counts_from_its_beginning() {
        let mut syncs = Syncs::default();
        syncs.asked(at(0), 1);
        syncs.asked(at(200), 2);
        assert_eq!(syncs.waits(at(700)), Duration::from_millis(700));
        syncs.done(at(800), 1);
        assert_eq!(syncs.waits(at(900)), Duration::from_millis(700));
        assert_eq!(syncs.slowest(at(900)), Duration::from_millis(800));
    }

    #[test]
    fn a_slow_sync_is_forgotten_after_ten_seconds_at_most() {
        let mut syncs = Syncs::default();
        syncs.asked(at(0), 1);
        syncs.done(at(800), 1);
        assert_eq!(syncs.slowest(at(4_900)), Duration::from_millis(800));
        assert_eq!(syncs.slowest(at(9_000)), Duration::from_millis(800));
        assert_eq!(syncs.slowest(at(14_100)), Duration::ZERO);
    }
}
