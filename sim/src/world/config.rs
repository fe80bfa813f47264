//! What a seed draws before its first event: fault classes, their intensities, the cluster's size,
//! tiny bounds, the workload. Everything else follows from these and the seed.

use std::fmt;
use std::str::FromStr;

use dtask_core::limits;
use dtask_core::rng::Rng;

use super::clock::EPOCHS;

/// A bias of the draw towards one area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Each fault class with even odds.
    #[default]
    Swarm,
    /// Short partitions and crashes just after a vote or an append was sent.
    Elections,
    /// Power losses, failed syncs, full disks.
    Disk,
    /// Snapshots every few entries, followers left behind.
    Snapshot,
    /// Workers that hang, die, lose their connection; long pauses.
    Leases,
    /// The database away, restored from older backups, its acknowledgements lost, tiny bounds.
    History,
    /// Many recurring tasks.
    Cron,
    /// Clocks that step and drift.
    Clock,
    /// No faults at all: for measuring.
    Calm,
}

impl Profile {
    /// Every profile that hunts.
    pub const HUNTING: [Self; 8] = [
        Self::Swarm,
        Self::Elections,
        Self::Disk,
        Self::Snapshot,
        Self::Leases,
        Self::History,
        Self::Cron,
        Self::Clock,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Elections => "elections",
            Self::Disk => "disk",
            Self::Snapshot => "snapshot",
            Self::Leases => "leases",
            Self::History => "history",
            Self::Cron => "cron",
            Self::Clock => "clock",
            Self::Calm => "calm",
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::HUNTING
            .into_iter()
            .chain([Self::Calm])
            .find(|profile| profile.name() == text)
            .ok_or_else(|| format!("unknown profile {text}: see `dtask-sim run --help`"))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything drawn for one seed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The seed.
    pub seed: u64,
    /// The bias.
    pub profile: Profile,
    /// Scheduler nodes: 1, 3 or 5.
    pub nodes: usize,
    /// Worker processes.
    pub workers: usize,
    /// Slots of each worker, at most.
    pub slots_max: u64,
    /// Length of the safety phase, in microseconds.
    pub safety_micros: u64,
    /// The network's faults.
    pub net: NetFaults,
    /// The processes' faults.
    pub process: ProcessFaults,
    /// The disks' faults.
    pub disk: DiskFaults,
    /// The clocks' faults.
    pub clock: ClockFaults,
    /// The workers' faults.
    pub worker: WorkerFaults,
    /// The database's faults.
    pub history: HistoryFaults,
    /// What clients do.
    pub load: Load,
    /// The log is compacted beyond this many bytes.
    pub snapshot_log_bytes: u64,
    /// Digests are compared at indexes divisible by this.
    pub digest_every: u64,
    /// Bytes of proposals on their way (P8.4).
    pub inflight_bytes: usize,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// True wall time at the beginning, in microseconds since 1970.
    pub epoch: i64,
    /// Bytes of a piece of a snapshot.
    pub piece_bytes: u64,
    /// The longest time from an input to the end of its turn, in microseconds.
    pub turn_micros: u64,
    /// How many ended ids the cluster keeps (P8.2).
    pub ended_ids_max: u64,
}

/// Faults of the network.
#[derive(Clone, Debug, Default)]
pub struct NetFaults {
    /// The usual delay, in microseconds.
    pub delay_micros: u64,
    /// Messages lost, in a thousand.
    pub drop_permille: u64,
    /// Messages delivered twice, in a thousand.
    pub duplicate_permille: u64,
    /// Messages delayed by up to a second, in a thousand: they arrive out of order.
    pub spike_permille: u64,
    /// Partitions: mean time between them, in microseconds; zero means none.
    pub partition_every: u64,
    /// How long one lasts, at most.
    pub partition_max: u64,
    /// Some cut one direction only.
    pub one_way: bool,
}

/// Faults of the scheduler processes.
#[derive(Clone, Debug, Default)]
pub struct ProcessFaults {
    /// Mean time between crashes, in microseconds; zero means none.
    pub crash_every: u64,
    /// A crashed node is down for at most this long.
    pub down_max: u64,
    /// Crashes of all nodes at once are among them.
    pub power_loss: bool,
    /// Crashes that strike between two effects of a turn are among them.
    pub between_effects: bool,
    /// Mean time between pauses, in microseconds; zero means none.
    pub pause_every: u64,
    /// How long one lasts, at most.
    pub pause_max: u64,
}

/// Faults of the disks.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    /// The usual sync, in microseconds.
    pub sync_micros: u64,
    /// Syncs that take up to five seconds, in ten thousand.
    pub slow_per_10k: u64,
    /// Syncs that fail, in ten thousand.
    pub fail_per_10k: u64,
    /// Groups of writes that meet a full disk, in ten thousand.
    pub full_per_10k: u64,
    /// A crash is a power loss: unsynced sectors are lost.
    pub lossy: bool,
    /// Deaths after which a bit has rotted in what was synced, in a hundred.
    pub rot_percent: u64,
}

