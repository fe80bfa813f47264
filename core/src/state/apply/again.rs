//! A further run of a task that has ended, also when history alone still has it (P8.5).
//!
//! What ended stays ended (S13): the task's record comes back, its ended run stays what it is, and
//! a further run is a record of its own.

use alloc::vec::Vec;

use super::EntryProfiles;
use super::recurring::NewRun;
use crate::id::{InstanceId, RecordRef, RunNumber};
use crate::limits;
use crate::state::facts::Changes;
use crate::state::index::id_hash;
use crate::state::record::{Body, Phase, Record, flag};
use crate::state::schedules::Schedule;
use crate::state::view::{RunCause, RunView, TaskStatus};
use crate::state::{Again, Applied, Deed, Refusal, Rerun, State, Wish};

impl State {
    /// A trigger or retry; a request id that came before changes nothing (P8.3).
    pub(super) fn rerun(
        &mut self,
        target: RecordRef,
        rerun: Rerun<'_>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        if let Some(answer) = self.asked_before(rerun.key) {
            return answer;
        }
        let answer = self.trigger(target, rerun.wish, rerun.open, changes)?;
        self.remember_request(rerun.key);
        Ok(answer)
    }

    /// The task comes back as it ended, if it is not here by now; then it is as any other.
    pub(super) fn again(
        &mut self,
        again: &Again<'_>,
        table: &mut EntryProfiles<'_>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        if let Deed::Run(rerun) = again.deed
            && let Some(answer) = self.asked_before(rerun.key)
        {
            return answer;
        }
        let slot = match self.slot_of(again.id.as_bytes()) {
            Some(slot) => slot,
            None => {
                self.check_past(again)?;
                self.bring_back(again, table)?
            }
        };
        let target = self.reference(slot);
        // Upholds S9: the id names another creation by now.
        if target.serial != again.serial {
            return Err(Refusal::Stale);
        }
        match again.deed {
            Deed::Run(rerun) => self.rerun(target, rerun, changes),
            Deed::Delete { cancel } => self.delete(target, cancel, changes),
        }
    }

    /// P2.2: refuses what was planned on another creation, or would be refused once the task is
    /// back. Upholds S9.
    fn check_past(&self, again: &Again<'_>) -> Result<(), Refusal> {
        let past = &*again.past;
        if again.serial.0 >= self.meta.next_serial {
            return Err(Refusal::Stale);
        }
        // Upholds S13: since history was read the task may have run again and ended anew, or a later
        // creation of the id may have come and gone.
        match self.ids.newest(id_hash(self.key, again.id.as_bytes())) {
            Some((number, ended))
                if ended.serial != again.serial.0
                    || number >= past.as_of
                    || ended.ended_at != past.ended_at =>
            {
                return Err(Refusal::Stale);
            }
            Some((_, ended)) if ended.deleted => return Err(Refusal::NotFound),
            None if self.ids.ended_numbers().0 > past.as_of => return Err(Refusal::Stale),
            Some(_) | None => {}
        }
        if !is_end(past.status)
            || past.priority > 9
            || past.payload.len() > limits::PAYLOAD_BYTES_MAX
        {
            return Err(Refusal::Malformed);
        }
        Self::check_names(again.id, past.name)?;
        self.check_room()?;
        match again.deed {
            Deed::Run(rerun) => {
                self.check_live()?;
                repeated_run(rerun.wish, past.runs, |_| false).map(|_| ())
            }
            Deed::Delete { .. } => Ok(()),
        }
    }

    fn check_live(&self) -> Result<(), Refusal> {
        if self.live_tasks < limits::LIVE_TASKS_MAX { Ok(()) } else { Err(Refusal::Full) }
    }

    /// The task's record as it ended. It counts as changed: its row is written again.
    fn bring_back(
        &mut self,
        again: &Again<'_>,
        table: &mut EntryProfiles<'_>,
    ) -> Result<u32, Refusal> {
        let past = &*again.past;
        let profile = table.resolve(self, past.profile)?;
        let serial = again.serial.0;
        let at = if past.at.is_some() { flag::HAS_AT } else { 0 };
        let body = Body::task(again.id, past.name, past.payload);
        let bytes = body.bytes().len() as u64;
        let slot = self.insert_known(Record {
            serial,
            change: 0,
            created_at: past.created_at,
            updated_at: past.ended_at,
            scheduled_for: past.at.unwrap_or(past.created_at),
            last_token: 0,
            body,
            phase: Phase::Done(past.status),
            profile,
            attempts: 0,
            failures: 0,
            priority: past.priority,
            flags: flag::RECURRING | at,
        })?;
        self.leave_out_of_walk(slot);
        self.ids.enter(id_hash(self.key, again.id.as_bytes()), slot);
        self.pinned.add_record(bytes);
        let mut schedule = Schedule::new(past.recurrence.as_deref().cloned(), None);
        schedule.revision = past.revision;
        schedule.runs = past.runs;
        schedule.last_success_at = past.last_success_at;
        schedule.last_failure_at = past.last_failure_at;
        schedule.failures = past.failures;
        schedule.last_run = past.last_run.clone();
        self.schedules.insert(slot, serial, schedule);
        Ok(slot)
    }

    /// Makes a further run of an ended task, whose record lives again by it.
    pub(super) fn run_again(
        &mut self,
        slot: u32,
        wish: Wish,
        open: Option<InstanceId>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let retry_of = self.retried_run(slot, wish)?;
        self.check_room()?;
        self.check_live()?;
        self.touch(slot);
        self.split_first_run(slot)?;
        let at = self.meta.at;
        let Some(record) = self.slab.at_mut(slot) else { return Err(Refusal::NotFound) };
        record.phase = Phase::Scheduled;
        record.updated_at = at;
        record.flags &= !flag::CANCEL;
        let task = record.named(slot);
        self.pinned.remove_record(record.body.bytes().len() as u64);
        self.live_tasks += 1;
        let new = NewRun { cause: RunCause::Trigger, retry_of, scheduled_for: at, skip: None };
        self.new_run(task, &new, open, changes)
    }

    /// Which ended run a wish repeats.
    pub(super) fn retried_run(&self, slot: u32, wish: Wish) -> Result<Option<RunNumber>, Refusal> {
        match self.schedules.at(slot) {
            Some(schedule) => {
                repeated_run(wish, schedule.runs, |run| schedule.live.contains_key(&run))
            }
            None => repeated_run(wish, 1, |_| false),
        }
    }

    /// A one-shot is its own run. Before it gets a second one its first becomes a record of its
    /// own, ended as it ended, with its attempts.
    fn split_first_run(&mut self, slot: u32) -> Result<(), Refusal> {
        let Some(record) = self.slab.at(slot) else { return Err(Refusal::NotFound) };
        let (serial, ended_at) = (record.serial, record.updated_at);
        let held = (record.last_token, record.failures);
        if record.has(flag::RECURRING) {
            // One that came back has no record of its first run either.
            let first = self.schedules.at(slot).filter(|schedule| schedule.recurrence.is_none());
            let run = first.and_then(|schedule| schedule.last_run.clone());
            return match run.filter(|run| run.cause == RunCause::Submit) {
                Some(run) => self.keep_first_run(slot, &run, (0, 0)),
                None => Ok(()),
            };
        }
        let Some(run) = self.run_view(slot) else { return Err(Refusal::NotFound) };
        let ended = |status| (run.status == status).then_some(ended_at);
        let mut schedule = Schedule::new(None, None);
        schedule.runs = 1;
        schedule.last_success_at = ended(TaskStatus::Succeeded);
        schedule.last_failure_at = ended(TaskStatus::Failed);
        schedule.failures = u32::from(run.status == TaskStatus::Failed);
        schedule.last_run = Some(run.clone());
        self.schedules.insert(slot, serial, schedule);
        if let Some(record) = self.slab.at_mut(slot) {
            record.flags |= flag::RECURRING;
            (record.attempts, record.failures, record.last_token) = (0, 0, 0);
        }
        self.keep_first_run(slot, &run, held)
    }

    /// A one-shot's ended run as a child record; `held` are the newest of its attempts that are in
    /// memory, and its failures.
    fn keep_first_run(
        &mut self,
        parent: u32,
        run: &RunView,
        (last_token, failures): (u64, u16),
    ) -> Result<(), Refusal> {
        let Some(task) = self.slab.at(parent) else { return Err(Refusal::NotFound) };
        let body = Body::run(task.named(parent), run.run, (run.cause, run.retry_of), &run.reason);
        let bytes = body.bytes().len() as u64;
        let child = self.insert_record(Record {
            serial: 0,
            change: 0,
            created_at: task.created_at,
            updated_at: task.updated_at,
            scheduled_for: run.scheduled_for,
            last_token,
            body,
            phase: Phase::Done(run.status),
            profile: task.profile,
            attempts: run.attempts,
            failures,
            priority: task.priority,
            flags: flag::RUN,
        })?;
        self.pinned.add_record(bytes);
        if let Some(schedule) = self.schedules.at_mut(parent) {
            schedule.children += 1;
        }
        let child = self.reference(child);
        self.move_attempts(last_token, child);
        Ok(())
    }

    /// Attempts of a run that has become another record. Their rows in history stay as they are.
    fn move_attempts(&mut self, last: u64, to: RecordRef) {
        let tokens: Vec<u64> = self.attempts.chain(last).map(|(token, _)| token).collect();
        for token in tokens {
            self.keep_attempt_image(token);
            let Some(attempt) = self.attempts.closed_mut(token) else { continue };
            let old = self.digest.attempt(token, attempt);
            attempt.slot = to.slot.0;
            attempt.serial = to.serial.0;
            let new = self.digest.attempt(token, attempt);
            self.digest.subtract(old);
            self.digest.add(new);
        }
    }
}

/// Which of `runs` runs a wish repeats: it must have ended.
fn repeated_run(
    wish: Wish,
    runs: u32,
    unfinished: impl Fn(u32) -> bool,
) -> Result<Option<RunNumber>, Refusal> {
    let run = match wish {
        Wish::Trigger => return Ok(None),
        Wish::RetryLatest => runs,
        Wish::Retry(run) => run.0,
    };
    if run == 0 || run > runs {
        return Err(Refusal::NoSuchRun);
    }
    if unfinished(run) { Err(Refusal::Running) } else { Ok(Some(RunNumber(run))) }
}

const fn is_end(status: TaskStatus) -> bool {
    match status {
        TaskStatus::Succeeded
        | TaskStatus::Failed
        | TaskStatus::Cancelled
        | TaskStatus::Skipped => true,
        TaskStatus::Waiting | TaskStatus::Ready | TaskStatus::Running => false,
    }
}
