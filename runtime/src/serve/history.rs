//! Which history a node has: the two ends of the database that its options name.

use std::sync::Arc;

use super::config::HistoryChoice;
use super::inbox::NodeHandle;
use super::ports::{History, HistoryRead, NoHistory};
use crate::history::{HistoryHandle, PostgresReader, PostgresWriter, SqliteReader, SqliteWriter};

/// Both ends of a history database.
pub(super) struct Ports {
    /// For the leader.
    pub(super) write: Box<dyn History>,
    /// For every node; `None` when there is nothing to read.
    pub(super) read: Option<Arc<dyn HistoryRead>>,
}

/// Touches no database yet: the node that leads opens it (P9.2).
pub(super) fn choose(choice: &HistoryChoice, node: NodeHandle) -> std::io::Result<Ports> {
    match choice {
        HistoryChoice::None => Ok(Ports { write: Box::new(NoHistory::new(node)), read: None }),
        HistoryChoice::Sqlite(path) => Ok(Ports {
            write: Box::new(HistoryHandle::start(SqliteWriter::new(path.clone()), node)?),
            read: Some(Arc::new(SqliteReader::new(path)?)),
        }),
        HistoryChoice::Postgres(url) => Ok(Ports {
            write: Box::new(HistoryHandle::start(PostgresWriter::new(url.clone()), node)?),
            read: Some(Arc::new(PostgresReader::new(url.clone())?)),
        }),
    }
}
