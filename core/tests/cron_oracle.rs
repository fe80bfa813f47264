//! Fire times against an oracle that shares nothing with them: a walk over real time, minute by
//! minute, that looks at the zone's clock and knows of gaps and folds only what it sees there.

use std::collections::BTreeMap;

use dtask_core::spec::cron::Calendar;
use dtask_core::spec::{DstFold, DstGap};
use dtask_core::time::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Ordinary zones, and every odd kind: half-hour and two-hour shifts, changes at midnight and
/// before it, Ramadan, negative summer time, a skipped day, quarter-hour offsets, no DST.
const ZONES: [(&str, &str); 15] = [
    ("Europe/Paris", "2026-03-29"),
    ("Europe/Paris", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Antarctica/Troll", "2026-10-25"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("Africa/Cairo", "2026-10-29"),
    ("America/Havana", "2026-03-08"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Chatham", "2026-04-05"),
    ("Asia/Kathmandu", "2026-04-05"),
];

#[derive(Clone, Debug)]
struct Minutely {
    text: String,
    minutes: Vec<i8>,
    hours: Vec<i8>,
    real_time: bool,
    weekday: Option<i8>,
}

/// What a human would do with a calendar and a pencil.
fn walk(
    rule: &Minutely,
    zone: &TimeZone,
    from: i64,
    to: i64,
    gap: DstGap,
    fold: DstFold,
) -> Vec<i64> {
    let civil_at = |instant: i64| {
        let stamp = jiff::Timestamp::from_second(instant).expect("in range");
        zone.to_datetime(stamp)
    };
    let fires = |civil: jiff::civil::DateTime| {
        rule.minutes.contains(&civil.minute())
            && rule.hours.contains(&civil.hour())
            && rule.weekday.is_none_or(|day| civil.weekday().to_sunday_zero_offset() == day)
    };
    let minutes = || (from..to).step_by(60);
    let mut showings: BTreeMap<jiff::civil::DateTime, Vec<i64>> = BTreeMap::new();
    for instant in minutes() {
        showings.entry(civil_at(instant)).or_default().push(instant);
    }
    let mut fired = Vec::new();
    for (civil, instants) in &showings {
        if !fires(*civil) {
            continue;
        }
        match (instants.as_slice(), fold, rule.real_time) {
            ([one], _, _) => fired.push(*one),
            ([first, _], DstFold::First, _) | ([first, _], DstFold::Auto, false) => {
                fired.push(*first);
            }
            ([_, second], DstFold::Second, _) => fired.push(*second),
            ([first, second], DstFold::Both, _) | ([first, second], DstFold::Auto, true) => {
                fired.extend([*first, *second]);
            }
            (other, _, _) => panic!("{civil} shows {} times", other.len()),
        }
    }
    if gap == DstGap::Next || (gap == DstGap::Auto && !rule.real_time) {
        for instant in minutes().skip(1) {
            let mut civil = civil_at(instant - 60) + jiff::Span::new().minutes(1);
            while civil < civil_at(instant) {
                if fires(civil) {
                    fired.push(instant);
                }
                civil += jiff::Span::new().minutes(1);
            }
        }
    }
    fired.sort_unstable();
    fired.dedup();
    fired
}

fn field(max: i8) -> impl Strategy<Value = (String, Vec<i8>)> {
    let all = move |step: i8| (0..=max).step_by(step as usize).collect::<Vec<_>>();
    prop_oneof![
        2 => Just(("*".to_owned(), all(1))),
        2 => (2..=20.min(max)).prop_map(move |n| (format!("*/{n}"), all(n))),
        3 => (0..=max).prop_map(|n| (n.to_string(), vec![n])),
        2 => (0..=max, 0..=max).prop_map(|(a, b)| (format!("{a},{b}"), vec![a, b])),
        2 => (0..=max, 0..=max).prop_map(|(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            (format!("{a}-{b}"), (a..=b).collect())
        }),
    ]
}

/// Most of the hours are small, where the changes of clocks are.
fn hour_field() -> impl Strategy<Value = (String, Vec<i8>)> {
    prop_oneof![
        1 => field(23),
        2 => (0..=3_i8).prop_map(|n| (n.to_string(), vec![n])),
        1 => (0..=3_i8).prop_map(|n| (format!("{n}-4"), (n..=4).collect())),
    ]
}

fn rule() -> impl Strategy<Value = Minutely> {
    (field(59), hour_field(), prop_oneof![3 => Just(None), 1 => (0..7_i8).prop_map(Some)]).prop_map(
        |((minute, minutes), (hour, hours), weekday)| Minutely {
            text: match weekday {
                Some(day) => format!("{minute} {hour} * * {day}"),
                None => format!("{minute} {hour} * * *"),
            },
            real_time: minute.starts_with('*') || hour.starts_with('*'),
            minutes,
            hours,
            weekday,
        },
    )
}

fn choice() -> impl Strategy<Value = (DstGap, DstFold)> {
    use DstFold::{Auto, Both, First, Second};
    (
        prop::sample::select(vec![DstGap::Auto, DstGap::Skip, DstGap::Next]),
        prop::sample::select(vec![Auto, First, Second, Both]),
    )
}

/// A fixed seed: the same cases at every run; `PROPTEST_CASES` widens them.
fn runner(cases: u32) -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn every_fire_time_near_a_change_of_clocks_is_where_a_minute_walk_finds_it() {
    let database = TimeZoneDatabase::bundled();
    let strategy = (rule(), choice(), prop::sample::select(ZONES.to_vec()));
    runner(300)
        .run(&strategy, |(rule, (gap, fold), (name, day))| {
            let zone = database.get(name).expect("in the tables");
            let day: jiff::civil::Date = day.parse().expect("a date");
            let noon = day.at(12, 0, 0, 0);
            let noon =
                zone.to_ambiguous_timestamp(noon).compatible().expect("in range").as_second();
            let (from, to) = (noon - 30 * 3_600, noon + 30 * 3_600);
            let expected = walk(&rule, &zone, from, to, gap, fold);
            let calendar = Calendar::parse(&rule.text, name, gap, fold).expect(&rule.text);
            let found: Vec<i64> = calendar
                .after(Timestamp::from_seconds(from - 1))
                .map(|moment| moment.as_micros() / 1_000_000)
                .take_while(|moment| *moment < to)
                .collect();
            prop_assert_eq!(&found, &expected, "{} in {} {:?} {:?}", rule.text, name, gap, fold);
            // Asked from anywhere, not only from fire time to fire time.
            for start in (from..to - 86_400).step_by(47 * 60 + 13) {
                let next = calendar.next_after(Timestamp::from_seconds(start));
                let first = expected.iter().find(|moment| **moment > start);
                if let Some(first) = first {
                    prop_assert_eq!(next, Some(Timestamp::from_seconds(*first)), "after {}", start);
                }
            }
            Ok(())
        })
        .expect("holds");
}

#[test]
fn a_microsecond_before_a_fire_time_it_is_still_to_come() {
    let calendar =
        Calendar::parse("30 2 * * *", "Europe/Paris", DstGap::Auto, DstFold::Auto).expect("valid");
    let fire = calendar.next_after(Timestamp::from_seconds(1_780_000_000)).expect("daily");
    assert_eq!(calendar.next_after(fire.plus_micros(-1)), Some(fire));
    assert!(calendar.next_after(fire) > Some(fire));
    assert_eq!(calendar.next_after(fire), calendar.next_after(fire.plus_micros(1)));
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "[0-9*/,LW#?@a-z -]{0,24}") {
        let _ = Calendar::parse(&text, "Europe/Paris", DstGap::Auto, DstFold::Auto);
        let _ = dtask_core::spec::cron::explain(&text);
    }

    #[test]
    fn fire_times_increase_from_any_moment(
        micros in any::<i64>(),
        expr in prop::sample::select(vec!["* * * * * *", "0 0 29 2 1", "0 0 L * *", "@hourly"]),
        zone in prop::sample::select(vec!["UTC", "Pacific/Apia", "America/Sao_Paulo"]),
    ) {
        let after = Timestamp::from_micros(micros);
        let calendar = Calendar::parse(expr, zone, DstGap::Next, DstFold::Both).expect("valid");
        let times: Vec<_> = calendar.after(after).take(3).collect();
        prop_assert!(times.iter().all(|moment| *moment > after));
        prop_assert!(times.is_sorted_by(|a, b| a < b));
    }
}
