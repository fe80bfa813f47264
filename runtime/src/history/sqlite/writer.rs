//! The leader's connection: the cursor's compare-and-set, and the rows behind it (P9.2).

use std::path::PathBuf;

use dtask_core::id::ClusterId;
use dtask_core::state::history::HistoryBatch;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use super::{statements, writer_options};
use crate::history::claim::{check_cluster, cluster_text, fresh_epoch};
use crate::history::queries::signed;
use crate::history::writer::{Cursor, WriteError, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Writes history into one SQLite file.
#[derive(Debug)]
pub struct SqliteWriter {
    path: PathBuf,
    connection: Option<SqliteConnection>,
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

    async fn connect(&self) -> sqlx::Result<SqliteConnection> {
        writer_options(&self.path).connect().await
    }

    /// One transaction. `Ok(false)`: the cursor did not stand at `after`, and nothing was written.
    async fn attempt(
        connection: &mut SqliteConnection,
        batch: &HistoryBatch,
    ) -> sqlx::Result<bool> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        // P9.2: the compare-and-set is the first statement.
        let moved = sqlx::query(
            "UPDATE dtask_cursor SET through = ?4 \
             WHERE one = 1 AND cluster_id = ?1 AND epoch = ?2 AND through = ?3",
        )
        .bind(cluster_text(batch.cluster))
        .bind(signed(batch.epoch))
        .bind(signed(batch.after))
        .bind(signed(batch.through))
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() != 1 {
            transaction.rollback().await?;
            return Ok(false);
        }
        if let Some(gap) = &batch.gap {
            statements::gap(&mut transaction, gap).await?;
        }
        statements::tasks(&mut transaction, &batch.tasks).await?;
        statements::runs(&mut transaction, &batch.runs).await?;
        statements::attempts(&mut transaction, &batch.attempts).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// What the cursor row says about a batch that was not, or not surely, stored.
    async fn resolve(&mut self, batch: &HistoryBatch) -> Result<u64, WriteError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(away)?,
        };
        let claim = read_claim(&mut connection).await.map_err(away)?;
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
        let mut connection = self.connect().await.map_err(away)?;
        MIGRATIONS
            // `run` asks for a bound that a future across threads cannot meet (rust-lang 100013).
            .run_direct(None, &mut connection, false)
            .await
            .map_err(|error| WriteError::Away(format!("its tables cannot be made: {error}")))?;
        // Two leaders of one cluster may meet here: the row of the first stays.
        sqlx::query(
            "INSERT INTO dtask_cursor (one, cluster_id, epoch, through) VALUES (1, ?, ?, 0) \
             ON CONFLICT (one) DO NOTHING",
        )
        .bind(cluster_text(cluster))
        .bind(signed(fresh_epoch()))
        .execute(&mut connection)
        .await
        .map_err(away)?;
        let Some(claim) = read_claim(&mut connection).await.map_err(away)? else {
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
        match Self::attempt(&mut connection, batch).await {
            Ok(true) => {
                self.connection = Some(connection);
                Ok(batch.through)
            }
            Ok(false) => {
                self.connection = Some(connection);
                self.resolve(batch).await
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
                match self.resolve(batch).await {
                    Ok(through) => Ok(through),
                    Err(WriteError::Moved { found, after }) if found == after => Err(away(error)),
                    Err(other) => Err(other),
                }
            }
        }
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the history database was not closed cleanly");
        }
    }
}

async fn read_claim(connection: &mut SqliteConnection) -> sqlx::Result<Option<Claim>> {
    let row: Option<(String, i64, i64)> =
        sqlx::query_as("SELECT cluster_id, epoch, through FROM dtask_cursor WHERE one = 1")
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(cluster, epoch, through)| Claim {
        cluster,
        cursor: Cursor { epoch: epoch.unsigned_abs(), through: through.unsigned_abs() },
    }))
}

fn away(error: sqlx::Error) -> WriteError {
    WriteError::Away(error.to_string())
}
