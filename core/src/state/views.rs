//! Tasks, runs and attempts as callers and history see them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::State;
use super::attempts::Attempt;
use super::record::{Phase, Record, flag};
use super::schedules::Schedule;
use super::view::{AttemptView, RunCause, RunView, TaskStatus, TaskView, WaitCode, WaitView};
use crate::id::{RecordRef, RunNumber, Token};
use crate::spec::AttemptOutcome;
use crate::time::Timestamp;
use crate::worker::Assignment;

impl State {
    /// A task as it stands. Of a child run: its task. `wait` is filled where the state alone knows
    /// the reason (not due, backoff); the leader fills what depends on workers.
    pub fn task_view(&self, record: RecordRef) -> Option<TaskView> {
        let task = self.task_of(record)?;
        let slot = task.slot.0;
        let record = self.record(task)?;
        match self.schedules.at(slot) {
            Some(schedule) => self.recurring_view(record, schedule),
            None => self.one_shot_view(slot, record),
        }
    }

    fn one_shot_view(&self, slot: u32, record: &Record) -> Option<TaskView> {
        let status = status_of(record.phase);
        let ended = |wanted| (status == wanted).then_some(record.updated_at);
        let due = match record.phase {
            Phase::Waiting { until, .. } => Some(until),
            Phase::Ready { .. } | Phase::Running | Phase::Scheduled | Phase::Done(_) => None,
        };
        Some(TaskView {
            last_run: self.run_view(slot),
            runs_count: 1,
            last_success_at: ended(TaskStatus::Succeeded),
            last_failure_at: ended(TaskStatus::Failed),
            consecutive_failures: u32::from(status == TaskStatus::Failed),
            at: record.has(flag::HAS_AT).then_some(record.scheduled_for),
            status,
            wait: wait_of(record),
            next_run_at: due,
            ..self.bare_view(record)?
        })
    }

    fn recurring_view(&self, record: &Record, schedule: &Schedule) -> Option<TaskView> {
        let runs = || schedule.live.values().filter_map(|&slot| self.slab.at(slot));
        let any = |wanted| runs().any(|run| status_of(run.phase) == wanted);
        let status = match record.phase {
            Phase::Done(status) => status,
            Phase::Waiting { .. } | Phase::Ready { .. } | Phase::Running | Phase::Scheduled => {
                if any(TaskStatus::Running) {
                    TaskStatus::Running
                } else if any(TaskStatus::Ready) {
                    TaskStatus::Ready
                } else {
                    TaskStatus::Waiting
                }
            }
        };
        let latest_live = schedule.live.last_key_value();
        let last_run = match (latest_live, &schedule.last_run) {
            (Some((&number, &slot)), last) if last.as_ref().is_none_or(|l| l.run.0 < number) => {
                self.run_view(slot)
            }
            (Some(_) | None, last) => last.clone(),
        };
        let wait = match (status, latest_live) {
            (TaskStatus::Waiting, Some((_, &slot))) => self.slab.at(slot).and_then(wait_of),
            (TaskStatus::Waiting, None) => {
                schedule.next_run_at.map(|until| not_due(record.updated_at, until))
            }
            (
                TaskStatus::Ready
                | TaskStatus::Running
                | TaskStatus::Succeeded
                | TaskStatus::Failed
                | TaskStatus::Cancelled
                | TaskStatus::Skipped,
                _,
            ) => None,
        };
        Some(TaskView {
            last_run,
            runs_count: schedule.runs,
            last_success_at: schedule.last_success_at,
            last_failure_at: schedule.last_failure_at,
            consecutive_failures: schedule.failures,
            recurrence: schedule.recurrence.clone(),
            at: record.has(flag::HAS_AT).then_some(record.scheduled_for),
            revision: schedule.revision,
            status,
            wait,
            next_run_at: schedule.next_run_at,
            ..self.bare_view(record)?
        })
    }

    /// The columns that one-shot and recurring tasks share.
    fn bare_view(&self, record: &Record) -> Option<TaskView> {
        let id = record.body.id();
        let name = record.body.name();
        Some(TaskView {
            id: id.into(),
            serial: record.serial,
            name: if name.is_empty() { id.into() } else { name.into() },
            profile: self.profiles.at(record.profile)?.profile.clone(),
            payload: Bytes::copy_from_slice(record.body.payload()),
            priority: record.priority,
            recurrence: None,
            at: None,
            status: TaskStatus::Waiting,
            wait: None,
            last_run: None,
            runs_count: 0,
            last_success_at: None,
            last_failure_at: None,
            consecutive_failures: 0,
            revision: 1,
            created_at: record.created_at,
            updated_at: record.updated_at,
            next_run_at: None,
            finished_at: record.is_done().then_some(record.updated_at),
        })
    }

    /// The run of a record in `slot`; `None` for a recurring task, which is not a run.
    pub(super) fn run_view(&self, slot: u32) -> Option<RunView> {
        let record = self.slab.at(slot).filter(|record| !record.has(flag::RECURRING))?;
        let (run, cause, retry_of, told) = if record.has(flag::RUN) {
            let head = record.body.run_head();
            (head.number, head.cause, head.retry_of, head.reason)
        } else {
            (RunNumber(1), RunCause::Submit, None, "")
        };
        let status = status_of(record.phase);
        Some(RunView {
            run,
            cause,
            scheduled_for: record.scheduled_for,
            status,
            reason: self.reason(record, status, told),
            attempts: record.attempts,
            retry_of,
        })
    }

