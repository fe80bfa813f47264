//! What `apply` answered: attempts start and end their leases, promised slots come free, and
//! whoever waits is told (P2.3, P3.6).

use core::time::Duration;

use super::draft::Origin;
use super::{HOLD, InFlight, Leader};
use crate::id::{InstanceId, RecordRef, Token};
use crate::machine::Outbox;
use crate::node::io::{Effect, Note};
use crate::node::request::{Accepted, Rejection, Reply};
use crate::spec::StopWhy;
use crate::state::view::TaskStatus;
use crate::state::{Applied, Changes, Refusal, State};
use crate::time::{Instant, Now, Timestamp};
use crate::worker::LeaderFrame;

impl Leader {
    /// An entry was applied. `changes` are what it did; when this leadership proposed it, its
    /// answers are matched to their origins.
    pub fn applied(
        &mut self,
        now: Now,
        (term, index): (u64, u64),
        state: &State,
        changes: &Changes,
        out: &mut Outbox<Effect>,
    ) {
        if self.awake {
            self.follow_changes(now, state, changes, out);
        }
        while let Some(entry) = self.in_flight.pop_front_if(|entry| entry.index <= index) {
            self.settle_entry(now, entry, (term, index), state, changes, out);
        }
    }

    fn settle_entry(
        &mut self,
        now: Now,
        entry: InFlight,
        (term, index): (u64, u64),
        state: &State,
        changes: &Changes,
        out: &mut Outbox<Effect>,
    ) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(entry.bytes);
        let ours = entry.index == index && entry.term == term;
        let mut answers = changes.answers.iter();
        for origin in entry.origins {
            self.uncount(&origin);
            // An index applied with another term is known to be lost (P3.6); a refused entry
            // has no answers, and did as little.
            match answers.next().filter(|_| ours) {
                Some(answer) => self.settle(now, origin, *answer, entry.at, state, out),
                None => self.lost(origin, &Rejection::NoLeader, out),
            }
        }
    }

    fn uncount(&mut self, origin: &Origin) {
        self.planning -= u32::from(origin.is_planning());
        self.loose -= u32::from(origin.is_loose());
        if let Some(instance) = origin.promised() {
            self.sessions.unpromise(instance);
        }
    }

    fn follow_changes(
        &mut self,
        now: Now,
        state: &State,
        changes: &Changes,
        out: &mut Outbox<Effect>,
    ) {
        for (token, target, instance) in &changes.opened {
            let timeout = state.open_attempt(*token).map_or(0, |attempt| attempt.run_timeout_ms);
            let timeout = Duration::from_millis(timeout);
            self.leases.start(now.mono, *token, *target, *instance, timeout);
            self.sessions.opened(*instance);
            self.send_attempt(now.mono, state, *token, *target);
            if let Some(offset) = self.follow.opened(*target, *token)
                && let Some(session) = self.sessions.of(*instance)
            {
                self.sessions.send(session, LeaderFrame::Follow { token: *token, offset });
            }
        }
        for (token, instance, why) in &changes.stops {
            self.stop(now.mono, *token, *instance, *why);
        }
        for (token, instance) in &changes.closed {
            let lease = self.leases.close(*token);
            self.sessions.closed(*instance);
            if let Some(lease) = lease
                && !self.follow.is_empty()
            {
                let tail = super::calls::tail_of(state, lease.target, *token);
                self.follow.closed(*token, &tail, out);
            }
        }
        for finished in &changes.finished {
            self.follow.finished(finished.target, out);
        }
    }

    /// A stop is agreed: the worker is told, now or when it connects again, and has the last
    /// word (P7.6).
    fn stop(&mut self, now: Instant, token: Token, instance: InstanceId, why: StopWhy) {
        self.leases.stop(now, token);
        if let Some(session) = self.sessions.of(instance) {
            self.sessions.send(session, LeaderFrame::Stop { token, why });
        }
    }

    fn settle(
        &mut self,
        now: Now,
        origin: Origin,
        answer: Applied,
        at: Timestamp,
        state: &State,
        out: &mut Outbox<Effect>,
    ) {
        self.hold_after(now, &origin, answer);
        match origin {
            Origin::Submit { id, call, place, status, due, open: _ } => {
                let answer = accepted(&id, answer, at, (status, due), state);
                if let Some((ticket, reply)) = self.admission.answer(call, place, answer) {
                    out.push(Effect::Answer { ticket, reply });
                }
            }
            Origin::Change { ticket, id, was, .. } => {
                let reply = self.changed(&id, was, answer, state);
                out.push(Effect::Answer { ticket, reply });
            }
            Origin::Delete { ticket, was } => {
                let reply = Self::deleted(was, answer, state);
                out.push(Effect::Answer { ticket, reply });
            }
            Origin::Claim { ticket } => {
                let reply = match answer {
                    Applied::Refused(refusal) => refused("", refusal, None),
                    Applied::Created { .. }
                    | Applied::Repeated { .. }
                    | Applied::Opened { .. }
                    | Applied::Closed { .. }
                    | Applied::Fired { .. }
                    | Applied::Stopping { .. }
                    | Applied::Done => Reply::Claimed,
                };
                out.push(Effect::Answer { ticket, reply });
            }
            // P7.2: the result is agreed, or was stale; the worker may forget it either way.
            Origin::Report { session, token } => {
                if matches!(answer, Applied::Refused(_)) {
                    out.push(Effect::Note(Note::Fenced { token }));
                }
                self.sessions.send_ack(session, token);
            }
            Origin::Register { instance } => self.registered(now, instance, answer, state, out),
            Origin::Stored => {
                if matches!(answer, Applied::Refused(_))
                    && let Some(projection) = &mut self.projection
                {
                    projection.refused("the log refused its cursor", out);
                }
            }
            Origin::Open { instance } => {
                if answer == Applied::Refused(Refusal::UnknownInstance) {
                    self.registry.arriving.push(instance);
                }
            }
            Origin::Fire { .. }
            | Origin::Lost { .. }
            | Origin::TimeOut
            | Origin::Retire
            | Origin::Dropped
            | Origin::Addresses => {}
        }
    }

    fn registered(
        &mut self,
        now: Now,
        instance: InstanceId,
        answer: Applied,
        state: &State,
        out: &mut Outbox<Effect>,
    ) {
        let Some(session) = self.sessions.of(instance) else { return };
        if matches!(answer, Applied::Refused(_)) {
            let reason = "the registry of workers is full, or the name does not fit".into();
            out.push(Effect::ToWorker { session, frame: LeaderFrame::Refused { reason } });
            out.push(Effect::CloseSession { session });
            self.sessions.gone(session);
            return;
        }
        self.welcome(now.mono, session, state);
    }

    /// A plan that was refused, and would be again, waits a moment before it is made anew: an
    /// idle cluster must not spin (B4). What state had moved on from is planned anew at once.
    fn hold_after(&mut self, now: Now, origin: &Origin, answer: Applied) {
        let Applied::Refused(why) = answer else { return };
        let passing = match why {
            Refusal::NotFound | Refusal::Stale | Refusal::StaleToken | Refusal::Terminal => true,
            Refusal::IdConflict
            | Refusal::Running
            | Refusal::UnknownInstance
            | Refusal::NoSuchRun
            | Refusal::RequestReused
            | Refusal::Full
            | Refusal::Forgotten
            | Refusal::Malformed => false,
        };
        if origin.is_planning() && !passing {
            self.hold_until = Some(now.mono + HOLD);
        }
    }

    fn lost(&mut self, origin: Origin, why: &Rejection, out: &mut Outbox<Effect>) {
        match origin {
            Origin::Submit { call, place, .. } => {
                if let Some((ticket, reply)) = self.admission.answer(call, place, Err(why.clone()))
                {
                    out.push(Effect::Answer { ticket, reply });
                }
            }
            Origin::Change { ticket, .. }
            | Origin::Delete { ticket, .. }
            | Origin::Claim { ticket } => {
                out.push(Effect::Answer { ticket, reply: Reply::Rejected(why.clone()) });
            }
            // The worker says it again when it connects anew (P7.2).
            Origin::Report { session, token } => {
                self.leases.reopen(token);
                if self.sessions.session(session).is_some() {
                    self.sessions.gone(session);
                    out.push(Effect::CloseSession { session });
                }
            }
            Origin::Lost { token } => self.leases.reopen(token),
            Origin::Register { instance } => self.registry.arriving.push(instance),
            Origin::Open { .. }
            | Origin::Fire { .. }
            | Origin::TimeOut
            | Origin::Retire
            | Origin::Stored
            | Origin::Dropped
            | Origin::Addresses => {}
        }
    }
}

