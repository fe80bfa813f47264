//! From a rule to fire times, and what becomes of the ones that passed.
//!
//! Leaders decide here and put the answers into commands (P2.1); `apply` never computes a fire
//! time.

use alloc::boxed::Box;

use super::cron::Calendar;
use super::error::FieldError;
use super::task::{Misfire, Recurrence, Rule};
use crate::limits::{FIRE_ON_TIME_MS, FIRES_COUNTED_MAX};
use crate::time::Timestamp;

/// The reason that a run skipped for its age carries.
pub const SKIPPED_MISFIRE: &str = "misfire";

/// A rule ready to be asked: what leaders cache.
#[derive(Clone, Debug)]
pub enum Clockwork {
    /// A period, and the origin that the spec names.
    Every {
        /// In microseconds, above zero.
        period: i64,
        /// `None`: counted from the acceptance.
        start: Option<Timestamp>,
    },
    /// A calendar.
    Calendar(Box<Calendar>),
}

impl Clockwork {
    /// Parses a rule.
    ///
    /// # Errors
    /// Only for a calendar that this version's tables do not know: rules are valid when they are
    /// accepted, but a zone can leave the tables.
    pub fn new(rule: &Rule) -> Result<Self, FieldError> {
        match rule {
            Rule::Every { period_ms, start } => Ok(Self::Every {
                period: i64::try_from(*period_ms).unwrap_or(i64::MAX).saturating_mul(1_000).max(1),
                start: *start,
            }),
            Rule::Cron { expr, zone, gap, fold } => {
                Calendar::parse(expr, zone, *gap, *fold).map(|c| Self::Calendar(Box::new(c)))
            }
        }
    }

    /// The first fire time of a task accepted at `accepted`.
    pub fn first(&self, accepted: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every { period, start: None } => Some(accepted.plus_micros(*period)),
            Self::Every { start: Some(start), .. } if *start >= accepted => Some(*start),
            Self::Every { period, start: Some(start) } => {
                every_after(*start, *period, accepted.plus_micros(-1))
            }
            Self::Calendar(calendar) => calendar.next_after(accepted),
        }
    }

    /// The first fire time strictly later than `after`. `known` is any fire time of the schedule:
    /// a period without a named origin is counted from it.
    pub fn next_after(&self, known: Timestamp, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every { period, .. } => every_after(known, *period, after),
            Self::Calendar(calendar) => calendar.next_after(after),
        }
    }
}

/// The first `origin + k * period` later than `after`, k of either sign.
fn every_after(origin: Timestamp, period: i64, after: Timestamp) -> Option<Timestamp> {
    let passed = i128::from(after.as_micros()) - i128::from(origin.as_micros());
    let period = i128::from(period);
    let steps = passed.div_euclid(period) + 1;
    i64::try_from(i128::from(origin.as_micros()) + steps * period).ok().map(Timestamp::from_micros)
}

/// What a leader proposes for a schedule that is due: the fields of a `Fire` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The fire time that the next run stands for, when `skip` is false; else the one recorded as
    /// skipped. Always the schedule's `next_run_at`, since `apply` takes no other (P6.3).
    pub fire_time: Timestamp,
    /// The fire time after it (and after those that it also stands for). `None` ends the schedule.
    pub next: Option<Timestamp>,
    /// Record it as skipped with [`SKIPPED_MISFIRE`] instead of running it.
    pub skip: bool,
    /// How many further fire times, between `fire_time` and `next`, it stands for.
    pub also_missed: u32,
}

/// Decides about the fire time `due` (≤ `now`) of a schedule. One that is on time, give or take
/// [`FIRE_ON_TIME_MS`], always runs. A schedule that is far behind takes
/// several decisions, each of which moves `next_run_at` on: with misfire `fire_once` first one
/// that skips all but the latest missed fire time, then one that runs it.
///
/// A calendar's missed fire times are counted one by one, up to a bound, so the work is bounded
/// whatever the outage; then the next decision goes on from there.
pub fn decide(
    recurrence: &Recurrence,
    clockwork: &Clockwork,
    due: Timestamp,
    now: Timestamp,
) -> Decision {
    let late = |fire_time: Timestamp| now.since(fire_time).as_millis();
    let too_old = |fire_time| late(fire_time) > u128::from(recurrence.catch_up_ms);
    let next = clockwork.next_after(due, due);
    if late(due) <= u128::from(FIRE_ON_TIME_MS) {
        return Decision { fire_time: due, next, skip: false, also_missed: 0 };
    }
    // Under `skip` everything that is not on time is skipped; under `fire_once`, what has a later
    // one that is due too, or is too old.
    let superseded = |fire_time: Timestamp, following: Option<Timestamp>| {
        late(fire_time) > u128::from(FIRE_ON_TIME_MS)
            && match recurrence.misfire {
                Misfire::Skip => true,
                Misfire::FireOnce => {
                    too_old(fire_time) || following.is_some_and(|next| next <= now)
                }
            }
    };
    if !superseded(due, next) {
        return Decision { fire_time: due, next, skip: false, also_missed: 0 };
    }
    let mut decision = Decision { fire_time: due, next, skip: true, also_missed: 0 };
    if let Clockwork::Every { period, .. } = clockwork {
        leap(&mut decision, *period, now);
    }
    for _ in 0..FIRES_COUNTED_MAX {
        let Some(candidate) = decision.next.filter(|next| *next <= now) else { break };
        let following = clockwork.next_after(due, candidate);
        if !superseded(candidate, following) {
            break;
        }
        decision.next = following;
        decision.also_missed = decision.also_missed.saturating_add(1);
    }
    decision
}

/// Moves a periodic schedule over all but the last few missed fire times by division.
fn leap(decision: &mut Decision, period: i64, now: Timestamp) {
    let Some(next) = decision.next else { return };
    // What is on time or still the latest one is left to be judged singly.
    let on_time = i64::try_from(FIRE_ON_TIME_MS * 1_000).unwrap_or(i64::MAX);
    let keep = on_time.max(period);
    let behind = now.as_micros().saturating_sub(next.as_micros()).saturating_sub(keep);
    let steps = (behind / period).clamp(0, i64::from(u32::MAX / 2));
    decision.next = Some(next.plus_micros(steps * period));
    decision.also_missed += steps as u32;
}