/// Faults of the clocks.
#[derive(Clone, Debug, Default)]
pub struct ClockFaults {
    /// The wall clocks are off by at most this, in milliseconds.
    pub skew_ms: u64,
    /// The wall clocks drift by at most this, in parts per million.
    pub drift_ppm: u64,
    /// The monotonic clocks' rates differ by at most this, in parts per million.
    pub mono_ppm: u64,
    /// Mean time between steps, in microseconds; zero means none.
    pub step_every: u64,
    /// The largest step, in microseconds.
    pub step_max: u64,
}

/// Faults of the workers.
#[derive(Clone, Debug, Default)]
pub struct WorkerFaults {
    /// Mean time between deaths of worker processes, in microseconds; zero means none.
    pub death_every: u64,
    /// Mean time between lost connections, in microseconds; zero means none.
    pub reset_every: u64,
    /// Mean time between pauses of worker processes, in microseconds; zero means none.
    pub pause_every: u64,
    /// Handlers that never end by themselves, in a thousand.
    pub hang_permille: u64,
    /// Handlers that fail, in a thousand.
    pub fail_permille: u64,
    /// Mean time between shutdowns (draining), in microseconds; zero means none.
    pub drain_every: u64,
}

/// Faults of the database.
#[derive(Clone, Debug, Default)]
pub struct HistoryFaults {
    /// Mean time between outages, in microseconds; zero means none.
    pub outage_every: u64,
    /// How long one lasts, at most.
    pub outage_max: u64,
    /// Transactions whose acknowledgement is lost, in a thousand.
    pub ack_lost_permille: u64,
    /// Transactions that fail, in a thousand.
    pub fail_permille: u64,
    /// The usual transaction, in microseconds.
    pub commit_micros: u64,
    /// Transactions and opens that take up to four seconds, in a thousand: long enough that their
    /// sender may have been deposed meanwhile.
    pub slow_permille: u64,
    /// A partition is soon followed by broken connections to the database.
    pub resets: bool,
    /// Mean time between backups and restores of them, in microseconds; zero means none.
    pub restore_every: u64,
    /// What may wait for history, in bytes (P9.5); zero means the product's own bound.
    pub outbox_bytes_max: u64,
    /// How long the database stays away after the healing, in microseconds.
    pub stays_away: u64,
}

/// What clients do.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Clients that run at once.
    pub clients: usize,
    /// Mean time between a client's operations, in microseconds.
    pub think_micros: u64,
    /// Weights: submit now, submit at, submit recurring, batch, repeat, conflict, cancel, get,
    /// wait, trigger, delete, list.
    pub weights: [u64; 12],
    /// Handlers run for at most this long, in microseconds.
    pub handler_max: u64,
    /// Payloads up to this many bytes.
    pub payload_max: u64,
}

impl Config {
    /// Draws everything.
    pub fn draw(seed: u64, profile: Profile) -> Self {
        let rng = &mut Rng::new(seed).fork("config");
        let mut config = Self {
            seed,
            profile,
            nodes: [1, 3, 3, 3, 3, 5][rng.below(6) as usize],
            workers: rng.below(7) as usize,
            slots_max: log_uniform(rng, 1, 16),
            safety_micros: log_uniform(rng, 20_000_000, 120_000_000),
            net: net(rng),
            process: process(rng),
            disk: disk(rng),
            clock: clock(rng),
            worker: worker(rng),
            history: history(rng),
            load: load(rng),
            snapshot_log_bytes: log_uniform(rng, 2_000, 400_000),
            digest_every: limits::DIGEST_EVERY,
            inflight_bytes: limits::INFLIGHT_BYTES_MAX,
            segment_bytes: log_uniform(rng, 8_192, 131_072),
            epoch: EPOCHS[rng.below(2) as usize],
            piece_bytes: log_uniform(rng, 256, 65_536),
            turn_micros: log_uniform(rng, 1, 3_000),
            ended_ids_max: if rng.chance(1, 4) {
                log_uniform(rng, 1, 40)
            } else {
                limits::DEDUP_IDS_MAX as u64
            },
        };
        config.bias(rng);
        config.later(&mut Rng::new(seed).fork("later"));
        // Drawn apart: what older seeds drew stays as it was.
        config.history.bounds(&mut rng.fork("history bounds"), profile);
        config
    }