impl Origin {
    /// The caller that waits for this command alone.
    pub(super) const fn ticket(&self) -> Option<crate::id::Ticket> {
        match self {
            Self::Change { ticket, .. } | Self::Delete { ticket, .. } | Self::Claim { ticket } => {
                Some(*ticket)
            }
            Self::Submit { .. }
            | Self::Report { .. }
            | Self::Open { .. }
            | Self::Fire { .. }
            | Self::Lost { .. }
            | Self::TimeOut
            | Self::Register { .. }
            | Self::Retire
            | Self::Stored
            | Self::Dropped
            | Self::Addresses => None,
        }
    }
}

/// The answer to one task of a submit.
fn accepted(
    id: &str,
    answer: Applied,
    at: Timestamp,
    (status, due): (TaskStatus, Option<Timestamp>),
    state: &State,
) -> Result<Accepted, Rejection> {
    match answer {
        Applied::Created { task, opened } => Ok(Accepted {
            new: true,
            serial: task.serial.0,
            status: if opened.is_some() { TaskStatus::Running } else { status },
            created_at: at,
            next_run_at: due,
        }),
        Applied::Repeated { live } => Ok(repeated(id, live, at, state)),
        Applied::Refused(Refusal::IdConflict) => Err(Rejection::IdConflict { id: id.into() }),
        Applied::Refused(Refusal::Forgotten) => Err(Rejection::Forgotten),
        Applied::Refused(Refusal::Full) => Err(Rejection::Full {
            what: alloc::format!(
                "{} tasks live; at most {} do",
                state.live_tasks(),
                crate::limits::LIVE_TASKS_MAX
            )
            .into(),
            retry_after_ms: 1_000,
        }),
        Applied::Refused(_)
        | Applied::Opened { .. }
        | Applied::Closed { .. }
        | Applied::Fired { .. }
        | Applied::Stopping { .. }
        | Applied::Done => Err(Rejection::Invalid {
            field: "task".into(),
            detail: "the log refused it as malformed".into(),
        }),
    }
}

