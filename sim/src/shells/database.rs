//! The history database as the runtime's history task uses it: on a machine of its own, so that a
//! transaction ends although its sender has died; slow, away, failing, silent about a COMMIT.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dtask_core::id::ClusterId;
use dtask_core::rng::Rng;
use dtask_core::state::history::HistoryBatch;
use dtask_runtime::history::{Cursor, WriteError, Writer};
use madsim::runtime::NodeHandle;
use tokio::sync::oneshot;

use super::books::Witness;
use super::clock::at;
use super::draw::HistoryDraw;
use super::run::Sabotage;
use super::seen;
use crate::check::Violation;
use crate::check::history::s18_rows_are_committed;
use crate::world::config::{around, log_uniform};

/// The epoch that the first opener draws.
const EPOCH: u64 = 77;

/// The database's machine. Clones share it.
#[derive(Clone)]
pub struct Database {
    witness: Witness,
    machine: NodeHandle,
    draw: HistoryDraw,
    sabotage: Sabotage,
    rng: Arc<Mutex<Rng>>,
}

impl Database {
    /// An empty database.
    pub fn new(
        witness: Witness,
        machine: NodeHandle,
        draw: HistoryDraw,
        sabotage: Sabotage,
        rng: Rng,
    ) -> Self {
        Self { witness, machine, draw, sabotage, rng: Arc::new(Mutex::new(rng)) }
    }

    /// One connection of a leader.
    pub fn writer(&self) -> SimWriter {
        SimWriter { database: self.clone() }
    }

    /// The books, where its rows are.
    pub const fn witness(&self) -> &Witness {
        &self.witness
    }

    fn chance(&self, permille: u64) -> bool {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.chance(permille, 1_000) && !self.witness.books().healed
    }

    /// How long a statement takes.
    fn long(&self) -> Duration {
        let slow = self.chance(self.draw.slow_permille);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let rng = &mut *rng;
        Duration::from_micros(if slow {
            log_uniform(rng, 200_000, 8_000_000)
        } else {
            around(rng, self.draw.commit)
        })
    }

    /// Waits as long as a statement takes; an error when the database is away.
    pub async fn reach(&self) -> Result<(), String> {
        tokio::time::sleep(self.long()).await;
        let mut books = self.witness.books();
        if books.history.down_until > at() {
            books.seen.hit(seen::HISTORY_AWAY);
            return Err("unplugged".to_owned());
        }
        Ok(())
    }

    /// A transaction, on the database's machine.
    fn commit(&self, batch: &HistoryBatch) -> Result<u64, WriteError> {
        let away = |why: &str| Err(WriteError::Away(why.to_owned()));
        if self.chance(self.draw.fail_permille) {
            return away("serialization failure");
        }
        let silent = self.chance(self.draw.ack_lost_permille);
        let mut books = self.witness.books();
        books.note(0, "transaction", [batch.after, batch.through, u64::from(silent)]);
        let found = books.history.through();
        if found >= batch.through {
            return Ok(found);
        }
        if books.history.store(batch).is_err() {
            return Err(WriteError::Moved { found, after: batch.after });
        }
        let verdict = s18_rows_are_committed(&books.chain, batch);
        books.judge(verdict);
        if silent {
            books.seen.hit(seen::COMMIT_ACK_LOST);
            return away("connection lost during COMMIT");
        }
        Ok(batch.through)
    }
}

/// A leader's connection.
pub struct SimWriter {
    database: Database,
}

impl Writer for SimWriter {
    async fn open(&mut self, cluster: ClusterId) -> Result<Cursor, WriteError> {
        self.database.reach().await.map_err(WriteError::Away)?;
        let mut books = self.database.witness.books();
        match books.history.open(cluster, EPOCH) {
            Ok(cursor) => Ok(Cursor { epoch: cursor.epoch, through: cursor.through }),
            Err(_) => {
                books.judge(Err(Violation::new("S18", "a node opens a foreign database")));
                Err(WriteError::Away("foreign".to_owned()))
            }
        }
    }

    async fn store(&mut self, batch: &HistoryBatch) -> Result<u64, WriteError> {
        let (through, (told, answer)) = (batch.through, oneshot::channel());
        let (database, batch) = (self.database.clone(), batch.clone());
        self.database.machine.spawn(async move {
            let result = match database.reach().await {
                Ok(()) => database.commit(&batch),
                Err(why) => Err(WriteError::Away(why)),
            };
            // A sender that has died does not learn of it.
            drop(told.send(result));
        });
        if self.database.sabotage == Sabotage::StoredBeforeCommit {
            return Ok(through);
        }
        answer.await.unwrap_or_else(|_| Err(WriteError::Away("connection lost".to_owned())))
    }

    async fn close(&mut self) {}
}
