//! A task as a caller sent it, before anything was checked, and the one way from there to a
//! [`NewTask`]. All faults are found at once, so that a caller mends them in one go.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::cron::Calendar;
use super::error::{FieldError, InvalidReason};
use super::task::{
    Backoff, DstFold, DstGap, Misfire, NewTask, Overlap, Profile, Recurrence, Retry, Rule,
    Schedule, defaults,
};
use super::text::format_duration_ms;
use super::zone;
use crate::limits;
use crate::time::Timestamp;

/// The pieces of a submit. `None` takes interface.md's default; numbers are as wide as the wire's,
/// and durations are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft<'a> {
    /// Required: the edge makes a UUIDv7 when the caller gave none (P8.3).
    pub id: &'a str,
    /// Empty means the id.
    pub name: &'a str,
    /// Required: the handler's name (`type`).
    pub kind: &'a str,
    /// Empty means [`defaults::QUEUE`].
    pub queue: &'a str,
    /// Uninterpreted.
    pub payload: Bytes,
    /// 0..=9.
    pub priority: Option<u32>,
    /// Once, not before this moment. Excludes `every_ms` and `cron`.
    pub at: Option<Timestamp>,
    /// The period. Excludes `at` and `cron`.
    pub every_ms: Option<i64>,
    /// The origin of `every_ms`; `None` means the acceptance.
    pub starts_at: Option<Timestamp>,
    /// A cron expression. Excludes `at` and `every_ms`.
    pub cron: Option<&'a str>,
    /// The IANA zone that `cron` is read in; `None` means UTC. Beside `at` it is checked and has
    /// done its work when the moment was read.
    pub timezone: Option<&'a str>,
    /// `None` means auto.
    pub dst_gap: Option<DstGap>,
    /// `None` means auto.
    pub dst_fold: Option<DstFold>,
    /// `None` means fire once.
    pub misfire: Option<Misfire>,
    /// How old a fire time may be and still run.
    pub catch_up_ms: Option<i64>,
    /// `None` means skip.
    pub overlap: Option<Overlap>,
    /// Further attempts after the first.
    pub max_retries: Option<u32>,
    /// `None` means exponential.
    pub backoff: Option<Backoff>,
    /// The wait before the first retry.
    pub backoff_base_ms: Option<i64>,
    /// The longest wait before a retry.
    pub backoff_max_ms: Option<i64>,
    /// Exit codes that fail for good, in any order.
    pub no_retry_exit: &'a [i32],
    /// The longest that one attempt may run.
    pub run_timeout_ms: Option<i64>,
}

