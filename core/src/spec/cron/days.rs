//! Which days a cron expression names: what the two day fields say together.
//!
//! Vixie's rule: when both restrict, a day that either names fires; when one begins with `*`,
//! both must name it.

use chrono::{Datelike, NaiveDate};

use super::field::{Field, Term};

/// The two day fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) of_month: Field,
    pub(super) of_week: Field,
}

/// A month's length and the weekday of its first day (0 is Sunday).
#[derive(Clone, Copy)]
struct Shape {
    days: u32,
    first: u32,
}

impl Days {
    /// Whether a day needs both fields (else either).
    pub(super) fn both_needed(&self) -> bool {
        self.of_month.starred || self.of_week.starred
    }

    /// The days of a month that fire: bit `d` stands for day `d`.
    pub(super) fn of(&self, year: i32, month: u32) -> u32 {
        let Some(shape) = Shape::of(year, month) else { return 0 };
        let of_month = fold(&self.of_month, |term| shape.of_month(term));
        let of_week = fold(&self.of_week, |term| shape.of_week(term));
        if self.both_needed() { of_month & of_week } else { of_month | of_week }
    }
}

fn fold(field: &Field, days: impl Fn(Term) -> u32) -> u32 {
    field.terms.iter().fold(0, |bits, term| bits | days(*term))
}

impl Shape {
    fn of(year: i32, month: u32) -> Option<Self> {
        let first = NaiveDate::from_ymd_opt(year, month, 1)?;
        Some(Self {
            days: u32::from(first.num_days_in_month()),
            first: first.weekday().num_days_from_sunday(),
        })
    }

    fn weekday(self, day: u32) -> u32 {
        (self.first + day - 1) % 7
    }

    /// Days 1 to the last that satisfy a test.
    fn bits(self, named: impl Fn(u32) -> bool) -> u32 {
        (1..=self.days).filter(|day| named(*day)).fold(0, |bits, day| bits | 1 << day)
    }

    fn of_month(self, term: Term) -> u32 {
        match term {
            Term::Every { from, to, step } => {
                self.bits(|day| from <= day && day <= to && (day - from).is_multiple_of(step))
            }
            Term::Last { before } => self.bits(|day| day + before == self.days),
            Term::LastWeekday => 1 << self.nearest_weekday(self.days),
            Term::NearestWeekday { day } if day <= self.days => 1 << self.nearest_weekday(day),
            // A day that the month does not have, and terms of the other field.
            Term::NearestWeekday { .. } | Term::Nth { .. } | Term::LastOf { .. } => 0,
        }
    }

    /// Saturday moves back, Sunday forward, unless that leaves the month.
    fn nearest_weekday(self, day: u32) -> u32 {
        match self.weekday(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.days => day - 2,
            0 => day + 1,
            _ => day,
        }
    }

    fn of_week(self, term: Term) -> u32 {
        match term {
            // A range may end with 7, Sunday.
            Term::Every { from, to, step } => self.bits(|day| {
                let named = |weekday: u32| {
                    from <= weekday && weekday <= to && (weekday - from).is_multiple_of(step)
                };
                let weekday = self.weekday(day);
                named(weekday) || (weekday == 0 && named(7))
            }),
            Term::Nth { weekday, nth } => {
                self.bits(|day| self.weekday(day) == weekday && day.div_ceil(7) == nth)
            }
            Term::LastOf { weekday } => {
                self.bits(|day| self.weekday(day) == weekday && day + 7 > self.days)
            }
            // Terms of the other field.
            Term::Last { .. } | Term::LastWeekday | Term::NearestWeekday { .. } => 0,
        }
    }
}
