//! The callers: a closed loop of single calls or of batches, or an open loop at a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use dtask_proto::v1::{ListExecutionsRequest, SubmitTaskRequest, SubmitTasksRequest, TaskSpec};
use hdrhistogram::Histogram;
use tonic::transport::Channel;

use super::figures::Percentiles;
use super::{BenchConfig, KIND, connect};

/// Connections that callers share: one is bounded by one HTTP/2 connection's task.
const CONNECTIONS: usize = 4;
/// Tasks whose start latency is looked up afterwards.
const SAMPLES: usize = 500;
/// Tries of one call before the run is given up.
const TRIES_MAX: u32 = 100;

/// What the callers were told.
#[derive(Debug)]
pub(crate) struct Load {
    /// Acknowledged tasks.
    pub(crate) accepted: u64,
    /// Microseconds from call to acknowledgement.
    pub(crate) submit_us: Histogram<u64>,
    /// Some tasks, and when they were submitted.
    samples: Vec<(String, SystemTime)>,
}

/// What one caller was told.
struct Told {
    accepted: u64,
    submit_us: Histogram<u64>,
    samples: Vec<(String, SystemTime)>,
}

/// Submits `config.tasks` tasks at the leader.
pub(crate) async fn submit(config: &BenchConfig, leader: &str) -> Result<Load> {
    ensure!(config.clients > 0 && config.batch > 0, "clients and batch must be at least 1");
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS.min(config.clients) {
        channels.push(connect(leader).await?);
    }
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let callers: Vec<_> = (0..config.clients)
        .map(|caller| {
            let client = TaskServiceClient::new(channels[caller % channels.len()].clone())
                .max_decoding_message_size(16 << 20);
            tokio::spawn(call(config.clone(), client, next.clone(), begin))
        })
        .collect();
    let mut load = Load { accepted: 0, submit_us: histogram()?, samples: Vec::new() };
    for caller in callers {
        let told = caller.await??;
        load.accepted += told.accepted;
        load.submit_us.add(&told.submit_us)?;
        load.samples.extend(told.samples);
    }
    Ok(load)
}

async fn call(
    config: BenchConfig,
    mut client: TaskServiceClient<Channel>,
    next: Arc<AtomicU64>,
    begin: Instant,
) -> Result<Told> {
    let payload = Bytes::from(vec![b'x'; config.payload_bytes]);
    let at = config.waiting.then(in_an_hour).transpose()?;
    let sample_every = (config.tasks / SAMPLES as u64).max(1);
    let mut told = Told { accepted: 0, submit_us: histogram()?, samples: Vec::new() };
    loop {
        let first = next.fetch_add(config.batch as u64, Ordering::Relaxed);
        if first >= config.tasks {
            return Ok(told);
        }
        if let Some(rate) = config.rate {
            let due = begin + Duration::from_micros(first * 1_000_000 / rate.max(1));
            tokio::time::sleep_until(due.into()).await;
        }
        let count = (config.tasks - first).min(config.batch as u64);
        let specs: Vec<_> = (0..count).map(|_| spec(&payload, at)).collect();
        let sampled = (first..first + count).find(|n| n % sample_every == 0);
        let sample = sampled.map(|n| specs[(n - first) as usize].id.clone());
        let (called, start) = (SystemTime::now(), Instant::now());
        send(&mut client, specs).await?;
        told.submit_us.saturating_record(start.elapsed().as_micros() as u64);
        told.accepted += count;
        told.samples.extend(sample.map(|id| (id, called)));
    }
}

/// One call, repeated with the same ids while the answer is "not now".
async fn send(client: &mut TaskServiceClient<Channel>, specs: Vec<TaskSpec>) -> Result<()> {
    for _ in 0..TRIES_MAX {
        let refused = if let [task] = specs.as_slice() {
            let request = SubmitTaskRequest { task: Some(task.clone()), ..Default::default() };
            client.submit_task(request).await.err()
        } else {
            let request = SubmitTasksRequest { tasks: specs.clone(), ..Default::default() };
            match client.submit_tasks(request).await {
                Ok(response) => {
                    let results = response.into_inner().results;
                    let error = results.into_iter().find_map(|result| result.error);
                    error.map(|e| tonic::Status::resource_exhausted(e.detail))
                }
                Err(status) => Some(status),
            }
        };
        match refused {
            None => return Ok(()),
            Some(status) => match status.code() {
                tonic::Code::ResourceExhausted | tonic::Code::Unavailable => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                _ => return Err(status).context("a submit was refused"),
            },
        }
    }
    anyhow::bail!("a submit was refused {TRIES_MAX} times in a row")
}

fn in_an_hour() -> Result<i64> {
    let due = SystemTime::now() + Duration::from_secs(3_600);
    Ok(i64::try_from(due.duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?)
}

fn spec(payload: &Bytes, at: Option<i64>) -> TaskSpec {
    TaskSpec {
        at,
        id: uuid::Uuid::now_v7().to_string(),
        r#type: KIND.into(),
        payload: payload.clone(),
        ..TaskSpec::default()
    }
}

/// From submit to the handler's start, of the sampled tasks, from their executions.
pub(crate) async fn start_latency(leader: &str, load: &Load) -> Result<Option<Percentiles>> {
    let mut client = TaskServiceClient::new(connect(leader).await?);
    let mut histogram = histogram()?;
    for (id, at) in &load.samples {
        let request = ListExecutionsRequest { task_id: id.clone(), ..Default::default() };
        let executions = client.list_executions(request).await?.into_inner().executions;
        let started = executions.first().and_then(|execution| execution.started_at);
        let submitted = at.duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as i64;
        if let Some(started) = started {
            histogram.saturating_record(u64::try_from(started - submitted).unwrap_or(0));
        }
    }
    Ok((!histogram.is_empty()).then(|| Percentiles::of(&histogram)))
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}
