//! What a history database must do for its one writer, the leader.

use std::future::Future;

use dtask_core::id::ClusterId;
use dtask_core::state::history::HistoryBatch;

/// The cursor row: which database this is, and how far it has come (P9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Drawn at random when the database was claimed.
    pub epoch: u64,
    /// The last change that it holds.
    pub through: u64,
}

/// Why a database was not opened, or a batch not stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It belongs to another cluster; the operator's move.
    #[error(
        "the history database belongs to cluster {found:016x}, this is cluster {ours:016x}: give \
         this cluster a database of its own, or move that one away"
    )]
    ForeignCluster {
        /// Whose it is.
        found: u64,
        /// Who asked.
        ours: u64,
    },
    /// It is another database than the batch was made for: replaced, or restored.
    #[error("the history database has epoch {found}, the batch was made for epoch {wanted}")]
    ForeignEpoch {
        /// The row's.
        found: u64,
        /// The batch's.
        wanted: u64,
    },
    /// The cursor stands elsewhere: another leader wrote, or an older backup was restored.
    #[error("the history cursor stands at change {found}, the batch follows change {after}")]
    Moved {
        /// The row's.
        found: u64,
        /// The batch's.
        after: u64,
    },
    /// It cannot be reached, or refused a statement. Tried again.
    #[error("the history database cannot be written: {0}")]
    Away(String),
}

/// One connection of the one writer.
pub trait Writer: Send + 'static {
    /// Connects, migrates, and claims or checks the cursor row (P9.2).
    ///
    /// # Errors
    /// [`WriteError::ForeignCluster`] or [`WriteError::Away`].
    fn open(
        &mut self,
        cluster: ClusterId,
    ) -> impl Future<Output = Result<Cursor, WriteError>> + Send;

    /// Stores a batch and moves the cursor in one transaction, and returns where the cursor
    /// stands: at the batch's `through`, or beyond if an earlier try had been stored already.
    ///
    /// # Errors
    /// Nothing of the batch is stored then. The writer must be opened again.
    fn store(
        &mut self,
        batch: &HistoryBatch,
    ) -> impl Future<Output = Result<u64, WriteError>> + Send;

    /// Lets go of the connection.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}
