//! The clocks of one machine: a monotonic one that may run fast or slow, and a wall clock that is
//! off, drifts and steps. True time is the World's own, in microseconds since its beginning.

use std::time::Duration;

use dtask_core::rng::Rng;
use dtask_core::time::{Instant, Now, Timestamp};

use super::config::ClockFaults;
use crate::check::calendar;

/// True wall time at the World's beginning: a minute before Europe's clocks change, in spring or in
/// autumn, so that every seed crosses a gap or a fold.
pub const EPOCHS: [i64; 2] = [calendar::SPRING - 60_000_000, calendar::AUTUMN - 60_000_000];

/// The two clocks of one machine.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Reading of the monotonic clock at true time zero: never comparable between lives.
    mono_base: u64,
    /// How much faster the monotonic clock runs than true time, in parts per million.
    mono_ppm: i64,
    /// True wall time at true time zero, in microseconds since 1970.
    epoch: i64,
    /// How far the wall clock is off at true time zero, in microseconds; moved by steps.
    wall_offset: i64,
    /// How much faster the wall clock runs than true time, in parts per million.
    wall_ppm: i64,
}

impl Clock {
    /// A clock that is exact.
    pub const fn exact(epoch: i64) -> Self {
        Self { mono_base: 1_000_000, mono_ppm: 0, epoch, wall_offset: 0, wall_ppm: 0 }
    }

    /// A clock with errors within the drawn bounds.
    pub fn drawn(rng: &mut Rng, epoch: i64, faults: &ClockFaults) -> Self {
        let ClockFaults { mono_ppm, skew_ms, drift_ppm, .. } = *faults;
        Self {
            epoch,
            mono_base: 1_000_000 + rng.below(1_000_000_000),
            mono_ppm: signed(rng, mono_ppm),
            wall_offset: signed(rng, skew_ms) * 1_000,
            wall_ppm: signed(rng, drift_ppm),
        }
    }

    /// Both readings at true time `at`.
    pub fn now(&self, at: u64) -> Now {
        Now { mono: self.mono(at), wall: self.wall(at) }
    }

    /// The monotonic reading at true time `at`.
    pub fn mono(&self, at: u64) -> Instant {
        Instant::from_micros(self.mono_base + scaled(at, self.mono_ppm))
    }

    /// The wall reading at true time `at`.
    pub fn wall(&self, at: u64) -> Timestamp {
        Timestamp::from_micros(self.epoch + self.wall_offset + scaled(at, self.wall_ppm) as i64)
    }

    /// How much true time passes while the monotonic clock advances by `span`, rounded up so that
    /// a sleeper never wakes just before its deadline.
    pub fn true_span(&self, span: Duration) -> u64 {
        let micros = span.as_micros() as i128;
        let rate = 1_000_000 + i128::from(self.mono_ppm);
        ((micros * 1_000_000 + rate - 1) / rate) as u64
    }

    /// Moves the wall clock.
    pub fn step(&mut self, micros: i64) {
        self.wall_offset += micros;
    }

    /// Sets the wall clock right again and stops its drift.
    pub fn heal(&mut self) {
        self.wall_offset = 0;
        self.wall_ppm = 0;
    }

    /// Begins another life of the process: readings of the old one are not comparable.
    pub fn reboot(&mut self, rng: &mut Rng) {
        self.mono_base = 1_000_000 + rng.below(1_000_000_000);
    }
}

fn scaled(at: u64, ppm: i64) -> u64 {
    (i128::from(at) + i128::from(at) * i128::from(ppm) / 1_000_000) as u64
}

fn signed(rng: &mut Rng, bound: u64) -> i64 {
    rng.below(2 * bound + 1) as i64 - bound as i64
}
