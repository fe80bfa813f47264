//! Replicated time as the leader stamps it on entries (P6.1): its wall clock, never going back.

use core::time::Duration;

use crate::machine::When;
use crate::time::{Instant, Now, Timestamp};

/// The source of `entry.at` for one leadership.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The newest stamp in the log, or what it has grown to since.
    last: Timestamp,
    /// When `last` was right, on the clock that measures.
    mark: Instant,
}

impl Stamp {
    /// Continues from `at`, the newest stamp that state holds.
    pub const fn new(at: Timestamp, now: Now) -> Self {
        Self { last: at, mark: now.mono }
    }

    /// What an entry closed at `now` says. While the wall clock is behind, replicated time runs
    /// at half of mono's rate: it never stands still, or every timer would (P6.1).
    pub fn read(&self, now: Now) -> Timestamp {
        if now.wall >= self.last { now.wall } else { self.last + now.mono.since(self.mark) / 2 }
    }

    /// Reads the stamp and remembers that an entry carries it.
    pub fn take(&mut self, now: Now) -> Timestamp {
        let at = self.read(now);
        if at > self.last {
            self.last = at;
            self.mark = now.mono;
        }
        at
    }

    /// When [`Stamp::read`] will have reached `due`.
    pub fn reaches(&self, due: Timestamp, now: Now) -> When {
        if now.wall >= self.last {
            return When::Wall(due);
        }
        When::Mono(self.mark + due.since(self.last).saturating_mul(2) + Duration::from_micros(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mono: u64, wall: i64) -> Now {
        Now { mono: Instant::from_micros(mono), wall: Timestamp::from_micros(wall) }
    }

    #[test]
    fn stamp_follows_the_wall_clock() {
        let mut stamp = Stamp::new(Timestamp::from_micros(100), now(0, 100));
        assert_eq!(stamp.take(now(10, 500)), Timestamp::from_micros(500));
    }

    #[test]
    fn stamp_runs_at_half_rate_while_the_wall_is_behind() {
        let mut stamp = Stamp::new(Timestamp::from_micros(1_000), now(0, 100));
        assert_eq!(stamp.take(now(100, 200)), Timestamp::from_micros(1_050));
        assert_eq!(stamp.take(now(200, 300)), Timestamp::from_micros(1_100));
        assert_eq!(stamp.take(now(300, 2_000)), Timestamp::from_micros(2_000));
    }

    #[test]
    fn many_small_readings_lose_no_time() {
        let mut stamp = Stamp::new(Timestamp::from_micros(1_000), now(0, 0));
        for mono in 1..=100 {
            stamp.take(now(mono, 0));
        }
        assert_eq!(stamp.read(now(100, 0)), Timestamp::from_micros(1_050));
    }

    #[test]
    fn a_due_time_is_reached_when_promised() {
        let stamp = Stamp::new(Timestamp::from_micros(1_000), now(0, 0));
        let When::Mono(at) = stamp.reaches(Timestamp::from_micros(1_500), now(0, 0)) else {
            panic!("the wall is behind");
        };
        assert!(stamp.read(now(at.as_micros(), 1)) >= Timestamp::from_micros(1_500));
    }
}
