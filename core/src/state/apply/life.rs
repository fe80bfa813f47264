//! The steps of a run's life that several commands share: wait, become ready, open, finish, and
//! leave memory.

use crate::id::{InstanceId, RecordRef, RunNumber, Token};
use crate::state::State;
use crate::state::attempts::Attempt;
use crate::state::digest::record_hash;
use crate::state::ended::Ended;
use crate::state::facts::{Changes, Finished};
use crate::state::index::id_hash;
use crate::state::outbox::Change;
use crate::state::record::{NONE, Phase, flag};
use crate::state::view::{RunView, TaskStatus};
use crate::time::Timestamp;

impl State {
    /// Touches a run, and its task when that is another record: a task's row shows its latest run.
    pub(super) fn touch_run(&mut self, slot: u32) {
        self.touch(slot);
        if let Some(parent) = self.parent_of(slot) {
            self.touch(parent.slot.0);
        }
    }

    /// The recurring task of a child run.
    pub(in crate::state) fn parent_of(&self, slot: u32) -> Option<RecordRef> {
        let record = self.slab.at(slot)?;
        record.has(flag::RUN).then(|| record.body.run_head().parent)
    }

    /// Makes a touched run wait.
    pub(super) fn make_wait(&mut self, slot: u32, until: Timestamp, backoff: bool) {
        if let Some(record) = self.slab.at_mut(slot) {
            record.phase = Phase::Waiting { until, position: NONE, backoff };
        }
        self.timers.insert(&mut self.slab, slot);
    }

    /// Makes a touched run ready, at its list's tail; or opens it at once on `open`, when that
    /// instance takes attempts (P2.2).
    pub(super) fn make_ready(
        &mut self,
        slot: u32,
        open: Option<InstanceId>,
        changes: &mut Changes,
    ) -> Option<Token> {
        if let Some(instance) = open.filter(|&instance| self.instances.accepts(instance)) {
            return Some(self.start_attempt(slot, instance, changes));
        }
        let sequence = self.meta.next_sequence;
        self.meta.next_sequence += 1;
        let record = self.slab.at_mut(slot)?;
        record.phase = Phase::Ready { sequence, prev: NONE, next: NONE };
        let class = self.profiles.at(record.profile)?.class;
        self.classes.push(&mut self.slab, class, slot);
        changes.readied.push(self.reference(slot));
        None
    }

    /// Takes a run out of the structure that its phase names.
    pub(super) fn unlink(&mut self, slot: u32) {
        let Some(record) = self.slab.at(slot) else { return };
        match record.phase {
            Phase::Waiting { .. } => self.timers.remove(&mut self.slab, slot),
            Phase::Ready { .. } => {
                if let Some(class) = self.profiles.at(record.profile).map(|held| held.class) {
                    self.classes.remove(&mut self.slab, class, slot);
                }
            }
            Phase::Running | Phase::Scheduled | Phase::Done(_) => {}
        }
    }

    /// Opens the next attempt of a touched run that is in no structure. Upholds S11: the token is
    /// taken here, and the counter only rises (P7.1).
    pub(super) fn start_attempt(
        &mut self,
        slot: u32,
        instance: InstanceId,
        changes: &mut Changes,
    ) -> Token {
        let token = self.meta.next_token;
        self.meta.next_token += 1;
        let target = self.reference(slot);
        let change = self.outbox.push(Change::Attempt { token });
        let (mut number, mut previous) = (0, 0);
        if let Some(record) = self.slab.at_mut(slot) {
            record.attempts = record.attempts.saturating_add(1);
            number = record.attempts;
            previous = core::mem::replace(&mut record.last_token, token);
            record.phase = Phase::Running;
        }
        let attempt = Attempt {
            slot,
            serial: target.serial.0,
            number,
            instance,
            opened_at: self.meta.at,
            stop: None,
            change,
            previous,
            ending: None,
        };
        let row = self.digest.attempt(token, &attempt);
        self.digest.add(row);
        self.attempts.insert(token, attempt);
        if let Some(instance) = self.instances.at_mut(instance) {
            instance.open += 1;
            instance.held += 1;
        }
        changes.opened.push((Token(token), target, instance));
        Token(token)
    }

