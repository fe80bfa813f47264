//! Where what happens meets the checkers: each turn's effects, each answer, each handler's start,
//! each transaction, each restart.

use dtask_core::id::{InstanceId, Token};
use dtask_core::node::{Effect, Note, Rejection, Reply, Request};
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::view::TaskStatus;
use dtask_core::worker::Assignment;

use super::World;
use super::call::{Call, id_of};
use super::trace::Probe;
use crate::check::gaps::Excuses;
use crate::check::ledger::Meaning;
use crate::check::{Verdict, answers, history, hold};

/// A leader counts as new for this long.
const NEW_LEADER_MICROS: u64 = 2_000_000;

impl World {
    /// Takes a turn's entries and applied indexes in, before its effects reach anyone.
    pub(super) fn judge_turn(&mut self, who: usize, effects: &[Effect]) -> Verdict {
        for effect in effects {
            if let Effect::Persist(persist) = effect {
                self.nodes[who].said.take(persist);
            }
        }
        let wrote = |effect: &Effect| match effect {
            Effect::Persist(persist) => !persist.entries.is_empty(),
            _ => false,
        };
        if self.nodes[who].leads_since.is_some() && effects.iter().any(wrote) {
            self.b1_new_work_leaves_room(who)?;
        }
        let mut applied = None;
        for effect in effects {
            match effect {
                Effect::Note(Note::Applied { index }) => applied = Some(*index),
                Effect::Note(Note::SnapshotInstalled { index }) => {
                    self.mistakes_are_gone(who);
                    self.nodes[who].applied = self.nodes[who].applied.max(*index);
                }
                _ => {}
            }
        }
        if let Some(index) = applied
            && self.is_mistaken(who)
        {
            let host = &mut self.nodes[who];
            host.applied = index;
            host.said.trim(index.saturating_sub(64));
            return Ok(());
        }
        if let Some(index) = applied {
            let host = &mut self.nodes[who];
            let from = host.applied.min(index);
            let meanings = self.chain.applied(who, &host.said, from, index, &self.promises)?;
            host.applied = index;
            host.said.trim(index.saturating_sub(64));
            if !meanings.is_empty() {
                self.b1_within_bounds()?;
            }
            self.b1_history_is_bounded()?;
            for meaning in meanings {
                self.probe_meaning(who, meaning);
            }
        }
        self.judge_digest(who)
    }

    /// B1: new work on its way takes three quarters of the bound at most, or is one submit (P8.4).
    fn b1_new_work_leaves_room(&self, who: usize) -> Verdict {
        let host = &self.nodes[who];
        let new = host.said.new_work(host.applied);
        let share = self.config.inflight_bytes / 4 * 3;
        hold!(
            "B1",
            new <= share.max(self.largest_submit),
            "node {} has proposed {new} bytes of new work, of {share}",
            who + 1
        );
        Ok(())
    }

    /// L8: a cancel is admitted under every overload (P8.4).
    fn l8_a_cancel_is_admitted(&mut self, who: usize, call: &Call, reply: &Reply) -> Verdict {
        let full = matches!(reply, Reply::Rejected(Rejection::Full { .. }));
        let cancel = matches!(call.request, Request::Cancel { .. });
        hold!("L8", !(full && cancel), "node {} refuses a cancel: {reply:?}", who + 1);
        let host = &mut self.nodes[who];
        if full {
            host.refused_at = self.at;
            self.probes.hit(Probe::FullRefused);
        } else if cancel && matches!(reply, Reply::Task(_)) && host.refused_at >= call.asked_at {
            self.probes.hit(Probe::CancelUnderLoad);
        }
        Ok(())
    }

    /// S6, on the state that the node itself shows.
    fn judge_digest(&mut self, who: usize) -> Verdict {
        if self.is_mistaken(who) {
            return Ok(());
        }
        let Some(driver) = &self.nodes[who].driver else { return Ok(()) };
        let state = driver.machine().state();
        let (index, digest) = (state.applied_index(), state.digest());
        self.trace.fold(digest as u64);
        self.chain.s6_equal_index_equal_digest(who, index, digest)
    }

