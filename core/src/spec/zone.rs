//! Time zones: the one place that looks names up in jiff's bundled tables.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::error::{FieldError, InvalidReason};

/// The zone of a spec that names none.
pub const UTC: &str = "UTC";

/// Finds a zone by its IANA name, in any case. Its canonical spelling is [`canonical_name`].
///
/// # Errors
/// `TIMEZONE_UNKNOWN` with the nearest known name.
pub fn find(field: &str, name: &str) -> Result<TimeZone, FieldError> {
    let database = TimeZoneDatabase::bundled();
    if let Ok(zone) = database.get(name)
        && zone.iana_name().is_some()
        && !zone.is_unknown()
    {
        return Ok(zone);
    }
    let hint = match nearest(name) {
        Some(known) => format!("did you mean {known}?"),
        None => String::from("use an IANA name such as Europe/Paris or UTC"),
    };
    let shown: String = name.chars().take(64).collect();
    Err(FieldError::invalid(field, format!("no time zone is named {shown:?}"), hint)
        .because(InvalidReason::TimezoneUnknown))
}

/// The zone's name as the tables spell it.
pub fn canonical_name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or(UTC)
}

/// The known name that looks most like `name`: its city alone, or at most a third of it mistyped.
fn nearest(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > 64 {
        return None;
    }
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    let database = TimeZoneDatabase::bundled();
    let mut best: Option<(usize, String)> = None;
    for known in database.available() {
        let known = known.as_str();
        let lower = known.to_ascii_lowercase();
        let city = lower.rsplit('/').next().unwrap_or(&lower);
        let distance = edits(&wanted, &lower).min(edits(&wanted, city) + 1);
        if best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, known.into()));
        }
    }
    best.filter(|(distance, _)| *distance <= 1 + wanted.len() / 3).map(|(_, known)| known)
}

/// How many insertions, deletions and replacements turn one text into the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_in_any_case_and_keeps_its_canonical_name() {
        let zone = find("timezone", "europe/PARIS").expect("it is in the tables");
        assert_eq!(canonical_name(&zone), "Europe/Paris");
        assert_eq!(canonical_name(&find("timezone", "utc").expect("always known")), "UTC");
    }

    #[test]
    fn an_unknown_zone_is_refused_with_the_nearest_name() {
        for (wrong, right) in [
            ("Europe/Pariss", "Europe/Paris"),
            ("Berlin", "Europe/Berlin"),
            ("America/New York", "America/New_York"),
        ] {
            let error = find("timezone", wrong).expect_err("no such zone");
            assert_eq!(error.reason, InvalidReason::TimezoneUnknown);
            assert_eq!(error.hint, format!("did you mean {right}?"));
        }
        let error = find("timezone", "Mars/Olympus_Mons_Base_Seven").expect_err("no such zone");
        assert_eq!(error.hint, "use an IANA name such as Europe/Paris or UTC");
        assert!(find("timezone", "").is_err());
        assert!(find("timezone", "Etc/Unknown").is_err());
    }
}
