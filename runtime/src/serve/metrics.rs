//! What a node counts and measures (interface.md, "Metrics").
//!
//! Outcomes, waiting and running times are taken from the rows that the leader hands to history:
//! each attempt passes there exactly once as closed, whatever way it went.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dtask_core::id::RunNumber;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::history::{HistoryBatch, RunRow};
use dtask_core::state::view::{RunCause, TaskStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// What the page shows of the moment, asked for when it is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Raft's term.
    pub term: u64,
    /// Whether this node leads.
    pub is_leader: bool,
    /// The newest applied index.
    pub applied_index: u64,
    /// Changes that history does not have yet.
    pub history_lag: u64,
    /// Live tasks in memory.
    pub live_tasks: u64,
    /// How far this node's clock is ahead of the voters' median, in milliseconds.
    pub clock_offset_ms: i64,
    /// Its state differs from the majority's.
    pub diverged: bool,
    /// Slots of connected workers: taken and free. The leader knows.
    pub slots: Option<(u64, u64)>,
}

/// The counters of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    submitted: Counter,
    attempts: Family<OutcomeLabel, Counter>,
    fires: Family<ResultLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    wait_seconds: Histogram,
    run_seconds: Histogram,
    lateness_seconds: Histogram,
    commit_seconds: Histogram,
    fsync_seconds: Histogram,
    leases_expired: Counter,
    fenced: Counter,
    violations: Counter,
    snapshot_bytes: Gauge,
    term: Gauge,
    is_leader: Gauge,
    applied_index: Gauge,
    history_lag: Gauge,
    live_tasks: Gauge,
    clock_offset: Gauge<f64, AtomicU64>,
    diverged: Gauge,
    worker_slots: Family<StateLabel, Gauge>,
    /// Rows up to this change number were counted: a batch that is offered again counts once.
    counted: AtomicU64,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let fine = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        let coarse = || Histogram::new(exponential_buckets(0.001, 4.0, 14));
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("dtask")),
            submitted: Counter::default(),
            attempts: Family::default(),
            fires: Family::default(),
            refused: Family::default(),
            wait_seconds: coarse(),
            run_seconds: coarse(),
            lateness_seconds: coarse(),
            commit_seconds: fine(),
            fsync_seconds: fine(),
            leases_expired: Counter::default(),
            fenced: Counter::default(),
            violations: Counter::default(),
            snapshot_bytes: Gauge::default(),
            term: Gauge::default(),
            is_leader: Gauge::default(),
            applied_index: Gauge::default(),
            history_lag: Gauge::default(),
            live_tasks: Gauge::default(),
            clock_offset: Gauge::default(),
            diverged: Gauge::default(),
            worker_slots: Family::default(),
            counted: AtomicU64::new(0),
        };
        metrics.register();
        metrics
    }

    /// Tasks were accepted here.
    pub fn submitted(&self, tasks: u64) {
        self.submitted.inc_by(tasks);
    }

    /// A call was refused.
    pub fn refused(&self, reason: &str) {
        self.refused.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    /// From a submit's arrival to its commit.
    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// From handing a record to the disk to its durability.
    pub fn synced(&self, took: Duration) {
        self.fsync_seconds.observe(took.as_secs_f64());
    }

    /// A lease ended without a word.
    pub fn lease_expired(&self) {
        self.leases_expired.inc();
    }

    /// A stale report was refused.
    pub fn fenced(&self) {
        self.fenced.inc();
    }

    /// An invariant is broken.
    pub fn violation(&self) {
        self.violations.inc();
    }

    /// A snapshot of this size was written.
    pub fn snapshot(&self, bytes: u64) {
        self.snapshot_bytes.set(signed(bytes));
    }

    /// Rows on their way to history.
    pub fn stored(&self, batch: &HistoryBatch) {
        let counted = self.counted.fetch_max(batch.through, Ordering::Relaxed);
        let scheduled: Vec<&RunRow> =
            batch.runs.iter().filter(|row| row.view.cause == RunCause::Schedule).collect();
        for row in scheduled.iter().filter(|row| row.number > counted) {
            if let Some(result) = fire_result(row.view.status) {
                self.fires.get_or_create(&ResultLabel { result }).inc();
            }
        }
        let scheduled: HashSet<(&str, RunNumber)> =
            scheduled.iter().map(|row| (&*row.task_id, row.view.run)).collect();
        for row in batch.attempts.iter().filter(|row| row.number > counted) {
            let view = &row.view;
            let Some(outcome) = view.outcome else { continue };
            let outcome = outcome_word(outcome);
            self.attempts.get_or_create(&OutcomeLabel { outcome }).inc();
            if view.attempt == 1 {
                let wait = view.opened_at.since(view.scheduled_for).as_secs_f64();
                self.wait_seconds.observe(wait);
                if scheduled.contains(&(&*row.task_id, row.run)) {
                    self.lateness_seconds.observe(wait);
                }
            }
            if let (Some(from), Some(to)) = (view.started_at, view.finished_at) {
                self.run_seconds.observe(to.since(from).as_secs_f64());
            }
        }
    }

    /// The page, in the OpenMetrics text format.
    pub fn page(&self, reading: Reading) -> String {
        self.term.set(signed(reading.term));
        self.is_leader.set(i64::from(reading.is_leader));
        self.applied_index.set(signed(reading.applied_index));
        self.history_lag.set(signed(reading.history_lag));
        self.live_tasks.set(signed(reading.live_tasks));
        // Below 2^53: exact.
        self.clock_offset.set(reading.clock_offset_ms as f64 / 1_000.0);
        self.diverged.set(i64::from(reading.diverged));
        if let Some((taken, free)) = reading.slots {
            self.worker_slots.get_or_create(&StateLabel { state: "taken" }).set(signed(taken));
            self.worker_slots.get_or_create(&StateLabel { state: "free" }).set(signed(free));
        } else {
            self.worker_slots.clear();
        }
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _cannot_fail = prometheus_client::encoding::text::encode(&mut page, &registry);
        page
    }

    fn register(&self) {
        let mut guard = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let r = &mut *guard;
        r.register("build", "This program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        r.register("tasks_submitted", "Tasks accepted by this node", self.submitted.clone());
        r.register("attempts", "Ended attempts", self.attempts.clone());
        r.register("schedule_fires", "Fire times taken", self.fires.clone());
        r.register("refused", "Refused calls", self.refused.clone());
        let seconds = Unit::Seconds;
        let mut time = |name: &str, help: &str, histogram: &Histogram| {
            r.register_with_unit(name, help, seconds.clone(), histogram.clone());
        };
        time("task_wait", "From due to opened, first attempts", &self.wait_seconds);
        time("task_run", "From started to finished, every attempt", &self.run_seconds);
        time("schedule_lateness", "From fire time to opened", &self.lateness_seconds);
        time("raft_commit", "From a submit's arrival to its commit", &self.commit_seconds);
        time("log_fsync", "From a record's writing to its durability", &self.fsync_seconds);
        r.register("leases_expired", "Leases that ended unheard", self.leases_expired.clone());
        r.register("results_fenced", "Stale reports refused", self.fenced.clone());
        r.register("invariant_violations", "Must stay zero", self.violations.clone());
        let help = "The wall clock, ahead of the voters' median";
        r.register_with_unit("clock_offset", help, seconds, self.clock_offset.clone());
        let help = "1: the state is not the majority's, the node serves nothing";
        r.register("state_diverged", help, self.diverged.clone());
        let bytes = Unit::Bytes;
        r.register_with_unit("snapshot", "The newest snapshot", bytes, self.snapshot_bytes.clone());
        r.register("raft_term", "The term", self.term.clone());
        r.register("raft_is_leader", "1 on the leader", self.is_leader.clone());
        r.register("raft_applied_index", "The applied index", self.applied_index.clone());
        r.register("history_lag_changes", "Changes not stored yet", self.history_lag.clone());
        r.register("live_tasks", "Tasks in memory", self.live_tasks.clone());
        r.register("worker_slots", "Slots of connected workers", self.worker_slots.clone());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// interface.md's word for an outcome.
const fn outcome_word(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Succeeded => "succeeded",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::TimedOut => "timed_out",
        AttemptOutcome::Lost => "lost",
        AttemptOutcome::Cancelled => "cancelled",
        AttemptOutcome::Interrupted => "interrupted",
    }
}

/// A fire time counts when its run has come to an end.
const fn fire_result(status: TaskStatus) -> Option<&'static str> {
    match status {
        TaskStatus::Waiting | TaskStatus::Ready | TaskStatus::Running => None,
        TaskStatus::Succeeded => Some("succeeded"),
        TaskStatus::Failed => Some("failed"),
        TaskStatus::Cancelled => Some("cancelled"),
        TaskStatus::Skipped => Some("skipped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_names_counters_as_the_interface_does() {
        let metrics = Metrics::new();
        metrics.submitted(3);
        metrics.refused("NO_LEADER");
        metrics.synced(Duration::from_micros(300));
        let page = metrics.page(Reading { term: 7, is_leader: true, ..Reading::default() });
        for line in [
            "dtask_build_info{version=",
            "dtask_tasks_submitted_total 3",
            "dtask_refused_total{reason=\"NO_LEADER\"} 1",
            "dtask_raft_term 7",
            "dtask_raft_is_leader 1",
            "dtask_log_fsync_seconds_count 1",
            "dtask_invariant_violations_total 0",
        ] {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }
}
