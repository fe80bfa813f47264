//! A cluster of nodes in this process, on loopback and temporary directories.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use dtask_core::id::NodeId;
use dtask_proto::v1;
use dtask_proto::v1::cluster_service_client::ClusterServiceClient;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::Channel;

use crate::api::Fault;
use crate::serve::config::{HistoryChoice, Listen, ServeConfig};
use crate::serve::net;
use crate::serve::node::{self, Running};
use crate::work::{self, Handlers, WorkConfig};

/// Nothing that heals takes longer, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Nodes {
    folder: tempfile::TempDir,
    addresses: Vec<(SocketAddr, SocketAddr)>,
    nodes: Vec<Option<Running>>,
    snapshot_log_bytes_min: Option<u64>,
}

impl Nodes {
    /// `count` nodes that know each other.
    pub(super) fn start(count: usize, snapshot_log_bytes_min: Option<u64>) -> Self {
        let socket = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let sockets: Vec<_> = (0..count).map(|_| (socket(), socket())).collect();
        let address = |socket: &TcpListener| socket.local_addr().expect("it is bound");
        let addresses = sockets.iter().map(|(grpc, http)| (address(grpc), address(http))).collect();
        let folder = tempfile::tempdir().expect("a temporary directory");
        let nodes = (0..count).map(|_| None).collect();
        let mut cluster = Self { folder, addresses, nodes, snapshot_log_bytes_min };
        for (at, (grpc, http)) in sockets.into_iter().enumerate() {
            cluster.begin(at, Listen::Bound(grpc), Listen::Bound(http));
        }
        cluster
    }

    fn begin(&mut self, at: usize, grpc: Listen, http: Listen) {
        let id = |at: usize| NodeId(at as u64 + 1);
        let peers = self.addresses.iter().enumerate();
        let running = node::start(ServeConfig {
            id: id(at),
            data: self.folder.path().join(format!("node{}", id(at))),
            peers: peers.map(|(at, (grpc, _))| (id(at), grpc.to_string())).collect(),
            grpc,
            http,
            advertise_grpc: None,
            advertise_http: None,
            history: HistoryChoice::Sqlite(self.folder.path().join("history.db")),
            outbox_bytes_max: dtask_core::limits::OUTBOX_BYTES_MAX,
            insecure: false,
            snapshot_log_bytes_min: self.snapshot_log_bytes_min,
        });
        self.nodes[at] = Some(running.expect("the node starts"));
    }

    /// Starts node `at` again on its directory and ports.
    pub(super) fn restart(&mut self, at: usize) {
        let (grpc, http) = self.addresses[at];
        self.begin(at, Listen::Address(grpc.to_string()), Listen::Address(http.to_string()));
    }

    /// Stops node `at`.
    pub(super) async fn stop(&mut self, at: usize) {
        let mut node = self.nodes[at].take().expect("it runs");
        node.stop();
        node.ended().await;
        node.join().expect("it ends well");
    }

    /// Makes the history file unreadable. No node may be running.
    pub(super) fn spoil_history(&self) {
        for end in ["-wal", "-shm"] {
            // Gone already when the last node closed it in order.
            let _or_not_there =
                std::fs::remove_file(self.folder.path().join(format!("history.db{end}")));
        }
        std::fs::write(self.folder.path().join("history.db"), [7; 8_192]).expect("it writes");
    }

    pub(super) async fn stop_all(mut self) {
        for node in self.nodes.iter().flatten() {
            node.stop();
        }
        for mut node in self.nodes.drain(..).flatten() {
            node.ended().await;
            node.join().expect("it ends well");
        }
    }

    pub(super) fn http(&self, at: usize) -> SocketAddr {
        self.addresses[at].1
    }

    /// A connection to node `at`.
    pub(super) async fn channel(&self, at: usize) -> Channel {
        net::connect(&self.addresses[at].0.to_string()).await.expect("it listens")
    }

