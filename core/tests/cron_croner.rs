//! Fire times against `croner`, a scheduler's engine written by others, around each change of
//! clocks of each zone in the tables. Where the two engines differ by rule, the rule is named and
//! pinned here.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds};
use croner::{
    CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, JobType, Resolution, Weekday,
};
use dtask_core::spec::cron::Calendar;
use dtask_core::spec::{DstFold, DstGap};
use dtask_core::time::Timestamp;
use jiff::SignedDuration;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

/// croner walks jiff's clocks, so that both engines read the same tables.
#[derive(Clone)]
struct Clock {
    stamp: jiff::Timestamp,
    zone: TimeZone,
}

impl Clock {
    fn civil(&self) -> jiff::civil::DateTime {
        self.zone.to_datetime(self.stamp)
    }
}

impl CronDateTime for Clock {
    fn to_civil(&self) -> CivilDateTime {
        let at = self.civil();
        let date = CivilDate::from_parts_unchecked(
            i32::from(at.year()),
            at.month() as u32,
            at.day() as u32,
        );
        let time = CivilTime::from_parts_unchecked(
            at.hour() as u32,
            at.minute() as u32,
            at.second() as u32,
        );
        CivilDateTime::new(date, time)
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.civil().weekday().to_sunday_zero_offset() as u32)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let at = jiff::civil::DateTime::new(
            civil.year() as i16,
            civil.month() as i8,
            civil.day() as i8,
            civil.hour() as i8,
            civil.minute() as i8,
            civil.second() as i8,
            0,
        )
        .map_err(|_| CronError::InvalidDate)?;
        let with = |offset: jiff::tz::Offset| {
            let stamp = offset.to_timestamp(at).map_err(|_| CronError::InvalidTime)?;
            Ok(Self { stamp, zone: self.zone.clone() })
        };
        Ok(match self.zone.to_ambiguous_timestamp(at).offset() {
            AmbiguousOffset::Unambiguous { offset } => Resolution::Single(with(offset)?),
            AmbiguousOffset::Fold { before, after } => {
                Resolution::Ambiguous(with(before)?, with(after)?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let stamp = self.stamp.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(Self { stamp, zone: self.zone.clone() })
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.stamp.cmp(&other.stamp)
    }
}

/// Fixed times and wildcards around the hours at which clocks change, and each kind of day.
const EXPRESSIONS: [&str; 14] = [
    "30 2 * * *",
    "0 0 * * *",
    "15,45 0-3 * * *",
    "59 23 * * *",
    "7 1 * * *",
    "0 3 * * *",
    "*/20 * * * *",
    "*/30 2 * * *",
    "13 */2 * * *",
    "30 0-4 L * *",
    "30 2 * * SUN",
    "10 1 15W,28 * *",
    "40 2 * * 7#5",
    "40 2 * 3,10 SUNL",
];

fn croner(expr: &str) -> Cron {
    CronParser::builder().seconds(Seconds::Optional).build().parse(expr).expect(expr)
}

fn theirs(cron: &Cron, zone: &TimeZone, from: i64, to: i64) -> Result<Vec<i64>, CronError> {
    let mut at = Clock { stamp: stamp(from), zone: zone.clone() };
    let mut fired = Vec::new();
    loop {
        at = cron.find_next_occurrence(&at, false)?;
        if at.stamp.as_second() >= to {
            return Ok(fired);
        }
        fired.push(at.stamp.as_second());
    }
}

fn ours(expr: &str, zone: &str, rules: (DstGap, DstFold), from: i64, to: i64) -> Vec<i64> {
    Calendar::parse(expr, zone, rules.0, rules.1)
        .expect(expr)
        .after(Timestamp::from_seconds(from))
        .map(|moment| moment.as_micros() / 1_000_000)
        .take_while(|second| *second < to)
        .collect()
}

fn stamp(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).expect("in range")
}

const AUTO: (DstGap, DstFold) = (DstGap::Auto, DstFold::Auto);

/// Rule 1: croner calls fixed only what names a single second, minute and hour; a list or a range
/// makes it follow real time. Ours (Debian cron's) asks whether minute or hour begins with `*`.
fn rules_of(cron: &Cron) -> (DstGap, DstFold) {
    match cron.determine_job_type() {
        JobType::FixedTime => AUTO,
        JobType::IntervalWildcard => (DstGap::Skip, DstFold::Both),
    }
}

#[test]
fn both_engines_agree_at_each_change_of_clocks_of_each_zone() {
    let database = TimeZoneDatabase::bundled();
    let (start, end) = (stamp(1_704_067_200), stamp(1_830_297_600));
    // Zones that share a change are compared once.
    let mut walked = BTreeSet::new();
    let (mut compared, mut fires) = (0, 0);
    for name in database.available() {
        let zone = database.get(name.as_str()).expect("it is in the tables");
        let changes = zone.following(start).take_while(|change| change.timestamp() < end);
        for at in changes.map(|change| change.timestamp().as_second()) {
            let offsets = [at - 1, at].map(|second| zone.to_offset(stamp(second)).seconds());
            if !walked.insert((at, offsets)) {
                continue;
            }
            let (from, to) = (at - 26 * 3_600, at + 26 * 3_600);
            for expr in EXPRESSIONS {
                let cron = croner(expr);
                let theirs = theirs(&cron, &zone, from, to).expect(expr);
                let ours = ours(expr, name.as_str(), rules_of(&cron), from, to);
                assert_eq!(ours, theirs, "{expr} in {name} at {at}");
                (compared, fires) = (compared + 1, fires + theirs.len());
            }
        }
    }
    assert!(compared > 1_000 && fires > 10_000, "{compared} windows, {fires} fire times");
}

/// The two answers for one window of days, as text.
fn both(expr: &str, name: &str, from: &str, hours: i64) -> [Vec<String>; 2] {
    let zone = TimeZoneDatabase::bundled().get(name).expect("it is in the tables");
    let from = from.parse::<jiff::Timestamp>().expect("a time").as_second();
    let to = from + hours * 3_600;
    let text = |seconds: Vec<i64>| seconds.iter().map(|at| stamp(*at).to_string()).collect();
    let theirs = theirs(&croner(expr), &zone, from, to).unwrap_or_default();
    [text(ours(expr, name, AUTO, from, to)), text(theirs)]
}

#[test]
fn rule_1_a_list_of_hours_is_fixed_times_here_and_follows_real_time_there() {
    let [ours, theirs] = both("30 2,3 * * *", "Europe/Paris", "2026-03-28T23:00:00Z", 24);
    assert_eq!(ours, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]);
    assert_eq!(theirs, ["2026-03-29T01:30:00Z"]);
    let [ours, theirs] = both("30 2,3 * * *", "Europe/Paris", "2026-10-24T22:00:00Z", 24);
    assert_eq!(ours, ["2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"]);
    assert_eq!(theirs.len(), 3);
}

#[test]
fn rule_2_a_wildcard_of_seconds_alone_does_not_follow_real_time_here() {
    let [ours, theirs] = both("*/30 30 2 * * *", "Europe/Paris", "2026-03-28T23:00:00Z", 24);
    assert_eq!(ours, ["2026-03-29T01:00:00Z"]);
    assert!(theirs.is_empty());
}

#[test]
fn rule_3_a_gap_that_ends_on_another_day_still_fires_once_here() {
    // Nuuk's clocks go from Saturday 23:00 to Sunday 00:00.
    let [ours, theirs] = both("30 23 * * SAT", "America/Nuuk", "2026-03-28T12:00:00Z", 48);
    assert_eq!(ours, ["2026-03-29T01:00:00Z"]);
    assert!(theirs.is_empty());
}

#[test]
fn rule_4_a_gap_of_a_whole_day_is_crossed_here_and_an_error_there() {
    // Samoa had no 30 December 2011.
    let [ours, theirs] = both("0 9 * * *", "Pacific/Apia", "2011-12-29T20:00:00Z", 48);
    assert_eq!(ours, ["2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z", "2011-12-31T19:00:00Z"]);
    assert!(theirs.is_empty());
}

#[test]
fn rule_5_a_stepped_star_of_days_is_joined_by_and_here_as_in_vixie_cron() {
    let [ours, theirs] = both("0 0 */2 * 5", "UTC", "2026-01-01T01:00:00Z", 15 * 24);
    assert_eq!(ours, ["2026-01-09T00:00:00Z"]);
    assert!(theirs.len() > 5, "{theirs:?}");
}
