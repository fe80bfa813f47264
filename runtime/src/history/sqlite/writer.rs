//! The leader's connection: the cursor's compare-and-set, and the rows behind it (P9.2).

use std::path::{Path, PathBuf};

use dtask_core::id::ClusterId;
use dtask_core::state::history::HistoryBatch;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions as _, Connection as _};

use super::{connect, spans, statements, table_options};
use crate::history::claim::{check_cluster, cluster_text, fresh_epoch};
use crate::history::queries::signed;
use crate::history::writer::{Cursor, WriteError, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Writes history into one SQLite file.
///
/// Rows go through rusqlite, whose prepared statements take them one by one in the calling thread;
/// sqlx, which reads and migrates, collects every value in a list for a thread of its own, and that
/// cost a quarter of the leader's time for history. Calls block: the thread has nothing else to do.
#[derive(Debug)]
pub struct SqliteWriter {
    path: PathBuf,
    connection: Option<Connection>,
}

/// The cursor row as it stands.
struct Claim {
    cluster: String,
    cursor: Cursor,
}

impl SqliteWriter {
    /// A writer of the file at `path`, which the first leader makes.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, connection: None }
    }

    /// One transaction. `Ok(false)`: the cursor did not stand at `after`, and nothing was written.
    fn attempt(connection: &mut Connection, batch: &HistoryBatch) -> rusqlite::Result<bool> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // P9.2: the compare-and-set is the first statement.
        let moved = transaction
            .prepare_cached(
                "UPDATE dtask_cursor SET through = ?4 \
                 WHERE one = 1 AND cluster_id = ?1 AND epoch = ?2 AND through = ?3",
            )?
            .execute(params![
                cluster_text(batch.cluster),
                signed(batch.epoch),
                signed(batch.after),
                signed(batch.through)
            ])?;
        if moved != 1 {
            transaction.rollback()?;
            return Ok(false);
        }
        if let Some(gap) = &batch.gap {
            statements::gap(&transaction, gap)?;
        }
        statements::tasks(&transaction, &batch.tasks)?;
        statements::runs(&transaction, &batch.runs)?;
        statements::attempts(&transaction, &batch.attempts)?;
        spans::of(&transaction, batch)?;
        transaction.commit()?;
        Ok(true)
    }

    /// What the cursor row says about a batch that was not, or not surely, stored.
    fn resolve(&mut self, batch: &HistoryBatch) -> Result<u64, WriteError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path).map_err(away)?,
        };
        let claim = read_claim(&connection).map_err(away)?;
        let Some(Claim { cluster, cursor }) = claim else {
            return Err(WriteError::Away("its cursor row is gone".into()));
        };
        check_cluster(&cluster, batch.cluster)?;
        if cursor.epoch != batch.epoch {
            return Err(WriteError::ForeignEpoch { found: cursor.epoch, wanted: batch.epoch });
        }
        if cursor.through < batch.through {
            return Err(WriteError::Moved { found: cursor.through, after: batch.after });
        }
        self.connection = Some(connection);
        Ok(cursor.through)
    }
}

impl Writer for SqliteWriter {
    async fn open(&mut self, cluster: ClusterId) -> Result<Cursor, WriteError> {
        self.connection = None;
        migrate(&self.path).await?;
        let connection = connect(&self.path).map_err(away)?;
        // Two leaders of one cluster may meet here: the row of the first stays.
        connection
            .execute(
                "INSERT INTO dtask_cursor (one, cluster_id, epoch, through) VALUES (1, ?, ?, 0) \
                 ON CONFLICT (one) DO NOTHING",
                params![cluster_text(cluster), signed(fresh_epoch())],
            )
            .map_err(away)?;
        let Some(claim) = read_claim(&connection).map_err(away)? else {
            return Err(WriteError::Away("its cursor row is gone".into()));
        };
        check_cluster(&claim.cluster, cluster)?;
        self.connection = Some(connection);
        Ok(claim.cursor)
    }

    async fn store(&mut self, batch: &HistoryBatch) -> Result<u64, WriteError> {
        let Some(mut connection) = self.connection.take() else {
            return Err(WriteError::Away("it is not open".into()));
        };
        match Self::attempt(&mut connection, batch) {
            Ok(true) => {
                self.connection = Some(connection);
                Ok(batch.through)
            }
            Ok(false) => {
                self.connection = Some(connection);
                self.resolve(batch)
            }
            // The commit may have happened before its answer was lost: a fresh connection's view
            // of the cursor decides. A batch that is there counts as stored.
            Err(error) => {
                drop(connection);
                // P9.3: rows written again leave the cursor where it is, so it proves nothing; a
                // repeat does no harm.
                if batch.after == batch.through {
                    return Err(away(error));
                }
                match self.resolve(batch) {
                    Ok(through) => Ok(through),
                    Err(WriteError::Moved { found, after }) if found == after => Err(away(error)),
                    Err(other) => Err(other),
                }
            }
        }
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err((_, error)) = connection.close()
        {
            tracing::debug!(%error, "the history database was not closed cleanly");
        }
    }
}

/// Makes the file and its tables, or brings them up to date.
async fn migrate(path: &Path) -> Result<(), WriteError> {
    let mut connection = table_options(path).connect().await.map_err(away)?;
    MIGRATIONS
        // `run` asks for a bound that a future across threads cannot meet (rust-lang 100013).
        .run_direct(None, &mut connection, false)
        .await
        .map_err(|error| WriteError::Away(format!("its tables cannot be made: {error}")))?;
    connection.close().await.map_err(away)
}

fn read_claim(connection: &Connection) -> rusqlite::Result<Option<Claim>> {
    connection
        .query_row("SELECT cluster_id, epoch, through FROM dtask_cursor WHERE one = 1", [], |row| {
            let (epoch, through): (i64, i64) = (row.get(1)?, row.get(2)?);
            let cursor = Cursor { epoch: epoch.unsigned_abs(), through: through.unsigned_abs() };
            Ok(Claim { cluster: row.get(0)?, cursor })
        })
        .optional()
}

fn away(error: impl std::fmt::Display) -> WriteError {
    WriteError::Away(error.to_string())
}