    fn probe_meaning(&mut self, who: usize, meaning: Meaning) {
        let probe = match meaning {
            Meaning::Nothing | Meaning::Repeated | Meaning::Conflict => return,
            Meaning::RequestRepeated => Probe::RequestRepeated,
            Meaning::RequestReused => Probe::RequestReused,
            Meaning::Created { opened: true, .. } => Probe::OpenedAtOnce,
            Meaning::Created { opened: false, .. } => return,
            Meaning::Closed { outcome, retried } => {
                match outcome {
                    AttemptOutcome::TimedOut => self.probes.hit(Probe::TimedOut),
                    AttemptOutcome::Interrupted => self.probes.hit(Probe::Interrupted),
                    AttemptOutcome::Succeeded
                    | AttemptOutcome::Failed
                    | AttemptOutcome::Lost
                    | AttemptOutcome::Cancelled => {}
                }
                if self.is_full_of_history() {
                    self.probes.hit(Probe::ClosedBeyondBound);
                }
                if !retried {
                    return;
                }
                Probe::Retried
            }
            Meaning::Fired { skipped } => {
                let leads = self.nodes[who].leads_since;
                if leads.is_some_and(|since| self.at - since < NEW_LEADER_MICROS) {
                    self.probes.hit(Probe::FiredAfterElection);
                }
                if self.is_full_of_history() {
                    self.probes.hit(Probe::FiredBeyondBound);
                }
                if skipped { Probe::FireSkipped } else { Probe::Fired }
            }
            Meaning::Triggered => Probe::Triggered,
            Meaning::Rerun { from_history: false } => Probe::RanAgain,
            Meaning::Rerun { from_history: true } => Probe::RanAgainFromHistory,
            Meaning::StaleRow => Probe::StaleRow,
            Meaning::CancelledWaiting => Probe::CancelledWaiting,
            Meaning::CancelledRunning => Probe::CancelledRunning,
            Meaning::CancelTooLate => Probe::CancelTooLate,
            Meaning::StaleReport => Probe::StaleReportRefused,
            Meaning::Deleted => Probe::Deleted,
            Meaning::Dropped => Probe::ChangesDropped,
        };
        self.probes.hit(probe);
    }

    /// P9.5: new work is refused.
    fn is_full_of_history(&self) -> bool {
        self.chain.state().outbox_bytes() > self.config.history.outbox_bound() / 4 * 3
    }

