//! The history outbox on its way to the database (P9.1–P9.3): one batch at a time, offered again
//! after a failure; the database is never needed to decide.

use alloc::boxed::Box;
use core::time::Duration;

use crate::id::ClusterId;
use crate::limits;
use crate::machine::Outbox;
use crate::node::io::{Effect, Note};
use crate::state::State;
use crate::time::Instant;

/// Fewer changes than this wait for company, as long as [`COMPANY`].
const BATCH_CHANGES_MIN: u64 = 1_000;
/// How long a change waits for company: the commit's fsync is then a small part (datapath).
const COMPANY: Duration = Duration::from_millis(50);
/// After a failed transaction the database is opened anew, not sooner than this.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What a database's word leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing further.
    Nothing,
    /// The log should be told that history has everything up to `through`.
    Stored {
        /// The database's epoch.
        epoch: u64,
        /// The last change that it holds.
        through: u64,
    },
    /// A round begun from here on must confirm this leader; then [`Projection::confirmed`] is
    /// called with the same numbers.
    Confirm {
        /// The database's epoch.
        epoch: u64,
        /// The last change that it holds.
        through: u64,
    },
}

/// Where the projection of one leadership stands.
#[derive(Debug)]
pub struct Projection {
    cluster: ClusterId,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `OpenHistory` was asked for; the host tries until it succeeds.
    Opening,
    /// The database is ready; the next batch begins after `through`.
    Idle { epoch: u64, through: u64, lonely_since: Option<Instant> },
    /// The cursor stands below what is in memory: current tasks are written again from `slot` on.
    Behind { epoch: u64, through: u64, slot: u64 },
    /// A batch is out that ends at `through`; behind it, tasks are written again from `then` on.
    Storing { through: u64, then: Option<u64> },
    /// The cursor stands above what this node has applied: a newer leader's word, or another log's.
    /// Nothing is stored until a ReadIndex round or the end of this leadership tells which.
    Ahead { epoch: u64, through: u64 },
    /// A transaction failed; open anew at this moment.
    Failed { reopen: Instant },
    /// `--history none`: the leader lets ended tasks go by itself.
    Nowhere,
    /// The database is not ours to write: a foreign one, or a newer copy.
    Foreign,
}

impl Projection {
    /// Asks for the database.
    pub fn open(cluster: ClusterId, out: &mut Outbox<Effect>) -> Self {
        out.push(Effect::OpenHistory { cluster });
        Self { cluster, phase: Phase::Opening }
    }

    /// The database is ready and holds changes up to `through`.
    pub fn ready(
        &mut self,
        epoch: u64,
        through: u64,
        state: &State,
        out: &mut Outbox<Effect>,
    ) -> Heard {
        if matches!(self.phase, Phase::Storing { .. }) {
            return Heard::Nothing;
        }
        if epoch == 0 {
            self.phase = Phase::Nowhere;
            return Heard::Nothing;
        }
        // P9.2: replicated state remembers which database it writes.
        let known = state.history_epoch();
        if known != 0 && known != epoch {
            self.refused(&alloc::format!("its epoch is {epoch}, the log's is {known}"), out);
            return Heard::Nothing;
        }
        if through > state.changes() {
            return self.wait_for(epoch, through, state, out);
        }
        if through < state.stored() {
            out.push(Effect::Note(Note::Warning {
                text: alloc::format!(
                    "history ends at change {through}, and changes up to {} have left memory: the \
                     database was restored from an older copy, or was away for too long; the gap \
                     is noted there and all current tasks are written again",
                    state.stored()
                ),
            }));
            self.phase = Phase::Behind { epoch, through, slot: 0 };
            return Heard::Nothing;
        }
        self.phase = Phase::Idle { epoch, through, lonely_since: None };
        if through > state.stored() { Heard::Stored { epoch, through } } else { Heard::Nothing }
    }

    /// P9.3: a cursor above our changes. A leader has applied all that was ever committed when it
    /// was elected, so either a newer one is writing and this one has not heard of it, or the rows
    /// are another log's. Only a round begun from here on tells which.
    fn wait_for(
        &mut self,
        epoch: u64,
        through: u64,
        state: &State,
        out: &mut Outbox<Effect>,
    ) -> Heard {
        let text = alloc::format!(
            "history holds change {through}, this node has applied changes up to {}: a newer \
             leader may be writing; nothing is stored until the other nodes have answered",
            state.changes()
        );
        out.push(Effect::Note(Note::Warning { text }));
        self.phase = Phase::Ahead { epoch, through };
        Heard::Confirm { epoch, through }
    }

