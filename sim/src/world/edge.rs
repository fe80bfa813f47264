//! What a node's edge does about a task that has ended and left memory: it reads history and asks
//! again with what it found (P8.5).

use dtask_core::id::Ticket;
use dtask_core::node::{Rejection, Reply, Request, StoredTask};
use dtask_core::state::view::TaskStatus;

use super::World;
use super::config::around;
use super::event::Event;
use super::trace::Probe;

/// Looks at history for one question: each may be overtaken by others' commands.
const LOOKS_MAX: u32 = 3;
/// How long a look takes; a slow one lets others come between.
const LOOK_MICROS: u64 = 3_000;
const SLOW_LOOK_MICROS: u64 = 4_000_000;

impl World {
    /// The node does not hold the task. `None` when it is asked again, else the answer to give.
    pub(super) fn edge_looks(
        &mut self,
        node: usize,
        ticket: Ticket,
        (stored, ended): (u64, u64),
    ) -> Option<Reply> {
        let Some(call) = self.calls.get_mut(ticket) else { return Some(away()) };
        let mut request = call.request.clone();
        let (Request::Trigger { id, past, .. } | Request::Delete { id, past, .. }) = &mut request
        else {
            return Some(Reply::NotLive { stored, ended });
        };
        // P8.6: a database that is away, or behind, proves nothing.
        let behind = self.history.down_until > self.at || self.history.through() < stored;
        if behind || call.looks == LOOKS_MAX {
            self.probes.hit(Probe::EdgeHistoryAway);
            return Some(away());
        }
        call.looks += 1;
        let forwarded = call.via.is_some();
        let Some(row) = self.history.task(id).filter(|row| !row.deleted) else {
            return Some(Reply::Rejected(Rejection::NotFound { id: id.clone() }));
        };
        match row.view.status {
            TaskStatus::Succeeded
            | TaskStatus::Failed
            | TaskStatus::Cancelled
            | TaskStatus::Skipped => {}
            TaskStatus::Waiting | TaskStatus::Ready | TaskStatus::Running => return Some(away()),
        }
        let before_gap = self.history.gaps().any(|gap| gap.to > row.number);
        *past = Some(Box::new(StoredTask { view: row.view.clone(), as_of: ended, before_gap }));
        let slow = self.rng.history.chance(1, 6);
        let time = if slow { SLOW_LOOK_MICROS } else { LOOK_MICROS };
        let at = self.at + 1 + around(&mut self.rng.history, time);
        self.probes.hit(Probe::EdgeReadHistory);
        self.note(node as u32 + 1, "edge reads history", [ticket.0, stored, ended]);
        self.agenda.push(at, Event::Ask(node, ticket, Box::new(request), forwarded));
        None
    }
}

fn away() -> Reply {
    Reply::Rejected(Rejection::Unavailable { reason: "history is away".into() })
}
