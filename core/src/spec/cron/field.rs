//! One field of a cron expression: its terms, and the errors that name them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The parts of an expression, in the order of a seven-field one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// 0–59.
    Second,
    /// 0–59.
    Minute,
    /// 0–23.
    Hour,
    /// 1–31.
    DayOfMonth,
    /// 1–12 or names.
    Month,
    /// 0–7 or names; 0 and 7 are Sunday.
    DayOfWeek,
    /// 1970–2099.
    Year,
}

/// What one comma-separated piece of a field stands for. Days of the week count from Sunday, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// `*`, `a`, `a-b`, `a/n`, `*/n`, `a-b/n`: from, to, step.
    Every { from: u32, to: u32, step: u32 },
    /// `L`, `L-3`: so many days before the last day of the month.
    Last { before: u32 },
    /// `LW`: the last weekday (Monday to Friday) of the month.
    LastWeekday,
    /// `15W`: the weekday nearest to a day, within its month.
    NearestWeekday { day: u32 },
    /// `5#2`: the second Friday.
    Nth { weekday: u32, nth: u32 },
    /// `5L`: the last Friday.
    LastOf { weekday: u32 },
}

/// A parsed field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) part: Part,
    pub(super) terms: Vec<Term>,
    /// It begins with `*` (or is `?`): Vixie's rule for the two day fields, and `auto`'s for DST.
    pub(super) starred: bool,
}

/// What is wrong inside a field, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) detail: String,
    pub(super) hint: String,
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Part {
    /// As errors name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
            Self::Year => "year",
        }
    }

    /// The smallest and the largest value.
    pub const fn bounds(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
            Self::Year => (1970, 2099),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            Self::Second | Self::Minute | Self::Hour | Self::DayOfMonth | Self::Year => &[],
        }
    }

    /// The values of `*`: Sunday is 0 alone.
    const fn span(self) -> (u32, u32) {
        match self {
            Self::DayOfWeek => (0, 6),
            Self::Second
            | Self::Minute
            | Self::Hour
            | Self::DayOfMonth
            | Self::Month
            | Self::Year => self.bounds(),
        }
    }

    fn hint(self) -> String {
        let (min, max) = self.bounds();
        match self {
            Self::Second | Self::Minute | Self::Hour | Self::Year => {
                format!("use {min} to {max}, *, a list, a range or a step such as */5")
            }
            Self::DayOfMonth => String::from("use 1 to 31, *, L, L-3, LW, 15W, a list or a range"),
            Self::Month => String::from("use 1 to 12 or jan to dec, *, a list or a range"),
            Self::DayOfWeek => {
                String::from("use 0 to 7 or sun to sat, *, 5L, 5#2, a list or a range")
            }
        }
    }
}

impl Field {
    pub(super) fn parse(part: Part, text: &str) -> Result<Self, Fault> {
        let starred = text.starts_with('*') || text == "?";
        let day = matches!(part, Part::DayOfMonth | Part::DayOfWeek);
        let terms = if text == "?" && day {
            Vec::from([whole(part)])
        } else {
            text.split(',').map(|piece| parse_term(part, piece)).collect::<Result<_, _>>()?
        };
        Ok(Self { part, terms, starred })
    }

    /// Whether the field restricts nothing.
    pub(super) fn is_any(&self) -> bool {
        self.terms.contains(&whole(self.part))
    }

    /// Whether a plain term names the value.
    pub(super) fn names(&self, value: u32) -> bool {
        self.terms.iter().any(|term| match *term {
            Term::Every { from, to, step } => {
                from <= value && value <= to && (value - from).is_multiple_of(step)
            }
            Term::Last { .. }
            | Term::LastWeekday
            | Term::NearestWeekday { .. }
            | Term::Nth { .. }
            | Term::LastOf { .. } => false,
        })
    }

    /// Its values one by one, as the `cron` crate reads them.
    pub(super) fn spelled_out(&self) -> String {
        if self.is_any() {
            return String::from("*");
        }
        let (min, max) = self.part.span();
        let values: Vec<String> = (min..=max)
            .filter(|value| self.names(*value))
            .map(|value| format!("{value}"))
            .collect();
        values.join(",")
    }
}

fn whole(part: Part) -> Term {
    let (from, to) = part.span();
    Term::Every { from, to, step: 1 }
}

fn parse_term(part: Part, piece: &str) -> Result<Term, Fault> {
    if piece.is_empty() {
        return Err(Fault { detail: String::from("a value is missing"), hint: part.hint() });
    }
    if let Some(term) = special_day(part, piece)? {
        return Ok(term);
    }
    let (range, step) = match piece.split_once('/') {
        Some((range, step)) => (range, Some(parse_step(part, step)?)),
        None => (piece, None),
    };
    let (_, last) = part.span();
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => part.span(),
        Some((from, to)) => parse_range(part, from, to)?,
        None => {
            let from = parse_value(part, range)?;
            // `a/n` runs to the end of the field; Sunday as 7 is its beginning.
            if step.is_some() { (from % (last + 1), last) } else { (from, from) }
        }
    };
    let (from, to) = sunday(part, from, to);
    Ok(Term::Every { from, to, step: step.unwrap_or(1) })
}

