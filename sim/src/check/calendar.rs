//! A calendar of its own, for S15: the fire times of the few schedules that the workload draws,
//! computed without the code under test. Every N seconds, every N minutes, and one time a day in
//! UTC or in Paris, whose two changes of 2026 lie near the World's beginning.

use dtask_core::spec::Rule;
use dtask_core::time::Timestamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 2026-03-29T01:00:00Z: Paris goes from 02:00 to 03:00.
pub const SPRING: i64 = 1_774_746_000 * SECOND;
/// 2026-10-25T01:00:00Z: Paris goes from 03:00 back to 02:00.
pub const AUTUMN: i64 = 1_792_890_000 * SECOND;

/// The schedules that the workload draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calendar {
    /// `start + k * period`, in microseconds.
    Every {
        /// The origin.
        start: i64,
        /// The period.
        period: i64,
    },
    /// A time of day with these hours and minutes.
    Daily {
        /// 0..=23.
        hour: i64,
        /// 0..=59.
        minute: i64,
        /// In Paris, with the rules of cron for fixed times; else in UTC.
        paris: bool,
    },
}

impl Calendar {
    /// Reads a rule; `None` for one that the workload does not draw. A period without an origin
    /// counts from `first`, its first fire time.
    pub fn of(rule: &Rule, first: Timestamp) -> Option<Self> {
        match rule {
            Rule::Every { period_ms, start } => Some(Self::Every {
                start: start.unwrap_or(first).as_micros(),
                period: *period_ms as i64 * 1_000,
            }),
            Rule::Cron { expr, zone, .. } => Self::of_cron(expr, &**zone == "Europe/Paris"),
        }
    }

    fn of_cron(expr: &str, paris: bool) -> Option<Self> {
        let fields: Vec<&str> = expr.split(' ').collect();
        match fields.as_slice() {
            [every, "*", "*", "*", "*", "*"] => {
                Some(Self::Every { start: 0, period: step(every)? * SECOND })
            }
            [every, "*", "*", "*", "*"] if every.starts_with('*') => {
                Some(Self::Every { start: 0, period: step(every)? * 60 * SECOND })
            }
            [minute, hour, "*", "*", "*"] => {
                Some(Self::Daily { hour: hour.parse().ok()?, minute: minute.parse().ok()?, paris })
            }
            _ => None,
        }
    }

    /// The first fire time after `moment`.
    pub fn next_after(self, moment: Timestamp) -> Timestamp {
        let moment = moment.as_micros();
        let next = match self {
            Self::Every { start, period } => {
                let steps = (moment - start).div_euclid(period) + 1;
                start + steps * period
            }
            Self::Daily { hour, minute, paris } => {
                let day = moment.div_euclid(DAY);
                let of_day = (hour * 60 + minute) * 60 * SECOND;
                (day - 1..=day + 2)
                    .map(|day| utc(day * DAY + of_day, paris))
                    .filter(|&at| at > moment)
                    .min()
                    .unwrap_or(i64::MAX)
            }
        };
        Timestamp::from_micros(next)
    }

    /// Tells whether `moment` is a fire time.
    pub fn names(self, moment: Timestamp) -> bool {
        self.next_after(moment.plus_micros(-1)) == moment
    }

    /// How many fire times lie strictly between.
    pub fn between(self, low: Timestamp, high: Timestamp) -> u64 {
        if let Self::Every { start, period } = self {
            let below = |moment: i64| (moment - 1 - start).div_euclid(period);
            let count = below(high.as_micros()) - below(low.as_micros() + 1);
            return count.max(0) as u64;
        }
        let (mut count, mut at) = (0, self.next_after(low));
        while at < high {
            count += 1;
            at = self.next_after(at);
        }
        count
    }
}

fn step(field: &str) -> Option<i64> {
    if field == "*" { Some(1) } else { field.strip_prefix("*/")?.parse().ok() }
}

/// The instant of a civil time: a time in the gap becomes its end, one in the fold its first pass.
fn utc(civil: i64, paris: bool) -> i64 {
    if !paris {
        return civil;
    }
    let (winter, summer) = (civil - 3_600 * SECOND, civil - 7_200 * SECOND);
    if (SPRING..AUTUMN).contains(&summer) {
        summer
    } else if !(SPRING..AUTUMN).contains(&winter) {
        winter
    } else {
        SPRING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_the_gap_fires_at_its_end() {
        let daily = Calendar::Daily { hour: 2, minute: 30, paris: true };
        let before = Timestamp::from_micros(SPRING - DAY / 2);
        assert_eq!(daily.next_after(before), Timestamp::from_micros(SPRING));
        let next = SPRING + DAY - 1_800 * SECOND;
        assert_eq!(daily.next_after(Timestamp::from_micros(SPRING)).as_micros(), next);
    }

    #[test]
    fn a_time_in_the_fold_fires_on_the_first_pass_only() {
        let daily = Calendar::Daily { hour: 2, minute: 30, paris: true };
        let first = AUTUMN - 1_800 * SECOND;
        assert_eq!(daily.next_after(Timestamp::from_micros(AUTUMN - DAY / 2)).as_micros(), first);
        let next = daily.next_after(Timestamp::from_micros(first)).as_micros();
        assert_eq!(next, first + DAY + 3_600 * SECOND);
    }

    #[test]
    fn steps_are_counted_strictly_between() {
        let every = Calendar::Every { start: 0, period: 10 };
        let count =
            |low, high| every.between(Timestamp::from_micros(low), Timestamp::from_micros(high));
        assert_eq!([count(0, 10), count(0, 11), count(0, 30), count(5, 31)], [0, 1, 2, 3]);
    }
}
