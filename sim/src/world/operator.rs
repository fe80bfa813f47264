//! The operator, who is chaos in the safety phase and order in the liveness phase.

use dtask_core::worker::Input as WorkerInput;

use super::World;
use super::config::{around, log_uniform};
use super::event::{Event, Fault, Life};
use super::trace::Probe;
use super::worker::{KINDS, WorkerHost};

impl World {
    /// Schedules the first fault of each drawn class.
    pub(super) fn operator_begins(&mut self) {
        for fault in [
            Fault::Crash,
            Fault::Partition,
            Fault::Pause,
            Fault::ClockStep,
            Fault::WorkerDeath,
            Fault::WorkerReset,
            Fault::WorkerPause,
            Fault::WorkerDrain,
            Fault::HistoryOutage,
            Fault::HistoryRestore,
        ] {
            self.again_later(fault);
        }
        self.agenda.push(self.config.safety_micros, Event::Fault(Fault::Heal));
    }

    fn again_later(&mut self, fault: Fault) {
        let config = &self.config;
        let every = match fault {
            Fault::Crash => config.process.crash_every,
            Fault::Partition => config.net.partition_every,
            Fault::Pause => config.process.pause_every,
            Fault::ClockStep => config.clock.step_every,
            Fault::WorkerDeath => config.worker.death_every,
            Fault::WorkerReset => config.worker.reset_every,
            Fault::WorkerPause => config.worker.pause_every,
            Fault::WorkerDrain => config.worker.drain_every,
            Fault::HistoryOutage => config.history.outage_every,
            Fault::HistoryRestore => config.history.restore_every,
            Fault::HistoryReset
            | Fault::Restart(_)
            | Fault::WorkerStart(_)
            | Fault::Odd
            | Fault::Heal => 0,
        };
        if every > 0 {
            let at = self.at + 1 + around(&mut self.rng.operator, every);
            self.agenda.push(at, Event::Fault(fault));
        }
    }

