//! `dtask dev` from its start to its end, twice in one directory.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use dtask_proto::v1;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use tokio::sync::oneshot;

use crate::serve::dev::{self, DevAddress, DevConfig};
use crate::serve::{ServeError, net};

fn address() -> DevAddress {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound").to_string();
    DevAddress { address, movable: true }
}

fn config(dir: &Path, nodes: u32) -> DevConfig {
    DevConfig {
        nodes,
        workers: 1,
        dir: dir.to_owned(),
        // Further nodes take the ports after this one, which somebody may have: any will do.
        grpc: address(),
        http: address(),
        fresh: false,
        insecure: false,
        program: "dtask".to_owned(),
        // This binary is a test's and cannot become one.
        watchdog: None,
    }
}

/// Runs `dtask dev` until the first node knows how the welcome task stands.
async fn once(config: DevConfig) -> Result<v1::TaskStatus, ServeError> {
    let server = config.grpc.address.clone();
    let (stop, stopping) = oneshot::channel::<()>();
    let life = dev::run(config, async {
        let _or_dropped = stopping.await;
    });
    let look = async move {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Ok(channel) = net::connect(&server).await else { continue };
            let request = v1::GetTaskRequest { id: "welcome".to_owned(), stale: false };
            if let Ok(task) = TaskServiceClient::new(channel).get_task(request).await {
                let status = task.into_inner().status();
                if status == v1::TaskStatus::Succeeded {
                    drop(stop);
                    return status;
                }
            }
        }
    };
    let both = async { tokio::join!(life, look) };
    let (ended, status) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("soon");
    ended.map(|()| status)
}

#[tokio::test]
async fn welcome_task_runs_and_a_restart_remembers_it() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let dir = folder.path().join("data");
    for _ in 0..2 {
        let status = once(config(&dir, 1)).await.expect("it starts and ends well");
        assert_eq!(status, v1::TaskStatus::Succeeded);
    }
    let error = once_refused(config(&dir, 3)).await;
    assert!(error.contains("--nodes 1"), "{error}");
}

async fn once_refused(config: DevConfig) -> String {
    dev::run(config, std::future::pending()).await.expect_err("another number of nodes").to_string()
}

#[tokio::test]
async fn three_nodes_greet_too() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let status = once(config(&folder.path().join("data"), 3)).await.expect("it starts and ends");
    assert_eq!(status, v1::TaskStatus::Succeeded);
}
