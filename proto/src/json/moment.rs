//! Microseconds since the epoch as RFC 3339 in UTC.

use serde::{Deserialize, Deserializer, Serializer, de, ser};

/// Writes a moment: `2026-01-05T01:30:00Z`, with a fraction only where there is one.
pub fn format(micros: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(micros).ok().map(|moment| moment.to_string())
}

/// Reads RFC 3339 with an offset.
///
/// # Errors
/// One sentence with the remedy.
pub fn parse(text: &str) -> Result<i64, String> {
    let moment: jiff::Timestamp = text.parse().map_err(|_| {
        format!("`{text}` is not a time with an offset, such as 2026-01-05T09:00:00Z or 2026-01-05T09:00:00+01:00")
    })?;
    Ok(moment.as_microsecond())
}

/// For serde.
///
/// # Errors
/// The moment is outside the calendar (years -9999 to 9999).
pub fn serialize<S: Serializer>(micros: &i64, out: S) -> Result<S::Ok, S::Error> {
    let text = format(*micros).ok_or_else(|| ser::Error::custom("a time outside the calendar"))?;
    out.serialize_str(&text)
}

/// For serde.
///
/// # Errors
/// Not a string, or not RFC 3339 with an offset.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(de::Error::custom)
}

/// The same for a moment that may be absent: null.
pub mod optional {
    use super::{Deserialize, Deserializer, Serializer, de};

    /// For serde.
    ///
    /// # Errors
    /// As for a moment.
    pub fn serialize<S: Serializer>(micros: &Option<i64>, out: S) -> Result<S::Ok, S::Error> {
        match micros {
            Some(micros) => super::serialize(micros, out),
            None => out.serialize_none(),
        }
    }

    /// For serde.
    ///
    /// # Errors
    /// As for a moment.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::parse(&text).map_err(de::Error::custom)).transpose()
    }
}
