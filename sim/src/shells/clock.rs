//! Clocks of scheduler nodes: madsim's one time, seen by each with an offset and a rate of its own.

use dtask_core::rng::Rng;
use dtask_core::time::{Instant, Now, Timestamp};
use dtask_runtime::serve::clock::Clock;

use super::draw::Draw;

/// Simulated time since the run began, in microseconds.
pub fn at() -> u64 {
    let elapsed = madsim::time::TimeHandle::current().elapsed();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// True wall time.
pub fn wall(draw: &Draw) -> Timestamp {
    Timestamp::from_micros(draw.epoch + at() as i64)
}

/// One machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Skewed {
    epoch: i64,
    offset: i64,
    ppm: i64,
}

impl Skewed {
    /// The clocks of the machine at `place`.
    pub fn of(draw: &Draw, place: usize) -> Self {
        let mut rng = Rng::new(draw.seed).fork(&format!("clock {place}"));
        let mut signed = |most: u64| rng.below(2 * most + 1) as i64 - most as i64;
        Self { epoch: draw.epoch, offset: signed(draw.skew), ppm: signed(draw.drift_ppm) }
    }
}

impl Clock for Skewed {
    fn now(&self) -> Now {
        let at = at() as i64;
        let drifted = at + at * self.ppm / 1_000_000;
        Now {
            // Zero is nobody's "never": a start above it keeps subtractions away from it.
            mono: Instant::from_micros(1_000_000 + drifted as u64),
            wall: Timestamp::from_micros(self.epoch + drifted + self.offset),
        }
    }
}
