//! Fire times around any change of clocks of any zone, against a walk over real time, minute by
//! minute, that looks at the zone's clock and at a calendar and shares nothing with the product.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use dtask_core::spec::cron::Calendar;
use dtask_core::spec::{DstFold, DstGap};
use dtask_core::time::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A field: its text and the values that it names.
struct Field {
    text: String,
    values: Vec<i64>,
    starred: bool,
}

/// A day-of-week field.
enum Weekday {
    Plain(Field),
    /// The n-th such weekday of the month.
    Nth(i64, i64),
    /// The last such weekday of the month.
    Last(i64),
}

/// A day-of-month field.
enum Day {
    Plain(Field),
    /// The last day of the month, or some days before it.
    Last(i64),
}

struct Case {
    minute: Field,
    hour: Field,
    day: Day,
    month: Field,
    weekday: Weekday,
    gap: DstGap,
    fold: DstFold,
    zone: TimeZone,
    name: String,
    from: i64,
    to: i64,
}

/// Draws a rule and a window, and compares.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(Some(case)) = case(&mut u) else { return };
    let text = case.text();
    let calendar = match Calendar::parse(&text, &case.name, case.gap, case.fold) {
        Ok(calendar) => calendar,
        // Such as 30 February.
        Err(error) => {
            assert_eq!(error.detail, "no day of any year matches", "{text}");
            return;
        }
    };
    let expected = case.walk();
    let found: Vec<i64> = calendar
        .after(Timestamp::from_seconds(case.from - 1))
        .map(|moment| moment.as_micros() / 1_000_000)
        .take_while(|moment| *moment < case.to)
        .collect();
    let (name, gap, fold) = (&case.name, case.gap, case.fold);
    assert_eq!(found, expected, "{text} in {name}, {gap:?}, {fold:?}, from {}", case.from);
}

/// A step is at most as long as the field, as `Calendar::parse` demands.
fn field(u: &mut Unstructured<'_>, low: i64, high: i64) -> Result<Field> {
    let (text, values): (String, Vec<i64>) = match u.int_in_range(0..=4)? {
        0 => ("*".to_owned(), (low..=high).collect()),
        1 => {
            let step = u.int_in_range(2..=high - low)?;
            (format!("*/{step}"), (low..=high).step_by(step as usize).collect())
        }
        2 => {
            let value = u.int_in_range(low..=high)?;
            (value.to_string(), vec![value])
        }
        3 => {
            let (a, b) = (u.int_in_range(low..=high)?, u.int_in_range(low..=high)?);
            (format!("{a},{b}"), vec![a, b])
        }
        _ => {
            let (a, b) = (u.int_in_range(low..=high)?, u.int_in_range(low..=high)?);
            let (a, b) = (a.min(b), a.max(b));
            let step = u.int_in_range(1..=high - low)?;
            (format!("{a}-{b}/{step}"), (a..=b).step_by(step as usize).collect())
        }
    };
    Ok(Field { starred: text.starts_with('*'), text, values })
}

fn case(u: &mut Unstructured<'_>) -> Result<Option<Case>> {
    let gap = *u.choose(&[DstGap::Auto, DstGap::Skip, DstGap::Next])?;
    let fold = *u.choose(&[DstFold::Auto, DstFold::First, DstFold::Second, DstFold::Both])?;
    let database = TimeZoneDatabase::bundled();
    let number = u.int_in_range(0..=700_usize)?;
    let names = database.available();
    let Some(name) = names.skip(number).map(|name| name.as_str().to_owned()).next() else {
        return Ok(None);
    };
    let zone = database.get(&name).expect("it is listed");
    // From a day of the years 1970 to 2090 on: the next change, or that day itself.
    let start = u.int_in_range(0..=44_000_i64)? * 86_400;
    let stamp = jiff::Timestamp::from_second(start).expect("in range");
    let change = zone.following(stamp).next().map(|change| change.timestamp().as_second());
    let middle = match change {
        Some(at) if u.ratio(7, 8)? && at < 44_000 * 86_400 => at,
        Some(_) | None => start,
    };
    let middle = middle.div_euclid(60) * 60;
    let (from, to) = (middle - 27 * 3_600, middle + 27 * 3_600);
    // The walk goes by minutes: offsets of odd seconds, long ago, are not for it.
    let odd = [from, middle, to].iter().any(|at| {
        let stamp = jiff::Timestamp::from_second(*at).expect("in range");
        zone.to_offset(stamp).seconds() % 60 != 0
    });
    if odd || from < 0 {
        return Ok(None);
    }
    let day = if u.ratio(1, 4)? { Day::Last(u.int_in_range(0..=3)?) } else { plain_day(u)? };
    let weekday = match u.int_in_range(0..=5)? {
        0 => Weekday::Nth(u.int_in_range(0..=6)?, u.int_in_range(1..=5)?),
        1 => Weekday::Last(u.int_in_range(0..=6)?),
        2 | 3 => Weekday::Plain(every()),
        _ => Weekday::Plain(field(u, 0, 6)?),
    };
    let month = if u.ratio(3, 4)? { every_month() } else { field(u, 1, 12)? };
    let (minute, hour) = (field(u, 0, 59)?, field(u, 0, 23)?);
    Ok(Some(Case { minute, hour, day, month, weekday, gap, fold, zone, name, from, to }))
}

