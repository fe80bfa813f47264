//! How nodes' hosts use the history database: opening with retries, one transaction at a time,
//! acknowledgements that may be lost.

use dtask_core::id::ClusterId;
use dtask_core::limits::OUTBOX_BYTES_MAX;
use dtask_core::node::Input;
use dtask_core::rng::Rng;
use dtask_core::state::history::HistoryBatch;

use super::World;
use super::config::{HistoryFaults, Profile, around, log_uniform};
use super::event::{Event, Life};
use super::history::Aborted;
use super::trace::Probe;
use crate::check::gaps::s18_a_gap_is_what_was_lost;
use crate::check::history::{s18_a_run_is_one_occasion, s18_rows_are_committed};

/// How long a host waits before it tries to open the database again.
const RETRY_MICROS: u64 = 500_000;

impl HistoryFaults {
    /// Backups and bounds so tiny that they bite.
    pub(super) fn bounds(&mut self, rng: &mut Rng, profile: Profile) {
        let odds = match profile {
            Profile::Calm => return,
            Profile::History => 2,
            _ => 8,
        };
        if rng.chance(1, odds) {
            self.restore_every = log_uniform(rng, 2_000_000, 30_000_000);
        }
        if rng.chance(1, odds) {
            self.outbox_bytes_max = log_uniform(rng, 4_000, 200_000);
            self.outage_every = log_uniform(rng, 2_000_000, 20_000_000);
            self.outage_max = 60_000_000;
            // Longer than L3's bound.
            if rng.chance(1, 4) {
                self.stays_away = log_uniform(rng, 420_000_000, 600_000_000);
            }
        }
    }

    /// What may wait for history (P9.5).
    pub const fn outbox_bound(&self) -> u64 {
        match self.outbox_bytes_max {
            0 => OUTBOX_BYTES_MAX,
            bytes => bytes,
        }
    }
}

impl World {
    /// The node `who` cannot know the epoch of a database that does not exist yet: the first
    /// opener makes it.
    const EPOCH: u64 = 77;

    /// The host tries to open the database after `wait`.
    pub(super) fn history_reopen(&mut self, who: usize, wait: u64) {
        let host = &self.nodes[who];
        let Some(cluster) = host.history.wanted else { return };
        let life = Life { who, life: host.life };
        let generation = host.history.generation;
        let at = self.at + wait + around(&mut self.rng.history, 2_000) + self.history_slow();
        self.agenda.push(at, Event::HistoryOpen(life, generation, cluster));
    }

    /// A try to open the database ends.
    pub(super) fn history_open(&mut self, who: usize, generation: u32, cluster: ClusterId) {
        if self.nodes[who].history.generation != generation {
            return;
        }
        if self.history.down_until > self.at {
            self.probes.hit(Probe::HistoryDown);
            self.note(who as u32 + 1, "database is away", [0, 0, 0]);
            self.node_feed(who, Input::HistoryFailed);
            self.history_reopen(who, RETRY_MICROS);
            return;
        }
        match self.history.open(cluster, Self::EPOCH) {
            Ok(cursor) => {
                self.note(who as u32 + 1, "database is open", [cursor.through, 0, 0]);
                let (epoch, through) = (cursor.epoch, cursor.through);
                self.probe_cursor(who, through);
                self.node_feed(who, Input::HistoryReady { epoch, through });
            }
            Err(_) => self.fail("S18", format!("node {} opens a foreign database", who + 1)),
        }
    }

    /// A batch is on its way to the database.
    pub(super) fn history_store(&mut self, who: usize, batch: Box<HistoryBatch>) {
        let host = &self.nodes[who];
        if host.history.wanted.is_none() {
            return;
        }
        let life = Life { who, life: host.life };
        let generation = host.history.generation;
        let commit = around(&mut self.rng.history, self.config.history.commit_micros);
        let at = self.at + 1 + commit + self.history_slow();
        self.agenda.push(at, Event::HistoryStore(life, generation, batch));
    }

