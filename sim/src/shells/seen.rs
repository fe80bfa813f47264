//! Events that a set of seeds must meet at least once, or it proves too little.

use std::collections::BTreeMap;

/// What this tier is for.
pub const ALL: [&str; 32] = [
    KILLED,
    POWER_LOST,
    STOPPED,
    DISK_FAILED,
    PAUSED,
    CLOGGED,
    CLOGGED_ONE_WAY,
    LOSS,
    PEER_STREAM_CUT,
    SESSION_CUT,
    CALL_CUT,
    LEADER_CHANGED,
    SNAPSHOT_INSTALLED,
    WORKER_VANISHED,
    WORKER_PAUSED,
    WORKER_DRAINED,
    LEASE_EXPIRED,
    RETRIED,
    FIRED,
    TRIGGERED,
    RAN_AGAIN,
    CANCELLED_RUNNING,
    CANCELLED_WAITING,
    DELETED,
    REPEAT_ANSWERED,
    CONFLICT_REFUSED,
    OUTCOME_UNKNOWN,
    HISTORY_AWAY,
    COMMIT_ACK_LOST,
    BY_CLI,
    BY_GRPC,
    BY_HTTP,
];

/// A node was killed.
pub const KILLED: &str = "node killed";
/// A machine lost what it had not synced.
pub const POWER_LOST: &str = "unsynced writes lost";
/// A node was asked to stop and did.
pub const STOPPED: &str = "node stopped in order";
/// An fsync failed and the node died.
pub const DISK_FAILED: &str = "fsync failed";
/// A node was frozen.
pub const PAUSED: &str = "node paused";
/// A link let nothing pass in either direction.
pub const CLOGGED: &str = "link clogged";
/// A link let nothing pass in one direction.
pub const CLOGGED_ONE_WAY: &str = "link clogged one way";
/// Packets were lost.
pub const LOSS: &str = "packets lost";
/// A stream between nodes broke in the middle.
pub const PEER_STREAM_CUT: &str = "peer stream cut";
/// A worker's session broke in the middle.
pub const SESSION_CUT: &str = "session cut";
/// A call broke before its answer.
pub const CALL_CUT: &str = "call cut";
/// Another node leads.
pub const LEADER_CHANGED: &str = "leader changed";
/// A node installed a snapshot that came by stream.
pub const SNAPSHOT_INSTALLED: &str = "snapshot installed";
/// A worker process vanished.
pub const WORKER_VANISHED: &str = "worker vanished";
/// A worker process was frozen.
pub const WORKER_PAUSED: &str = "worker paused";
/// A worker drained and left.
pub const WORKER_DRAINED: &str = "worker drained";
/// A lease ended without a word.
pub const LEASE_EXPIRED: &str = "lease expired";
/// A report of a token that is no longer open was refused: too rare here to be demanded.
pub const STALE_REPORT: &str = "stale report refused";
/// A run went to another attempt.
pub const RETRIED: &str = "run retried";
/// A fire time was taken.
pub const FIRED: &str = "schedule fired";
/// A trigger made a run.
pub const TRIGGERED: &str = "task triggered";
/// A task that had ended got a further run.
pub const RAN_AGAIN: &str = "ended task ran again";
/// A running attempt was asked to stop.
pub const CANCELLED_RUNNING: &str = "running attempt cancelled";
/// A waiting task was cancelled.
pub const CANCELLED_WAITING: &str = "waiting task cancelled";
/// A task was deleted.
pub const DELETED: &str = "task deleted";
/// A repeat of a submit was recognised.
pub const REPEAT_ANSWERED: &str = "repeat answered";
/// Another spec under a known id was refused.
pub const CONFLICT_REFUSED: &str = "id conflict refused";
/// A client was told that the outcome is unknown.
pub const OUTCOME_UNKNOWN: &str = "outcome unknown";
/// The database could not be reached.
pub const HISTORY_AWAY: &str = "history away";
/// A COMMIT happened and its acknowledgement was lost.
pub const COMMIT_ACK_LOST: &str = "COMMIT acknowledgement lost";
/// The command line's client was answered.
pub const BY_CLI: &str = "answered over the command line's client";
/// A gRPC stub was answered.
pub const BY_GRPC: &str = "answered over gRPC";
/// A route was answered.
pub const BY_HTTP: &str = "answered over HTTP";

/// How often each was met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    /// Counts one.
    pub fn hit(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Adds another seed's counts.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// How often.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Those that were not met.
    pub fn missed(&self) -> Vec<&'static str> {
        ALL.into_iter().filter(|what| self.count(what) == 0).collect()
    }
}
