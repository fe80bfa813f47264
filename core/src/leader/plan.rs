//! The plan of a turn: everything staged, and everything due, becomes commands (P2).
//!
//! Order matters. Reports go first (they never wait), then the one planning entry (P2.3), then
//! what callers ask: a new task takes a slot only when no ready run wants it (P2.2).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Leader;
use super::admission::{Asked, Staged};
use super::dispatch::{self, Floor};
use super::draft::Origin;
use super::leases::Due;
use super::projection::Projection;
use crate::limits;
use crate::machine::Outbox;
use crate::node::io::{Effect, Note};
use crate::spec::{AttemptOutcome, NewTask, Overlap, Profile, Schedule};
use crate::state::view::TaskStatus;
use crate::state::{Close, Command, Create, Dropped, Open, Start, State};
use crate::time::{Now, Timestamp};

/// Opens in one planning entry: one entry's worth, so that a turn stays short (P1.3).
const OPENS_MAX: usize = limits::ENTRY_COMMANDS_MAX;
/// Fire times in one planning entry.
const FIRES_MAX: usize = 256;
/// Leases and run timeouts in one planning entry.
const DUE_MAX: usize = 512;
/// Changes that one HistoryStored covers (P1.5).
const STORED_STEP: u64 = limits::ROWS_PER_COMMAND_MAX as u64;

impl Leader {
    /// Plans the turn: the drafts join those that wait to be proposed. Questions that only a
    /// confirmed leader may answer go to `unknown`.
    pub fn plan(
        &mut self,
        now: Now,
        state: &State,
        unknown: &mut Vec<Asked>,
        out: &mut Outbox<Effect>,
    ) {
        // What raft did not take yet stays first in line.
        if !self.awake || !self.ready.is_empty() {
            return;
        }
        let at = self.stamp.read(now);
        self.plan_reports(at);
        self.plan_registry(now, at, state);
        let mut floor = Floor::new(now.mono, &self.sessions);
        self.plan_own(now, at, state, &mut floor, out);
        self.plan_changes(at, state, &mut floor, unknown, out);
        self.plan_creates(at, &mut floor);
        self.plan_stored(at, state);
        self.wake_due(at, state);
        self.ready.extend(self.drafts.finish());
        self.ready_bytes = self.ready.iter().map(|draft| draft.data.len()).sum();
        if !self.ready.is_empty() {
            self.stamp.take(now);
        }
    }

    /// Counts a command that goes into a draft.
    pub(super) fn count(&mut self, origin: &Origin) {
        self.planning += u32::from(origin.is_planning());
        self.loose += u32::from(origin.is_loose());
        self.promise(origin.promised());
    }

    pub(super) fn push(&mut self, at: Timestamp, command: &Command<'_>, origin: Origin) {
        self.count(&origin);
        self.drafts.push(at, command, origin);
    }

    fn plan_reports(&mut self, at: Timestamp) {
        for (session, report) in core::mem::take(&mut self.reports) {
            let token = report.token;
            let Some(lease) = self.leases.lease(token) else { continue };
            let close = Close {
                slot: lease.target.slot,
                token,
                outcome: report.outcome,
                started_at: report.started_at,
                finished_at: report.finished_at,
                exit_code: report.exit_code,
                retryable: report.retryable,
                output: &report.output,
                error: &report.error,
                tail: &report.tail,
            };
            self.push(at, &Command::Close(close), Origin::Report { session, token });
        }
    }

