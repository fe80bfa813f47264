//! The one clock of a node's host: what becomes `Now` before every step.

use dtask_core::time::Now;
#[cfg(not(madsim))]
use dtask_core::time::{Instant, Timestamp};

/// Reads both clocks.
pub trait Clock: Send + Sync + 'static {
    /// Both clocks, read just before a step.
    fn now(&self) -> Now;
}

/// The machine's clocks: CLOCK_BOOTTIME goes on while the machine sleeps, so that a lease is not
/// longer than its owner believes (P1.4).
#[cfg(not(madsim))]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[cfg(not(madsim))]
impl Clock for SystemClock {
    fn now(&self) -> Now {
        use rustix::time::{ClockId, clock_gettime};
        let mono = clock_gettime(ClockId::Boottime);
        // std asks libc, so that a library laid over libc can shift a node's wall clock in tests.
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        Now {
            mono: Instant::from_micros(
                (mono.tv_sec as u64).saturating_mul(1_000_000) + mono.tv_nsec as u64 / 1_000,
            ),
            wall: Timestamp::from_micros(wall),
        }
    }
}

/// The simulator's clocks: madsim answers both std clocks with its own time.
#[cfg(madsim)]
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

#[cfg(madsim)]
impl Default for SystemClock {
    fn default() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

#[cfg(madsim)]
impl Clock for SystemClock {
    fn now(&self) -> Now {
        use dtask_core::time::{Instant, Timestamp};
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as i64);
        Now {
            // Zero is "never" to nobody, yet a start above it keeps subtractions away from it.
            mono: Instant::from_micros(1_000_000 + self.start.elapsed().as_micros() as u64),
            wall: Timestamp::from_micros(wall),
        }
    }
}
