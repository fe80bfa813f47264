//! What a seed draws before its first event: the cluster's size, fault classes with even odds and
//! their intensities, tiny bounds, the load.

use dtask_core::rng::Rng;

use crate::check::calendar::{AUTUMN, SPRING};
use crate::world::config::{log_uniform, maybe, weights};

/// Everything that is drawn. Times are in microseconds; a mean of zero means never.
#[derive(Clone, Debug)]
pub struct Draw {
    /// The seed.
    pub seed: u64,
    /// Voters.
    pub nodes: usize,
    /// Workers of the load; two more start with the liveness phase.
    pub workers: usize,
    /// Slots of a worker, at most.
    pub slots_max: u64,
    /// Length of the safety phase.
    pub safety: u64,
    /// Wall time at the beginning, since 1970.
    pub epoch: i64,
    /// The network.
    pub net: NetDraw,
    /// Scheduler processes.
    pub process: ProcessDraw,
    /// Their disks.
    pub disk: DiskDraw,
    /// Worker processes.
    pub worker: WorkerDraw,
    /// The database.
    pub history: HistoryDraw,
    /// The clients.
    pub load: LoadDraw,
    /// Wall clocks differ by up to this.
    pub skew: u64,
    /// Clocks run fast or slow by up to this many millionths.
    pub drift_ppm: u64,
    /// A log below this is not worth a snapshot.
    pub snapshot_log_bytes: u64,
    /// The length of a segment.
    pub segment_bytes: u64,
}

/// The network.
#[derive(Clone, Debug)]
pub struct NetDraw {
    /// The longest way of a message.
    pub latency_max: u64,
    /// Messages lost and sent again; connections refused.
    pub loss_permille: u64,
    /// Mean time between clogged links.
    pub clog_every: u64,
    /// The longest clog.
    pub clog_max: u64,
    /// Mean time between cuts of one open stream.
    pub cut_every: u64,
}

/// Scheduler processes.
#[derive(Clone, Debug)]
pub struct ProcessDraw {
    /// Mean time between kills.
    pub kill_every: u64,
    /// The longest time that a node stays down.
    pub down_max: u64,
    /// Half of the kills are power losses.
    pub power: bool,
    /// Mean time between orderly stops.
    pub stop_every: u64,
    /// Mean time between pauses.
    pub pause_every: u64,
    /// The longest pause.
    pub pause_max: u64,
}

/// Disks.
#[derive(Clone, Debug)]
pub struct DiskDraw {
    /// Usual length of a sync.
    pub sync: u64,
    /// Syncs of seconds, in ten thousand.
    pub slow_per_10k: u64,
    /// Syncs that fail, in ten thousand.
    pub fail_per_10k: u64,
}

/// Worker processes.
#[derive(Clone, Debug)]
pub struct WorkerDraw {
    /// Mean time between deaths.
    pub kill_every: u64,
    /// Mean time between drains.
    pub drain_every: u64,
    /// Mean time between pauses.
    pub pause_every: u64,
    /// The longest pause.
    pub pause_max: u64,
    /// Handlers that fail.
    pub fail_permille: u64,
    /// Handlers that never end by themselves.
    pub hang_permille: u64,
    /// Handlers run for at most this long.
    pub handler_max: u64,
}

/// The database.
#[derive(Clone, Debug)]
pub struct HistoryDraw {
    /// Usual length of a transaction.
    pub commit: u64,
    /// Mean time between outages.
    pub outage_every: u64,
    /// The longest outage.
    pub outage_max: u64,
    /// Transactions that take seconds.
    pub slow_permille: u64,
    /// Transactions that fail.
    pub fail_permille: u64,
    /// COMMITs that happen and are not acknowledged.
    pub ack_lost_permille: u64,
}

/// The clients.
#[derive(Clone, Debug)]
pub struct LoadDraw {
    /// How many.
    pub clients: usize,
    /// Mean time between a client's operations.
    pub think: u64,
    /// See [`super::load`].
    pub weights: [u64; 12],
    /// Payloads up to this many bytes.
    pub payload_max: u64,
}

impl Draw {
    /// Draws everything.
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::new(seed).fork("shells");
        Self {
            seed,
            nodes: [1, 3, 3, 3, 3, 5][rng.below(6) as usize],
            workers: 1 + rng.below(4) as usize,
            slots_max: log_uniform(rng, 1, 16),
            safety: log_uniform(rng, 6_000_000, 30_000_000),
            epoch: [SPRING, AUTUMN][rng.below(2) as usize] - 10_000_000,
            net: NetDraw {
                latency_max: log_uniform(rng, 1_000, 30_000),
                loss_permille: maybe(rng, 1, 50),
                clog_every: maybe(rng, 1_000_000, 10_000_000),
                clog_max: log_uniform(rng, 200_000, 10_000_000),
                cut_every: maybe(rng, 300_000, 5_000_000),
            },
            process: ProcessDraw {
                kill_every: maybe(rng, 1_000_000, 12_000_000),
                down_max: log_uniform(rng, 100_000, 8_000_000),
                power: rng.chance(1, 2),
                stop_every: maybe(rng, 3_000_000, 20_000_000),
                pause_every: maybe(rng, 2_000_000, 12_000_000),
                pause_max: log_uniform(rng, 100_000, 8_000_000),
            },
            disk: DiskDraw {
                sync: log_uniform(rng, 1_000, 20_000),
                slow_per_10k: maybe(rng, 1, 60),
                fail_per_10k: maybe(rng, 1, 20),
            },
            worker: WorkerDraw {
                kill_every: maybe(rng, 2_000_000, 15_000_000),
                drain_every: maybe(rng, 4_000_000, 20_000_000),
                pause_every: maybe(rng, 3_000_000, 20_000_000),
                pause_max: log_uniform(rng, 500_000, 25_000_000),
                fail_permille: maybe(rng, 10, 500),
                hang_permille: maybe(rng, 1, 60),
                handler_max: log_uniform(rng, 10_000, 8_000_000),
            },
            history: HistoryDraw {
                commit: log_uniform(rng, 1_000, 60_000),
                outage_every: maybe(rng, 2_000_000, 15_000_000),
                outage_max: log_uniform(rng, 500_000, 15_000_000),
                slow_permille: maybe(rng, 1, 100),
                fail_permille: maybe(rng, 1, 100),
                ack_lost_permille: maybe(rng, 1, 100),
            },
            load: load(rng),
            skew: maybe(rng, 1_000, 400_000),
            drift_ppm: maybe(rng, 10, 500),
            snapshot_log_bytes: log_uniform(rng, 2_000, 200_000),
            segment_bytes: log_uniform(rng, 8_192, 131_072),
        }
    }

    /// Places of scheduler nodes.
    pub fn node_places(&self) -> std::ops::Range<usize> {
        0..self.nodes
    }

    /// All workers, the two of the liveness phase last.
    pub const fn workers_in_all(&self) -> usize {
        self.workers + 2
    }
}

fn load(rng: &mut Rng) -> LoadDraw {
    let weights = weights(rng, 30);
    LoadDraw {
        clients: 1 + rng.below(4) as usize,
        think: log_uniform(rng, 20_000, 800_000),
        weights,
        payload_max: log_uniform(rng, 1, 4_000),
    }
}