fn plain_day(u: &mut Unstructured<'_>) -> Result<Day> {
    if u.ratio(2, 3)? {
        let values = (1..=31).collect();
        return Ok(Day::Plain(Field { text: "*".to_owned(), values, starred: true }));
    }
    field(u, 1, 31).map(Day::Plain)
}

fn every() -> Field {
    Field { text: "*".to_owned(), values: (0..=6).collect(), starred: true }
}

fn every_month() -> Field {
    Field { text: "*".to_owned(), values: (1..=12).collect(), starred: true }
}

impl Case {
    fn text(&self) -> String {
        let day = match &self.day {
            Day::Plain(field) => field.text.clone(),
            Day::Last(0) => "L".to_owned(),
            Day::Last(before) => format!("L-{before}"),
        };
        let weekday = match &self.weekday {
            Weekday::Plain(field) => field.text.clone(),
            Weekday::Nth(day, nth) => format!("{day}#{nth}"),
            Weekday::Last(day) => format!("{day}L"),
        };
        format!("{} {} {day} {} {weekday}", self.minute.text, self.hour.text, self.month.text)
    }

    fn fires_on(&self, civil: DateTime) -> bool {
        let date = civil.date();
        let (day, length) = (i64::from(date.day()), i64::from(date.days_in_month()));
        let of_month = match &self.day {
            Day::Plain(field) => field.values.contains(&day),
            Day::Last(before) => day + before == length,
        };
        let weekday = i64::from(date.weekday().to_sunday_zero_offset());
        let of_week = match &self.weekday {
            Weekday::Plain(field) => field.values.contains(&weekday),
            Weekday::Nth(named, nth) => weekday == *named && (day - 1) / 7 + 1 == *nth,
            Weekday::Last(named) => weekday == *named && day > length - 7,
        };
        let starred = |field: &Field| field.starred;
        let both = matches!(&self.day, Day::Plain(field) if starred(field))
            || matches!(&self.weekday, Weekday::Plain(field) if starred(field));
        let day = if both { of_month && of_week } else { of_month || of_week };
        day && self.month.values.contains(&i64::from(date.month()))
    }

    fn fires(&self, civil: DateTime) -> bool {
        self.minute.values.contains(&i64::from(civil.minute()))
            && self.hour.values.contains(&i64::from(civil.hour()))
            && self.fires_on(civil)
    }

    /// What a human would do with a clock on the wall, a calendar and a pencil. It begins a day
    /// early and ends a day late, so that a fold at the border is seen whole.
    fn walk(&self) -> Vec<i64> {
        let shown = |instant: i64| {
            self.zone.to_datetime(jiff::Timestamp::from_second(instant).expect("in range"))
        };
        let real_time = self.minute.starred || self.hour.starred;
        let minutes = || (self.from - 26 * 3_600..self.to + 26 * 3_600).step_by(60);
        let mut showings: BTreeMap<DateTime, Vec<i64>> = BTreeMap::new();
        for instant in minutes() {
            showings.entry(shown(instant)).or_default().push(instant);
        }
        let mut fired = Vec::new();
        for (civil, instants) in showings.iter().filter(|(civil, _)| self.fires(**civil)) {
            match (instants.as_slice(), self.fold) {
                ([one], _) => fired.push(*one),
                ([first, ..], DstFold::First) => fired.push(*first),
                ([first, ..], DstFold::Auto) if !real_time => fired.push(*first),
                ([_, second], DstFold::Second) => fired.push(*second),
                (all, DstFold::Auto | DstFold::Both) => fired.extend(all),
                (all, DstFold::First | DstFold::Second) => {
                    panic!("{civil} shows {} times", all.len())
                }
            }
        }
        if self.gap == DstGap::Next || (self.gap == DstGap::Auto && !real_time) {
            for instant in minutes().skip(1) {
                let mut civil = shown(instant - 60) + jiff::Span::new().minutes(1);
                while civil < shown(instant) {
                    if self.fires(civil) {
                        fired.push(instant);
                    }
                    civil += jiff::Span::new().minutes(1);
                }
            }
        }
        fired.sort_unstable();
        fired.dedup();
        fired.retain(|at| (self.from..self.to).contains(at));
        fired
    }
}
