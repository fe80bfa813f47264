//! Runs made by hand, of tasks that live and of tasks that had ended (P8.5).

use std::collections::BTreeSet;

use dtask_core::id::RecordRef;
use dtask_core::state::{Again, Applied, Deed, Refusal, Rerun};
use dtask_core::time::Timestamp;

use super::{End, Entry, Kind, Ledger, Meaning, Said};
use crate::check::{Verdict, Violation, hold};

impl Ledger {
    /// A command that carries what history tells of its task.
    pub(super) fn again(
        &mut self,
        entry: Entry<'_>,
        again: &Again<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let serial = again.serial.0;
        if !matches!(answer, Applied::Refused(_) | Applied::Repeated { .. }) {
            let newest = self.by_id.get(again.id) == Some(&serial);
            hold!("S9", newest, "{} comes back as serial {serial}, an older task", again.id);
        }
        let meaning = match again.deed {
            Deed::Run(rerun) => self.rerun(entry, serial, rerun, answer)?,
            Deed::Delete { cancel } => self.delete(entry, serial, cancel, answer)?,
        };
        Ok(match meaning {
            Meaning::Rerun { .. } => Meaning::Rerun { from_history: true },
            Meaning::Nothing if answer == Applied::Refused(Refusal::Stale) => Meaning::StaleRow,
            other => other,
        })
    }

    /// A trigger or a retry.
    pub(super) fn rerun(
        &mut self,
        entry: Entry<'_>,
        serial: u64,
        rerun: Rerun<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        if let Some(key) = rerun.key {
            let said = Said::Run(self.id_of(serial), rerun.wish);
            let meaning = self.request(entry.at, key.request, said, answer)?;
            if meaning != Meaning::Nothing {
                return Ok(meaning);
            }
        }
        let Applied::Fired { run: Some(run), opened } = answer else { return Ok(Meaning::Nothing) };
        let ended = self.records.get(&serial).is_some_and(|task| task.done.is_some());
        if run.serial.0 == serial || self.records.contains_key(&run.serial.0) {
            self.brought_forward(serial, run)?;
        } else {
            self.further_run(entry.index, serial, run)?;
        }
        if let Some(token) = opened {
            self.open(entry, run, token, rerun.open.unwrap_or_default())?;
        }
        Ok(if ended { Meaning::Rerun { from_history: false } } else { Meaning::Triggered })
    }

    /// A run that waited for its moment runs now, as the only one.
    fn brought_forward(&mut self, serial: u64, run: RecordRef) -> Verdict {
        let Some(record) = self.records.get_mut(&run.serial.0) else { return Ok(()) };
        let own = match record.kind {
            Kind::OneShot => run.serial.0 == serial,
            Kind::Run { parent } => parent == serial,
            Kind::Recurring { .. } | Kind::Again { .. } => false,
        };
        hold!("S8", own, "a trigger of serial {serial} runs {}, another task", record.id);
        hold!("S13", record.done.is_none(), "{} is triggered after its end", record.id);
        record.not_before = Timestamp::default();
        Ok(())
    }

    /// A run of its own. S13: the task may have ended; its ended runs stay as they are, and a
    /// one-shot has one unfinished run at most.
    fn further_run(&mut self, index: u64, serial: u64, run: RecordRef) -> Verdict {
        let Some(task) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S8", format!("unknown {serial} is triggered")));
        };
        let id = task.id.clone();
        hold!("S13", !task.deleted, "{id} runs after it was deleted");
        match &mut task.kind {
            Kind::OneShot => {
                hold!("S13", task.done.is_some(), "{id} gets a second run beside its first");
                task.kind = Kind::Again { unfinished: BTreeSet::new() };
            }
            Kind::Again { unfinished } => {
                hold!("S13", unfinished.is_empty(), "{id} gets a second run beside another");
            }
            Kind::Recurring { closing, .. } => {
                if task.done.is_some() {
                    *closing = Some(End::Exhausted);
                }
            }
            Kind::Run { .. } => {
                return Err(Violation::new("S8", format!("{id}: a run is given a run")));
            }
        }
        if task.done.take().is_some() {
            task.cancelled = false;
            task.back_at = index;
        }
        hold!("S17", !task.cancelled, "{id} gets a run after its cancel");
        let profile = task.profile.clone();
        let kind = Kind::Run { parent: serial };
        self.add(run.serial.0, id, kind, profile, Timestamp::default())?;
        self.adopt(serial, run.serial.0);
        Ok(())
    }
}