/// A lone 7 is Sunday, 0. At the end of a range it stays, and `days.rs` reads it as Sunday too.
fn sunday(part: Part, from: u32, to: u32) -> (u32, u32) {
    if part == Part::DayOfWeek && from == 7 { (0, to % 7) } else { (from, to) }
}

fn parse_range(part: Part, from: &str, to: &str) -> Result<(u32, u32), Fault> {
    let (first, mut last) = (parse_value(part, from)?, parse_value(part, to)?);
    let first = if part == Part::DayOfWeek && first == 7 && last < 7 { 0 } else { first };
    if part == Part::DayOfWeek && last == 0 && first > 0 {
        last = 7;
    }
    if first > last {
        let (min, max) = part.span();
        return Err(Fault {
            detail: format!("the range {from}-{to} runs backwards"),
            hint: format!("write {first}-{max},{min}-{last}"),
        });
    }
    Ok((first, last))
}

fn parse_step(part: Part, text: &str) -> Result<u32, Fault> {
    let (min, max) = part.span();
    let most = max - min;
    let fault = |detail: String| Fault { detail, hint: format!("use a step from 1 to {most}") };
    match number(text) {
        None => Err(fault(format!("the step {text:?} is not a number"))),
        Some(0) => Err(fault(String::from("a step of 0 never moves on"))),
        Some(step) if step > most => Err(Fault {
            detail: format!("a step of {step} is longer than the field"),
            hint: format!("use a step from 1 to {most}, or an every schedule"),
        }),
        Some(step) => Ok(step),
    }
}

fn parse_value(part: Part, text: &str) -> Result<u32, Fault> {
    let (min, max) = part.bounds();
    if let Some(value) = number(text) {
        if value < min || value > max {
            let side = if value < min { "below" } else { "above" };
            let bound = if value < min { min } else { max };
            let detail = format!("{text} is {side} {bound}");
            return Err(Fault { detail, hint: part.hint() });
        }
        return Ok(value);
    }
    let known = part.names().iter().position(|name| {
        text.eq_ignore_ascii_case(name) || (text.eq_ignore_ascii_case(&name[..3]))
    });
    match known {
        Some(at) => Ok(at as u32 + part.span().0),
        None => Err(Fault { detail: format!("{text:?} means nothing here"), hint: part.hint() }),
    }
}

/// Digits only: no sign, no spaces.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `L`, `W` and `#`, where the field knows them.
fn special_day(part: Part, piece: &str) -> Result<Option<Term>, Fault> {
    let upper = piece.to_ascii_uppercase();
    match part {
        Part::DayOfMonth => {
            if upper == "L" {
                return Ok(Some(Term::Last { before: 0 }));
            }
            if upper == "LW" || upper == "WL" {
                return Ok(Some(Term::LastWeekday));
            }
            if let Some(before) = upper.strip_prefix("L-") {
                return match number(before) {
                    Some(before) if before <= 30 => Ok(Some(Term::Last { before })),
                    _ => Err(Fault {
                        detail: format!("{piece:?} is not a day before the last"),
                        hint: String::from("write L-1 to L-30"),
                    }),
                };
            }
            if let Some(day) = upper.strip_suffix('W') {
                return parse_value(part, day).map(|day| Some(Term::NearestWeekday { day }));
            }
            Ok(None)
        }
        Part::DayOfWeek => {
            if let Some((weekday, nth)) = upper.split_once('#') {
                let weekday = parse_value(part, weekday)? % 7;
                return match number(nth) {
                    Some(nth) if (1..=5).contains(&nth) => Ok(Some(Term::Nth { weekday, nth })),
                    _ => Err(Fault {
                        detail: format!("{piece:?} names no week of the month"),
                        hint: String::from("write #1 to #5, or 5L for the last Friday"),
                    }),
                };
            }
            if upper == "L" {
                return Err(Fault {
                    detail: String::from("L needs a day before it"),
                    hint: String::from("write 5L for the last Friday, or sat for Saturday"),
                });
            }
            match upper.strip_suffix('L') {
                Some(weekday) => {
                    let weekday = parse_value(part, weekday)? % 7;
                    Ok(Some(Term::LastOf { weekday }))
                }
                None => Ok(None),
            }
        }
        Part::Second | Part::Minute | Part::Hour | Part::Month | Part::Year => Ok(None),
    }
}
