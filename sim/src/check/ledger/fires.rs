//! Recurring tasks: fire times and their runs (S15).

use dtask_core::id::RecordRef;
use dtask_core::limits;
use dtask_core::spec::{Overlap, Profile};
use dtask_core::state::{Applied, Fire};
use dtask_core::time::Timestamp;

use super::{End, Entry, Kind, Ledger, Meaning, Record};
use crate::check::{Violation, hold};

impl Ledger {
    pub(super) fn fire(
        &mut self,
        entry: Entry<'_>,
        fire: &Fire<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let Applied::Fired { run, opened } = answer else { return Ok(Meaning::Nothing) };
        let serial = fire.target.serial.0;
        let (id, profile, overlaps) = self.s15_the_calendar_fires(entry, fire, serial, run)?;
        if run.is_some() {
            let due = run.is_some_and(|_| fire.skip.is_none());
            hold!("S15", due, "{id} runs a fire time that the leader skipped");
        } else {
            hold!(
                "S15",
                fire.skip.is_some() || overlaps,
                "{id} skips {} although nothing overlaps and it was not missed",
                fire.fire_time
            );
        }
        if let Some(run) = run {
            let kind = Kind::Run { parent: serial };
            self.add(run.serial.0, id, kind, profile, fire.fire_time)?;
            self.adopt(serial, run.serial.0);
            if let Some(token) = opened {
                self.open(entry, run, token, fire.open.unwrap_or_default())?;
            }
        }
        if fire.next.is_none() {
            self.set_closing(serial, End::Exhausted, entry.at);
        }
        Ok(Meaning::Fired { skipped: run.is_none() })
    }

    pub(super) fn adopt(&mut self, parent: u64, run: u64) {
        if let Some(task) = self.records.get_mut(&parent)
            && let Kind::Recurring { unfinished, .. } | Kind::Again { unfinished } = &mut task.kind
        {
            unfinished.insert(run);
        }
    }

    /// S15: each fire time is one that the calendar names, is taken once, in order, never early,
    /// and none between is passed over in silence. Returns the task's id and profile and whether
    /// an unfinished run may cause a skip.
    fn s15_the_calendar_fires(
        &mut self,
        entry: Entry<'_>,
        fire: &Fire<'_>,
        serial: u64,
        run: Option<RecordRef>,
    ) -> Result<(Box<str>, Profile, bool), Violation> {
        let Some(record) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S15", format!("unknown {serial} fires")));
        };
        let id = record.id.clone();
        hold!("S13", record.done.is_none(), "{id} fires after {:?}", record.done);
        let Kind::Recurring { recurrence, calendar, next, taken, unfinished, closing: _ } =
            &mut record.kind
        else {
            return Err(Violation::new("S15", format!("{id} fires and does not recur")));
        };
        let (time, after) = (fire.fire_time, fire.next);
        hold!("S15", *next == Some(time), "{id} fires at {time}; its next is {next:?}");
        hold!("S15", taken.insert(time), "{id} fires twice at {time}");
        hold!("S16", entry.at >= time, "{id} fires at {}, before {time}", entry.at);
        if let (Some(calendar), Some(after)) = (*calendar, after) {
            hold!("S15", after > time, "{id}: {after} does not follow {time}");
            hold!("S15", calendar.names(after), "{id}: {calendar:?} does not name {after}");
            let between = calendar.between(time, after);
            hold!(
                "S15",
                between == u64::from(fire.also_missed),
                "{id}: {between} fire times between {time} and {after}, {} accounted for",
                fire.also_missed
            );
        }
        if fire.also_missed > 0 {
            hold!("S15", run.is_none(), "{id}: a run stands for {} others", fire.also_missed);
        }
        *next = after;
        let overlaps = (recurrence.overlap == Overlap::Skip && !unfinished.is_empty())
            || unfinished.len() >= limits::UNFINISHED_RUNS_MAX;
        Ok((id, record.profile.clone(), overlaps))
    }

    pub(super) fn set_closing(&mut self, serial: u64, end: End, at: Timestamp) {
        if let Some(Record { kind: Kind::Recurring { closing, next, .. }, .. }) =
            self.records.get_mut(&serial)
        {
            *next = None;
            *closing = Some(end);
        }
        self.close_if_over(serial, at);
    }
}
