//! History in one SQLite file: the embedded default. All nodes of a one-machine cluster share the
//! file; only the leader writes.

mod reader;
mod statements;
mod writer;

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::words;

pub use reader::SqliteReader;
pub use writer::SqliteWriter;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Fits several rows with all their columns.
const PAGE_BYTES: u32 = 8_192;

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        // Rows of one task may come in two transactions, the attempt's first.
        .foreign_keys(false)
}

/// P9.4: what was reported as stored survives a power cut.
fn writer_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-65536")
        .statement_cache_capacity(32)
}
