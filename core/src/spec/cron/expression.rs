//! A parsed cron expression on a civil clock: which civil seconds fire, zones aside.
//!
//! The `cron` crate walks the clock and year fields, spelled out for it in its own numbering; the
//! days are ours, because that crate knows neither `L`, `W`, `#` nor Vixie's two day fields.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::str::FromStr as _;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use cron::TimeUnitSpec as _;

use super::days::Days;
use super::field::{Fault, Field, Part};
use crate::limits::CRON_CHARS_MAX;
use crate::spec::error::{FieldError, InvalidReason};

/// A valid expression. Civil moments are seconds since 1970-01-01T00:00:00 as if in UTC.
#[derive(Clone, Debug)]
pub struct Expression {
    source: Box<str>,
    pub(super) second: Field,
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) days: Days,
    pub(super) month: Field,
    pub(super) year: Field,
    clock: cron::Schedule,
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError {
    /// The field, unless the expression as a whole is wrong.
    pub part: Option<Part>,
    /// Bytes of the expression that are at fault, for pointing at them.
    pub span: Range<usize>,
    /// Names the field with its position, and the fault.
    pub detail: String,
    /// What to write instead.
    pub hint: String,
}

impl From<CronError> for FieldError {
    fn from(error: CronError) -> Self {
        Self::invalid("cron_expr", error.detail, error.hint).because(InvalidReason::CronInvalid)
    }
}

/// Short names, and what they stand for.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Expression {
    /// Reads five fields (minute to day of week), six (second first), seven (year last), or a
    /// nickname.
    ///
    /// # Errors
    /// The first field that is wrong, or that no day is ever named.
    pub fn parse(source: &str) -> Result<Self, CronError> {
        let whole = |detail: String, hint: &str| CronError {
            part: None,
            span: 0..source.len(),
            detail,
            hint: String::from(hint),
        };
        let chars = source.chars().count();
        if chars > CRON_CHARS_MAX {
            let detail = format!("the expression has {chars} characters, at most {CRON_CHARS_MAX}");
            return Err(whole(detail, "shorten its lists to ranges"));
        }
        let text = source.trim();
        let text = match NICKNAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
            Some((_, fields)) => fields,
            None if text.starts_with('@') => {
                let hint = "use @hourly, @daily, @weekly, @monthly or @yearly; for a fixed period, \
                            an every schedule";
                return Err(whole(format!("{text} is no known nickname"), hint));
            }
            None => source,
        };
        let words = words(text);
        let with_seconds = words.len() >= 6;
        if !(5..=7).contains(&words.len()) {
            let detail = format!("the expression has {} fields, not 5, 6 or 7", words.len());
            let hint = "write: minute hour day-of-month month day-of-week, with a second before \
                        them and a year after";
            return Err(whole(detail, hint));
        }
        let field = |part: Part| parse_part(&words, with_seconds, part);
        let expression = Self::assemble(source.trim().into(), field)?;
        if expression.first_day(NaiveDate::MIN).is_none() {
            return Err(whole(
                String::from("no day of any year matches"),
                "check day of month against month: February has at most 29 days",
            ));
        }
        Ok(expression)
    }

    fn assemble(
        source: Box<str>,
        field: impl Fn(Part) -> Result<Field, CronError>,
    ) -> Result<Self, CronError> {
        let (second, minute, hour) =
            (field(Part::Second)?, field(Part::Minute)?, field(Part::Hour)?);
        let of_month = field(Part::DayOfMonth)?;
        let month = field(Part::Month)?;
        let of_week = field(Part::DayOfWeek)?;
        let year = field(Part::Year)?;
        let spelled = format!(
            "{} {} {} * {} ? {}",
            second.spelled_out(),
            minute.spelled_out(),
            hour.spelled_out(),
            month.spelled_out(),
            year.spelled_out()
        );
        let clock = cron::Schedule::from_str(&spelled).map_err(|error| CronError {
            part: None,
            span: 0..source.len(),
            detail: format!("the expression does not parse: {error}"),
            hint: String::from("check each field against its range"),
        })?;
        let days = Days { of_month, of_week };
        Ok(Self { source, second, minute, hour, days, month, year, clock })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the minute or the hour field begins with `*`: then it follows real time through a
    /// DST change, else it names fixed times (Debian cron's rule).
    pub fn follows_real_time(&self) -> bool {
        self.minute.starred || self.hour.starred
    }

    /// The first civil second after `civil` that fires.
    pub(super) fn next_after(&self, civil: i64) -> Option<i64> {
        let from = DateTime::<Utc>::from_timestamp(civil, 0)?;
        let today = DateTime::<Utc>::from_timestamp(civil.checked_add(1)?, 0)?.date_naive();
        let day = self.first_day(today)?;
        if day == today
            && let Some(moment) = self.clock.after(&from).next()
            && moment.date_naive() == today
        {
            return Some(moment.timestamp());
        }
        let day = if day == today { self.first_day(today.succ_opt()?)? } else { day };
        let before = day.and_hms_opt(0, 0, 0)?.and_utc().timestamp() - 1;
        let moment = self.clock.after(&DateTime::<Utc>::from_timestamp(before, 0)?).next()?;
        Some(moment.timestamp())
    }

    /// The first day, not before `from`, that fires.
    fn first_day(&self, from: NaiveDate) -> Option<NaiveDate> {
        let (first, last) = Part::Year.bounds();
        let start = from.year().max(first as i32);
        for year in start..=last as i32 {
            if !self.clock.years().includes(year as u32) {
                continue;
            }
            let same_year = year == from.year();
            let first_month = if same_year { from.month() } else { 1 };
            for month in (first_month..=12).filter(|month| self.clock.months().includes(*month)) {
                let mut days = self.days.of(year, month);
                if same_year && month == from.month() {
                    days &= u32::MAX << from.day();
                }
                if days != 0 {
                    return NaiveDate::from_ymd_opt(year, month, days.trailing_zeros());
                }
            }
        }
        None
    }
}

/// Fields with their places.
fn words(text: &str) -> Vec<(usize, &str)> {
    text.split_whitespace()
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
        .collect()
}

fn parse_part(words: &[(usize, &str)], with_seconds: bool, part: Part) -> Result<Field, CronError> {
    let at = match (part, with_seconds) {
        (Part::Second, false) => None,
        (Part::Second, true) => Some(0),
        (Part::Year, _) => (words.len() == 7).then_some(6),
        (Part::Minute, _) => Some(usize::from(with_seconds)),
        (Part::Hour, _) => Some(1 + usize::from(with_seconds)),
        (Part::DayOfMonth, _) => Some(2 + usize::from(with_seconds)),
        (Part::Month, _) => Some(3 + usize::from(with_seconds)),
        (Part::DayOfWeek, _) => Some(4 + usize::from(with_seconds)),
    };
    let (place, word) = match at {
        Some(at) => words[at],
        None => (0, if part == Part::Second { "0" } else { "*" }),
    };
    Field::parse(part, word).map_err(|Fault { detail, hint }| CronError {
        part: Some(part),
        span: place..place + word.len(),
        detail: format!("{} (field {}): {detail}", part.name(), at.unwrap_or(0) + 1),
        hint,
    })
}
