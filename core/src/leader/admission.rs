//! Requests on their way to become commands: staged until the turn's plan, then counted until
//! `apply` has answered every part.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::id::{RunNumber, Ticket};
use crate::node::request::{Accepted, Rejection, Reply, StoredTask};
use crate::spec::NewTask;
use crate::state::Wish;

/// When a refused caller should try again: a commit takes less, a full share some of them.
const FULL_RETRY_MS: u64 = 100;

/// A task on its way.
#[derive(Debug)]
pub struct Staged {
    /// Which submit.
    pub call: u64,
    /// Which of its tasks.
    pub place: u32,
    /// What it asks for.
    pub task: NewTask,
    /// It was sent before (P8.2).
    pub retry: bool,
}

/// What a caller wants done to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stop it, or one run of it.
    Cancel {
        /// A certain run.
        run: Option<RunNumber>,
        /// The caller's request id (P8.3).
        request: Option<Box<str>>,
        /// It was sent before (P8.2).
        retry: bool,
    },
    /// Put the request id, which stands in the task's place, on record (P8.3).
    Claim {
        /// Hash of all that the request says.
        content: u64,
    },
    /// Run it now, or once more.
    Rerun {
        /// What the run stands for.
        wish: Wish,
        /// The caller's request id (P8.3).
        request: Option<Box<str>>,
        /// It was sent before (P8.2).
        retry: bool,
    },
    /// Remove it.
    Delete {
        /// Also when it runs.
        cancel: bool,
    },
}

/// A staged change.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Who waits.
    pub ticket: Ticket,
    /// The task's id.
    pub id: Box<str>,
    /// What about it.
    pub change: Change,
    /// The task as history tells it, when it is not in memory (P8.5).
    pub past: Option<Box<StoredTask>>,
    /// A ReadIndex round has confirmed this leader since the question arrived: that the id is
    /// unknown here may be said.
    pub confirmed: bool,
}

/// The submits and changes of one leadership.
#[derive(Debug, Default)]
pub struct Admission {
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    tasks: VecDeque<Staged>,
    /// What the staged tasks and changes weigh.
    bytes: usize,
    /// Changes in order of arrival.
    changes: Vec<Asked>,
}

/// What is on its way, and how much of it there may be (P8.4).
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Bytes that are drafted or proposed, and not yet applied.
    pub taken: usize,
    /// The bound of all of them.
    pub max: usize,
}

#[derive(Debug)]
struct Call {
    ticket: Ticket,
    answers: Vec<Option<Result<Accepted, Rejection>>>,
    left: usize,
    /// One of its tasks is proposed, so its outcome may become unknown.
    proposed: bool,
}

impl Admission {
    /// Stages a submit or, with `retry`, a re-send; the reply, if it can be given at once.
    pub fn submit(
        &mut self,
        ticket: Ticket,
        (tasks, retry): (Vec<NewTask>, bool),
        share: Share,
    ) -> Option<Reply> {
        if tasks.is_empty() {
            return Some(Reply::Submitted(Vec::new()));
        }
        let bytes: usize = tasks.iter().map(weight).sum();
        if let Some(full) = self.refuse(bytes, share) {
            return Some(Reply::Rejected(full));
        }
        self.bytes += bytes;
        let call = self.next_call;
        self.next_call += 1;
        let left = tasks.len();
        let answers = (0..left).map(|_| None).collect();
        self.calls.insert(call, Call { ticket, answers, left, proposed: false });
        let staged = (0..).zip(tasks).map(|(place, task)| Staged { call, place, task, retry });
        self.tasks.extend(staged);
        None
    }

    /// Stages a change; the reply if it is refused.
    pub fn change(&mut self, asked: Asked, share: Share) -> Option<Reply> {
        let bytes = weight_of(&asked);
        match asked.change {
            // P8.4: admitted under every overload.
            Change::Cancel { .. } => {}
            Change::Rerun { .. } | Change::Delete { .. } | Change::Claim { .. } => {
                if let Some(full) = self.refuse(bytes, share) {
                    return Some(Reply::Rejected(full));
                }
            }
        }
        self.bytes += bytes;
        self.changes.push(asked);
        None
    }

    /// P8.4: new work takes three quarters of what may be on its way; the rest is for reports,
    /// stops, leases, fires and history. What is larger than that goes when nothing else does.
    fn refuse(&self, bytes: usize, share: Share) -> Option<Rejection> {
        let taken = share.taken + self.bytes;
        let max = share.max / 4 * 3;
        if taken == 0 || taken + bytes <= max {
            return None;
        }
        let what = alloc::format!(
            "{} KiB of changes are on their way; new work is taken below {} KiB",
            taken >> 10,
            max >> 10
        );
        Some(Rejection::Full { what: what.into(), retry_after_ms: FULL_RETRY_MS })
    }

