//! The history database: the projection of what the cluster has agreed on, for people to query
//! (P9). Nothing is ever decided by it.
//!
//! [`writer`] is the trait that each kind of database implements; [`thread`] performs a node's
//! effects on one, with retries, away from the node's loop. [`sqlite`] is the embedded database,
//! [`postgres`] the one that several machines share. Reads are the host's
//! [`HistoryRead`](crate::serve::ports::HistoryRead): `queries` and `rows` say once for both what
//! is asked and what a row means.

#[cfg(not(madsim))]
mod claim;
#[cfg(not(madsim))]
pub mod postgres;
#[cfg(not(madsim))]
mod queries;
#[cfg(not(madsim))]
mod reader;
#[cfg(not(madsim))]
mod rows;
#[cfg(not(madsim))]
mod spans;
#[cfg(not(madsim))]
pub mod sqlite;
pub mod thread;
#[cfg(not(madsim))]
mod words;
pub mod writer;

#[cfg(not(madsim))]
pub use postgres::{PostgresReader, PostgresUrl, PostgresWriter};
#[cfg(not(madsim))]
pub use sqlite::{SqliteReader, SqliteWriter};
pub use thread::HistoryHandle;
pub use writer::{Cursor, WriteError, Writer};
