//! What history has taken over leaves memory (P9.1).

use crate::limits;
use crate::state::facts::Dropped;
use crate::state::outbox::Change;
use crate::state::{Applied, Refusal, State};

impl State {
    /// Cleans up to `ROWS_PER_COMMAND_MAX` changes (P1.5). With more outstanding up to `through`,
    /// the rest stays: `State::stored` tells how far it came, and the leader proposes again.
    ///
    /// `newest` is the newest number before this entry: a number that is taken within it may stand
    /// for a change that history cannot have seen.
    pub(super) fn history_stored(
        &mut self,
        epoch: u64,
        through: u64,
        newest: u64,
    ) -> Result<Applied, Refusal> {
        let foreign = epoch != 0 && self.meta.epoch != 0 && self.meta.epoch != epoch;
        if through > newest || foreign {
            return Err(Refusal::Stale);
        }
        // Epoch zero stores to nowhere (`--history none`), which is no database to remember.
        if epoch != 0 {
            self.meta.epoch = epoch;
        }
        // The cursor has passed what was dropped: the database's gap row has the counts.
        if through >= self.outbox.stored() {
            self.meta.dropped = Dropped::default();
        }
        self.trim(through);
        Ok(Applied::Done)
    }

    /// P9.5: history is away and memory is short, so the oldest changes go as if they were stored,
    /// and are counted. Runs that have not ended stay: what history misses is what has.
    pub(super) fn history_dropped(
        &mut self,
        through: u64,
        newest: u64,
    ) -> Result<Applied, Refusal> {
        if through > newest {
            return Err(Refusal::Stale);
        }
        let before = self.in_memory();
        self.trim(through);
        let after = self.in_memory();
        let dropped = &mut self.meta.dropped;
        dropped.tasks += before.tasks - after.tasks;
        dropped.runs += before.runs - after.runs;
        dropped.attempts += before.attempts - after.attempts;
        Ok(Applied::Done)
    }

    fn in_memory(&self) -> Dropped {
        let tasks = self.ids.live_len() as u64;
        Dropped {
            tasks,
            runs: self.slab.len() as u64 - tasks,
            attempts: self.attempts.closed_len() as u64,
        }
    }

    fn trim(&mut self, through: u64) {
        for _ in 0..limits::ROWS_PER_COMMAND_MAX {
            if self.outbox.stored() >= through {
                break;
            }
            let Some((number, change)) = self.outbox.pop() else { break };
            match change {
                Change::Record { slot, serial } => self.free_if_stored(slot, serial, number),
                Change::Attempt { token } => self.attempt_stored(token, number),
                Change::Passed => {}
            }
        }
    }

    fn attempt_stored(&mut self, token: u64, number: u64) {
        // An open attempt, or one that changed since, stays: its later number brings it back.
        let Some(attempt) = self.attempts.at(token) else { return };
        if attempt.change != number || attempt.ending.is_none() {
            return;
        }
        let (slot, serial) = (attempt.slot, attempt.serial);
        // A finished run's last attempt says why it failed: it goes with the run, whose row may be
        // written again (a delete) after the attempt's was stored.
        let last = self.slab.at(slot).is_some_and(|run| run.is_done() && run.last_token == token);
        if !last {
            self.drop_attempt(token);
        }
        self.free_if_stored(slot, serial, number);
    }

    /// Lets a closed attempt go.
    pub(super) fn drop_attempt(&mut self, token: u64) {
        self.keep_attempt_image(token);
        let Some(attempt) = self.attempts.take_closed(token) else { return };
        let row = self.digest.attempt(token, &attempt);
        self.digest.subtract(row);
        if let Some(ending) = &attempt.ending {
            self.held_bytes -= ending.bytes();
            self.pinned.remove_attempt(ending.bytes());
        }
        if let Some(instance) = self.instances.at_mut(attempt.instance) {
            instance.held -= 1;
        }
        self.drop_instance_if_unused(attempt.instance);
    }
}