    /// Takes the staged changes, in order of arrival.
    pub fn take_changes(&mut self) -> Vec<Asked> {
        let bytes: usize = self.changes.iter().map(weight_of).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        core::mem::take(&mut self.changes)
    }

    /// Whether something is staged that may take a slot at once.
    pub fn wants_slots(&self) -> bool {
        !self.tasks.is_empty() || !self.changes.is_empty()
    }

    /// Takes the next task to be proposed.
    pub fn pop(&mut self) -> Option<Staged> {
        let staged = self.tasks.pop_front()?;
        self.bytes = self.bytes.saturating_sub(weight(&staged.task));
        if let Some(call) = self.calls.get_mut(&staged.call) {
            call.proposed = true;
        }
        Some(staged)
    }

    /// Notes the answer to one task of a submit; the reply when it was the last.
    pub fn answer(
        &mut self,
        call: u64,
        place: u32,
        answer: Result<Accepted, Rejection>,
    ) -> Option<(Ticket, Reply)> {
        let entry = self.calls.get_mut(&call)?;
        let cell = entry.answers.get_mut(place as usize)?;
        if cell.replace(answer).is_none() {
            entry.left -= 1;
        }
        if entry.left > 0 {
            return None;
        }
        let call = self.calls.remove(&call)?;
        Some((call.ticket, Reply::Submitted(call.answers.into_iter().flatten().collect())))
    }

    /// Everything that still waits, when leadership ends: a submit of which nothing was proposed
    /// was certainly not done, of any other nobody here can know (P3.6).
    pub fn drop_all(self, not_done: &Rejection) -> Vec<(Ticket, Rejection)> {
        let calls = self.calls.into_values().map(|call| {
            let why = if call.proposed { Rejection::OutcomeUnknown } else { not_done.clone() };
            (call.ticket, why)
        });
        let changes = self.changes.into_iter().map(|asked| (asked.ticket, not_done.clone()));
        calls.chain(changes).collect()
    }
}

/// What a task weighs while it waits.
fn weight(task: &NewTask) -> usize {
    const REST: usize = 256;
    REST + task.id.len() + task.name.len() + task.payload.len()
}

/// What a change weighs while it waits.
fn weight_of(asked: &Asked) -> usize {
    const REST: usize = 64;
    let past = asked.past.as_ref().map_or(0, |past| past.view.payload.len());
    REST + asked.id.len() + past
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(change: Change) -> Asked {
        Asked { ticket: Ticket(1), id: "some-task".into(), change, past: None, confirmed: false }
    }

    const TRIGGER: Change = Change::Rerun { wish: Wish::Trigger, request: None, retry: false };

    const CANCEL: Change = Change::Cancel { run: None, request: None, retry: false };

    fn share(taken: usize) -> Share {
        Share { taken, max: 4_000 }
    }

    #[test]
    fn a_quarter_is_kept_from_new_work() {
        let mut admission = Admission::default();
        let (trigger, delete) = (TRIGGER, Change::Delete { cancel: true });
        assert_eq!(admission.change(ask(trigger.clone()), share(2_900)), None);
        for change in [trigger, delete] {
            let Some(Reply::Rejected(Rejection::Full { retry_after_ms, .. })) =
                admission.change(ask(change), share(2_900))
            else {
                panic!("73 staged bytes and 73 more exceed three quarters");
            };
            assert!(retry_after_ms > 0);
        }
    }

    #[test]
    fn a_cancel_is_taken_under_every_load() {
        let mut admission = Admission::default();
        for _ in 0..100 {
            assert_eq!(admission.change(ask(CANCEL), share(9_999)), None);
        }
        assert_eq!(admission.take_changes().len(), 100);
    }

    #[test]
    fn what_was_taken_weighs_nothing() {
        let mut admission = Admission::default();
        for _ in 0..1_000 {
            assert_eq!(admission.change(ask(TRIGGER), share(0)), None);
            assert_eq!(admission.take_changes().len(), 1);
        }
    }

    #[test]
    fn what_is_larger_than_all_goes_when_nothing_else_does() {
        let mut admission = Admission::default();
        let tiny = |taken| Share { taken, max: 8 };
        assert!(admission.change(ask(TRIGGER), tiny(1)).is_some());
        assert_eq!(admission.change(ask(TRIGGER), tiny(0)), None);
    }
}