    /// Now and then the database, or the way to it, is slow.
    fn history_slow(&mut self) -> u64 {
        let permille = self.config.history.slow_permille;
        let slow = permille > 0 && self.rng.history.chance(permille, 1_000);
        if slow { log_uniform(&mut self.rng.history, 50_000, 4_000_000) } else { 0 }
    }

    /// Every connection breaks. What was sent may still be stored; nobody is told.
    pub(super) fn history_reset(&mut self) {
        self.note(0, "database connections break", [0, 0, 0]);
        for who in 0..self.config.nodes {
            if self.nodes[who].history.wanted.is_none() {
                continue;
            }
            self.nodes[who].history.generation += 1;
            self.node_feed(who, Input::HistoryFailed);
            self.history_reopen(who, RETRY_MICROS);
        }
    }

    /// A transaction reaches the database: also one whose sender has died or was deposed.
    pub(super) fn history_commits(&mut self, life: Life, generation: u32, batch: &HistoryBatch) {
        let faults = &self.config.history;
        let fails = self.history.down_until > self.at
            || self.rng.history.chance(faults.fail_permille, 1_000);
        let silent = self.rng.history.chance(faults.ack_lost_permille, 1_000);
        let at = self.at + 1 + self.rng.history.below(faults.commit_micros.max(1));
        let numbers = [batch.after, batch.through, u64::from(fails)];
        self.note(life.who as u32 + 1, "transaction", numbers);
        if fails {
            self.agenda.push(at, Event::HistoryDone(life, generation, Err(())));
            return;
        }
        let occasions = s18_a_run_is_one_occasion(&self.history, batch);
        let result = self.history.store(batch);
        if result.is_ok() {
            let (departed, undone) = (self.chain.departed(), self.history.undone());
            let verdict =
                s18_rows_are_committed(&self.chain, batch).and(occasions).and_then(|()| {
                    s18_a_gap_is_what_was_lost(departed, undone, self.chain.state(), batch)
                });
            if let Err(violation) = verdict {
                self.violate(violation);
                return;
            }
            if batch.gap.is_some() {
                self.probes.hit(Probe::GapNoted);
            }
        }
        let result = match result {
            Ok(cursor) if !silent => Ok((cursor.epoch, cursor.through)),
            Ok(_) => {
                self.probes.hit(Probe::CommitAckLost);
                Err(())
            }
            Err(Aborted::Cursor) => {
                self.probes.hit(Probe::CursorConflict);
                // A writer that finds its batch stored, by itself or by another leader, says where
                // the cursor stands.
                let found = self.history.through();
                if found >= batch.through { Ok((batch.epoch, found)) } else { Err(()) }
            }
            Err(Aborted::Foreign) => Err(()),
        };
        self.agenda.push(at, Event::HistoryDone(life, generation, result));
    }

    /// The operator backs the database up, or restores an older backup. Transactions under way meet
    /// what they find.
    pub(super) fn history_restore(&mut self) {
        if self.rng.history.chance(1, 2) {
            self.history.back_up();
            self.note(0, "database backed up", [self.history.through(), 0, 0]);
        } else if let Some(undone) = self.history.restore() {
            self.note(0, "database restored", [self.history.through(), undone, 0]);
            if undone > 0 {
                self.probes.hit(Probe::HistoryRestored);
            }
        }
    }

    /// The host learns how its transaction ended.
    pub(super) fn history_done(
        &mut self,
        who: usize,
        generation: u32,
        result: Result<(u64, u64), ()>,
    ) {
        if self.nodes[who].history.generation != generation {
            return;
        }
        match result {
            Ok((epoch, through)) => {
                self.probe_cursor(who, through);
                self.node_feed(who, Input::HistoryStored { epoch, through });
            }
            Err(()) => {
                self.node_feed(who, Input::HistoryFailed);
                self.history_reopen(who, RETRY_MICROS);
            }
        }
    }

    /// P9.3: a node that leads by its own word hears of changes that it has not applied.
    fn probe_cursor(&mut self, who: usize, through: u64) {
        let Some(driver) = &self.nodes[who].driver else { return };
        let node = driver.machine();
        if node.is_leading() && node.state().changes() < through {
            self.probes.hit(Probe::CursorAhead);
        }
    }
}