    /// A client of node `at`.
    pub(super) async fn tasks(&self, at: usize) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel(at).await)
    }

    /// The cluster as node `at` sees it.
    pub(super) async fn view(&self, at: usize) -> v1::Cluster {
        let mut client = ClusterServiceClient::new(self.channel(at).await);
        let view = client.get_cluster(v1::GetClusterRequest {}).await;
        view.expect("any node answers").into_inner()
    }

    /// Which running node leads, by its own word.
    pub(super) async fn leader(&self) -> usize {
        self.until("a node leads", async || {
            for at in (0..self.nodes.len()).filter(|at| self.nodes[*at].is_some()) {
                let view = self.view(at).await;
                if view.leader == Some(view.node_id) {
                    return Some(at);
                }
            }
            None
        })
        .await
    }

    /// L5: every node has applied the same index with the same digest.
    pub(super) async fn converge(&self) {
        self.until("all nodes agree", async || {
            let first = self.view(0).await.digest;
            for at in 1..self.nodes.len() {
                if self.view(at).await.digest != first {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Asks again and again, within patience.
    pub(super) async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let asking = async {
            loop {
                if let Some(found) = ask().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// A worker of type `noop`, and of `hello`, which writes to its log. It ends with the sender.
    pub(super) fn worker(&self) -> oneshot::Sender<()> {
        let (stop, stopping) = oneshot::channel::<()>();
        let handlers = Handlers::new().noop("noop").and_then(|handlers| {
            handlers.function("hello", |task: work::TaskHandle| async move {
                task.log("hello from the handler\n").await;
                Ok(bytes::Bytes::from_static(b"\"done\""))
            })
        });
        let config = WorkConfig {
            name: "w1".to_owned(),
            instance: work::random_instance(),
            servers: self.addresses.iter().map(|(grpc, _)| grpc.to_string()).collect(),
            slots: 8,
            queues: Vec::new(),
            labels: Vec::new(),
            drain_timeout: Duration::from_secs(5),
            handlers: handlers.expect("two types"),
        };
        tokio::spawn(work::run(config, async {
            let _or_dropped = stopping.await;
        }));
        stop
    }
}

/// A task of `kind`.
pub(super) fn task(id: &str, kind: &str) -> v1::TaskSpec {
    v1::TaskSpec { id: id.to_owned(), r#type: kind.to_owned(), ..v1::TaskSpec::default() }
}

/// Submits until a leader has taken it: the same id makes repeats harmless.
pub(super) async fn submit(
    client: &mut TaskServiceClient<Channel>,
    task: v1::TaskSpec,
) -> v1::SubmitTaskResponse {
    let request =
        v1::SubmitTaskRequest { task: Some(task), retry: true, ..v1::SubmitTaskRequest::default() };
    let accepted = answered(async || client.submit_task(request.clone()).await).await;
    accepted.expect("it is legal")
}

/// Submits until a leader has taken all of the batch: the same ids make repeats harmless.
pub(super) async fn submit_all(
    client: &mut TaskServiceClient<Channel>,
    tasks: impl IntoIterator<Item = v1::TaskSpec>,
) -> Vec<v1::SubmitTaskResponse> {
    let tasks = tasks.into_iter().collect();
    let request =
        v1::SubmitTasksRequest { tasks, retry: true, ..v1::SubmitTasksRequest::default() };
    let taken = answered(async || {
        let answer = client.submit_tasks(request.clone()).await?.into_inner();
        let results =
            answer.results.into_iter().map(|result| match (result.accepted, result.error) {
                (Some(accepted), _) => Ok(accepted),
                (None, error) => Err(Fault(error.expect("accepted or refused")).into_status()),
            });
        results.collect::<Result<Vec<_>, _>>().map(tonic::Response::new)
    });
    taken.await.expect("all of it is legal")
}

/// Asks until a leader has answered, as callers do: while leaders change nobody may be there, or the
/// one that was asked goes before it has answered (P3.6). Any other refusal is an answer.
pub(super) async fn answered<T>(
    mut ask: impl AsyncFnMut() -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, tonic::Status> {
    let asking = async {
        loop {
            let status = match ask().await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let passing = match Fault::from_status(&status) {
                Some(Fault(error)) => {
                    ["NO_LEADER", "OUTCOME_UNKNOWN", "UNAVAILABLE"].contains(&&*error.reason)
                        && error.retry_after.is_some()
                }
                // The connection broke.
                None => {
                    [Code::Unavailable, Code::Unknown, Code::Cancelled].contains(&status.code())
                }
            };
            if !passing {
                return Err(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("a leader answers")
}
