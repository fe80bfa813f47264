//! Ids of tasks that have left memory, so that a repeated submit is answered and never run again
//! (P8.2): first in, first out, bounded by count and by the window.

use super::facts::EndedTask;
use super::view::TaskStatus;
use crate::limits;
use crate::time::Timestamp;

/// 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Keyed hash of the id.
    pub(super) id: u64,
    /// Hash of everything that the owner wrote.
    pub(super) spec: u64,
    pub(super) serial: u64,
    pub(super) created_at: Timestamp,
    pub(super) ended_at: Timestamp,
    pub(super) status: TaskStatus,
    pub(super) deleted: bool,
}

impl Ended {
    /// The id is not reserved any longer.
    pub(super) fn is_out_of_window(&self, at: Timestamp) -> bool {
        self.ended_at + limits::DEDUP_WINDOW <= at
    }

    pub(super) const fn view(&self) -> EndedTask {
        EndedTask {
            serial: self.serial,
            status: self.status,
            created_at: self.created_at,
            ended_at: self.ended_at,
            deleted: self.deleted,
        }
    }
}
