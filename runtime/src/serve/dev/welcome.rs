//! The welcome task: what a new user sees run.

use std::time::{Duration, Instant};

use dtask_proto::v1;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::serve::net;

/// A first election and a first attempt fit many times.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between tries while no leader is known.
const RETRY: Duration = Duration::from_millis(20);
const ID: &str = "welcome";
const PAYLOAD: &str = r#"{"argv":["sh","-c","echo Welcome to DTask: this ran on a worker"]}"#;

/// Runs the welcome task through the first node and tells its result, or why there is none.
pub(super) async fn greet(servers: &[String], runs: bool) -> String {
    let Some(server) = servers.first() else { return String::new() };
    let began = Instant::now();
    match tokio::time::timeout(PATIENCE, submit(server, runs)).await {
        Ok(Ok(Some(output))) => {
            let millis = began.elapsed().as_millis();
            format!("\nwelcome task: succeeded after {millis} ms, and said:\n  {}", output.trim())
        }
        Ok(Ok(None)) => "\nwelcome task: submitted; it waits for a worker".to_owned(),
        Ok(Err(status)) => format!("\nwelcome task: {}", status.message()),
        Err(_) => format!("\nwelcome task: no result within {} s", PATIENCE.as_secs()),
    }
}

async fn submit(server: &str, runs: bool) -> Result<Option<String>, Status> {
    let mut client = TaskServiceClient::new(net::connect(server).await?);
    let task = v1::TaskSpec {
        id: ID.to_owned(),
        name: "Welcome".to_owned(),
        r#type: "exec".to_owned(),
        payload: PAYLOAD.into(),
        ..v1::TaskSpec::default()
    };
    // The same id: a repeat after an unknown outcome is the same task (P8.2).
    while let Err(status) = client
        .submit_task(v1::SubmitTaskRequest { task: Some(task.clone()), ..Default::default() })
        .await
    {
        again(&status)?;
        tokio::time::sleep(RETRY).await;
    }
    if !runs {
        return Ok(None);
    }
    result(&mut client).await.map(Some)
}

async fn result(client: &mut TaskServiceClient<Channel>) -> Result<String, Status> {
    loop {
        let wait = v1::WaitTaskRequest { id: ID.to_owned(), run: None, timeout: Some(5_000) };
        match client.wait_task(wait).await.map(tonic::Response::into_inner) {
            Ok(v1::WaitTaskResponse { done: true, task: Some(task) }) => {
                if task.status() == v1::TaskStatus::Succeeded {
                    break;
                }
                let reason = task.last_run.map_or_else(String::new, |run| run.reason);
                return Err(Status::unknown(format!("it did not succeed: {reason}")));
            }
            Ok(v1::WaitTaskResponse { .. }) => {}
            Err(status) => {
                again(&status)?;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    let logs = v1::StreamLogsRequest { task_id: ID.to_owned(), ..v1::StreamLogsRequest::default() };
    let mut chunks = client.stream_logs(logs).await?.into_inner();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        text.extend_from_slice(&chunk.data);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether to try again: a cluster that has just started elects its leader first.
fn again(status: &Status) -> Result<(), Status> {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::Unknown => Ok(()),
        _ => Err(status.clone()),
    }
}
