//! One scheduler node on a thread of its own, with its options checked, its disk opened and its
//! ports bound; what it then does is `life`.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use dtask_core::id::{Incarnation, NodeId};
use dtask_core::node::{Addresses, Input, Node, NodeConfig};
use tokio::sync::watch;

use super::clock::SystemClock;
use super::config::{ServeConfig, ServeError};
use super::history;
use super::host::Ended;
use super::inbox::{Inbox, NodeHandle, inbox};
use super::life::{self, LAST_WORDS, Life};
use crate::log_store::{self, OpenedLog, Options};

/// A node that runs.
#[derive(Debug)]
pub struct Running {
    /// Its id.
    pub id: NodeId,
    /// Where its gRPC listens.
    pub grpc: SocketAddr,
    /// Where its HTTP listens.
    pub http: SocketAddr,
    stop: watch::Sender<bool>,
    /// Its sender lives as long as the thread.
    life: watch::Receiver<()>,
    thread: JoinHandle<Result<(), ServeError>>,
}

/// Runs a node until `shutdown` resolves, then lets it hand leadership on and answer what it has
/// begun, within seconds.
///
/// # Errors
/// Why it did not start, or ended by itself.
pub async fn run(
    config: ServeConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut node = start(config)?;
    tracing::info!(node = node.id.0, grpc = %node.grpc, http = %node.http, "node started");
    tokio::select! {
        biased;
        () = node.ended() => {}
        () = shutdown => {
            node.stop();
            node.ended().await;
        }
    }
    node.join()
}

/// Starts a node: checks its options, opens its disk, binds its ports, in this order, so that a
/// directory in use is told before a port in use.
///
/// # Errors
/// Which of these failed.
pub fn start(config: ServeConfig) -> Result<Running, ServeError> {
    config.check()?;
    let id = config.id;
    let (handle, inbox) = inbox();
    let opened = open(&config, handle.clone())?;
    let ServeConfig { grpc, http, .. } = config;
    let (grpc_socket, grpc) = grpc.bind("--grpc")?;
    let (http_socket, http) = http.bind("--http")?;
    let history = history::choose(&config.history, handle.clone())?;
    let (stop, stopping) = watch::channel(false);
    let (alive, life) = watch::channel(());
    let named = config.peers.iter().find(|(peer, _)| *peer == id).map(|(_, address)| address);
    // A port of 0 was a wish, not an address.
    let named = named.filter(|address| !address.ends_with(":0")).cloned();
    let own_grpc = config.advertise_grpc.or(named).unwrap_or_else(|| grpc.to_string());
    let own_http = config.advertise_http.unwrap_or_else(|| http.to_string());
    let parts = Parts {
        id,
        data: config.data,
        addresses: Addresses { grpc: own_grpc.into(), http: own_http.into() },
        peers: config.peers,
        outbox_bytes_max: config.outbox_bytes_max,
        snapshot_log_bytes_min: config.snapshot_log_bytes_min,
        opened,
        handle,
        inbox,
        history,
        grpc_socket,
        http_socket,
    };
    let thread = std::thread::Builder::new().name(format!("node-{id}")).spawn(move || {
        let _alive = alive;
        live(parts, stopping)
    })?;
    Ok(Running { id, grpc, http, stop, life, thread })
}

impl Running {
    /// Asks the node to stop: it hands leadership on and answers what it has begun.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when it has ended.
    pub async fn ended(&mut self) {
        let _sender_dropped = self.life.changed().await;
    }

    /// Waits for the node's end.
    ///
    /// # Errors
    /// Why it ended by itself.
    pub fn join(self) -> Result<(), ServeError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(ServeError::Halted(format!("node {} broke an invariant", self.id))),
        }
    }
}

fn open(config: &ServeConfig, node: NodeHandle) -> Result<OpenedLog, ServeError> {
    let mut voters: Vec<NodeId> = config.peers.iter().map(|(id, _)| *id).collect();
    voters.sort_unstable();
    let options = Options::new(config.id, Some(voters));
    let saved = move |index| {
        let _stopping = node.tell_blocking(Input::SnapshotSaved { index });
    };
    log_store::open(&config.data, &options, saved)
        .map_err(|error| ServeError::Data(error.to_string()))
}

/// What a node's thread is given.
struct Parts {
    id: NodeId,
    data: std::path::PathBuf,
    addresses: Addresses,
    peers: Vec<(NodeId, String)>,
    outbox_bytes_max: u64,
    snapshot_log_bytes_min: Option<u64>,
    opened: OpenedLog,
    handle: NodeHandle,
    inbox: Inbox,
    history: history::Ports,
    grpc_socket: TcpListener,
    http_socket: TcpListener,
}

/// The life of a node's thread.
fn live(parts: Parts, stopping: watch::Receiver<bool>) -> Result<(), ServeError> {
    let data = parts.data.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(drive(parts, stopping));
    runtime.shutdown_timeout(LAST_WORDS);
    match ended? {
        Ended::ShutDown => Ok(()),
        Ended::Halted(reason) => Err(ServeError::Halted(reason)),
        Ended::DiskFailed => Err(ServeError::Disk { data }),
    }
}

async fn drive(parts: Parts, shutdown: watch::Receiver<bool>) -> Result<Ended, ServeError> {
    let node = node_config(&parts, parts.opened.incarnation);
    let Parts { id, peers, opened, handle, inbox, history, grpc_socket, http_socket, .. } = parts;
    let ended = life::live(
        Life {
            id,
            machine: Node::new(node, opened.recovered),
            clock: SystemClock,
            disk: opened.store,
            durable: opened.durable,
            history: history.write,
            read: history.read,
            peers,
            handle,
            inbox,
            grpc: grpc_socket,
            http: http_socket,
        },
        shutdown,
    );
    Ok(ended.await?)
}

fn node_config(parts: &Parts, incarnation: Incarnation) -> NodeConfig {
    let mut voters: Vec<NodeId> = parts.peers.iter().map(|(id, _)| *id).collect();
    voters.sort_unstable();
    // The seed chooses election timeouts: two nodes, or two lives of one, must not share it.
    let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
    let mut node = NodeConfig::new(parts.id, voters, incarnation, seed);
    node.addresses = parts.addresses.clone();
    node.peers = parts.peers.iter().map(|(id, at)| (*id, at.as_str().into())).collect();
    node.outbox_bytes_max = parts.outbox_bytes_max;
    if let Some(bytes) = parts.snapshot_log_bytes_min {
        node.snapshot_log_bytes_min = bytes;
    }
    node
}