    /// Judges an answer as it leaves a node: S4 and S7 for acknowledged submits, S17's promise, S27
    /// for views.
    pub(super) fn judge_answer(&mut self, who: usize, call: &Call, reply: &Reply) -> Verdict {
        self.l8_a_cancel_is_admitted(who, call, reply)?;
        if self.is_mistaken(who) {
            return self.l9_a_wrong_state_answers_nothing(who, &call.request, reply);
        }
        self.judge_request(call, reply)?;
        match (&call.request, reply) {
            (Request::Submit(tasks) | Request::Resubmit(tasks), Reply::Submitted(results)) => {
                hold!(
                    "S8",
                    tasks.len() == results.len(),
                    "{} answers for {} tasks",
                    results.len(),
                    tasks.len()
                );
                for (task, result) in tasks.iter().zip(results) {
                    if result == &Err(Rejection::Forgotten) {
                        self.s9_only_a_re_send_is_forgotten(call)?;
                    }
                    let Ok(accepted) = result else { continue };
                    let (id, serial) = (&task.id, accepted.serial);
                    let images = self.nodes.iter().map(|node| &node.image);
                    answers::s4_an_acknowledged_task_is_durable(
                        &self.chain,
                        images,
                        who,
                        id,
                        serial,
                    )?;
                    let before = self.promises.acknowledged(
                        (who, self.at),
                        &task.id,
                        accepted,
                        self.chain.ledger(),
                    )?;
                    if before.is_some_and(|before| before.leader != who) {
                        self.probes.hit(Probe::RepeatAfterFailover);
                    }
                }
            }
            (_, Reply::Rejected(Rejection::Forgotten)) => {
                self.s9_only_a_re_send_is_forgotten(call)?;
            }
            (Request::Cancel { id, .. }, Reply::Task(view)) => {
                if view.status != TaskStatus::Cancelled {
                    return Ok(());
                }
                let outside = &mut self.outside;
                answers::s17_a_cancelled_task_is_still(&self.chain, outside, id, view)?;
            }
            (
                Request::Task { stale: false, id } | Request::Wait { id, .. },
                Reply::NotLive { .. } | Reply::Rejected(Rejection::NotFound { .. }),
            ) => {
                let ledger = self.chain.ledger();
                let moment = (call.asked_at, self.nodes[who].applied);
                self.promises.s19_a_read_sees_what_was_acknowledged(id, moment, ledger)?;
            }
            (Request::Task { stale: false, id }, Reply::Task(view)) => {
                let leads = self.nodes[who].leads_since.is_some();
                answers::s27_a_waiting_task_has_a_reason(id, view, leads)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// S7 and S9 of what carries a request id.
    fn judge_request(&mut self, call: &Call, reply: &Reply) -> Verdict {
        let Some(request) = id_of(&call.request) else { return Ok(()) };
        let ledger = self.chain.ledger();
        match reply {
            Reply::Task(_) | Reply::Claimed | Reply::Repeated { .. } => {
                if matches!(reply, Reply::Repeated { .. }) {
                    self.probes.hit(Probe::RepeatedAfterItsTask);
                }
                self.promises.s7_an_answered_request_is_in_the_log(self.at, request, ledger)
            }
            // Where ids are forgotten too soon, so are these.
            _ if self.forgets() => Ok(()),
            // A repeat is told when its task was deleted since.
            Reply::Rejected(Rejection::NotFound { id })
                if ledger.find(id).is_some_and(|(_, task)| task.deleted) =>
            {
                Ok(())
            }
            Reply::NotLive { .. }
            | Reply::Rejected(
                Rejection::NotFound { .. }
                | Rejection::Terminal { .. }
                | Rejection::Running
                | Rejection::InGap
                | Rejection::Invalid { .. },
            ) => self.promises.s9_an_answered_request_is_recognised(call.asked_at, request, ledger),
            _ => Ok(()),
        }
    }

    /// S9, the other half of P8.2: only a marked re-send is refused because its id may have been
    /// forgotten, and only when there were more ids than are kept.
    fn s9_only_a_re_send_is_forgotten(&self, call: &Call) -> Verdict {
        let marked = match &call.request {
            Request::Resubmit(_) => true,
            Request::Trigger { request, retry, .. } | Request::Cancel { request, retry, .. } => {
                *retry && request.is_some()
            }
            _ => false,
        };
        let kept = self.chain.ledger().ids_kept();
        hold!(
            "S9",
            marked && kept > self.config.ended_ids_max,
            "{:?} is refused as forgotten when {kept} ids have been kept",
            call.request
        );
        Ok(())
    }

    /// Judges the start of a handler: P7.2 (agreed before the worker hears of it), S11, S17.
    pub(super) fn judge_start(&mut self, instance: InstanceId, assignment: &Assignment) -> Verdict {
        // No worker is excused, frozen, dead or cut off: its watchdog is not (P7.4).
        self.outside.started(self.chain.ledger(), instance, assignment, |_| false)
    }

    /// S11: a lease ended; the handler that had it is dead before (P7.4).
    pub(super) fn lease_expired(&mut self, token: Token) {
        if let Some(who) = self.workers.iter().position(|w| w.handlers.contains_key(&token)) {
            let what = format!("the lease of {token} ends while worker {} runs it", who + 1);
            self.fail("S11", what);
        }
    }

    /// S18: the newest creation of a task ended in a gap that the database names.
    fn is_excused(&self, id: &str) -> bool {
        let gaps = self.history.gaps().map(|gap| (gap.from, gap.to));
        let excuses = Excuses::new(gaps, self.chain.departed(), self.chain.state());
        self.chain.ledger().find(id).is_some_and(|(serial, _)| excuses.task(id, serial))
    }

    /// What must hold at the very end: S7, S10, S18 and B1 in full.
    pub(super) fn judge_end(&self) -> Verdict {
        let (ledger, state) = (self.chain.ledger(), self.chain.state());
        self.promises.s7_nothing_acknowledged_is_lost(
            ledger,
            |id| state.find(id).is_some(),
            |id| self.history.task(id).is_some() || self.is_excused(id),
        )?;
        history::s18_history_is_exact(&self.chain, &self.history)?;
        for &node in self.core.iter().filter(|&&node| !self.is_mistaken(node)) {
            let Some(driver) = &self.nodes[node].driver else { continue };
            let audit = driver.machine().state().audit();
            hold!("S6", audit.is_ok(), "node {}: {}", node + 1, audit.err().unwrap_or_default());
        }
        self.chain.s10_everything_unfinished_is_awaited()
    }
}
