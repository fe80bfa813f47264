//! One life of a scheduler node on the runtime at hand: its loop and the network on this runtime,
//! HTTP on another (datapath.md, "Threads"). The process gives it files and bound sockets, a
//! simulator its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dtask_core::id::NodeId;
use dtask_core::machine::Machine;
use dtask_core::node::{Effect, Input};
use tokio::sync::watch;

use super::calls::Calls;
use super::clock::Clock;
use super::grpc;
use super::host::{self, Ended, HostParts};
use super::inbox::{Inbox, NodeHandle};
use super::net::Socket;
use super::peers::Peers;
use super::ports::{Disk, History, HistoryRead};
use super::status::NodeStatus;

/// How long answers that are already written may take to leave a node that stops.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

/// What one life is made of.
pub struct Life<M, C, D, H> {
    /// The node's id.
    pub id: NodeId,
    /// The node.
    pub machine: M,
    /// Both clocks.
    pub clock: C,
    /// Log and snapshots, opened.
    pub disk: D,
    /// The newest durable `Persist`, as the disk reports it.
    pub durable: watch::Receiver<u64>,
    /// The history database, for the leader.
    pub history: H,
    /// The history database, for every node; `None` when there is nothing to read.
    pub read: Option<Arc<dyn HistoryRead>>,
    /// Every voter with its gRPC `host:port`, itself too.
    pub peers: Vec<(NodeId, String)>,
    /// The way into the node.
    pub handle: NodeHandle,
    /// What arrives there.
    pub inbox: Inbox,
    /// For gRPC.
    pub grpc: Socket,
    /// For HTTP.
    pub http: Socket,
}

/// Serves until `shutdown` becomes true, the node halts, or its disk fails.
///
/// # Errors
/// The operating system refuses a runtime or a thread.
pub async fn live<M, C, D, H>(
    life: Life<M, C, D, H>,
    shutdown: watch::Receiver<bool>,
) -> io::Result<Ended>
where
    M: Machine<Input = Input, Effect = Effect>,
    C: Clock,
    D: Disk,
    H: History,
{
    let Life { id, machine, clock, disk, durable, history, read, peers, .. } = life;
    let (handle, inbox) = (life.handle, life.inbox);
    let status = Arc::new(NodeStatus::new(id));
    let calls = || Arc::new(Calls::new(handle.clone(), status.clone(), read.clone()));
    let http = serve_http(life.http, calls())?;
    let server = tokio::spawn(grpc::serve(life.grpc, handle.clone(), calls()));
    let others = peers.into_iter().filter(|(peer, _)| *peer != id);
    let ended = host::run(HostParts {
        node: machine,
        clock,
        disk,
        durable,
        history,
        peers: Peers::new(others, handle.clone()),
        inbox,
        status: status.clone(),
        shutdown,
    })
    .await;
    // The host has answered what it could; the answers still have to leave.
    tokio::time::sleep(LAST_WORDS).await;
    server.abort();
    drop(http);
    Ok(ended)
}

/// HTTP on a thread of its own; it ends when the returned sender is dropped.
#[cfg(not(madsim))]
fn serve_http(socket: Socket, calls: Arc<Calls>) -> io::Result<watch::Sender<bool>> {
    let (stop, stopping) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(until_stopped(socket, calls, stopping));
        runtime.shutdown_timeout(LAST_WORDS);
    })?;
    Ok(stop)
}

/// The simulator has one thread.
#[cfg(madsim)]
fn serve_http(socket: Socket, calls: Arc<Calls>) -> io::Result<watch::Sender<bool>> {
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(until_stopped(socket, calls, stopping));
    Ok(stop)
}

async fn until_stopped(socket: Socket, calls: Arc<Calls>, stopping: watch::Receiver<bool>) {
    let mut gone = stopping.clone();
    let served = tokio::select! {
        biased;
        served = crate::http::serve(socket, calls, stopping) => served,
        // Open event streams do not keep a node that stops.
        () = async {
            drop(gone.wait_for(|stop| *stop).await);
            tokio::time::sleep(LAST_WORDS).await;
        } => Ok(()),
    };
    if let Err(error) = served {
        tracing::error!(%error, "HTTP ended");
    }
}