    /// The operator strikes.
    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Heal => return self.heal(),
            Fault::Restart(who) => return self.node_start(who),
            Fault::WorkerStart(who) => return self.worker_start(who),
            Fault::Odd => return self.odd_strikes(),
            _ if self.healed => return,
            Fault::HistoryReset => return self.history_reset(),
            _ => self.again_later(fault),
        }
        let nodes = self.config.nodes as u64;
        let node = self.draw_node(nodes);
        let worker = (self.spare > 0).then(|| self.rng.operator.below(self.spare as u64) as usize);
        match (fault, worker) {
            (Fault::Crash, _) => self.crash(node),
            (Fault::Partition, _) => self.partition(),
            (Fault::Pause, _) => self.pause(node),
            (Fault::ClockStep, _) => self.clock_step(node),
            (Fault::HistoryOutage, _) => {
                let long =
                    log_uniform(&mut self.rng.operator, 10_000, self.config.history.outage_max);
                self.history.down_until = self.history.down_until.max(self.at + long);
                self.note(0, "database away", [long, 0, 0]);
            }
            (Fault::HistoryRestore, _) => self.history_restore(),
            (Fault::WorkerDeath, Some(who)) => {
                self.worker_die(who);
                let down = log_uniform(&mut self.rng.operator, 10_000, 20_000_000);
                self.agenda.push(self.at + down, Event::Fault(Fault::WorkerStart(who)));
            }
            (Fault::WorkerReset, Some(who)) => self.link_break(who),
            (Fault::WorkerPause, Some(who)) => {
                let long = log_uniform(&mut self.rng.operator, 100_000, 40_000_000);
                self.worker_pause(who, long);
            }
            (Fault::WorkerDrain, Some(who)) => {
                let within = std::time::Duration::from_micros(self.rng.operator.below(20_000_000));
                self.note(101 + who as u32, "drains", [0, 0, 0]);
                self.worker_feed(who, WorkerInput::Drain { within });
            }
            _ => {}
        }
    }

    /// The leader is hit as often as all others together.
    fn draw_node(&mut self, nodes: u64) -> usize {
        let leader = self.nodes.iter().position(|node| node.leads_since.is_some());
        match leader {
            Some(leader) if self.rng.operator.chance(1, 2) => leader,
            _ => self.rng.operator.below(nodes) as usize,
        }
    }

    fn crash(&mut self, node: usize) {
        if self.config.process.power_loss && self.rng.operator.chance(1, 5) {
            self.probes.hit(Probe::PowerLoss);
            for node in 0..self.config.nodes {
                self.strike(node);
            }
        } else if self.config.process.between_effects && self.rng.operator.chance(1, 2) {
            let effects = self.rng.operator.below(30) as u32;
            self.nodes[node].fuse = Some(effects);
        } else {
            self.strike(node);
        }
    }

    /// A node dies now and comes back later.
    pub(super) fn strike(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let power = self.config.disk.lossy && self.rng.operator.chance(3, 4);
        let vouched = self.nodes[node].log.vouched();
        self.node_crash(node, power);
        self.rot(node, vouched);
        let down =
            log_uniform(&mut self.rng.operator, 1_000, self.config.process.down_max.max(2_000));
        self.agenda.push(self.at + down, Event::Fault(Fault::Restart(node)));
    }

    fn partition(&mut self) {
        let long = log_uniform(&mut self.rng.operator, 100_000, self.config.net.partition_max);
        let until = self.at + long;
        let one_way = self.config.net.one_way && self.rng.operator.chance(1, 2);
        let places = self.config.nodes + self.workers.len() + 1;
        // One side is drawn: a single machine now and then, else any subset.
        let side: Vec<bool> = if self.rng.operator.chance(1, 2) {
            let lonely = self.draw_node(self.config.nodes as u64);
            (0..places).map(|place| place == lonely).collect()
        } else {
            (0..places).map(|_| self.rng.operator.chance(1, 2)).collect()
        };
        if one_way {
            self.probes.hit(Probe::OneWay);
        }
        for from in 0..places {
            for to in 0..places {
                if side[from] && !side[to] {
                    self.net.cut(from, to, until);
                    if !one_way {
                        self.net.cut(to, from, until);
                    }
                }
            }
        }
        self.note(0, "partition", [long, u64::from(one_way), 0]);
        // The broken switch carried the database too: whoever led opens it anew, perhaps beside its
        // successor and before it knows of it.
        if self.config.history.resets {
            let at = self.at + 1 + self.rng.operator.below(1_000_000);
            self.agenda.push(at, Event::Fault(Fault::HistoryReset));
        }
    }

    fn pause(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let long = log_uniform(&mut self.rng.operator, 10_000, self.config.process.pause_max);
        let until = self.at + long;
        let host = &mut self.nodes[node];
        host.paused_until = host.paused_until.max(until);
        if host.leads_since.is_some() {
            self.probes.hit(Probe::LeaderPaused);
        }
        let life = Life { who: node, life: self.nodes[node].life };
        self.agenda.push(self.nodes[node].paused_until, Event::NodeResume(life));
        self.note(node as u32 + 1, "pauses", [long, 0, 0]);
    }

    fn worker_pause(&mut self, who: usize, long: u64) {
        let until = self.at + long;
        let host = &mut self.workers[who];
        if host.driver.is_none() {
            return;
        }
        host.paused_until = host.paused_until.max(until);
        let life = Life { who, life: host.life };
        self.agenda.push(host.paused_until, Event::WorkerResume(life));
        self.note(101 + who as u32, "pauses", [long, 0, 0]);
    }

    fn clock_step(&mut self, node: usize) {
        let size = log_uniform(&mut self.rng.operator, 1_000, self.config.clock.step_max) as i64;
        let micros = if self.rng.operator.chance(1, 2) { size } else { -size };
        self.nodes[node].clock.step(micros);
        if self.nodes[node].leads_since.is_some() {
            self.probes.hit(Probe::ClockStepLeader);
        }
        self.note(node as u32 + 1, "clock steps", [micros as u64, 0, 0]);
    }

    /// The safety phase is over: a random core (a quorum) is healed, every other fault becomes
    /// permanent, and the core must converge.
    fn heal(&mut self) {
        self.healed = true;
        self.healed_at = self.at;
        self.heal_time = self.chain.ledger().at();
        self.note(0, "heals", [0, 0, 0]);
        let mut nodes: Vec<usize> =
            (0..self.config.nodes).filter(|&node| !self.nodes[node].rotten).collect();
        let quorum = self.config.nodes / 2 + 1;
        let spare = (self.config.nodes - quorum) as u64;
        let core = quorum + self.rng.operator.below(spare + 1) as usize;
        // P4.1: who has not met every voter cannot go on without one of them; such a stall is no
        // finding, so while there is one, all are healed.
        let formed = self.nodes.iter().all(|node| node.image.is_formed());
        while formed && nodes.len() > core {
            let out = self.rng.operator.below(nodes.len() as u64) as usize;
            let out = nodes.swap_remove(out);
            self.node_crash(out, false);
            // Its life is over for good.
            self.nodes[out].life += 1;
        }
        nodes.sort_unstable();
        self.core = nodes;
        self.net.heal();
        // P9.5: what was accepted goes on without history, for longer than L3's bound.
        self.history.down_until = match self.config.history.stays_away {
            0 => 0,
            long => self.at + long,
        };
        self.config.history.ack_lost_permille = 0;
        self.config.history.fail_permille = 0;
        self.config.history.slow_permille = 0;
        self.config.piece_bytes = self.config.piece_bytes.max(16_384);
        self.config.disk.slow_per_10k = 0;
        self.config.disk.fail_per_10k = 0;
        self.config.disk.full_per_10k = 0;
        for place in 0..self.config.nodes {
            self.nodes[place].fuse = None;
            self.nodes[place].clock.heal();
            self.thaw_node(place);
        }
        for place in self.core.clone() {
            self.node_start(place);
        }
        self.heal_workers();
        self.liveness_begins();
        self.plan_odd();
    }

    fn thaw_node(&mut self, who: usize) {
        let host = &mut self.nodes[who];
        if host.paused_until > self.at {
            host.paused_until = 0;
            let life = Life { who, life: host.life };
            self.agenda.push(self.at, Event::NodeResume(life));
        }
    }

    /// Every worker comes back, and the two spare ones start.
    fn heal_workers(&mut self) {
        for who in 0..self.workers.len() {
            let host = &mut self.workers[who];
            host.clock.heal();
            if host.paused_until > self.at {
                host.paused_until = 0;
                let life = Life { who, life: host.life };
                self.agenda.push(self.at, Event::WorkerResume(life));
            }
            if who >= self.spare {
                // One serves what the clients left behind, one nothing but the fresh tasks.
                let (old, new) = KINDS.split_at(3);
                let kinds = if who == self.spare { old } else { new };
                let fresh = WorkerHost::fresh(who, &self.config, &self.rng.client, kinds);
                self.workers[who] = fresh;
            }
            self.worker_start(who);
        }
    }
}
