//! `dtask bench`: its options; the load generator is `crate::bench`.

use std::path::PathBuf;

use clap::Args;

use super::fail::{Failure, code};
use super::out::Out;
use crate::bench::{self, BenchConfig};

/// `dtask bench`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  dtask bench --local 3 --tasks 100000 --clients 512\n  dtask bench --server 127.0.0.1:7101 --batch 1000 -o json"
)]
pub(crate) struct BenchArgs {
    /// How many tasks
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// Callers (or batches on their way) at once
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Tasks in one call; 1 is a call for each
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Tasks a second; as fast as answers come when absent
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    payload_bytes: u32,
    /// Start this many schedulers, and workers, in a temporary directory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=7))]
    local: Option<u32>,
    /// With --local: worker processes
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// With --local: slots of each worker; with few of them the figures are theirs
    #[arg(long, value_name = "S", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(dtask_core::limits::WORKER_SLOTS_MAX)))]
    slots: u32,
    /// With --local: where history goes; an SQLite file of its own when absent
    #[arg(long, value_name = "URL", requires = "local", conflicts_with = "history_file")]
    history: Option<String>,
    /// With --local: a file that holds the URL of the history database
    #[arg(long, value_name = "FILE", requires = "local")]
    history_file: Option<PathBuf>,
    /// Let the tasks wait for an hour and measure the memory that they take
    #[arg(long, conflicts_with = "failover")]
    waiting: bool,
    /// With --local: kill the leader at the end and measure the gap
    #[arg(long, requires = "local")]
    failover: bool,
}

impl BenchArgs {
    /// Runs the load and prints its figures.
    ///
    /// # Errors
    /// The cluster could not be reached or did not keep up.
    pub(crate) async fn run(&self, servers: &[String], out: &Out) -> Result<(), Failure> {
        let config = BenchConfig {
            servers: servers.to_vec(),
            tasks: self.tasks,
            clients: self.clients as usize,
            batch: self.batch as usize,
            rate: self.rate,
            payload_bytes: self.payload_bytes as usize,
            local: self.local.map(|nodes| nodes as usize),
            workers: self.workers as usize,
            slots: self.slots,
            history: match &self.history_file {
                Some(path) => Some(super::serve::read_url(path)?),
                None => self.history.clone(),
            },
            waiting: self.waiting,
            failover: self.failover,
        };
        let figures = bench::run(config)
            .await
            .map_err(|error| Failure::new(code::REFUSED, format!("{error:#}")))?;
        out.show(&figures, ToString::to_string)
    }
}
