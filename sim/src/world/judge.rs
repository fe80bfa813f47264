//! Where what happens meets the checkers: each turn's effects, each answer, each handler's start,
//! each transaction, each restart.

use dtask_core::id::{InstanceId, Token};
use dtask_core::node::{Effect, Note, Reply, Request};
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::view::TaskStatus;
use dtask_core::worker::Assignment;

use super::World;
use super::call::Call;
use super::trace::Probe;
use crate::check::ledger::Meaning;
use crate::check::{Verdict, Violation, history, hold};

/// A leader counts as new for this long.
const NEW_LEADER_MICROS: u64 = 2_000_000;
/// After a pause a worker's own clock has had this long to stop its handlers.
const THAW_MICROS: u64 = 2_000_000;

impl World {
    /// Takes a turn's entries and applied indexes in, before its effects reach anyone.
    pub(super) fn judge_turn(&mut self, who: usize, effects: &[Effect]) -> Verdict {
        for effect in effects {
            if let Effect::Persist(persist) = effect {
                self.nodes[who].said.take(persist);
            }
        }
        let mut applied = None;
        for effect in effects {
            match effect {
                Effect::Note(Note::Applied { index }) => applied = Some(*index),
                Effect::Note(Note::SnapshotInstalled { index }) => {
                    self.nodes[who].applied = self.nodes[who].applied.max(*index);
                }
                _ => {}
            }
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
            for meaning in meanings {
                self.probe_meaning(who, meaning);
            }
        }
        self.judge_digest(who)
    }

    /// S6, on the state that the node itself shows.
    fn judge_digest(&mut self, who: usize) -> Verdict {
        let Some(driver) = &self.nodes[who].driver else { return Ok(()) };
        let state = driver.machine().state();
        let (index, digest) = (state.applied_index(), state.digest());
        self.trace.fold(digest as u64);
        self.chain.s6_equal_index_equal_digest(who, index, digest)
    }

    fn probe_meaning(&mut self, who: usize, meaning: Meaning) {
        let probe = match meaning {
            Meaning::Nothing | Meaning::Repeated | Meaning::Conflict => return,
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
                if skipped { Probe::FireSkipped } else { Probe::Fired }
            }
            Meaning::Triggered => Probe::Triggered,
            Meaning::CancelledWaiting => Probe::CancelledWaiting,
            Meaning::CancelledRunning => Probe::CancelledRunning,
            Meaning::CancelTooLate => Probe::CancelTooLate,
            Meaning::StaleReport => Probe::StaleReportRefused,
            Meaning::Deleted => Probe::Deleted,
        };
        self.probes.hit(probe);
    }

    /// Judges an answer as it leaves a node: S4 and S7 for acknowledged submits, S17's promise, S27
    /// for views.
    pub(super) fn judge_answer(&mut self, who: usize, call: &Call, reply: &Reply) -> Verdict {
        match (&call.request, reply) {
            (Request::Submit(tasks), Reply::Submitted(results)) => {
                hold!(
                    "S8",
                    tasks.len() == results.len(),
                    "{} answers for {} tasks",
                    results.len(),
                    tasks.len()
                );
                for (task, result) in tasks.iter().zip(results) {
                    let Ok(accepted) = result else { continue };
                    self.s4_acknowledged_is_durable(who, &task.id, accepted.serial)?;
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
            (Request::Cancel { id, run: None }, Reply::Task(view))
                if view.status == TaskStatus::Cancelled =>
            {
                let open = self.chain.ledger().find(id).is_some_and(|(_, it)| it.open.is_some());
                hold!("S17", !open, "{id} is answered cancelled while an attempt is open");
                if view.recurrence.is_none() {
                    self.outside.cancel_acknowledged(view.serial);
                }
            }
            (
                Request::Task { stale: false, id } | Request::Wait { id, .. },
                Reply::NotLive { .. },
            ) => {
                let ledger = self.chain.ledger();
                self.promises.s19_a_read_sees_what_was_acknowledged(id, call.asked_at, ledger)?;
            }
            (Request::Task { stale: false, id }, Reply::Task(view)) => {
                // Only the leader knows workers: a follower cannot tell why a ready task waits.
                let waits = match view.status {
                    TaskStatus::Waiting => true,
                    TaskStatus::Ready => self.nodes[who].leads_since.is_some(),
                    _ => false,
                };
                hold!(
                    "S27",
                    !waits || view.wait.is_some(),
                    "{id} is {:?} without a reason to wait",
                    view.status
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// S4: an acknowledged task is on the disks of a majority when the answer leaves.
    fn s4_acknowledged_is_durable(&self, who: usize, id: &str, serial: u64) -> Verdict {
        let Some(index) = self.chain.created_at(serial) else { return Ok(()) };
        let Some(term) = self.chain.term(index) else { return Ok(()) };
        let holding = self.nodes.iter().filter(|node| node.image.holds(index, term)).count();
        hold!(
            "S4",
            holding > self.config.nodes / 2,
            "node {} acknowledges {id} (entry {index}) which {holding} of {} disks hold",
            who + 1,
            self.config.nodes
        );
        Ok(())
    }

    /// Judges the start of a handler: P7.2 (agreed before the worker hears of it), S11, S17.
    pub(super) fn judge_start(
        &mut self,
        who: usize,
        instance: InstanceId,
        assignment: &Assignment,
    ) -> Verdict {
        let token = assignment.token;
        let Some(attempt) = self.chain.ledger().attempt(token) else {
            let detail = format!("worker {} starts token {token}, which was never opened", who + 1);
            return Err(Violation::new("S8", detail));
        };
        hold!(
            "S11",
            attempt.instance == instance || attempt.instance == InstanceId(0),
            "instance {instance} starts token {token} of instance {}",
            attempt.instance
        );
        let serial = attempt.serial;
        let (at, workers, instances) = (self.at, &self.workers, &self.instances);
        self.outside.started(instance, serial, assignment, |other| {
            instances.get(&other).is_some_and(|&place| {
                let worker = &workers[place];
                worker.paused_until > at || at < worker.thawed_at + THAW_MICROS
            })
        })
    }

    /// A lease ended: was its worker alive and at work?
    pub(super) fn lease_expired(&mut self, token: Token) {
        if self.workers.iter().any(|worker| worker.handlers.contains_key(&token)) {
            self.probes.hit(Probe::LeaseLostUnderLiveWorker);
        }
    }

    /// What must hold at the very end: S7, S10, S18 and B1 in full.
    pub(super) fn judge_end(&self) -> Verdict {
        let (ledger, state) = (self.chain.ledger(), self.chain.state());
        self.promises.s7_nothing_acknowledged_is_lost(
            ledger,
            |id| state.find(id).is_some(),
            |id| self.history.task(id).is_some(),
        )?;
        history::s18_history_is_exact(&self.chain, &self.history)?;
        for &node in &self.core {
            let Some(driver) = &self.nodes[node].driver else { continue };
            let audit = driver.machine().state().audit();
            hold!("S6", audit.is_ok(), "node {}: {}", node + 1, audit.err().unwrap_or_default());
        }
        self.chain.s10_everything_unfinished_is_awaited()
    }
}