    /// Ends a touched run, or a recurring task, for good (S13). It is in no structure.
    pub(super) fn finish(&mut self, slot: u32, status: TaskStatus, changes: &mut Changes) {
        let Some(record) = self.slab.at_mut(slot) else { return };
        record.phase = Phase::Done(status);
        self.pinned.add_record(record.body.bytes().len() as u64);
        let target = record.named(slot);
        let child = record.has(flag::RUN);
        if !child {
            self.live_tasks -= 1;
            let run = self.schedules.at(slot).map_or(1, |schedule| schedule.runs);
            let run = RunNumber(run);
            changes.finished.push(Finished { target, task: target, run, status });
            return;
        }
        let Some(view) = self.run_view(slot) else { return };
        let Some(task) = self.parent_of(slot) else { return };
        changes.finished.push(Finished { target, task, run: view.run, status });
        self.note_run(task.slot.0, view, changes);
    }

    /// Enters a finished run into its (touched) task's books, and ends the task when it was the
    /// last one.
    fn note_run(&mut self, parent: u32, run: RunView, changes: &mut Changes) {
        let at = self.meta.at;
        let Some(schedule) = self.schedules.at_mut(parent) else { return };
        schedule.live.remove(&run.run.0);
        match run.status {
            TaskStatus::Succeeded => {
                schedule.last_success_at = Some(at);
                schedule.failures = 0;
            }
            TaskStatus::Failed => {
                schedule.last_failure_at = Some(at);
                schedule.failures = schedule.failures.saturating_add(1);
            }
            TaskStatus::Cancelled
            | TaskStatus::Skipped
            | TaskStatus::Waiting
            | TaskStatus::Ready
            | TaskStatus::Running => {}
        }
        if schedule.last_run.as_ref().is_none_or(|last| last.run <= run.run) {
            schedule.last_run = Some(run);
        }
        self.end_schedule_if_over(parent, changes);
    }

    /// Ends a touched recurring task that has neither a fire time nor an unfinished run left.
    pub(super) fn end_schedule_if_over(&mut self, slot: u32, changes: &mut Changes) {
        let Some(record) = self.slab.at(slot) else { return };
        let Some(schedule) = self.schedules.at(slot) else { return };
        if record.is_done() || schedule.next_run_at.is_some() || !schedule.live.is_empty() {
            return;
        }
        // A one-shot that ran again ends as that run did, whatever was asked meanwhile.
        let status = if record.has(flag::CANCEL) && schedule.recurrence.is_some() {
            TaskStatus::Cancelled
        } else {
            schedule.last_run.as_ref().map_or(TaskStatus::Skipped, |run| run.status)
        };
        self.finish(slot, status, changes);
    }

    /// Lets a terminal record go once history has everything of it up to `through` (P9.1): its own
    /// row, its attempts, and of a recurring task its runs.
    pub(super) fn free_if_stored(&mut self, slot: u32, serial: u64, through: u64) {
        let Some(record) = self.slab.at(slot).filter(|record| record.serial == serial) else {
            return;
        };
        let children = self.schedules.at(slot).map_or(0, |schedule| schedule.children);
        if !record.is_done()
            || record.change > through
            || children > 0
            || self.attempts.at(record.last_token).is_some_and(|last| last.change > through)
        {
            return;
        }
        self.drop_attempt(record.last_token);
        let parent = self.parent_of(slot);
        self.free(slot);
        if let Some(parent) = parent {
            if let Some(schedule) = self.schedules.at_mut(parent.slot.0) {
                schedule.children -= 1;
            }
            self.free_if_stored(parent.slot.0, parent.serial.0, through);
        }
    }

    fn free(&mut self, slot: u32) {
        self.keep_record_image(slot);
        let Some(record) = self.slab.at(slot) else { return };
        if !record.has(flag::TOUCHED) {
            let row = record_hash(&mut self.digest, &self.profiles, &self.schedules, slot, record);
            self.digest.subtract(row);
        }
        let row = self.digest.body(slot, record.serial, &record.body);
        self.digest.subtract(row);
        if !record.has(flag::RUN) {
            let hash = id_hash(self.key, record.body.id_bytes());
            let status = match record.phase {
                Phase::Done(status) => status,
                Phase::Waiting { .. } | Phase::Ready { .. } | Phase::Running | Phase::Scheduled => {
                    TaskStatus::Cancelled
                }
            };
            let ended = Ended {
                id: hash,
                spec: self.spec_hash(slot, record),
                serial: record.serial,
                created_at: record.created_at,
                ended_at: record.updated_at,
                status,
                deleted: record.has(flag::DELETED),
            };
            let number = self.ids.end(slot, ended);
            let row = self.digest.ended(number, &ended);
            self.digest.add(row);
        }
        let Some(record) = self.slab.remove(slot) else { return };
        let bytes = record.body.bytes().len() as u64;
        self.held_bytes -= bytes;
        self.pinned.remove_record(bytes);
        self.schedules.remove(slot, record.serial);
        self.release_profile(record.profile);
    }
}
