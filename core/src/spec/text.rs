//! How people write durations and moments, and how we write them back.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use jiff::civil;

use super::error::FieldError;
use super::zone;
use crate::limits::DURATION_MS_MAX;
use crate::time::Timestamp;

/// Units of a duration, largest first, in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration such as `1h30m`, `250ms` or `7d`, in milliseconds. A unit stands once, larger
/// units first.
///
/// # Errors
/// Names `field`, shows the text, and says how to write one.
pub fn parse_duration_ms(field: &str, text: &str) -> Result<u64, FieldError> {
    let wrong = |detail: String| {
        FieldError::invalid(field, detail, "write a duration like 30s, 1h30m or 250ms")
    };
    let shown: String = text.chars().take(32).collect();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong(String::from("a duration is missing")));
    }
    let (mut total, mut smaller) = (0_u64, 0_usize);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(wrong(format!("{shown:?} is not a duration")));
        }
        if unit.is_empty() {
            return Err(wrong(format!("{shown:?} has a number without a unit")));
        }
        let Some(at) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(wrong(format!("{shown:?} has the unknown unit {unit:?}")));
        };
        if at < smaller {
            return Err(wrong(format!("{shown:?} does not name larger units first, each once")));
        }
        smaller = at + 1;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(UNITS[at].1))
            .and_then(|span| total.checked_add(span))
            .filter(|total| *total <= DURATION_MS_MAX)
            .ok_or_else(|| {
                let max = format_duration_ms(DURATION_MS_MAX);
                wrong(format!("{shown:?} is longer than the longest duration, {max}"))
            })?;
        rest = after;
    }
    Ok(total)
}

/// Writes a duration so that [`parse_duration_ms`] reads it back: days, hours, minutes, seconds,
/// milliseconds, zero parts left out.
pub fn format_duration_ms(mut ms: u64) -> String {
    if ms == 0 {
        return String::from("0s");
    }
    let mut text = String::new();
    for (unit, size) in &UNITS[1..] {
        if ms >= *size {
            // Writing into a String cannot fail.
            let _ = write!(text, "{}{unit}", ms / size);
            ms %= size;
        }
    }
    text
}

/// Reads a moment: RFC 3339 with an offset, or without one when a zone is given (then a civil
/// time in the spring gap moves forward by the gap's length, and one in the autumn fold is the
/// first).
///
/// # Errors
/// Names `field` when the text is no time or has no offset and no zone; `timezone` when the zone
/// is unknown.
pub fn parse_time(
    field: &str,
    text: &str,
    timezone: Option<&str>,
) -> Result<Timestamp, FieldError> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp::from_micros(moment.as_microsecond()));
    }
    let shown: String = text.chars().take(40).collect();
    let Ok(civil) = text.parse::<civil::DateTime>() else {
        return Err(FieldError::invalid(
            field,
            format!("{shown:?} is not a time"),
            "write RFC 3339, like 2026-03-01T09:00:00Z",
        ));
    };
    let Some(timezone) = timezone else {
        return Err(FieldError::invalid(
            field,
            format!("{shown:?} has no offset from UTC"),
            "append Z or an offset such as +02:00, or give a timezone",
        ));
    };
    let zone = zone::find("timezone", timezone)?;
    let moment = zone.to_ambiguous_timestamp(civil).compatible().map_err(|_| {
        FieldError::invalid(field, format!("{shown:?} is out of range"), "use a year below 9999")
    })?;
    Ok(Timestamp::from_micros(moment.as_microsecond()))
}

/// Writes a moment with the zone's offset, RFC 3339, fractions only where they are not zero.
pub fn format_time_in(moment: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    match jiff::Timestamp::from_microsecond(moment.as_micros()) {
        Ok(stamp) => format!("{}", stamp.display_with_offset(zone.to_offset(stamp))),
        Err(_) => format!("{moment}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [
            ("1h30m", 5_400_000),
            ("30s", 30_000),
            ("250ms", 250),
            ("1w2d", 9 * 86_400_000),
            ("90m", 5_400_000),
            ("0s", 0),
            (" 24h ", 86_400_000),
        ] {
            assert_eq!(parse_duration_ms("timeout", text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn bad_durations_are_refused_with_the_field_and_a_remedy() {
        for (text, detail) in [
            ("", "a duration is missing"),
            ("30", "\"30\" has a number without a unit"),
            ("1y", "\"1y\" has the unknown unit \"y\""),
            ("1.5h", "\"1.5h\" has a number without a unit"),
            ("-5s", "\"-5s\" is not a duration"),
            ("5s1h", "\"5s1h\" does not name larger units first, each once"),
            ("1s1s", "\"1s1s\" does not name larger units first, each once"),
            (
                "99999999999999999999h",
                "\"99999999999999999999h\" is longer than the longest duration, 3650d",
            ),
        ] {
            let error = parse_duration_ms("every", text).expect_err(text);
            assert_eq!((error.field.as_str(), error.detail.as_str()), ("every", detail));
            assert!(!error.hint.is_empty());
        }
    }

    #[test]
    fn a_time_without_an_offset_needs_a_zone() {
        let nine = parse_time("at", "2026-03-01T09:00:00+01:00", None).expect("has an offset");
        assert_eq!(alloc::format!("{nine}"), "2026-03-01T08:00:00Z");
        assert_eq!(parse_time("at", "2026-03-01T09:00:00", Some("Europe/Paris")), Ok(nine));
        assert_eq!(parse_time("at", "2026-03-01 09:00", Some("Europe/Paris")), Ok(nine));
        let error = parse_time("at", "2026-03-01T09:00:00", None).expect_err("no offset, no zone");
        assert!(error.hint.contains("timezone"), "{error}");
        let error = parse_time("at", "tomorrow", None).expect_err("not a time");
        assert_eq!(error.detail, "\"tomorrow\" is not a time");
        let zone = zone::find("timezone", "Europe/Paris").expect("known");
        assert_eq!(format_time_in(nine, &zone), "2026-03-01T09:00:00+01:00");
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(ms in 0..=DURATION_MS_MAX) {
            prop_assert_eq!(parse_duration_ms("timeout", &format_duration_ms(ms)), Ok(ms));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,24}") {
            let _ = parse_duration_ms("timeout", &text);
            let _ = parse_time("at", &text, Some("Europe/Paris"));
        }
    }
}