    fn plan_registry(&mut self, now: Now, at: Timestamp, state: &State) {
        for instance in core::mem::take(&mut self.registry.arriving) {
            let Some(session) = self.sessions.of(instance) else { continue };
            let Some(session) = self.sessions.session(session) else { continue };
            let name: Box<str> = session.hello.name.clone();
            let command = Command::RegisterInstance { instance, name: &name };
            self.push(at, &command, Origin::Register { instance });
        }
        for instance in self.registry.retiring(now.mono, &self.sessions) {
            if state.instance(instance).is_some() {
                self.push(at, &Command::RetireInstance { instance }, Origin::Retire);
            }
        }
        for (node, (grpc, http)) in core::mem::take(&mut self.announced) {
            if state.addresses(node) == Some((&*grpc, &*http)) {
                continue;
            }
            let command = Command::SetAddresses { node, grpc: &grpc, http: &http };
            self.push(at, &command, Origin::Addresses);
        }
    }

    /// The one planning entry: lost leases, run timeouts, fire times, opens (P2.3).
    fn plan_own(
        &mut self,
        now: Now,
        at: Timestamp,
        state: &State,
        floor: &mut Floor,
        out: &mut Outbox<Effect>,
    ) {
        if self.still {
            *floor = Floor::default();
            return;
        }
        let held = self.hold_until.is_some_and(|until| until > now.mono);
        if self.planning > 0 || held {
            if self.admission.wants_slots() {
                floor.mark_wanted(state, &self.sessions);
            }
            return;
        }
        self.hold_until = None;
        self.plan_due(now, at, out);
        let (pairings, complete) = dispatch::pair(state, &self.sessions, floor, OPENS_MAX);
        for pairing in pairings {
            let dispatch::Pairing { target, attempt, instance } = pairing;
            let command = Command::Open(Open { target, attempt, instance });
            self.push(at, &command, Origin::Open { instance });
        }
        if !complete {
            floor.mark_wanted(state, &self.sessions);
        }
        self.plan_fires(at, state, floor);
    }

    fn plan_due(&mut self, now: Now, at: Timestamp, out: &mut Outbox<Effect>) {
        for due in self.leases.due(now.mono, DUE_MAX) {
            match due {
                Due::Lost(token, target) => {
                    let close = Close {
                        slot: target.slot,
                        token,
                        outcome: AttemptOutcome::Lost,
                        started_at: None,
                        finished_at: None,
                        exit_code: None,
                        retryable: true,
                        output: &[],
                        error: "the worker was not heard of until its lease ended",
                        tail: &[],
                    };
                    self.push(at, &Command::Close(close), Origin::Lost { token });
                    out.push(Effect::Note(Note::LeaseExpired { token }));
                }
                Due::TimedOut(token, target) => {
                    self.push(at, &Command::TimeOut { token, target }, Origin::TimeOut);
                }
            }
        }
    }

    fn plan_fires(&mut self, at: Timestamp, state: &State, floor: &mut Floor) {
        let due = state.due_schedules(at, FIRES_MAX);
        if due.is_empty() {
            return;
        }
        // `apply` refuses a fire time above the entry's stamp.
        self.drafts.cut_before(at);
        for schedule in due {
            let loose = self.loose;
            let sessions = &self.sessions;
            // A run that `apply` will skip for overlap gets no slot.
            let overlaps = schedule.recurrence.overlap == Overlap::Skip && schedule.live_runs > 0;
            let fire = self.firing.fire(&schedule, at, || {
                let (queue, kind) = state.class_of(schedule.task)?;
                let may = loose == 0 && !overlaps;
                may.then(|| floor.take_unwanted(sessions, queue, kind)).flatten()
            });
            let open = fire.open;
            self.push(at, &Command::Fire(fire), Origin::Fire { open });
        }
    }

