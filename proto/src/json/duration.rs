//! Milliseconds as `1h30m`.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Units with their milliseconds, largest first.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Writes a duration in hours, minutes, seconds and milliseconds: `1h30m`, `24h`, `1s500ms`.
pub fn format(millis: i64) -> String {
    let mut rest = millis.unsigned_abs();
    let mut text = String::new();
    if millis < 0 {
        text.push('-');
    }
    for (unit, size) in UNITS.into_iter().skip(2) {
        if rest >= size {
            let _ = write!(text, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    if millis == 0 { "0s".to_owned() } else { text }
}

/// Reads `1h30m`, `45s`, `1500ms`, `30d`, `2w`: numbers with units, in any order.
///
/// # Errors
/// One sentence with the remedy.
pub fn parse(text: &str) -> Result<i64, String> {
    total(text).ok_or_else(|| {
        format!("`{text}` is not a duration; write numbers with units (w d h m s ms), such as 30s or 1h30m")
    })
}

fn total(text: &str) -> Option<i64> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(size)?)?;
        rest = tail;
    }
    if text.is_empty() { None } else { i64::try_from(total).ok() }
}

/// For serde.
///
/// # Errors
/// None of our own.
pub fn serialize<S: Serializer>(millis: &i64, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format(*millis))
}

/// For serde.
///
/// # Errors
/// Not a string, or not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(de::Error::custom)
}

/// The same for a duration that may be absent: null.
pub mod optional {
    use super::{Deserialize, Deserializer, Serializer, de};

    /// For serde.
    ///
    /// # Errors
    /// None of our own.
    pub fn serialize<S: Serializer>(millis: &Option<i64>, out: S) -> Result<S::Ok, S::Error> {
        match millis {
            Some(millis) => super::serialize(millis, out),
            None => out.serialize_none(),
        }
    }

    /// For serde.
    ///
    /// # Errors
    /// As for a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::parse(&text).map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 999, 1_000, 1_500, 60_000, 5_400_000, 86_400_000, 2_592_000_000] {
            assert_eq!(parse(&format(millis)), Ok(millis), "{}", format(millis));
        }
        assert_eq!(format(5_400_000), "1h30m");
        assert_eq!(format(86_400_000), "24h");
        assert_eq!(parse("30d"), Ok(2_592_000_000));
    }

    #[test]
    fn numbers_without_units_and_overflows_are_refused() {
        for text in ["", "5", "h", "1x", "1h 30m", "-1s", "99999999999999w", "1.5h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
