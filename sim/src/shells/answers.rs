//! Judges what a node's machine answers, as it leaves: S4, S7, S9 for acknowledged submits, S17's
//! promise, S19, S27.

use dtask_core::node::{Reply, Request};
use dtask_core::state::view::TaskStatus;

use super::books::Books;
use super::clock::at;
use super::seen;
use crate::check::{Verdict, hold};

impl Books {
    /// The machine of the node at `place` answers what was asked at `asked_at`.
    pub(super) fn answered(
        &mut self,
        place: usize,
        asked_at: u64,
        request: &Request,
        reply: &Reply,
    ) -> Verdict {
        match (request, reply) {
            (Request::Submit(tasks), Reply::Submitted(results)) => {
                let (asked, told) = (tasks.len(), results.len());
                hold!("S8", asked == told, "{told} answers for {asked} tasks");
                for (task, result) in tasks.iter().zip(results) {
                    let Ok(accepted) = result else { continue };
                    self.s4_acknowledged_is_durable(place, &task.id, accepted.serial)?;
                    if !accepted.new {
                        self.seen.hit(seen::REPEAT_ANSWERED);
                    }
                    let ledger = self.chain.ledger();
                    self.promises.acknowledged((place, at()), &task.id, accepted, ledger)?;
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
                self.promises.s19_a_read_sees_what_was_acknowledged(id, asked_at, ledger)?;
            }
            (Request::Task { stale: false, id }, Reply::Task(view)) => {
                // Only the leader knows workers: a follower cannot tell why a ready task waits.
                let waits = match view.status {
                    TaskStatus::Waiting => true,
                    TaskStatus::Ready => self.nodes[place].leads_since.is_some(),
                    _ => false,
                };
                let told = !waits || view.wait.is_some();
                hold!("S27", told, "{id} is {:?} without a reason to wait", view.status);
            }
            _ => {}
        }
        Ok(())
    }

    /// S4: an acknowledged task is on the disks of a majority when the answer leaves.
    fn s4_acknowledged_is_durable(&self, place: usize, id: &str, serial: u64) -> Verdict {
        let Some(index) = self.chain.created_at(serial) else { return Ok(()) };
        let Some(term) = self.chain.term(index) else { return Ok(()) };
        let holding = self.nodes.iter().filter(|node| node.image.holds(index, term)).count();
        hold!(
            "S4",
            holding > self.draw.nodes / 2,
            "node {} acknowledges {id} (entry {index}) which {holding} of {} disks hold",
            place + 1,
            self.draw.nodes
        );
        Ok(())
    }
}
