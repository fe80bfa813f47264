//! Runs of recurring tasks: fire times (P6.3), overlap, and triggers by hand (P8.5).

use super::attempt::skip_reason;
use crate::id::{InstanceId, RecordRef, RunNumber};
use crate::limits;
use crate::spec::Overlap;
use crate::state::facts::Changes;
use crate::state::record::{Body, Phase, Record, flag};
use crate::state::view::{RunCause, TaskStatus};
use crate::state::{Applied, Fire, Refusal, State, Wish};
use crate::time::Timestamp;

/// A child run about to be made.
pub(super) struct NewRun<'a> {
    pub(super) cause: RunCause,
    pub(super) retry_of: Option<RunNumber>,
    pub(super) scheduled_for: Timestamp,
    pub(super) skip: Option<&'a str>,
}

impl State {
    pub(super) fn fire(
        &mut self,
        fire: &Fire<'_>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let (slot, phase, _) = self.named(fire.target)?;
        let Some(schedule) = self.schedules.at(slot) else { return Err(Refusal::Malformed) };
        let Some(recurrence) = &schedule.recurrence else { return Err(Refusal::Malformed) };
        if matches!(phase, Phase::Done(_)) {
            return Err(Refusal::Terminal);
        }
        // Upholds S15: a fire time is taken once, by whoever planned on it being the next (P6.3).
        if schedule.revision != fire.revision
            || schedule.next_run_at != Some(fire.fire_time)
            || fire.fire_time > self.meta.at
            || fire.next.is_some_and(|next| next <= fire.fire_time)
        {
            return Err(Refusal::Stale);
        }
        let unfinished = schedule.live.len();
        let overlaps = unfinished > 0 && recurrence.overlap == Overlap::Skip;
        let reason = if let Some(why) = fire.skip {
            Some(skip_reason(why, fire.also_missed))
        } else if overlaps {
            Some(skip_reason("overlap", fire.also_missed))
        } else if unfinished >= limits::UNFINISHED_RUNS_MAX {
            Some(skip_reason("too many unfinished runs", fire.also_missed))
        } else {
            None
        };
        self.check_room()?;
        self.touch(slot);
        self.schedules.set_next(slot, fire.target.serial.0, fire.next);
        if let Some(schedule) = self.schedules.at_mut(slot) {
            schedule.last_fire_time = Some(fire.fire_time);
        }
        changes.rescheduled.push(fire.target);
        let new = NewRun {
            cause: RunCause::Schedule,
            retry_of: None,
            scheduled_for: fire.fire_time,
            skip: reason.as_deref(),
        };
        self.new_run(fire.target, &new, fire.open, changes)
    }

    /// Runs a task now, whether it waits, recurs or has ended (P8.5).
    pub(super) fn trigger(
        &mut self,
        target: RecordRef,
        wish: Wish,
        open: Option<InstanceId>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let (slot, phase, flags) = self.named(target)?;
        match phase {
            // The only run has not ended: there is nothing to repeat.
            Phase::Waiting { .. } | Phase::Ready { .. } if wish != Wish::Trigger => {
                Err(Refusal::Running)
            }
            Phase::Waiting { .. } => {
                self.touch_run(slot);
                self.unlink(slot);
                let opened = self.make_ready(slot, open, changes);
                Ok(Applied::Fired { run: Some(target), opened })
            }
            Phase::Ready { .. } => Ok(Applied::Fired { run: Some(target), opened: None }),
            Phase::Running => Err(Refusal::Running),
            Phase::Done(_) if flags & flag::RUN != 0 => Err(Refusal::Terminal),
            Phase::Done(_) if flags & flag::DELETED != 0 => Err(Refusal::NotFound),
            Phase::Done(_) => self.run_again(slot, wish, open, changes),
            Phase::Scheduled if flags & flag::CANCEL != 0 => Err(Refusal::Terminal),
            Phase::Scheduled => {
                // A one-shot that runs again has one unfinished run, as it had at first.
                if let Some(only) = self.only_run(slot) {
                    return self.trigger(only, wish, open, changes);
                }
                let retry_of = self.retried_run(slot, wish)?;
                let unfinished = self.schedules.at(slot).map_or(0, |it| it.live.len());
                if unfinished >= limits::UNFINISHED_RUNS_MAX {
                    return Err(Refusal::Full);
                }
                self.check_room()?;
                self.touch(slot);
                let at = self.meta.at;
                let cause = RunCause::Trigger;
                let new = NewRun { cause, retry_of, scheduled_for: at, skip: None };
                self.new_run(target, &new, open, changes)
            }
        }
    }

    fn only_run(&self, slot: u32) -> Option<RecordRef> {
        let schedule = self.schedules.at(slot).filter(|it| it.recurrence.is_none())?;
        schedule.live.values().next().map(|&run| self.reference(run))
    }

    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        let full = self.slab.len() as u64 >= 2 * limits::LIVE_TASKS_MAX;
        if full { Err(Refusal::Full) } else { Ok(()) }
    }

    /// Makes a child run of a touched recurring task.
    pub(super) fn new_run(
        &mut self,
        task: RecordRef,
        new: &NewRun<'_>,
        open: Option<InstanceId>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let parent = task.slot.0;
        let Some(record) = self.slab.at(parent) else { return Err(Refusal::NotFound) };
        let (profile, priority) = (record.profile, record.priority);
        let Some(schedule) = self.schedules.at_mut(parent) else { return Err(Refusal::Malformed) };
        schedule.runs = schedule.runs.saturating_add(1);
        let number = RunNumber(schedule.runs);
        let at = self.meta.at;
        let slot = self.insert_record(Record {
            serial: 0,
            change: 0,
            created_at: at,
            updated_at: at,
            scheduled_for: new.scheduled_for,
            last_token: 0,
            body: Body::run(task, number, (new.cause, new.retry_of), new.skip.unwrap_or("")),
            phase: Phase::Scheduled,
            profile,
            attempts: 0,
            failures: 0,
            priority,
            flags: flag::RUN,
        })?;
        if let Some(schedule) = self.schedules.at_mut(parent) {
            schedule.children += 1;
            schedule.live.insert(number.0, slot);
        }
        if new.skip.is_some() {
            self.finish(slot, TaskStatus::Skipped, changes);
            return Ok(Applied::Fired { run: None, opened: None });
        }
        let opened = self.make_ready(slot, open, changes);
        Ok(Applied::Fired { run: Some(self.reference(slot)), opened })
    }
}
