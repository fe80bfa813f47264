//! `dtask bench`: a load generator that uses the public interface alone, so that what it measures is
//! what a user gets.
//!
//! It submits no-op tasks in a closed loop (or at a rate), waits until their completion is committed
//! and until history has them, and prints rates, latencies and the CPU time of each process. With
//! `--local N` it first starts N schedulers and a worker as processes of their own.

mod figures;
mod load;
mod local;
mod postgres;
mod process;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dtask_proto::v1::cluster_service_client::ClusterServiceClient;
use dtask_proto::v1::{Cluster, GetClusterRequest};
use tonic::transport::{Channel, Endpoint};

pub use figures::Figures;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// Schedulers to submit to, `host:port`; ignored with `local`.
    pub servers: Vec<String>,
    /// How many tasks.
    pub tasks: u64,
    /// Callers (or batches in flight) at once.
    pub clients: usize,
    /// Tasks in one call; 1 is a call for each.
    pub batch: usize,
    /// Tasks a second in an open loop; `None` goes as fast as answers come.
    pub rate: Option<u64>,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Start this many schedulers, and the workers, in a temporary directory.
    pub local: Option<usize>,
    /// Worker processes with `local`.
    pub workers: usize,
    /// Slots of each worker with `local`.
    pub slots: u32,
    /// Where history goes with `local`; `None` is an SQLite file.
    pub history: Option<String>,
    /// Tasks are due in an hour: none runs, and what is measured is the memory that they take.
    pub waiting: bool,
    /// With `local` and at least three schedulers: kill the leader under load at the end and
    /// measure the gap.
    pub failover: bool,
}

/// The type of the benchmark's tasks: workers run it in-process with `--noop bench`.
pub const KIND: &str = "bench";

/// How long to wait for completion and for history after the last submit.
const DRAIN: Duration = Duration::from_secs(120);

/// Runs the load and returns its figures.
pub async fn run(config: BenchConfig) -> Result<Figures> {
    let mut local = match config.local {
        Some(nodes) => {
            let workers = (config.workers, config.slots);
            Some(local::Local::start(nodes, workers, config.history.as_deref()).await?)
        }
        None => None,
    };
    let servers = local.as_ref().map_or_else(|| config.servers.clone(), local::Local::servers);
    let leader = leader(&servers, Duration::from_secs(30)).await?;
    if let Some(local) = &local {
        local.wait_for_workers(&leader).await?;
    }
    let mut status = ClusterServiceClient::new(connect(&leader).await?);
    let before = cluster(&mut status).await?;
    let memory_before = local.as_ref().map(local::Local::memory).unwrap_or_default();
    let cpu_before = local.as_ref().map(local::Local::cpu_times).unwrap_or_default();
    let own_before = process::cpu_time(std::process::id())?;

    let begin = Instant::now();
    let load = load::submit(&config, &leader).await?;
    let submitted = begin.elapsed();
    let done = before.executions_opened - before.executions_running + load.accepted;
    if !config.waiting {
        until(&mut status, |c| c.executions_opened - c.executions_running >= done).await?;
    }
    let completed = begin.elapsed();
    until(&mut status, |c| c.history_lag == 0).await?;
    let stored = begin.elapsed();

    let mut figures = Figures::new(&config, &load, submitted, completed, stored);
    if !config.waiting {
        figures.start_ms = load::start_latency(&leader, &load).await?;
    }
    if let Some(local) = &mut local {
        let own = process::cpu_time(std::process::id())? - own_before;
        figures.cpu_us_per_task = local.cpu_per_task(&cpu_before, own, load.accepted, &leader);
        if config.waiting {
            figures.memory_bytes_per_task = local.memory_per_task(&memory_before, load.accepted);
        }
        if config.failover {
            figures.failover_gap_ms = Some(local.failover_gap(&leader).await?);
        }
    }
    Ok(figures)
}

/// Where the leader listens, `host:port`.
async fn leader(servers: &[String], within: Duration) -> Result<String> {
    ensure!(!servers.is_empty(), "no server to ask");
    let deadline = Instant::now() + within;
    loop {
        for server in servers {
            let Ok(channel) = connect(server).await else { continue };
            let Ok(view) = cluster(&mut ClusterServiceClient::new(channel)).await else { continue };
            let found = view.nodes.iter().find(|node| Some(node.id) == view.leader);
            if let Some(node) = found.filter(|node| !node.grpc.is_empty()) {
                return Ok(node.grpc.clone());
            }
        }
        ensure!(Instant::now() < deadline, "no leader at {} within {within:?}", servers.join(","));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn cluster(client: &mut ClusterServiceClient<Channel>) -> Result<Cluster> {
    Ok(client.get_cluster(GetClusterRequest {}).await?.into_inner())
}

async fn until(
    client: &mut ClusterServiceClient<Channel>,
    reached: impl Fn(&Cluster) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + DRAIN;
    loop {
        let view = cluster(client).await?;
        if reached(&view) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "not done within {DRAIN:?}: {} executions opened, {} running, history lag {}",
            view.executions_opened,
            view.executions_running,
            view.history_lag
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A connection with windows that let a batch pass without a round trip.
async fn connect(server: &str) -> Result<Channel> {
    Endpoint::from_shared(format!("http://{server}"))?
        .connect_timeout(Duration::from_secs(2))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await
        .with_context(|| format!("cannot reach {server}"))
}