impl Draft<'_> {
    /// Checks every field against its bound.
    ///
    /// # Errors
    /// Each fault, in the order of the fields; never empty.
    pub fn check(self) -> Result<NewTask, Vec<FieldError>> {
        let mut faults = Faults(Vec::new());
        faults.keep(check_id("id", self.id));
        faults.keep(check_name("name", self.name));
        let kind = faults.keep(required_name("type", self.kind));
        let queue = if self.queue.is_empty() { defaults::QUEUE } else { self.queue };
        faults.keep(check_name("queue", queue));
        faults.keep(check_payload(&self.payload));
        let priority = faults.keep(within(
            "priority",
            u64::from(self.priority.unwrap_or(u32::from(defaults::PRIORITY))),
            u64::from(limits::PRIORITY_MAX),
        ));
        let retry = self.retry(&mut faults);
        let run_timeout_ms =
            faults.keep(duration("timeout", self.run_timeout_ms, defaults::RUN_TIMEOUT_MS, 1));
        let schedule = self.schedule(&mut faults);
        match (kind, priority, retry, run_timeout_ms, schedule) {
            (Some(kind), Some(priority), Some(retry), Some(run_timeout_ms), Some(schedule))
                if faults.0.is_empty() =>
            {
                Ok(NewTask {
                    id: self.id.into(),
                    name: self.name.into(),
                    payload: self.payload,
                    priority: priority as u8,
                    schedule,
                    profile: Profile {
                        kind: kind.into(),
                        queue: queue.into(),
                        retry,
                        run_timeout_ms,
                    },
                })
            }
            _ => Err(faults.0),
        }
    }

    fn retry(&self, faults: &mut Faults) -> Option<Retry> {
        let max_retries = faults.keep(within(
            "max_retries",
            u64::from(self.max_retries.unwrap_or(u32::from(defaults::MAX_RETRIES))),
            u64::from(limits::RETRIES_MAX),
        ));
        let base = faults.keep(duration(
            "backoff_base",
            self.backoff_base_ms,
            defaults::BACKOFF_BASE_MS,
            0,
        ));
        // A base above the default of the other bound lifts that default with it.
        let fallback = defaults::BACKOFF_MAX_MS.max(base.unwrap_or(0));
        let max = faults.keep(duration("backoff_max", self.backoff_max_ms, fallback, 0));
        if let (Some(base), Some(max)) = (base, max)
            && base > max
        {
            faults.0.push(FieldError::invalid(
                "backoff_base",
                format!(
                    "{} is longer than backoff_max, {}",
                    format_duration_ms(base),
                    format_duration_ms(max)
                ),
                "raise backoff_max or lower backoff_base",
            ));
        }
        let mut no_retry_exit = self.no_retry_exit.to_vec();
        no_retry_exit.sort_unstable();
        no_retry_exit.dedup();
        if no_retry_exit.len() > limits::NO_RETRY_EXIT_MAX {
            faults.0.push(FieldError::invalid(
                "no_retry_exit",
                format!("{} codes, at most {}", no_retry_exit.len(), limits::NO_RETRY_EXIT_MAX),
                "name fewer codes",
            ));
        }
        Some(Retry {
            max_retries: max_retries? as u16,
            backoff: self.backoff.unwrap_or(Backoff::Exponential),
            backoff_base_ms: base?,
            backoff_max_ms: max?,
            no_retry_exit,
        })
    }

    fn schedule(&self, faults: &mut Faults) -> Option<Schedule> {
        let rules = [self.at.is_some(), self.every_ms.is_some(), self.cron.is_some()];
        if rules.iter().filter(|given| **given).count() > 1 {
            faults.0.push(FieldError::invalid(
                if self.cron.is_some() { "cron_expr" } else { "every" },
                "more than one of at, every and cron_expr is given",
                "keep one of them",
            ));
            return None;
        }
        if self.cron.is_none() {
            self.check_calendar_words(faults);
        }
        if self.starts_at.is_some() && self.every_ms.is_none() {
            faults.0.push(FieldError::invalid(
                "starts_at",
                "it is the origin of every, which is not given",
                "give every, or leave starts_at out",
            ));
        }
        let rule = match (self.every_ms, self.cron) {
            (Some(_), _) => {
                let period_ms =
                    faults.keep(duration("every", self.every_ms, 0, limits::EVERY_MS_MIN))?;
                Rule::Every { period_ms, start: self.starts_at }
            }
            (None, Some(expr)) => faults.keep(self.cron_rule(expr))?,
            (None, None) => {
                self.check_recurring_words(faults);
                return Some(self.at.map_or(Schedule::Now, Schedule::At));
            }
        };
        Some(Schedule::Recurring(Box::new(Recurrence {
            rule,
            misfire: self.misfire.unwrap_or(Misfire::FireOnce),
            catch_up_ms: faults.keep(duration(
                "catch_up",
                self.catch_up_ms,
                defaults::CATCH_UP_MS,
                0,
            ))?,
            overlap: self.overlap.unwrap_or(Overlap::Skip),
        })))
    }

    fn cron_rule(&self, expr: &str) -> Result<Rule, FieldError> {
        let gap = self.dst_gap.unwrap_or(DstGap::Auto);
        let fold = self.dst_fold.unwrap_or(DstFold::Auto);
        let calendar = Calendar::parse(expr, self.timezone.unwrap_or(zone::UTC), gap, fold)?;
        let zone = zone::canonical_name(calendar.zone()).into();
        Ok(Rule::Cron { expr: calendar.expression().source().into(), zone, gap, fold })
    }

    /// What only a cron expression gives a meaning.
    fn check_calendar_words(&self, faults: &mut Faults) {
        if let Some(name) = self.timezone {
            faults.keep(zone::find("timezone", name).map(drop));
        }
        for (field, given) in
            [("dst_gap", self.dst_gap.is_some()), ("dst_fold", self.dst_fold.is_some())]
        {
            if given {
                faults.0.push(FieldError::invalid(
                    field,
                    "it needs cron_expr, which is not given",
                    "leave it out, or give cron_expr",
                ));
            }
        }
    }

    /// What only a recurring task gives a meaning.
    fn check_recurring_words(&self, faults: &mut Faults) {
        for (field, given) in [
            ("misfire", self.misfire.is_some()),
            ("catch_up", self.catch_up_ms.is_some()),
            ("overlap", self.overlap.is_some()),
        ] {
            if given {
                faults.0.push(FieldError::invalid(
                    field,
                    "it needs every or cron_expr, and neither is given",
                    "leave it out, or give every or cron_expr",
                ));
            }
        }
    }
}

/// Checks an id against interface.md's pattern.
///
/// # Errors
/// Names `field` and the first character that does not fit.
pub fn check_id(field: &str, id: &str) -> Result<(), FieldError> {
    let hint = "ids match [A-Za-z0-9][A-Za-z0-9._:-]{0,127}";
    if id.is_empty() {
        return Err(FieldError::invalid(field, "it is empty", hint));
    }
    let fits = |(at, c): &(usize, char)| {
        c.is_ascii_alphanumeric() || (*at > 0 && matches!(c, '.' | '_' | ':' | '-'))
    };
    if let Some((at, c)) = id.char_indices().find(|place| !fits(place)) {
        let detail = format!("{c:?} at position {} is not allowed", at + 1);
        return Err(FieldError::invalid(field, detail, hint));
    }
    if id.len() > limits::NAME_CHARS_MAX {
        return Err(too_long(field, id.len()));
    }
    Ok(())
}

