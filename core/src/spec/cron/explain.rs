//! A cron expression in plain English, for `dtask cron explain`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::expression::{CronError, Expression};
use super::field::{Field, MONTHS, Part, Term, WEEKDAYS};

/// So many clock times are listed one by one; more are described by their fields.
const CLOCK_TIMES_MAX: usize = 6;

/// Says in one sentence when an expression fires.
///
/// # Errors
/// As [`Expression::parse`].
pub fn explain(source: &str) -> Result<String, CronError> {
    let expression = Expression::parse(source)?;
    let mut text = clock_times(&expression).unwrap_or_else(|| clock_fields(&expression));
    if let Some(days) = days(&expression) {
        text.push_str(", ");
        text.push_str(&days);
    }
    if !expression.month.is_any() {
        text.push_str(", in ");
        text.push_str(&list(&expression.month, "and"));
    }
    if !expression.year.is_any() {
        text.push_str(", in ");
        text.push_str(&list(&expression.year, "and"));
    }
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    Ok(first.into_iter().chain(letters).chain(['.']).collect())
}

/// `at 09:00 and 17:30`, when the expression names a few clock times.
fn clock_times(expression: &Expression) -> Option<String> {
    let hours = single_values(&expression.hour)?;
    let minutes = single_values(&expression.minute)?;
    let seconds = single_values(&expression.second)?;
    if hours.len() * minutes.len() * seconds.len() > CLOCK_TIMES_MAX {
        return None;
    }
    let mut times = Vec::new();
    for hour in &hours {
        for minute in &minutes {
            for second in &seconds {
                times.push(if seconds == [0] {
                    format!("{hour:02}:{minute:02}")
                } else {
                    format!("{hour:02}:{minute:02}:{second:02}")
                });
            }
        }
    }
    Some(format!("at {}", join(&times, "and")))
}

/// The values of a field that lists nothing but single ones, ascending.
fn single_values(field: &Field) -> Option<Vec<u32>> {
    let mut values = Vec::new();
    for term in &field.terms {
        match *term {
            Term::Every { from, to, .. } if from == to => values.push(from),
            Term::Every { .. }
            | Term::Last { .. }
            | Term::LastWeekday
            | Term::NearestWeekday { .. }
            | Term::Nth { .. }
            | Term::LastOf { .. } => return None,
        }
    }
    values.sort_unstable();
    values.dedup();
    Some(values)
}

/// `every 5 minutes past hours 9 through 17`.
fn clock_fields(expression: &Expression) -> String {
    let mut pieces = Vec::new();
    let plain_seconds = single_values(&expression.second).is_some_and(|values| values == [0]);
    if !plain_seconds {
        pieces.push(units(&expression.second));
    }
    if !expression.minute.is_any() || plain_seconds {
        pieces.push(units(&expression.minute));
    }
    if !expression.hour.is_any() {
        pieces.push(units(&expression.hour));
    } else if !expression.minute.starred {
        pieces.push(String::from("every hour"));
    }
    pieces.join(" of ")
}

/// `every minute`, `every 5 minutes`, `minute 3 and 7`.
fn units(field: &Field) -> String {
    let name = field.part.name();
    let (first, last) = field.part.bounds();
    match field.terms.as_slice() {
        _ if field.is_any() => format!("every {name}"),
        [Term::Every { from, to, step }] if *step > 1 && (*from, *to) == (first, last) => {
            format!("every {} {name}", ordinal(*step))
        }
        [Term::Every { from, to, .. }] if from == to => format!("{name} {from}"),
        _ => format!("{name}s {}", list(field, "and")),
    }
}

/// `on the 1st and the 15th of the month or on Friday`.
fn days(expression: &Expression) -> Option<String> {
    let of_month = &expression.days.of_month;
    let of_week = &expression.days.of_week;
    let month = || format!("on {} of the month", list(of_month, "and"));
    let week = || format!("on {}", list(of_week, "and"));
    match (of_month.is_any(), of_week.is_any()) {
        (true, true) => None,
        (false, true) if of_week.starred => Some(month()),
        (true, false) if of_month.starred => Some(week()),
        _ if expression.days.both_needed() => {
            Some(format!("{} if that is {}", month(), { list(of_week, "or") }))
        }
        _ => Some(format!("{} or {}", month(), week())),
    }
}

fn list(field: &Field, last: &str) -> String {
    let pieces: Vec<String> = field.terms.iter().map(|term| piece(field.part, *term)).collect();
    join(&pieces, last)
}

fn piece(part: Part, term: Term) -> String {
    match term {
        Term::Every { from, to, step } if from == to || step > to - from => value(part, from),
        Term::Every { from, to, step: 1 } => {
            format!("{} through {}", value(part, from), value(part, to))
        }
        Term::Every { from, to, step } => {
            format!(
                "every {} {} from {} through {}",
                ordinal(step),
                match part {
                    Part::DayOfMonth | Part::DayOfWeek => "day",
                    Part::Second | Part::Minute | Part::Hour | Part::Month | Part::Year =>
                        part.name(),
                },
                value(part, from),
                value(part, to)
            )
        }
        Term::Last { before: 0 } => String::from("the last day"),
        Term::Last { before: 1 } => String::from("the day before the last day"),
        Term::Last { before } => format!("the day {before} days before the last day"),
        Term::LastWeekday => String::from("the last weekday (Monday to Friday)"),
        Term::NearestWeekday { day } => {
            format!("the weekday (Monday to Friday) nearest the {}", ordinal(day))
        }
        Term::Nth { weekday, nth } => {
            format!("the {} {} of the month", ordinal(nth), value(part, weekday))
        }
        Term::LastOf { weekday } => format!("the last {} of the month", value(part, weekday)),
    }
}

fn value(part: Part, value: u32) -> String {
    match part {
        Part::DayOfMonth => format!("the {}", ordinal(value)),
        Part::Month => String::from(MONTHS[(value as usize + 11) % 12]),
        Part::DayOfWeek => String::from(WEEKDAYS[value as usize % 7]),
        Part::Second | Part::Minute | Part::Hour | Part::Year => format!("{value}"),
    }
}

fn ordinal(number: u32) -> String {
    let suffix = match (number % 10, number % 100) {
        (1, ..=10 | 12..) => "st",
        (2, ..=11 | 13..) => "nd",
        (3, ..=12 | 14..) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

fn join(pieces: &[String], last: &str) -> String {
    match pieces {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}
