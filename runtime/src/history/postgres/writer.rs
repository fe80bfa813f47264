//! The leader's connection: the cursor's compare-and-set, and the rows behind it (P9.2).

use std::time::Duration;

use dtask_core::id::ClusterId;
use dtask_core::state::history::HistoryBatch;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Error, Executor as _, Result};

use super::url::PostgresUrl;
use super::{CONNECT_TIMEOUT, settings, statements};
use crate::history::claim::{check_cluster, cluster_text, fresh_epoch};
use crate::history::queries::signed;
use crate::history::writer::{Cursor, WriteError, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long the server may take for one statement, and wait for one lock.
const STATEMENT_MAX: Duration = Duration::from_secs(20);
/// How long it may take to change its tables: an index over a year of history is among them.
const MIGRATION_MAX: Duration = Duration::from_secs(3_600);

/// Writes history into one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresWriter {
    url: PostgresUrl,
    /// How long the server may take for one statement.
    statement_max: Duration,
    connection: Option<PgConnection>,
}

/// The cursor row as it stands.
struct Claim {
    cluster: String,
    cursor: Cursor,
}

impl PostgresWriter {
    /// A writer of the database at `url`, whose tables the first leader makes.
    pub const fn new(url: PostgresUrl) -> Self {
        Self { url, statement_max: STATEMENT_MAX, connection: None }
    }

    /// The same writer, to be opened, for a server that may take at most `max` for one statement,
    /// and half as long again for a transaction.
    #[must_use]
    pub fn patience(mut self, max: Duration) -> Self {
        self.statement_max = max;
        self
    }

    fn transaction_max(&self) -> Duration {
        self.statement_max * 3 / 2
    }

    async fn connect(&self) -> Result<PgConnection> {
        let mut connection = in_time(CONNECT_TIMEOUT, self.url.options.connect()).await?;
        // P9.4: what was reported as stored survives a power cut, whatever the server's default.
        let own = "SET synchronous_commit = on; SET default_transaction_isolation = 'read \
                   committed'; SET default_transaction_read_only = off; ";
        let sql = format!("{own}{}", settings(self.statement_max));
        in_time(CONNECT_TIMEOUT, connection.execute(sqlx::raw_sql(AssertSqlSafe(sql)))).await?;
        Ok(connection)
    }

    /// Whether the tables are those of this program, or of a newer one: it only adds.
    async fn is_current(&self, connection: &mut PgConnection) -> Result<bool> {
        in_time(self.statement_max, async {
            let known = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
            if !sqlx::query_scalar::<_, bool>(known).fetch_one(&mut *connection).await? {
                return Ok(false);
            }
            let done = "SELECT count(*) FROM _sqlx_migrations WHERE success";
            let done: i64 = sqlx::query_scalar(done).fetch_one(connection).await?;
            Ok(done >= MIGRATIONS.iter().count() as i64)
        })
        .await
    }

    /// Makes or changes the tables. Only the leader does (P9.2), under an advisory lock in case a
    /// deposed one still believes that it leads.
    async fn migrate(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        connection.execute("SET statement_timeout = 0").await?;
        in_time(MIGRATION_MAX, async {
            // `run` asks for a bound that a future across threads cannot meet (rust-lang 100013).
            MIGRATIONS.run_direct(None, &mut connection, false).await?;
            connection.close().await
        })
        .await
    }

    async fn claim(&mut self, cluster: ClusterId) -> Result<(PgConnection, Option<Claim>)> {
        let mut connection = self.connect().await?;
        if !self.is_current(&mut connection).await? {
            self.migrate().await?;
        }
        let claim = in_time(self.statement_max, async {
            // Two leaders of one cluster may meet here: the row of the first stays.
            sqlx::query(
                "INSERT INTO dtask_cursor (one, cluster_id, epoch, through) \
                 VALUES (1, $1, $2, 0) ON CONFLICT (one) DO NOTHING",
            )
            .bind(cluster_text(cluster))
            .bind(signed(fresh_epoch()))
            .execute(&mut connection)
            .await?;
            read_claim(&mut connection).await
        });
        let claim = claim.await?;
        Ok((connection, claim))
    }