    /// Draws of their own, so that what older ones gave stays as it was.
    fn later(&mut self, rng: &mut Rng) {
        if self.profile != Profile::Calm && rng.chance(1, 2) {
            self.inflight_bytes = log_uniform(rng, 4_000, 400_000) as usize;
        }
        if self.profile != Profile::Calm {
            self.digest_every = log_uniform(rng, 4, 64);
        }
    }

    fn bias(&mut self, rng: &mut Rng) {
        match self.profile {
            Profile::Swarm => {}
            Profile::Elections => {
                self.nodes = if rng.chance(1, 2) { 3 } else { 5 };
                self.net.partition_every = log_uniform(rng, 1_000_000, 8_000_000);
                self.net.partition_max = 4_000_000;
                self.process.crash_every = log_uniform(rng, 1_000_000, 10_000_000);
                self.process.between_effects = true;
                self.process.down_max = 1_500_000;
                self.disk.lossy = true;
            }
            Profile::Disk => {
                self.process.crash_every = log_uniform(rng, 1_000_000, 10_000_000);
                self.process.between_effects = true;
                self.process.power_loss = true;
                self.disk.lossy = true;
                self.disk.fail_per_10k = rng.below(30);
                self.disk.full_per_10k = rng.below(30);
                self.disk.slow_per_10k = rng.below(30);
            }
            Profile::Snapshot => {
                self.nodes = if rng.chance(1, 2) { 3 } else { 5 };
                self.snapshot_log_bytes = log_uniform(rng, 1_000, 20_000);
                self.process.crash_every = log_uniform(rng, 4_000_000, 15_000_000);
                self.process.down_max = 20_000_000;
                self.net.partition_every = log_uniform(rng, 3_000_000, 10_000_000);
                self.net.partition_max = 15_000_000;
                self.load.think_micros = log_uniform(rng, 20_000, 200_000);
            }
            Profile::Leases => {
                self.workers = 1 + rng.below(6) as usize;
                self.worker.death_every = log_uniform(rng, 3_000_000, 30_000_000);
                self.worker.reset_every = log_uniform(rng, 2_000_000, 20_000_000);
                self.worker.pause_every = log_uniform(rng, 3_000_000, 30_000_000);
                self.worker.hang_permille = rng.below(200);
                self.load.handler_max = 40_000_000;
                self.safety_micros = self.safety_micros.max(90_000_000);
            }
            Profile::History => {
                self.history.outage_every = log_uniform(rng, 2_000_000, 20_000_000);
                self.history.outage_max = 20_000_000;
                self.history.ack_lost_permille = rng.below(300);
                self.history.fail_permille = rng.below(300);
                // Two leaders in turn, and in fact at once, write the same database.
                self.history.slow_permille = rng.below(200);
                self.history.resets = true;
                self.nodes = [3, 3, 5][rng.below(3) as usize];
                self.net.partition_every = log_uniform(rng, 2_000_000, 20_000_000);
                self.net.partition_max = 6_000_000;
            }
            Profile::Cron => {
                self.load.weights[2] = 60;
                self.load.weights[9] = 20;
            }
            Profile::Clock => {
                self.clock.skew_ms = log_uniform(rng, 10, 600_000);
                self.clock.drift_ppm = 500;
                self.clock.step_every = log_uniform(rng, 2_000_000, 30_000_000);
                self.clock.step_max = log_uniform(rng, 10_000, 86_400_000_000);
                self.load.weights[2] = 30;
            }
            Profile::Calm => self.calm(),
        }
    }

    fn calm(&mut self) {
        self.nodes = 3;
        self.workers = 4;
        self.slots_max = 16;
        self.net = NetFaults { delay_micros: 500, ..NetFaults::default() };
        self.process = ProcessFaults::default();
        self.disk = DiskFaults { sync_micros: 200, ..DiskFaults::default() };
        self.clock = ClockFaults::default();
        self.worker = WorkerFaults::default();
        self.history = HistoryFaults { commit_micros: 2_000, ..HistoryFaults::default() };
        self.safety_micros = 120_000_000;
        self.load.clients = 10;
        self.load.think_micros = 200_000;
        self.load.weights = [80, 5, 1, 2, 2, 1, 2, 5, 2, 1, 1, 1];
        self.load.handler_max = 200_000;
        self.snapshot_log_bytes = 4 << 20;
        self.segment_bytes = 131_072;
        self.turn_micros = 200;
        self.ended_ids_max = limits::DEDUP_IDS_MAX as u64;
    }
}