/// Checks a name that may be empty: its length, and that it has nothing that a terminal or a log
/// line would not show.
///
/// # Errors
/// Names `field`.
pub fn check_name(field: &str, name: &str) -> Result<(), FieldError> {
    let chars = name.chars().count();
    if chars > limits::NAME_CHARS_MAX {
        return Err(too_long(field, chars));
    }
    if let Some(at) = name.chars().position(char::is_control) {
        return Err(FieldError::invalid(
            field,
            format!("the character at position {} is a control character", at + 1),
            "use printable characters",
        ));
    }
    if name.trim().len() != name.len() {
        return Err(FieldError::invalid(
            field,
            "it begins or ends with a space",
            "take the space away",
        ));
    }
    Ok(())
}

fn required_name<'a>(field: &str, name: &'a str) -> Result<&'a str, FieldError> {
    if name.is_empty() {
        let hint = "name the handler, such as exec";
        return Err(FieldError::invalid(field, "it is empty", hint));
    }
    check_name(field, name).map(|()| name)
}

fn too_long(field: &str, chars: usize) -> FieldError {
    let max = limits::NAME_CHARS_MAX;
    FieldError::invalid(field, format!("{chars} characters, at most {max}"), "shorten it")
}

fn check_payload(payload: &[u8]) -> Result<(), FieldError> {
    let (bytes, max) = (payload.len(), limits::PAYLOAD_BYTES_MAX);
    if bytes > max {
        return Err(FieldError::invalid(
            "payload",
            format!("{bytes} bytes, at most {max}"),
            "put the data in a store and pass its address",
        )
        .because(InvalidReason::PayloadTooLarge));
    }
    Ok(())
}

fn within(field: &str, value: u64, max: u64) -> Result<u64, FieldError> {
    if value > max {
        let detail = format!("{value} is above the largest value, {max}");
        return Err(FieldError::invalid(field, detail, format!("use a value from 0 to {max}")));
    }
    Ok(value)
}

fn duration(field: &str, ms: Option<i64>, default: u64, min: u64) -> Result<u64, FieldError> {
    let Some(ms) = ms else { return Ok(default) };
    let max = limits::DURATION_MS_MAX;
    let fault = match u64::try_from(ms) {
        Ok(ms) if ms < min => format!("{} is too short", format_duration_ms(ms)),
        Ok(ms) if ms > max => format!("{} is too long", format_duration_ms(ms)),
        Ok(ms) => return Ok(ms),
        Err(_) => format!("{ms} ms is negative"),
    };
    let hint = format!("from {} to {}", format_duration_ms(min), format_duration_ms(max));
    Err(FieldError::invalid(field, fault, hint))
}

struct Faults(Vec<FieldError>);

impl Faults {
    fn keep<T>(&mut self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|fault| self.0.push(fault)).ok()
    }
}

/// Reads one of the words that stand for a choice (`skip`, `fire_once`, …).
///
/// # Errors
/// Names `field` and lists the words.
pub fn parse_word<T: Copy>(field: &str, word: &str, words: &[(&str, T)]) -> Result<T, FieldError> {
    if let Some((_, value)) = words.iter().find(|(known, _)| *known == word) {
        return Ok(*value);
    }
    let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
    let shown: String = word.chars().take(32).collect();
    Err(FieldError::invalid(
        field,
        format!("{shown:?} is none of its values"),
        format!("use one of {}", known.join(", ")),
    ))
}

/// interface.md's words for each choice of a spec, for [`parse_word`] and for printing.
pub mod words {
    use super::{Backoff, DstFold, DstGap, Misfire, Overlap};

    /// `--backoff`.
    pub const BACKOFF: [(&str, Backoff); 2] =
        [("fixed", Backoff::Fixed), ("exponential", Backoff::Exponential)];
    /// `--dst-gap`.
    pub const DST_GAP: [(&str, DstGap); 3] =
        [("auto", DstGap::Auto), ("skip", DstGap::Skip), ("next", DstGap::Next)];
    /// `--dst-fold`.
    pub const DST_FOLD: [(&str, DstFold); 4] = [
        ("auto", DstFold::Auto),
        ("first", DstFold::First),
        ("second", DstFold::Second),
        ("both", DstFold::Both),
    ];
    /// `--misfire`.
    pub const MISFIRE: [(&str, Misfire); 2] =
        [("skip", Misfire::Skip), ("fire_once", Misfire::FireOnce)];
    /// `--overlap`.
    pub const OVERLAP: [(&str, Overlap); 2] = [("allow", Overlap::Allow), ("skip", Overlap::Skip)];
}