    /// One transaction. `Ok(false)`: the cursor did not stand at `after`, and nothing was written.
    async fn attempt(connection: &mut PgConnection, batch: &HistoryBatch) -> Result<bool> {
        let mut transaction = connection.begin().await?;
        // P9.2: the compare-and-set is the first statement. A second writer waits here for the
        // first one's row lock, and then finds the cursor moved.
        let moved = sqlx::query(
            "UPDATE dtask_cursor SET through = $4 \
             WHERE one = 1 AND cluster_id = $1 AND epoch = $2 AND through = $3",
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
    ///
    /// 1. The server commits and its answer is lost; or it is stopped before or in COMMIT.
    /// 2. A fresh connection reads the cursor. At or beyond the batch's end: it is stored.
    /// 3. Still at its beginning: the transaction may be alive and commit yet. The batch is offered
    ///    again, waits for that transaction's row lock, and finds the cursor moved, or stores.
    async fn resolve(&mut self, batch: &HistoryBatch) -> Result<u64, WriteError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(|error| self.away(&error))?,
        };
        let claim = in_time(self.statement_max, read_claim(&mut connection)).await;
        let Some(Claim { cluster, cursor }) = claim.map_err(|error| self.away(&error))? else {
            return Err(self.away_because("its cursor row is gone"));
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

    fn away(&self, error: &Error) -> WriteError {
        self.away_because(&error.to_string())
    }

    fn away_because(&self, why: &str) -> WriteError {
        WriteError::Away(format!("{}: {}", self.url, self.url.hide(why)))
    }
}

impl Writer for PostgresWriter {
    async fn open(&mut self, cluster: ClusterId) -> Result<Cursor, WriteError> {
        self.connection = None;
        let (connection, claim) = self.claim(cluster).await.map_err(|error| self.away(&error))?;
        let Some(claim) = claim else {
            return Err(self.away_because("its cursor row is gone"));
        };
        check_cluster(&claim.cluster, cluster)?;
        self.connection = Some(connection);
        Ok(claim.cursor)
    }

    async fn store(&mut self, batch: &HistoryBatch) -> Result<u64, WriteError> {
        let Some(mut connection) = self.connection.take() else {
            return Err(self.away_because("it is not open"));
        };
        // A server that is stopped in its tracks ends no statement: this side counts as well.
        match in_time(self.transaction_max(), Self::attempt(&mut connection, batch)).await {
            Ok(true) => {
                self.connection = Some(connection);
                Ok(batch.through)
            }
            Ok(false) => {
                self.connection = Some(connection);
                self.resolve(batch).await
            }
            Err(error) => {
                drop(connection);
                // P9.3: rows written again leave the cursor where it is, so it proves nothing; a
                // repeat does no harm.
                if batch.after == batch.through {
                    return Err(self.away(&error));
                }
                match self.resolve(batch).await {
                    Ok(through) => Ok(through),
                    Err(WriteError::Moved { found, after }) if found == after => {
                        Err(self.away(&error))
                    }
                    Err(other) => Err(other),
                }
            }
        }
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = in_time(CONNECT_TIMEOUT, connection.close()).await
        {
            tracing::debug!(error = %self.away(&error), "history was not closed cleanly");
        }
    }
}

async fn read_claim(connection: &mut PgConnection) -> Result<Option<Claim>> {
    let row: Option<(String, i64, i64)> =
        sqlx::query_as("SELECT cluster_id, epoch, through FROM dtask_cursor WHERE one = 1")
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(cluster, epoch, through)| Claim {
        cluster,
        cursor: Cursor { epoch: epoch.unsigned_abs(), through: through.unsigned_abs() },
    }))
}

/// An answer in time, or none.
async fn in_time<T>(max: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(max, answer).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} s", max.as_secs());
        Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, detail)))
    })
}
