//! Every bound in the system, with the reason for its number.

use core::time::Duration;

/// A task's payload, in bytes: larger data belongs in a store, with its address as the payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// A run's result, in bytes: as the payload.
pub const RESULT_BYTES_MAX: usize = 1 << 20;
/// The kept tail of an attempt's output, in bytes: what fits a screen many times over.
pub const OUTPUT_TAIL_BYTES_MAX: usize = 64 << 10;
/// An error text, in bytes: one paragraph.
pub const ERROR_BYTES_MAX: usize = 4 << 10;
/// Tasks in one submit: ten entries' worth.
pub const BATCH_TASKS_MAX: usize = 10_000;
/// Bytes in one submit.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Ids, names, queues and types, in characters: fits a database index and a terminal.
pub const NAME_CHARS_MAX: usize = 128;
/// A cron expression, in characters.
pub const CRON_CHARS_MAX: usize = 256;
/// Any duration of a spec, in milliseconds: ten years, so that no sum of moments and durations
/// comes near the end of what a timestamp can hold.
pub const DURATION_MS_MAX: u64 = 3_650 * 24 * 3_600 * 1_000;
/// The shortest period of an `every` schedule, in milliseconds: one fire costs an entry.
pub const EVERY_MS_MIN: u64 = 1_000;
/// Further attempts after the first: attempts are counted in 16 bits.
pub const RETRIES_MAX: u16 = 10_000;
/// Exit codes that fail for good: a profile is compared at each create.
pub const NO_RETRY_EXIT_MAX: usize = 64;
/// The highest priority; 0 is the lowest.
pub const PRIORITY_MAX: u8 = 9;
/// Live tasks in a cluster: about 4.5 GB a node at 450 bytes each.
pub const LIVE_TASKS_MAX: u64 = 10_000_000;
/// Proposed and not yet applied bytes on a node: bounds memory and the time to drain.
pub const INFLIGHT_BYTES_MAX: usize = 64 << 20;
/// The history outbox, in bytes of what its records pin.
pub const OUTBOX_BYTES_MAX: u64 = 1 << 30;
/// The smallest bound of the history outbox that makes sense: between three quarters of it and 95 %
/// there is room for one of the largest tasks with its result.
pub const OUTBOX_BYTES_MIN: u64 = 16 << 20;
/// Ended tasks and runs that `--history none` keeps in memory (P9.5).
pub const ENDED_KEPT: u64 = 10_000;
/// Commands in an entry: with the bytes below, bounds a turn to 1–2 ms (P1.3).
pub const ENTRY_COMMANDS_MAX: usize = 1_000;
/// Bytes in an entry; one larger command goes alone (P1.3).
pub const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Rows that one command may touch (P1.5), and runs that one entry may wake (P2.1).
pub const ROWS_PER_COMMAND_MAX: usize = 1_000;
/// Unfinished runs of one recurring task: stopping it touches two rows each, in one command (P1.5).
pub const UNFINISHED_RUNS_MAX: usize = 400;
/// Registered worker instances: those connected, and as many again that were restarted meanwhile.
pub const INSTANCES_MAX: usize = 2 * WORKERS_MAX;
/// Nodes whose addresses are known: far more than any quorum wants.
pub const NODES_MAX: usize = 64;
/// An address, in bytes: a DNS name and a port.
pub const ADDRESS_BYTES_MAX: usize = 264;
/// A gRPC message: a full entry, or a full batch, with room.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// A piece of a snapshot on the wire: small beside a heartbeat's deadline.
pub const SNAPSHOT_PIECE_BYTES: usize = 1 << 20;
/// Ended ids that stay reserved: 48 MB a node (P8.2).
pub const DEDUP_IDS_MAX: usize = 1_000_000;
/// How long an ended id stays reserved (P8.2).
pub const DEDUP_WINDOW: Duration = Duration::from_secs(3_600);
/// A caller's request id (P8.3): as long as a task's id may be.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Callers that wait on one node.
pub const WAITERS_MAX: usize = 100_000;
/// Slots of one worker: an acknowledgement frame names them all.
pub const WORKER_SLOTS_MAX: u32 = 10_000;
/// Attempts that a worker holds, running or unacknowledged, and what one frame may name: two full
/// sets of slots, since results of the one may wait while the next one runs.
pub const WORKER_HELD_MAX: usize = 2 * WORKER_SLOTS_MAX as usize;
/// Types, and queues, that one worker names: a program with more of them has another problem.
pub const WORKER_KINDS_MAX: usize = 1_000;
/// Labels of one worker: people read them in one table cell.
pub const WORKER_LABELS_MAX: usize = 64;
/// Connected workers.
pub const WORKERS_MAX: usize = 10_000;
/// Changes in one history transaction: large enough that the commit is a small part (datapath).
pub const HISTORY_BATCH_CHANGES_MAX: usize = 2_000;
/// What payloads and texts weigh in one history transaction; one larger row goes alone. Two
/// thousand of the largest would be gigabytes, which no database stores in the time that it has.
pub const HISTORY_BATCH_BYTES_MAX: usize = 32 << 20;
/// The smallest log that is worth a snapshot (P10.3). Each snapshot walks all rows, up to a million
/// ended ids among them: at a third of this, the walks took a sixth of a busy node's time. The log
/// stays in memory, and a node that starts applies so much in about a second.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 48 << 20;
/// Nodes compare their digests at indexes divisible by this, some times a minute under load, and at
/// entries that say nothing.
pub const DIGEST_EVERY: u64 = 1_024;
/// A log segment (P4.3).
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// A fire time that is late by no more than this is on time, whatever the misfire policy: a
/// leader may be busy, or just elected.
pub const FIRE_ON_TIME_MS: u64 = 10_000;
/// Missed fire times of a calendar that one decision counts, at some microseconds each; the rest
/// are left to the next decision.
pub const FIRES_COUNTED_MAX: u32 = 200;

/// A raft tick (P3.5).
pub const TICK: Duration = Duration::from_millis(50);
/// Ticks between heartbeats (P3.5).
pub const HEARTBEAT_TICKS: usize = 2;
/// The shortest election timeout, in ticks; the longest is below twice this (P3.5).
pub const ELECTION_TICKS: usize = 10;

/// How long a lease lasts (P7.4).
pub const LEASE_TTL: Duration = Duration::from_secs(15);
/// How often a worker renews (P7.4).
pub const LEASE_HEARTBEAT: Duration = Duration::from_secs(3);
/// Since the sending of the last answered heartbeat: handlers are asked to end (P7.4).
pub const FENCE_TERM: Duration = Duration::from_secs(9);
/// Since the sending of the last answered heartbeat: handlers are killed (P7.4).
pub const FENCE_KILL: Duration = Duration::from_secs(12);
/// Since the sending of the last answered heartbeat: what still runs of a worker that does not
/// move is killed from outside (P7.4). A second above [`FENCE_KILL`], so that a worker that moves
/// is always first; and below the lease by more than twice 5 % of clock rate.
pub const FENCE_GUARD: Duration = Duration::from_secs(13);
/// Between asking a stopped handler to end and killing it (P7.6).
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// Terms rise by one an election and never come so far. One beyond it is damage, or a peer that is
/// out of its mind.
pub const TERM_MAX: u64 = 1 << 56;
/// Numbers that rise by one a time (indexes, lives, offsets, segments) never come so far. One
/// beyond it is damage that a checksum does not show, and no sum may overflow over it.
pub const NUMBER_MAX: u64 = 1 << 62;