/// Each class of faults is drawn with even odds; then its intensity.
fn net(rng: &mut Rng) -> NetFaults {
    NetFaults {
        delay_micros: log_uniform(rng, 200, 20_000),
        drop_permille: maybe(rng, 1, 300),
        duplicate_permille: maybe(rng, 1, 200),
        spike_permille: maybe(rng, 1, 100),
        partition_every: maybe(rng, 3_000_000, 60_000_000),
        partition_max: log_uniform(rng, 500_000, 30_000_000),
        one_way: rng.chance(1, 2),
    }
}

fn process(rng: &mut Rng) -> ProcessFaults {
    ProcessFaults {
        crash_every: maybe(rng, 2_000_000, 60_000_000),
        down_max: log_uniform(rng, 100_000, 30_000_000),
        power_loss: rng.chance(1, 2),
        between_effects: rng.chance(1, 2),
        pause_every: maybe(rng, 3_000_000, 60_000_000),
        pause_max: log_uniform(rng, 100_000, 60_000_000),
    }
}

fn disk(rng: &mut Rng) -> DiskFaults {
    DiskFaults {
        sync_micros: log_uniform(rng, 80, 20_000),
        slow_per_10k: maybe(rng, 1, 100),
        fail_per_10k: maybe(rng, 1, 20),
        full_per_10k: maybe(rng, 1, 20),
        lossy: rng.chance(1, 2),
        rot_percent: maybe(rng, 1, 40),
    }
}

fn clock(rng: &mut Rng) -> ClockFaults {
    ClockFaults {
        skew_ms: maybe(rng, 1, 600_000),
        drift_ppm: maybe(rng, 1, 500),
        mono_ppm: maybe(rng, 10, 50_000),
        step_every: maybe(rng, 5_000_000, 60_000_000),
        step_max: log_uniform(rng, 1_000, 86_400_000_000),
    }
}

fn worker(rng: &mut Rng) -> WorkerFaults {
    WorkerFaults {
        death_every: maybe(rng, 3_000_000, 60_000_000),
        reset_every: maybe(rng, 3_000_000, 60_000_000),
        pause_every: maybe(rng, 5_000_000, 60_000_000),
        hang_permille: maybe(rng, 1, 200),
        fail_permille: maybe(rng, 10, 700),
        drain_every: maybe(rng, 10_000_000, 60_000_000),
    }
}

fn history(rng: &mut Rng) -> HistoryFaults {
    HistoryFaults {
        outage_every: maybe(rng, 5_000_000, 60_000_000),
        outage_max: log_uniform(rng, 500_000, 60_000_000),
        ack_lost_permille: maybe(rng, 1, 200),
        fail_permille: maybe(rng, 1, 200),
        commit_micros: log_uniform(rng, 500, 100_000),
        ..HistoryFaults::default()
    }
}

fn load(rng: &mut Rng) -> Load {
    let weights = weights(rng, 40);
    Load {
        clients: 1 + rng.below(6) as usize,
        think_micros: log_uniform(rng, 20_000, 2_000_000),
        weights,
        handler_max: log_uniform(rng, 10_000, 40_000_000),
        payload_max: log_uniform(rng, 1, 20_000),
    }
}

/// How often clients do what, each kind with even odds; submits always, up to `more` above 20.
pub(crate) fn weights(rng: &mut Rng, more: u64) -> [u64; 12] {
    let mut weights = [0; 12];
    for weight in &mut weights {
        *weight = maybe(rng, 1, 30);
    }
    weights[0] = 20 + rng.below(more);
    weights
}

/// Zero with even odds, else log-uniform.
pub(crate) fn maybe(rng: &mut Rng, low: u64, high: u64) -> u64 {
    if rng.chance(1, 2) { log_uniform(rng, low, high) } else { 0 }
}

/// A number whose magnitude is uniform: drawn by powers of two, in integers only.
pub fn log_uniform(rng: &mut Rng, low: u64, high: u64) -> u64 {
    let ratio = high / low.max(1);
    let octaves = 64 - ratio.leading_zeros().min(63);
    let octave = rng.below(u64::from(octaves));
    let floor = low << octave;
    rng.range(floor, (floor * 2).min(high + 1)).min(high)
}

/// A waiting time with mean about `mean`: geometric by octaves, so in integers.
pub fn around(rng: &mut Rng, mean: u64) -> u64 {
    let span = rng.below(2 * mean.max(1));
    if rng.chance(1, 8) { span * 3 } else { span }
}
