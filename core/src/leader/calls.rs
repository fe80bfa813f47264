//! Callers' questions that only the leader answers, and what only it knows about a task: whether
//! any worker could run it.

use alloc::boxed::Box;

use bytes::Bytes;

use super::Leader;
use super::admission::{Asked, Change, Share};
use super::follow;
use crate::id::{RecordRef, Ticket, Token};
use crate::machine::Outbox;
use crate::node::io::Effect;
use crate::node::request::{Rejection, Reply};
use crate::spec::NewTask;
use crate::state::State;
use crate::state::view::{TaskStatus, TaskView, WaitCode, WaitView};
use crate::time::Now;
use crate::worker::LeaderFrame;

impl Leader {
    /// Takes new tasks in.
    pub fn submit(
        &mut self,
        ticket: Ticket,
        (tasks, retry): (alloc::vec::Vec<NewTask>, bool),
        state: &State,
        out: &mut Outbox<Effect>,
    ) {
        let reply = match self.outbox_bound(state) {
            Some(full) => Some(Reply::Rejected(full)),
            None => self.admission.submit(ticket, (tasks, retry), self.share()),
        };
        if let Some(reply) = reply {
            out.push(Effect::Answer { ticket, reply });
        }
    }

    /// Takes a wish for a change in. A cancel is never refused for load: it frees more than it
    /// takes (P8.4).
    pub fn change(&mut self, asked: Asked, state: &State, out: &mut Outbox<Effect>) {
        let ticket = asked.ticket;
        if matches!(asked.change, Change::Rerun { .. })
            && let Some(full) = self.outbox_bound(state)
        {
            let reply = Reply::Rejected(full);
            out.push(Effect::Answer { ticket, reply });
            return;
        }
        if let Some(reply) = self.admission.change(asked, self.share()) {
            out.push(Effect::Answer { ticket, reply });
        }
    }

    /// What new work may weigh beside what is already on its way (P8.4).
    const fn share(&self) -> Share {
        Share { taken: self.in_flight_bytes + self.ready_bytes, max: self.terms.inflight_bytes_max }
    }

    /// P9.5: above three quarters of the outbox's bound new work is refused; fires, reports and
    /// cancels go on.
    fn outbox_bound(&self, state: &State) -> Option<Rejection> {
        let (bytes, max) = (state.outbox_bytes(), self.terms.outbox_bytes_max);
        if bytes <= max / 4 * 3 {
            return None;
        }
        let what = alloc::format!(
            "{} KiB of changes wait for history; new work is taken below three quarters of {} KiB",
            bytes >> 10,
            max >> 10
        );
        Some(Rejection::Full { what: what.into(), retry_after_ms: 1_000 })
    }

    /// Begins to relay an attempt's live output to a reader.
    pub fn follow(
        &mut self,
        (ticket, id, token, offset): (Ticket, &str, Option<Token>, u64),
        state: &State,
        out: &mut Outbox<Effect>,
    ) {
        let not_live = Effect::Answer { ticket, reply: Reply::missing(id, state) };
        let Some(task) = state.find(id) else { return out.push(not_live) };
        let Some(view) = state.task_view(task) else { return out.push(not_live) };
        let run = view.last_run.as_ref().and_then(|run| state.live_run(task, run.run));
        let attempts =
            state.attempt_views(if token.is_some() { task } else { run.unwrap_or(task) });
        let attempt = match token {
            Some(token) => attempts.into_iter().find(|attempt| attempt.token == token),
            None => attempts.into_iter().next_back(),
        };
        match (attempt, run) {
            (Some(attempt), _) if attempt.outcome.is_some() => {
                out.push(follow::last_piece(ticket, attempt.token, &attempt.tail, offset));
            }
            (Some(attempt), _) => {
                let token = attempt.token;
                let Some(open) = state.open_attempt(token) else { return out.push(not_live) };
                self.follow.watch(ticket, open.target, token, offset);
                if let Some(session) = self.sessions.of(open.instance) {
                    self.sessions.send(session, LeaderFrame::Follow { token, offset });
                }
            }
            (None, Some(run)) if token.is_none() && !is_terminal(view.status) => {
                self.follow.wait(ticket, run, offset);
            }
            (None, _) => out.push(not_live),
        }
    }

    /// A caller has gone.
    pub fn abandon(&mut self, ticket: Ticket) {
        let Some(token) = self.follow.abandon(ticket) else { return };
        let instance = self.leases.lease(token).map(|lease| lease.instance);
        if let Some(session) = instance.and_then(|instance| self.sessions.of(instance)) {
            self.sessions.send(session, LeaderFrame::Unfollow { token });
        }
    }

    /// Connected workers.
    pub fn workers(&self, now: Now) -> Reply {
        Reply::Workers(self.sessions.views(now.mono))
    }

    /// A task as callers see it, with the wait reasons that only the leader knows.
    pub fn task_view(&self, task: RecordRef, state: &State) -> Option<Box<TaskView>> {
        let mut view = Box::new(state.task_view(task)?);
        self.explain(&mut view);
        Some(view)
    }

    /// Fills in why a ready task is not running (S27).
    pub fn explain(&self, view: &mut TaskView) {
        if view.status != TaskStatus::Ready {
            return;
        }
        let profile = &view.profile;
        let served = self
            .sessions
            .iter()
            .any(|(_, session)| session.active && session.serves(&profile.queue, &profile.kind));
        let (code, message) = if served {
            (WaitCode::NoFreeSlot, "every worker that could run it is busy".into())
        } else {
            let message = alloc::format!(
                "no connected worker runs type {} in queue {}",
                profile.kind,
                profile.queue
            );
            (WaitCode::NoWorkerForType, message)
        };
        view.wait = Some(WaitView { code, message, since: view.updated_at, until: None });
    }
}

/// The kept tail of an attempt that has ended.
pub(super) fn tail_of(state: &State, target: RecordRef, token: Token) -> Bytes {
    let attempts = state.attempt_views(target).into_iter();
    attempts
        .filter(|attempt| attempt.token == token)
        .map(|attempt| attempt.tail)
        .last()
        .unwrap_or_default()
}

/// Whether a task in this status has ended.
pub const fn is_terminal(status: TaskStatus) -> bool {
    match status {
        TaskStatus::Waiting | TaskStatus::Ready | TaskStatus::Running => false,
        TaskStatus::Succeeded
        | TaskStatus::Failed
        | TaskStatus::Cancelled
        | TaskStatus::Skipped => true,
    }
}
