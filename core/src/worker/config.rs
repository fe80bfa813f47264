//! What a worker is told at its start, and its measures of time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::InstanceId;

/// What a worker is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Its name; executions show it. Need not be unique.
    pub name: Box<str>,
    /// This life of the process: drawn at random by the host, never zero (P7.2).
    pub instance: InstanceId,
    /// How many attempts it runs at once; 1 to `limits::WORKER_SLOTS_MAX`.
    pub slots: u32,
    /// Types that it can run.
    pub kinds: Vec<Box<str>>,
    /// Queues that it serves; empty means all.
    pub queues: Vec<Box<str>>,
    /// `k=v` labels.
    pub labels: Vec<Box<str>>,
    /// gRPC `host:port` of the nodes to ask, at least one, in the order of asking.
    pub servers: Vec<Box<str>>,
}

/// How long a connection may take to stand: a dead machine says nothing, and there are others.
pub const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long a Hello may go unanswered: a new leader answers once it has woken (P2.4).
pub const WELCOME_WAIT: Duration = Duration::from_secs(3);
/// Since the sending of the oldest unanswered heartbeat: the session is given up, early enough
/// that another leader can be found before handlers are stopped (P7.4).
pub const SILENCE_MAX: Duration = Duration::from_secs(4);
/// The first wait between two tries to connect.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two of the first tries: while an election lasts, every wait is added
/// to the pause that users see.
pub const BACKOFF_QUICK_MAX: Duration = Duration::from_millis(150);
/// How many tries are quick: about three elections long.
pub const QUICK_TRIES: u32 = 25;
/// The longest wait between two tries to connect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long a drained worker waits for its last results to be acknowledged.
pub const FAREWELL_WAIT: Duration = Duration::from_secs(10);
/// Live output of one attempt leaves at most this often…
pub const OUTPUT_PERIOD: Duration = Duration::from_millis(20);
/// …and at most this much at a time: 3 MiB/s for each attempt that someone watches.
pub const OUTPUT_PIECE_BYTES: usize = 64 << 10;
/// Kept output of an attempt that someone watches; others keep the tail alone.
pub const LIVE_BYTES_MAX: usize = 1 << 20;
/// Reports in one frame, in number…
pub const REPORTS_PER_FRAME: usize = 1_000;
/// …and in bytes: a quarter of what a message may hold.
pub const REPORT_BYTES_PER_FRAME: usize = 4 << 20;
/// Remembered stops of attempts that have not been opened (P7.6): more than a leader has in
/// flight to one worker.
pub const EARLY_STOPS_MAX: usize = 1_024;
/// Remembered runs of tokens that were once held (P7.5). Tokens come nearly in order, so a few
/// ranges say it; what is older than the bound counts as held.
pub const SEEN_RANGES_MAX: usize = 16_384;