    fn reason(&self, record: &Record, status: TaskStatus, told: &str) -> Box<str> {
        match status {
            TaskStatus::Skipped => told.into(),
            TaskStatus::Failed => {
                let last = self.attempts.at(record.last_token);
                let ending = last.and_then(|attempt| attempt.ending.as_deref());
                match ending {
                    Some(ending) if !ending.error().is_empty() => ending.error().into(),
                    Some(ending) => outcome_text(ending.outcome).into(),
                    None => told.into(),
                }
            }
            TaskStatus::Waiting
            | TaskStatus::Ready
            | TaskStatus::Running
            | TaskStatus::Succeeded
            | TaskStatus::Cancelled => "".into(),
        }
    }

    /// Runs in memory, oldest first: of a one-shot its own, of a recurring task the unfinished ones
    /// and the latest finished one, of a child run that run.
    pub fn run_views(&self, record: RecordRef) -> Vec<RunView> {
        if self.record(record).is_none() {
            return Vec::new();
        }
        let Some(schedule) = self.schedules.at(record.slot.0) else {
            return self.run_view(record.slot.0).into_iter().collect();
        };
        let live = schedule.live.values().filter_map(|&slot| self.run_view(slot));
        let mut runs: Vec<RunView> = live.chain(schedule.last_run.clone()).collect();
        runs.sort_by_key(|run| run.run);
        runs
    }

    /// Attempts in memory, oldest first: of a one-shot or child run its own, of a recurring task
    /// those of its unfinished runs.
    pub fn attempt_views(&self, record: RecordRef) -> Vec<AttemptView> {
        if self.record(record).is_none() {
            return Vec::new();
        }
        let mut attempts = Vec::new();
        match self.schedules.at(record.slot.0) {
            Some(schedule) => {
                for &slot in schedule.live.values() {
                    self.add_attempts(slot, &mut attempts);
                }
            }
            None => self.add_attempts(record.slot.0, &mut attempts),
        }
        attempts.sort_by_key(|attempt| attempt.token);
        attempts
    }

    fn add_attempts(&self, slot: u32, into: &mut Vec<AttemptView>) {
        let Some(record) = self.slab.at(slot) else { return };
        let chain = self.attempts.chain(record.last_token);
        into.extend(chain.filter_map(|(token, attempt)| self.attempt_view(token, attempt)));
    }

    pub(super) fn attempt_view(&self, token: u64, attempt: &Attempt) -> Option<AttemptView> {
        let record = self.slab.at(attempt.slot)?;
        let ending = attempt.ending.as_deref();
        let name = self.instances.at(attempt.instance).map_or("", |known| &known.name);
        let number =
            if record.has(flag::RUN) { record.body.run_head().number } else { RunNumber(1) };
        Some(AttemptView {
            token: Token(token),
            run: number,
            attempt: attempt.number,
            worker: name.into(),
            outcome: ending.map(|ending| ending.outcome),
            stop_requested: attempt.stop.is_some(),
            output: ending.map_or_else(Bytes::new, |e| Bytes::copy_from_slice(e.output())),
            tail: ending.map_or_else(Bytes::new, |e| Bytes::copy_from_slice(e.tail())),
            error: ending.map_or("", |ending| ending.error()).into(),
            exit_code: ending.and_then(|ending| ending.exit_code),
            scheduled_for: record.scheduled_for,
            opened_at: attempt.opened_at,
            started_at: ending.and_then(|ending| ending.started_at),
            finished_at: ending.and_then(|ending| ending.finished_at),
        })
    }

    /// What a worker must know to run the open attempt `token` of a run.
    pub fn assignment(&self, run: RecordRef, token: Token) -> Option<Assignment> {
        let attempt = self.attempts.open(token.0)?;
        if attempt.slot != run.slot.0 || attempt.serial != run.serial.0 {
            return None;
        }
        let record = self.record(run)?;
        let task = self.record(self.task_of(run)?)?;
        let profile = &self.profiles.at(record.profile)?.profile;
        let number =
            if record.has(flag::RUN) { record.body.run_head().number } else { RunNumber(1) };
        let (id, name) = (task.body.id(), task.body.name());
        Some(Assignment {
            token,
            task_id: id.into(),
            task_name: if name.is_empty() { id.into() } else { name.into() },
            run: number,
            attempt: attempt.number,
            kind: profile.kind.clone(),
            payload: Bytes::copy_from_slice(task.body.payload()),
            scheduled_for: record.scheduled_for,
            run_timeout_ms: profile.run_timeout_ms,
        })
    }
}

/// The status that a phase shows as.
const fn status_of(phase: Phase) -> TaskStatus {
    match phase {
        Phase::Waiting { .. } | Phase::Scheduled => TaskStatus::Waiting,
        Phase::Ready { .. } => TaskStatus::Ready,
        Phase::Running => TaskStatus::Running,
        Phase::Done(status) => status,
    }
}

/// Why a waiting run waits, as far as the state knows.
fn wait_of(record: &Record) -> Option<WaitView> {
    match record.phase {
        Phase::Waiting { until, backoff: false, .. } => Some(not_due(record.updated_at, until)),
        Phase::Waiting { until, backoff: true, .. } => Some(WaitView {
            code: WaitCode::Backoff,
            message: format!("attempt {} did not succeed; retry at {until}", record.attempts),
            since: record.updated_at,
            until: Some(until),
        }),
        Phase::Ready { .. } | Phase::Running | Phase::Scheduled | Phase::Done(_) => None,
    }
}

fn not_due(since: Timestamp, until: Timestamp) -> WaitView {
    let message: String = format!("due at {until}");
    WaitView { code: WaitCode::NotDue, message, since, until: Some(until) }
}

/// Why a run failed whose worker said nothing.
const fn outcome_text(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Succeeded => "succeeded",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::TimedOut => "timed out",
        AttemptOutcome::Lost => "the worker was lost",
        AttemptOutcome::Cancelled => "cancelled",
        AttemptOutcome::Interrupted => "the worker was shutting down",
    }
}
