//! Linearizable reads (P3.7): one ReadIndex round serves every question of a turn, begun after
//! their receipt; a question is ready when this node has applied what the round returned.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::consensus::ReadId;
use crate::id::Ticket;
use crate::leader::Confirm;
use crate::leader::admission::Asked;
use crate::time::Instant;

use super::request::Request;

/// Rounds under way at once: more only wait in raft instead of here.
const ROUNDS_MAX: usize = 4;
/// Without a leader a caller waits this long, two elections' worth, before it is told so.
const PATIENCE: Duration = Duration::from_secs(3);

/// A question that must not be answered by a node that was deposed or lags.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Question {
    /// A caller's.
    Ask(Ticket, Request),
    /// A worker's, or the history database's word.
    Confirm(Confirm),
    /// A change of a task that the leader does not know.
    Unknown(Asked),
}

#[derive(Clone, Debug)]
struct Asking {
    since: Instant,
    question: Question,
}

/// The questions of one node.
#[derive(Debug, Default)]
pub(super) struct Reads {
    fresh: Vec<Asking>,
    rounds: BTreeMap<ReadId, Vec<Asking>>,
    /// Rounds that have ended, by the index to be applied.
    waiting: VecDeque<(u64, Vec<Asking>)>,
}

impl Reads {
    /// Takes a question in.
    pub(super) fn ask(&mut self, now: Instant, question: Question) {
        self.fresh.push(Asking { since: now, question });
    }

    /// Whether a round should begin.
    pub(super) fn wants_round(&self) -> bool {
        !self.fresh.is_empty() && self.rounds.len() < ROUNDS_MAX
    }

    /// A round began: it serves every question that has arrived.
    pub(super) fn begin(&mut self, id: ReadId) {
        self.rounds.insert(id, core::mem::take(&mut self.fresh));
    }

    /// A round ended: its questions wait until `index` is applied.
    pub(super) fn ended(&mut self, id: ReadId, index: u64) {
        if let Some(asking) = self.rounds.remove(&id) {
            self.waiting.push_back((index, asking));
        }
    }

    /// Takes the questions that this node may answer, having applied up to `applied`.
    pub(super) fn ready(&mut self, applied: u64) -> Vec<Question> {
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, asking) = self.waiting.pop_front().unwrap_or_default();
            ready.extend(asking.into_iter().map(|asking| asking.question));
        }
        ready
    }

    /// Forgets a caller.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        let is = |asking: &Asking| matches!(&asking.question, Question::Ask(t, _) if *t == ticket);
        self.fresh.retain(|asking| !is(asking));
        for asking in self.rounds.values_mut() {
            asking.retain(|asking| !is(asking));
        }
        for (_, asking) in &mut self.waiting {
            asking.retain(|asking| !is(asking));
        }
    }

    /// Forgets what only a leader answers; the callers among them are returned.
    pub(super) fn step_down(&mut self) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        let mut keep = |asking: &Asking| match &asking.question {
            Question::Ask(..) => true,
            Question::Confirm(_) => false,
            Question::Unknown(asked) => {
                tickets.push(asked.ticket);
                false
            }
        };
        self.fresh.retain(&mut keep);
        for asking in self.rounds.values_mut() {
            asking.retain(&mut keep);
        }
        for (_, asking) in &mut self.waiting {
            asking.retain(&mut keep);
        }
        tickets
    }

    /// Takes the callers whose patience has ended: no round has served them.
    pub(super) fn impatient(&mut self, now: Instant) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        if self.next().is_none_or(|next| next > now) {
            return tickets;
        }
        let mut keep = |asking: &Asking| match &asking.question {
            Question::Ask(ticket, _) if asking.since + PATIENCE <= now => {
                tickets.push(*ticket);
                false
            }
            Question::Ask(..) | Question::Confirm(_) | Question::Unknown(_) => true,
        };
        self.fresh.retain(&mut keep);
        for asking in self.rounds.values_mut() {
            asking.retain(&mut keep);
        }
        tickets
    }

    /// When to call [`Reads::impatient`] next.
    pub(super) fn next(&self) -> Option<Instant> {
        // Older rounds hold older questions, and each keeps their order.
        let all = self.rounds.values().flatten().chain(&self.fresh);
        let mut callers = all.filter(|asking| matches!(asking.question, Question::Ask(..)));
        callers.next().map(|asking| asking.since + PATIENCE)
    }
}
