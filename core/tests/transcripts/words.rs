//! A command's words, and the task that they describe.

use std::collections::BTreeMap;
use std::time::Duration;

use dtask_core::spec::{
    Backoff, DstFold, DstGap, Misfire, NewTask, Overlap, Profile, Recurrence, Retry, Rule, Schedule,
};
use dtask_core::time::Timestamp;

/// A command's words: `name`, plain words, `key=value`.
pub(crate) struct Words<'a> {
    pub(crate) plain: Vec<&'a str>,
    pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        let mut words = Self { plain: Vec::new(), pairs: BTreeMap::new() };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => {
                    words.pairs.insert(key, value);
                }
                None => words.plain.push(word),
            }
        }
        words
    }

    pub(crate) fn plain(&self, place: usize) -> &'a str {
        self.plain.get(place).unwrap_or_else(|| panic!("word {place} is missing"))
    }

    pub(crate) fn pair(&self, key: &str) -> Option<&'a str> {
        self.pairs.get(key).copied()
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.pair(key).map(|text| text.parse().expect("a number"))
    }

    pub(crate) fn millis(&self, key: &str) -> Option<u64> {
        self.pair(key).map(|text| span(text).as_millis() as u64)
    }

    /// The task that a `submit` describes.
    pub(crate) fn task(&self, began: Timestamp) -> NewTask {
        let id = self.plain(1);
        let recurring = |rule| {
            Schedule::Recurring(Box::new(Recurrence {
                rule,
                misfire: match self.pair("misfire") {
                    Some("skip") => Misfire::Skip,
                    _ => Misfire::FireOnce,
                },
                catch_up_ms: self.millis("catch_up").unwrap_or(86_400_000),
                overlap: match self.pair("overlap") {
                    Some("allow") => Overlap::Allow,
                    _ => Overlap::Skip,
                },
            }))
        };
        let schedule = if let Some(due) = self.millis("due") {
            Schedule::At(began + Duration::from_millis(due))
        } else if let Some(period_ms) = self.millis("every") {
            recurring(Rule::Every { period_ms, start: None })
        } else if let Some(expr) = self.pair("cron") {
            recurring(Rule::Cron {
                expr: expr.replace('_', " ").into(),
                zone: self.pair("zone").unwrap_or("UTC").into(),
                gap: DstGap::Auto,
                fold: DstFold::Auto,
            })
        } else {
            Schedule::Now
        };
        NewTask {
            id: id.into(),
            name: "".into(),
            payload: self.pair("payload").unwrap_or_default().as_bytes().to_vec().into(),
            priority: self.number("priority").unwrap_or(5) as u8,
            schedule,
            profile: Profile {
                kind: self.pair("type").unwrap_or("mail").into(),
                queue: self.pair("queue").unwrap_or("default").into(),
                retry: Retry {
                    max_retries: self.number("retries").unwrap_or(3) as u16,
                    backoff: Backoff::Fixed,
                    backoff_base_ms: self.millis("backoff").unwrap_or(1_000),
                    backoff_max_ms: 600_000,
                    no_retry_exit: Vec::new(),
                },
                run_timeout_ms: self.millis("timeout").unwrap_or(86_400_000),
            },
        }
    }
}

/// `250ms`, `10s`, `5m`, `2h`.
pub(crate) fn span(text: &str) -> Duration {
    let split = text.find(|c: char| !c.is_ascii_digit()).expect("a unit");
    let number: u64 = text[..split].parse().expect("a number");
    match &text[split..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3_600 * number),
        unit => panic!("{unit} is no unit"),
    }
}