    /// A round has confirmed that this node led after it had heard of a cursor above its changes:
    /// no newer leader wrote there. That our own changes have those numbers by now would prove
    /// nothing: they are others than the rows' (decision 6).
    pub fn confirmed(&mut self, epoch: u64, through: u64, out: &mut Outbox<Effect>) {
        if self.phase == (Phase::Ahead { epoch, through }) {
            let why = alloc::format!("it held change {through} before this log had one");
            self.refused(&why, out);
        }
    }

    /// A transaction committed, or an earlier one had.
    pub fn stored(
        &mut self,
        epoch: u64,
        through: u64,
        state: &State,
        out: &mut Outbox<Effect>,
    ) -> Heard {
        let Phase::Storing { through: expected, then } = self.phase else {
            return Heard::Nothing;
        };
        if through < expected {
            return Heard::Nothing;
        }
        if through > expected {
            // The cursor stands where another leader left it: as after an open.
            self.phase = Phase::Opening;
            return self.ready(epoch, through, state, out);
        }
        match then {
            Some(slot) => {
                self.phase = Phase::Behind { epoch, through, slot };
                Heard::Nothing
            }
            None => {
                self.phase = Phase::Idle { epoch, through, lonely_since: None };
                Heard::Stored { epoch, through }
            }
        }
    }

    /// Whether there is no database and never will be (P9.5).
    pub fn is_nowhere(&self) -> bool {
        self.phase == Phase::Nowhere
    }

    /// The database is not this cluster's, or the log refused its word: nothing is stored from
    /// here on in this leadership.
    pub fn refused(&mut self, why: &str, out: &mut Outbox<Effect>) {
        self.phase = Phase::Foreign;
        let text = alloc::format!(
            "history belongs to another cluster, or is a newer copy than the log: {why}; nothing \
             is stored until another database is given"
        );
        out.push(Effect::Note(Note::HistoryRefused { text }));
    }

    /// The database cannot be reached, or refused.
    pub fn failed(&mut self, now: Instant) {
        match self.phase {
            Phase::Storing { .. }
            | Phase::Idle { .. }
            | Phase::Behind { .. }
            | Phase::Ahead { .. } => self.phase = Phase::Failed { reopen: now + REOPEN_AFTER },
            Phase::Opening | Phase::Failed { .. } | Phase::Nowhere | Phase::Foreign => {}
        }
    }

    /// Offers the next batch when it is time.
    pub fn offer(&mut self, now: Instant, state: &State, out: &mut Outbox<Effect>) {
        match &mut self.phase {
            Phase::Opening
            | Phase::Storing { .. }
            | Phase::Ahead { .. }
            | Phase::Nowhere
            | Phase::Foreign => {}
            Phase::Failed { reopen } => {
                if *reopen <= now {
                    *self = Self::open(self.cluster, out);
                }
            }
            Phase::Behind { epoch, through, slot } => {
                let max = limits::HISTORY_BATCH_CHANGES_MAX;
                let (mut batch, then) = state.history_again(*through, *slot, max);
                batch.cluster = self.cluster;
                batch.epoch = *epoch;
                self.phase = Phase::Storing { through: batch.through, then };
                out.push(Effect::StoreHistory(Box::new(batch)));
            }
            // P9.5: changes were dropped that this database was to get.
            Phase::Idle { epoch, through, .. } if *through < state.stored() => {
                self.phase = Phase::Behind { epoch: *epoch, through: *through, slot: 0 };
                self.offer(now, state, out);
            }
            Phase::Idle { epoch, through, lonely_since } => {
                let waiting = state.changes().saturating_sub(*through);
                if waiting == 0 {
                    return;
                }
                let since = *lonely_since.get_or_insert(now);
                if waiting < BATCH_CHANGES_MIN && now < since + COMPANY {
                    return;
                }
                let (epoch, after) = (*epoch, *through);
                let max = limits::HISTORY_BATCH_CHANGES_MAX;
                let Some(mut batch) = state.history_batch(after, max) else {
                    *lonely_since = None;
                    return;
                };
                batch.cluster = self.cluster;
                batch.epoch = epoch;
                self.phase = Phase::Storing { through: batch.through, then: None };
                out.push(Effect::StoreHistory(Box::new(batch)));
            }
        }
    }

    /// When to call [`Projection::offer`] although nothing happened.
    pub fn next(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle { lonely_since: Some(since), .. } => Some(since + COMPANY),
            Phase::Failed { reopen } => Some(reopen),
            Phase::Idle { lonely_since: None, .. }
            | Phase::Behind { .. }
            | Phase::Ahead { .. }
            | Phase::Opening
            | Phase::Storing { .. }
            | Phase::Nowhere
            | Phase::Foreign => None,
        }
    }
}
