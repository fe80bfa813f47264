//! What a node answers, judged as it leaves: S4 for an acknowledged submit, S17's promise for a
//! cancel, S27 for a view.

use dtask_core::state::view::{TaskStatus, TaskView};

use super::chain::Chain;
use super::durable::Image;
use super::effects::Outside;
use super::{Verdict, hold};

/// S4: an acknowledged task is on the disks of a majority when the answer leaves. `who` is the
/// place of the node that answers, `images` hold what is durable at each voter.
pub fn s4_an_acknowledged_task_is_durable<'image>(
    chain: &Chain,
    images: impl ExactSizeIterator<Item = &'image Image>,
    who: usize,
    id: &str,
    serial: u64,
) -> Verdict {
    let Some(index) = chain.created_at(serial) else { return Ok(()) };
    let Some(term) = chain.term(index) else { return Ok(()) };
    let voters = images.len();
    let holding = images.filter(|image| image.holds(index, term)).count();
    hold!(
        "S4",
        holding > voters / 2,
        "node {} acknowledges {id} (entry {index}) which {holding} of {voters} disks hold",
        who + 1
    );
    Ok(())
}

/// S17: a task that is answered cancelled has no open attempt, and starts nothing any more.
pub fn s17_a_cancelled_task_is_still(
    chain: &Chain,
    outside: &mut Outside,
    id: &str,
    view: &TaskView,
) -> Verdict {
    let open = chain.ledger().find(id).is_some_and(|(_, it)| it.open.is_some());
    hold!("S17", !open, "{id} is answered cancelled while an attempt is open");
    if view.recurrence.is_none() {
        outside.cancel_acknowledged(view.serial);
    }
    Ok(())
}

/// S27: a live task that is not running has a reason to wait. Only the leader knows workers: a
/// follower cannot tell why a ready task waits.
pub fn s27_a_waiting_task_has_a_reason(id: &str, view: &TaskView, leads: bool) -> Verdict {
    let waits = match view.status {
        TaskStatus::Waiting => true,
        TaskStatus::Ready => leads,
        _ => false,
    };
    hold!(
        "S27",
        !waits || view.wait.is_some(),
        "{id} is {:?} without a reason to wait",
        view.status
    );
    Ok(())
}