    fn plan_creates(&mut self, at: Timestamp, floor: &mut Floor) {
        while let Some(staged) = self.admission.pop() {
            let Staged { call, place, task, retry } = staged;
            let (start, status, due) = self.start(&task, at);
            let open = match status {
                TaskStatus::Ready if self.loose == 0 => {
                    let Profile { queue, kind, .. } = &task.profile;
                    floor.take_unwanted(&self.sessions, queue, kind)
                }
                TaskStatus::Ready
                | TaskStatus::Waiting
                | TaskStatus::Running
                | TaskStatus::Succeeded
                | TaskStatus::Failed
                | TaskStatus::Cancelled
                | TaskStatus::Skipped => None,
            };
            let NewTask { id, name, payload, priority, profile, schedule: _ } = task;
            let create = Create {
                id: &id,
                name: &name,
                payload: &payload,
                profile: 0,
                priority,
                retry,
                start,
                open,
            };
            // The id moves into the origin once its bytes are in the entry.
            let counted = Origin::Submit { id: Box::default(), call, place, status, due, open };
            self.count(&counted);
            self.drafts.create(at, &profile, create, counted);
            self.drafts.name_last(id);
        }
    }

    fn start(&mut self, task: &NewTask, at: Timestamp) -> (Start, TaskStatus, Option<Timestamp>) {
        match &task.schedule {
            Schedule::Now => (Start::Ready, TaskStatus::Ready, None),
            // The moment stays part of the spec when it has passed: a repeat is the same task.
            Schedule::At(due) if *due <= at => (Start::At(*due), TaskStatus::Ready, None),
            Schedule::At(due) => (Start::At(*due), TaskStatus::Waiting, Some(*due)),
            Schedule::Recurring(recurrence) => {
                let next = self.firing.first(recurrence, at);
                let recurrence = recurrence.clone();
                (Start::Recurring { recurrence, next }, TaskStatus::Waiting, next)
            }
        }
    }

    fn plan_stored(&mut self, at: Timestamp, state: &State) {
        self.plan_nowhere(state);
        self.plan_dropped(at, state);
        for (epoch, through) in core::mem::take(&mut self.stored) {
            let mut from = self.stored_through.max(state.stored());
            // The gap is written: its counts begin anew.
            if through == from && state.dropped() != Dropped::default() {
                self.push(at, &Command::HistoryStored { epoch, through }, Origin::Stored);
            }
            // P1.5: a command touches a bounded number of rows.
            while from < through {
                from = through.min(from + STORED_STEP);
                let command = Command::HistoryStored { epoch, through: from };
                self.push(at, &command, Origin::Stored);
            }
            self.stored_through = from;
        }
    }

    /// P9.5: history never stops an accepted run. When it has been away for so long that memory
    /// is short, the oldest changes leave memory unstored, and are counted.
    fn plan_dropped(&mut self, at: Timestamp, state: &State) {
        let bound = self.terms.outbox_bytes_max / 100 * 95;
        if state.outbox_bytes() <= bound || self.stored_through > state.stored() {
            return;
        }
        let through = state.changes().min(state.stored() + STORED_STEP);
        self.push(at, &Command::HistoryDropped { through }, Origin::Dropped);
        self.stored_through = through;
    }

    /// P9.5: without history the oldest ended tasks leave memory once `ended_kept` are there, or
    /// once they weigh so much that new work would be refused.
    fn plan_nowhere(&mut self, state: &State) {
        let nowhere = self.projection.as_ref().is_some_and(Projection::is_nowhere);
        // One step at a time: what it frees is known when it is applied.
        if !nowhere || self.stored_through > state.stored() {
            return;
        }
        let (kept, ended) = (self.terms.ended_kept, state.ended_in_memory());
        // A change frees at most one run and its task, so a step leaves `kept` there; several
        // share a step.
        let many = ended > kept + kept / 10;
        let heavy = state.outbox_bytes() > self.terms.outbox_bytes_max / 2;
        if many || heavy {
            let step = if many { (ended - kept).clamp(1, STORED_STEP) } else { STORED_STEP };
            self.stored.push((0, state.changes().min(state.stored() + step)));
        }
    }

    /// P2.1: every entry wakes what is due; when none goes out by itself, an empty one does.
    fn wake_due(&mut self, at: Timestamp, state: &State) {
        let due = state.next_due().is_some_and(|due| due <= at);
        if due && self.in_flight.is_empty() && self.hold_until.is_none() {
            self.drafts.touch(at);
        }
    }
}
