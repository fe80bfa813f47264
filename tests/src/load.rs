//! Callers that submit, repeat with the same id until they are answered, and remember what they
//! were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dtask_proto::v1::task_service_client::TaskServiceClient;
use dtask_proto::v1::{SubmitTaskRequest, TaskSpec};
use tonic::transport::{Channel, Endpoint};

/// What one caller was told of one task.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The task's id.
    pub id: String,
    /// From the first try to the acknowledgement.
    pub took: Duration,
    /// Tries, the acknowledged one included.
    pub tries: u32,
}

/// A client of each node, connected when first used.
pub fn clients(servers: &[String]) -> Result<Vec<TaskServiceClient<Channel>>> {
    servers
        .iter()
        .map(|server| {
            let endpoint = Endpoint::from_shared(server.clone())?
                .connect_timeout(Duration::from_secs(1))
                .timeout(Duration::from_secs(5))
                // A half-open connection is noticed.
                .http2_keep_alive_interval(Duration::from_secs(1))
                .keep_alive_timeout(Duration::from_secs(2));
            Ok(TaskServiceClient::new(endpoint.connect_lazy()))
        })
        .collect()
}

/// `callers` callers that each submit one task after another, in turn to every node, until `stop`.
/// A refused or unanswered submit is repeated with the same id at the next node.
pub async fn submit_until(
    servers: Vec<String>,
    callers: usize,
    spec: impl Fn(String) -> TaskSpec + Clone + Send + 'static,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Submitted>> {
    let mut running = Vec::new();
    for caller in 0..callers {
        let (mut clients, spec, stop) = (clients(&servers)?, spec.clone(), stop.clone());
        running.push(tokio::spawn(async move {
            let mut told = Vec::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("c{caller}-{number}");
                let begin = Instant::now();
                let mut tries = 0;
                loop {
                    let next = (caller + number + tries) % clients.len();
                    let client = &mut clients[next];
                    tries += 1;
                    let request = SubmitTaskRequest {
                        task: Some(spec(id.clone())),
                        retry: tries > 1,
                        ..Default::default()
                    };
                    match client.submit_task(request).await {
                        Ok(_) => break,
                        Err(status) => {
                            ensure!(
                                begin.elapsed() < Duration::from_secs(30),
                                "{id} was not accepted in 30 s: {status}"
                            );
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
                told.push(Submitted { id, took: begin.elapsed(), tries: tries as u32 });
            }
            Ok(told)
        }));
    }
    let mut all = Vec::new();
    for caller in running {
        all.extend(caller.await??);
    }
    Ok(all)
}
