//! The figures of a run, as people and as scripts read them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::BenchConfig;
use super::load::Load;

/// What a run measured. The JSON keys are part of the interface.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Tasks submitted and completed.
    pub tasks: u64,
    /// Tasks in one call.
    pub batch: usize,
    /// Callers, or batches in flight.
    pub clients: usize,
    /// Accepted tasks a second.
    pub submitted_per_s: f64,
    /// Tasks a second whose completion was committed.
    pub completed_per_s: f64,
    /// Tasks a second whose rows were committed in the history database.
    pub stored_per_s: f64,
    /// From the call to its acknowledgement.
    pub submit_ms: Percentiles,
    /// From the call to the start of the handler, by the wall clocks of caller and worker.
    pub start_ms: Option<Percentiles>,
    /// Microseconds of CPU a task, by process (`--local` only).
    pub cpu_us_per_task: BTreeMap<String, f64>,
    /// Resident memory that a waiting task takes, by scheduler (`--local --waiting` only).
    pub memory_bytes_per_task: BTreeMap<String, f64>,
    /// Last start before a kill -9 of the leader to first start after it (`--local` only).
    pub failover_gap_ms: Option<f64>,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: f64,
    /// One in a hundred is slower.
    pub p99: f64,
    /// One in a thousand is slower.
    pub p99_9: f64,
}

impl Percentiles {
    /// Reads a histogram of microseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self { p50: at(0.5), p99: at(0.99), p99_9: at(0.999) }
    }
}

impl Figures {
    pub(crate) fn new(
        config: &BenchConfig,
        load: &Load,
        submitted: Duration,
        completed: Duration,
        stored: Duration,
    ) -> Self {
        let rate = |time: Duration| load.accepted as f64 / time.as_secs_f64();
        Self {
            tasks: load.accepted,
            batch: config.batch,
            clients: config.clients,
            submitted_per_s: rate(submitted),
            completed_per_s: rate(completed),
            stored_per_s: rate(stored),
            submit_ms: Percentiles::of(&load.submit_us),
            start_ms: None,
            cpu_us_per_task: BTreeMap::new(),
            memory_bytes_per_task: BTreeMap::new(),
            failover_gap_ms: None,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} tasks, batches of {}, {} at once", self.tasks, self.batch, self.clients)?;
        writeln!(f, "submitted  {:>9.0} /s", self.submitted_per_s)?;
        if self.memory_bytes_per_task.is_empty() {
            writeln!(f, "completed  {:>9.0} /s", self.completed_per_s)?;
        }
        writeln!(f, "stored     {:>9.0} /s", self.stored_per_s)?;
        writeln!(f, "submit     {}", self.submit_ms)?;
        if let Some(start) = &self.start_ms {
            writeln!(f, "start      {start}")?;
        }
        for (process, micros) in &self.cpu_us_per_task {
            writeln!(f, "cpu        {micros:>9.2} µs a task, {process}")?;
        }
        if !self.cpu_us_per_task.is_empty() {
            let sum: f64 = self.cpu_us_per_task.values().sum();
            writeln!(f, "cpu        {sum:>9.2} µs a task, sum")?;
        }
        for (process, bytes) in &self.memory_bytes_per_task {
            writeln!(f, "memory     {bytes:>9.0} bytes a waiting task, {process}")?;
        }
        if let Some(gap) = self.failover_gap_ms {
            writeln!(f, "failover   {gap:>9.0} ms between starts")?;
        }
        Ok(())
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", self.p50, self.p99, self.p99_9)
    }
}
