//! History in one SQLite file: the embedded default. All nodes of a one-machine cluster share the
//! file; only the leader writes.

mod reader;
mod row;
mod spans;
mod statements;
mod writer;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::words;

pub use reader::SqliteReader;
pub use writer::SqliteWriter;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Fits several rows with all their columns.
const PAGE_BYTES: u32 = 8_192;

/// The writer's page cache: the growing ends of all indexes, and more. It is part of a leader's
/// memory.
const CACHE_KIB: i32 = 32_768;

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        // Rows of one task may come in two transactions, the attempt's first.
        .foreign_keys(false)
}

/// Makes the file, whose page size and journal hold for everyone.
fn table_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
}

/// The writer's connection to a file that is there.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // One thread uses it, so that it needs no locks.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // P9.4: what was reported as stored survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // As in `options`.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(connection)
}
