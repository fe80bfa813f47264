//! Calendar schedules: a cron expression in a time zone, and the instants that it names.
//!
//! Civil time comes from `expression` (fields, days), zones from jiff's tables. This module
//! walks the stretches of constant offset between a zone's transitions and applies the DST rules
//! where they meet: in the spring gap, civil times that no clock shows; in the autumn fold, civil
//! times that clocks show twice.

mod days;
mod explain;
mod expression;
mod field;

use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

pub use explain::explain;
pub use expression::{CronError, Expression};
pub use field::Part;

use super::error::FieldError;
use super::task::{DstFold, DstGap};
use super::zone;
use crate::time::Timestamp;

/// No civil time is as late as this: stands for "none" in comparisons.
const NEVER: i64 = i64::MAX / 4;
/// Longer than any zone is ahead of UTC: a moment this much before a civil time read as UTC is
/// before it in every zone.
const AHEAD_MAX: i64 = 30 * 3_600;
/// Steps of one search. A step either ends it, crosses a transition that lies within a day of a
/// candidate, or jumps to the next candidate; 400 years of leap-day candidates need fewer.
const STEPS_MAX: usize = 1_000;

/// A parsed calendar rule. Cheap to search (microseconds), costly to parse (tens of them): leaders
/// keep it.
#[derive(Clone, Debug)]
pub struct Calendar {
    expression: Expression,
    zone: TimeZone,
    /// A gap fires once, at the first instant after it.
    gap_fires: bool,
    /// Which passes of a fold fire.
    first_pass: bool,
    second_pass: bool,
}

/// Where a search stands: a stretch of constant offset.
struct Place {
    /// An instant of the stretch; its end is the first transition after this.
    instant: i64,
    /// Civil time minus instant, in seconds.
    offset: i64,
    /// Civil times up to here are done.
    civil: i64,
}

/// A transition of the zone.
struct Transition {
    at: i64,
    offset: i64,
}

impl Calendar {
    /// Reads an expression and its zone, and settles what `auto` means for them.
    ///
    /// # Errors
    /// `CRON_INVALID` with the field, its position and a remedy; `TIMEZONE_UNKNOWN`.
    pub fn parse(expr: &str, zone: &str, gap: DstGap, fold: DstFold) -> Result<Self, FieldError> {
        let expression = Expression::parse(expr)?;
        let zone = zone::find("timezone", zone)?;
        let real_time = expression.follows_real_time();
        let gap_fires = match gap {
            DstGap::Auto => !real_time,
            DstGap::Skip => false,
            DstGap::Next => true,
        };
        let (first_pass, second_pass) = match fold {
            DstFold::Auto => (true, real_time),
            DstFold::First => (true, false),
            DstFold::Second => (false, true),
            DstFold::Both => (true, true),
        };
        Ok(Self { expression, zone, gap_fires, first_pass, second_pass })
    }

    /// The expression.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first instant strictly later than `after`; `None` when there is none up to the year
    /// 2099.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // Fire times are whole seconds, so one later than a moment is later than its second.
        let seconds = after.as_micros().div_euclid(1_000_000).max(-AHEAD_MAX);
        self.next_second(seconds).map(Timestamp::from_seconds)
    }

    /// The instants after `after`, in order.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        core::iter::successors(self.next_after(after), |moment| self.next_after(*moment))
    }

    fn next_second(&self, after: i64) -> Option<i64> {
        let offset = self.offset_at(after)?;
        let mut place = Place { instant: after, offset, civil: after.checked_add(offset)? };
        for _ in 0..STEPS_MAX {
            let candidate = self.expression.next_after(place.civil).unwrap_or(NEVER);
            let end = self.transition_after(place.instant);
            let end_at = end.as_ref().map_or(NEVER, |end| end.at);
            if candidate - place.offset < end_at {
                match self.pass_denied(candidate, &place, end_at) {
                    None if candidate == NEVER => return None,
                    None => return Some(candidate - place.offset),
                    Some(civil) => place.civil = civil,
                }
                continue;
            }
            let end = end?;
            if self.gap_fires && end.offset > place.offset && candidate <= end.at + end.offset {
                return Some(end.at);
            }
            place = self.beyond(&end, candidate, &place)?;
        }
        None
    }

    /// The stretch to search after the one that ends at `end` without a fire.
    fn beyond(&self, end: &Transition, candidate: i64, place: &Place) -> Option<Place> {
        // Civil time from the end on is still to come, and nothing before `candidate` fires: go
        // there at once, over years of transitions if need be.
        let near = candidate - AHEAD_MAX;
        if place.civil < end.at + end.offset && near > end.at {
            if candidate == NEVER {
                return None;
            }
            let offset = self.offset_at(near)?;
            return Some(Place { instant: near, offset, civil: near + offset });
        }
        Some(Place { instant: end.at, offset: end.offset, civil: end.at + end.offset - 1 })
    }

    /// When `civil` stands in a fold and this stretch is a pass that does not fire: the last civil
    /// time of the fold, to go on after it.
    fn pass_denied(&self, civil: i64, place: &Place, end_at: i64) -> Option<i64> {
        if self.first_pass && self.second_pass {
            return None;
        }
        let moment = civil_moment(civil)?;
        let AmbiguousOffset::Fold { before, after } =
            self.zone.to_ambiguous_timestamp(moment).offset()
        else {
            return None;
        };
        let (before, after) = (i64::from(before.seconds()), i64::from(after.seconds()));
        if place.offset == before && !self.first_pass {
            // The fold is the end of this stretch.
            return Some(end_at + before - 1);
        }
        if place.offset == after && !self.second_pass {
            // The fold is the beginning of this stretch.
            let begin = self.transition_until(civil - after)?;
            return Some(begin + before - 1);
        }
        None
    }

    fn offset_at(&self, instant: i64) -> Option<i64> {
        let stamp = jiff::Timestamp::from_second(instant).ok()?;
        Some(seconds(self.zone.to_offset(stamp)))
    }

    fn transition_after(&self, instant: i64) -> Option<Transition> {
        let stamp = jiff::Timestamp::from_second(instant).ok()?;
        let next = self.zone.following(stamp).next()?;
        Some(Transition { at: next.timestamp().as_second(), offset: seconds(next.offset()) })
    }

    /// The latest transition not after `instant`.
    fn transition_until(&self, instant: i64) -> Option<i64> {
        let stamp = jiff::Timestamp::from_second(instant + 1).ok()?;
        Some(self.zone.preceding(stamp).next()?.timestamp().as_second())
    }
}

fn seconds(offset: Offset) -> i64 {
    i64::from(offset.seconds())
}

/// A civil second as jiff's civil time.
fn civil_moment(civil: i64) -> Option<jiff::civil::DateTime> {
    jiff::Timestamp::from_second(civil).ok().map(|stamp| Offset::UTC.to_datetime(stamp))
}