/// The answer to a change that `apply` refused.
pub(super) fn refused(id: &str, refusal: Refusal, status: Option<TaskStatus>) -> Reply {
    Reply::Rejected(match refusal {
        Refusal::Running => Rejection::Running,
        Refusal::Terminal => {
            Rejection::Terminal { status: status.unwrap_or(TaskStatus::Cancelled) }
        }
        Refusal::NotFound | Refusal::StaleToken => Rejection::NotFound { id: id.into() },
        Refusal::IdConflict => Rejection::IdConflict { id: id.into() },
        Refusal::Full => {
            Rejection::Full { what: "a bound of the log's state".into(), retry_after_ms: 1_000 }
        }
        Refusal::Forgotten => Rejection::Forgotten,
        Refusal::RequestReused => Rejection::RequestReused,
        Refusal::NoSuchRun => {
            Rejection::Invalid { field: "run".into(), detail: "the task has no such run".into() }
        }
        Refusal::Stale | Refusal::UnknownInstance | Refusal::Malformed => Rejection::Invalid {
            field: "task".into(),
            detail: "its state does not allow this".into(),
        },
    })
}

/// What the first acceptance of the same task says today.
fn repeated(id: &str, live: Option<RecordRef>, at: Timestamp, state: &State) -> Accepted {
    if let Some(view) = live.and_then(|live| state.task_view(live)) {
        return Accepted {
            new: false,
            serial: view.serial,
            status: view.status,
            created_at: view.created_at,
            next_run_at: view.next_run_at,
        };
    }
    let ended = state.ended(id);
    Accepted {
        new: false,
        serial: ended.map_or(0, |ended| ended.serial),
        status: ended.map_or(TaskStatus::Succeeded, |ended| ended.status),
        created_at: ended.map_or(at, |ended| ended.created_at),
        next_run_at: None,
    }
}
