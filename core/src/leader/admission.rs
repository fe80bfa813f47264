//! Requests on their way to become commands: staged until the turn's plan, then counted until
//! `apply` has answered every part.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::id::{RunNumber, Ticket};
use crate::limits;
use crate::node::request::{Accepted, Rejection, Reply};
use crate::spec::NewTask;

/// A task on its way.
#[derive(Debug)]
pub struct Staged {
    /// Which submit.
    pub call: u64,
    /// Which of its tasks.
    pub place: u32,
    /// What it asks for.
    pub task: NewTask,
}

/// What a caller wants changed about a live task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stop it, or one run of it.
    Cancel {
        /// A certain run.
        run: Option<RunNumber>,
    },
    /// Run it now.
    Trigger,
    /// Remove it.
    Delete {
        /// Also when it runs.
        cancel: bool,
    },
}

/// A staged change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who waits.
    pub ticket: Ticket,
    /// The task's id.
    pub id: Box<str>,
    /// What about it.
    pub change: Change,
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
    /// What the staged tasks weigh.
    bytes: usize,
    /// Changes in order of arrival.
    pub changes: Vec<Asked>,
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
    /// Stages a submit; the reply, if it can be given at once. `in_flight` is the weight of what
    /// is proposed and not yet applied.
    pub fn submit(
        &mut self,
        ticket: Ticket,
        tasks: Vec<NewTask>,
        in_flight: usize,
    ) -> Option<Reply> {
        if tasks.is_empty() {
            return Some(Reply::Submitted(Vec::new()));
        }
        let bytes: usize = tasks.iter().map(weight).sum();
        if in_flight + self.bytes + bytes > limits::INFLIGHT_BYTES_MAX {
            return Some(Reply::Rejected(full(in_flight + self.bytes)));
        }
        self.bytes += bytes;
        let call = self.next_call;
        self.next_call += 1;
        let left = tasks.len();
        let answers = (0..left).map(|_| None).collect();
        self.calls.insert(call, Call { ticket, answers, left, proposed: false });
        let staged = (0..).zip(tasks).map(|(place, task)| Staged { call, place, task });
        self.tasks.extend(staged);
        None
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

fn full(bytes: usize) -> Rejection {
    let what = alloc::format!(
        "{} MiB of proposals are in flight; at most {} MiB fit",
        bytes >> 20,
        limits::INFLIGHT_BYTES_MAX >> 20
    );
    Rejection::Full { what: what.into(), retry_after_ms: 100 }
}
