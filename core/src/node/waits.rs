//! Callers that wait for a task's end: on any node, bounded in number, told by what `apply`
//! finishes there.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{RecordRef, RunNumber, Ticket};
use crate::leader::calls::is_terminal;
use crate::limits;
use crate::state::State;
use crate::state::view::TaskView;

use super::request::{Rejection, Reply};

/// The waiting callers of one node.
#[derive(Debug, Default)]
pub(super) struct Waits {
    by_task: BTreeMap<RecordRef, Vec<(Ticket, Option<RunNumber>)>>,
    tasks: BTreeMap<Ticket, RecordRef>,
}

impl Waits {
    /// Takes a caller in; the reply, if there is nothing to wait for.
    pub(super) fn wait(
        &mut self,
        ticket: Ticket,
        id: &str,
        run: Option<RunNumber>,
        state: &State,
    ) -> Option<Reply> {
        let missing = || Some(Reply::missing(id, state));
        let Some(task) = state.find(id) else { return missing() };
        let Some(view) = state.task_view(task) else { return missing() };
        if is_over(&view, task, run, state) {
            return Some(Reply::Task(Box::new(view)));
        }
        if self.tasks.len() >= limits::WAITERS_MAX {
            return Some(Reply::Rejected(Rejection::Full {
                what: alloc::format!("{} callers wait on this node", limits::WAITERS_MAX).into(),
                retry_after_ms: 1_000,
            }));
        }
        self.by_task.entry(task).or_default().push((ticket, run));
        self.tasks.insert(ticket, task);
        None
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// A task changed: those whose wait is over.
    pub(super) fn look(&mut self, task: RecordRef, state: &State) -> Vec<(Ticket, Reply)> {
        let Some(waiting) = self.by_task.get_mut(&task) else { return Vec::new() };
        let view = state.task_view(task);
        let mut over = Vec::new();
        waiting.retain(|(ticket, run)| {
            let reply = match &view {
                Some(view) if is_over(view, task, *run, state) => {
                    Reply::Task(Box::new(view.clone()))
                }
                Some(_) => return true,
                None => Reply::not_live(state),
            };
            over.push((*ticket, reply));
            false
        });
        if waiting.is_empty() {
            self.by_task.remove(&task);
        }
        for (ticket, _) in &over {
            self.tasks.remove(ticket);
        }
        over
    }

    /// Looks at every task again: state was replaced by a snapshot's.
    pub(super) fn look_at_all(&mut self, state: &State) -> Vec<(Ticket, Reply)> {
        let tasks: Vec<RecordRef> = self.by_task.keys().copied().collect();
        tasks.into_iter().flat_map(|task| self.look(task, state)).collect()
    }

    /// Takes all callers, whom this node can tell nothing any more.
    pub(super) fn leave(&mut self) -> Vec<Ticket> {
        self.by_task.clear();
        core::mem::take(&mut self.tasks).into_keys().collect()
    }

    /// Forgets a caller.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        let Some(task) = self.tasks.remove(&ticket) else { return };
        if let Some(waiting) = self.by_task.get_mut(&task) {
            waiting.retain(|(other, _)| *other != ticket);
            if waiting.is_empty() {
                self.by_task.remove(&task);
            }
        }
    }
}

/// Whether the task's latest run, or the one asked for, has ended.
fn is_over(view: &TaskView, task: RecordRef, run: Option<RunNumber>, state: &State) -> bool {
    if is_terminal(view.status) {
        return true;
    }
    let latest = view.last_run.as_ref();
    match run {
        None => latest.is_some_and(|run| is_terminal(run.status)),
        Some(run) if latest.is_some_and(|latest| latest.run == run) => {
            latest.is_some_and(|run| is_terminal(run.status))
        }
        // An older run that is not in memory any more has ended; a later one has yet to come.
        Some(run) => {
            let known = state.run_views(task).into_iter().find(|view| view.run == run);
            match known {
                Some(view) => is_terminal(view.status),
                None => latest.is_some_and(|latest| run < latest.run),
            }
        }
    }
}
