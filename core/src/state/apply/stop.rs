//! Stopping: cancel, run timeout, delete (P7.6).

use alloc::vec::Vec;

use crate::id::{RecordRef, Token};
use crate::spec::StopWhy;
use crate::state::facts::Changes;
use crate::state::outbox::Change;
use crate::state::record::{Phase, flag};
use crate::state::view::TaskStatus;
use crate::state::{Applied, Refusal, State};

impl State {
    pub(super) fn cancel(
        &mut self,
        target: RecordRef,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let (slot, phase, _) = self.named(target)?;
        if matches!(phase, Phase::Done(_)) {
            return Err(Refusal::Terminal);
        }
        Ok(self.stop(slot, target, changes))
    }

    pub(super) fn time_out(
        &mut self,
        token: Token,
        target: RecordRef,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let Some(attempt) = self.attempts.open(token.0) else { return Err(Refusal::StaleToken) };
        if attempt.slot != target.slot.0 || attempt.serial != target.serial.0 {
            return Err(Refusal::StaleToken);
        }
        if attempt.stop.is_none() {
            self.touch_run(target.slot.0);
            self.stop_attempt(token.0, StopWhy::TimedOut, changes);
        }
        Ok(Applied::Stopping { target, token })
    }

    pub(super) fn delete(
        &mut self,
        target: RecordRef,
        cancel: bool,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let (slot, phase, flags) = self.named(target)?;
        if flags & flag::RUN != 0 {
            return Err(Refusal::Malformed);
        }
        let done = matches!(phase, Phase::Done(_));
        if done && flags & flag::DELETED != 0 {
            return Err(Refusal::NotFound);
        }
        if !cancel && self.has_running(slot, phase) {
            return Err(Refusal::Running);
        }
        self.touch(slot);
        if let Some(record) = self.slab.at_mut(slot) {
            record.flags |= flag::DELETED;
        }
        Ok(if done { Applied::Done } else { self.stop(slot, target, changes) })
    }

    fn has_running(&self, slot: u32, phase: Phase) -> bool {
        let running = |slot: u32| {
            self.slab.at(slot).is_some_and(|record| matches!(record.phase, Phase::Running))
        };
        match phase {
            Phase::Running => true,
            Phase::Scheduled => self
                .schedules
                .at(slot)
                .is_some_and(|schedule| schedule.live.values().any(|&run| running(run))),
            Phase::Waiting { .. } | Phase::Ready { .. } | Phase::Done(_) => false,
        }
    }

    /// Stops a run or a whole recurring task that is not terminal. What does not run ends at once;
    /// a running attempt is asked, and its slot stays taken until it has closed.
    fn stop(&mut self, slot: u32, target: RecordRef, changes: &mut Changes) -> Applied {
        self.touch_run(slot);
        if let Some(record) = self.slab.at_mut(slot) {
            record.flags |= flag::CANCEL;
        }
        let phase = self.slab.at(slot).map(|record| (record.phase, record.last_token));
        match phase {
            Some((Phase::Waiting { .. } | Phase::Ready { .. }, _)) => {
                self.unlink(slot);
                self.finish(slot, TaskStatus::Cancelled, changes);
                Applied::Done
            }
            Some((Phase::Running, token)) => {
                self.stop_attempt(token, StopWhy::Cancelled, changes);
                Applied::Stopping { target, token: Token(token) }
            }
            Some((Phase::Scheduled, _)) => self.stop_recurring(slot, target, changes),
            Some((Phase::Done(_), _)) | None => Applied::Done,
        }
    }

    /// At most `UNFINISHED_RUNS_MAX` runs, with an attempt each: within P1.5.
    fn stop_recurring(&mut self, slot: u32, target: RecordRef, changes: &mut Changes) -> Applied {
        self.schedules.set_next(slot, target.serial.0, None);
        changes.rescheduled.push(target);
        let runs: Vec<u32> = match self.schedules.at(slot) {
            Some(schedule) => schedule.live.values().copied().collect(),
            None => Vec::new(),
        };
        let mut answer = Applied::Done;
        for run in runs {
            let named = self.reference(run);
            let stopped = self.stop(run, named, changes);
            if matches!(stopped, Applied::Stopping { .. }) {
                answer = stopped;
            }
        }
        self.end_schedule_if_over(slot, changes);
        answer
    }

    /// Agrees on the stop of an open attempt; one that is agreed already is not told again, but a
    /// cancel replaces a timeout: then nothing is retried.
    fn stop_attempt(&mut self, token: u64, why: StopWhy, changes: &mut Changes) {
        if self.attempts.open(token).is_none_or(|attempt| attempt.stop == Some(why)) {
            return;
        }
        self.keep_attempt_image(token);
        let change = self.outbox.push(Change::Attempt { token });
        let Some(attempt) = self.attempts.open_mut(token) else { return };
        let old = self.digest.attempt(token, attempt);
        attempt.stop = Some(why);
        attempt.change = change;
        let new = self.digest.attempt(token, attempt);
        changes.stops.push((Token(token), attempt.instance, why));
        self.digest.subtract(old);
        self.digest.add(new);
    }
}
