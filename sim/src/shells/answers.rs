//! Judges what a node's machine answers, as it leaves: S4, S7, S9 for acknowledged submits, S17's
//! promise, S19, S27.

use dtask_core::node::{Rejection, Reply, Request};
use dtask_core::state::view::TaskStatus;

use super::books::Books;
use super::clock::at;
use super::seen;
use crate::check::{Verdict, answers, hold};

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
            (Request::Submit(tasks) | Request::Resubmit(tasks), Reply::Submitted(results)) => {
                let (asked, told) = (tasks.len(), results.len());
                hold!("S8", asked == told, "{told} answers for {asked} tasks");
                for (task, result) in tasks.iter().zip(results) {
                    let Ok(accepted) = result else { continue };
                    let (id, serial) = (&task.id, accepted.serial);
                    let images = self.nodes.iter().map(|node| &node.image);
                    answers::s4_an_acknowledged_task_is_durable(
                        &self.chain,
                        images,
                        place,
                        id,
                        serial,
                    )?;
                    if !accepted.new {
                        self.seen.hit(seen::REPEAT_ANSWERED);
                    }
                    let ledger = self.chain.ledger();
                    self.promises.acknowledged((place, at()), &task.id, accepted, ledger)?;
                }
            }
            (Request::Cancel { id, run: None, .. }, Reply::Task(view))
                if view.status == TaskStatus::Cancelled =>
            {
                let outside = &mut self.outside;
                answers::s17_a_cancelled_task_is_still(&self.chain, outside, id, view)?;
            }
            (
                Request::Task { stale: false, id } | Request::Wait { id, .. },
                Reply::NotLive { .. } | Reply::Rejected(Rejection::NotFound { .. }),
            ) => {
                let (ledger, moment) = (self.chain.ledger(), (asked_at, self.nodes[place].applied));
                self.promises.s19_a_read_sees_what_was_acknowledged(id, moment, ledger)?;
            }
            (Request::Task { stale: false, id }, Reply::Task(view)) => {
                let leads = self.nodes[place].leads_since.is_some();
                answers::s27_a_waiting_task_has_a_reason(id, view, leads)?;
            }
            _ => {}
        }
        Ok(())
    }
}
