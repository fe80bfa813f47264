//! The history database: the projection of what the cluster has agreed on, for people to query
//! (P9). Nothing is ever decided by it.
//!
//! [`writer`] is the trait that each kind of database implements; [`thread`] performs a node's
//! effects on one, with retries, away from the node's loop; [`sqlite`] is the embedded database.
//! Reads are the host's [`HistoryRead`](crate::serve::ports::HistoryRead).

#[cfg(not(madsim))]
pub mod sqlite;
pub mod thread;
pub mod writer;

#[cfg(not(madsim))]
pub use sqlite::{SqliteReader, SqliteWriter};
pub use thread::HistoryHandle;
pub use writer::{Cursor, WriteError, Writer};
