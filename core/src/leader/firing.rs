//! Fire times: what becomes of a schedule that is due, with parsed calendars kept at hand.
//!
//! The judgement is `spec::schedule`'s; here it becomes a command that carries the answers (P2.1).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::id::InstanceId;
use crate::spec::schedule::{self, Clockwork, Decision};
use crate::spec::{DstFold, DstGap, Recurrence, Rule};
use crate::state::{DueSchedule, Fire};
use crate::time::Timestamp;

/// Parsed calendars at hand: about 1 KiB each; when there are more distinct ones, parsing again
/// is the price.
const CALENDARS_MAX: usize = 10_000;
/// A calendar that this version's tables do not know is looked at again after this.
const UNREADABLE_RETRY: Duration = Duration::from_secs(3_600);
/// The reason that a run of such a calendar is skipped with.
const UNREADABLE: &str = "the calendar is not known to this version";

type Key = (Box<str>, Box<str>, DstGap, DstFold);

/// The parsed rules of one leadership.
#[derive(Debug, Default)]
pub struct Firing {
    calendars: BTreeMap<Key, Clockwork>,
}

impl Firing {
    /// The first fire time of a task accepted at `at`.
    pub fn first(&mut self, recurrence: &Recurrence, at: Timestamp) -> Option<Timestamp> {
        self.with(&recurrence.rule, |clockwork| clockwork.first(at)).flatten()
    }

    /// What to propose for a schedule that is due by `at`.
    pub fn fire(
        &mut self,
        due: &DueSchedule,
        at: Timestamp,
        open: impl FnOnce() -> Option<InstanceId>,
    ) -> Fire<'static> {
        let decision = self.with(&due.recurrence.rule, |clockwork| {
            schedule::decide(&due.recurrence, clockwork, due.fire_time, at)
        });
        let (decision, reason) = match decision {
            Some(decision) => (decision, schedule::SKIPPED_MISFIRE),
            None => (unreadable(due, at), UNREADABLE),
        };
        Fire {
            target: due.task,
            revision: due.revision,
            fire_time: decision.fire_time,
            next: decision.next,
            skip: decision.skip.then_some(reason),
            also_missed: decision.also_missed,
            open: if decision.skip { None } else { open() },
        }
    }

    fn with<T>(&mut self, rule: &Rule, ask: impl FnOnce(&Clockwork) -> T) -> Option<T> {
        let Rule::Cron { expr, zone, gap, fold } = rule else {
            return Clockwork::new(rule).ok().map(|clockwork| ask(&clockwork));
        };
        let key = (expr.clone(), zone.clone(), *gap, *fold);
        if let Some(clockwork) = self.calendars.get(&key) {
            return Some(ask(clockwork));
        }
        let clockwork = Clockwork::new(rule).ok()?;
        if self.calendars.len() >= CALENDARS_MAX {
            self.calendars.clear();
        }
        Some(ask(self.calendars.entry(key).or_insert(clockwork)))
    }
}

fn unreadable(due: &DueSchedule, at: Timestamp) -> Decision {
    let next = Some(at + UNREADABLE_RETRY);
    Decision { fire_time: due.fire_time, next, skip: true, also_missed: 0 }
}
