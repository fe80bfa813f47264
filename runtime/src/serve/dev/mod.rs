//! `dtask dev`: scheduler nodes, workers and history in one process on this machine.
//!
//! The nodes are real: each has its thread, its directory and its ports, and they talk over
//! loopback gRPC. Nothing here knows more of a node than `dtask serve` does.

mod directory;
mod ports;
mod welcome;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use dtask_core::id::NodeId;
use dtask_core::limits;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::config::{HistoryChoice, Listen, ServeConfig, ServeError};
use super::node::{self, Running};
use crate::work::{self, Handlers, WorkConfig};

/// What `dtask dev` is told.
#[derive(Clone, Debug)]
pub struct DevConfig {
    /// Scheduler nodes.
    pub nodes: u32,
    /// Workers.
    pub workers: u32,
    /// Where everything is kept.
    pub dir: PathBuf,
    /// gRPC address of the first node.
    pub grpc: DevAddress,
    /// HTTP address of the first node.
    pub http: DevAddress,
    /// Throw away what an earlier `dtask dev` left.
    pub fresh: bool,
    /// Listening beyond this machine is allowed.
    pub insecure: bool,
    /// How the program is called in the commands that are printed.
    pub program: String,
    /// The binary that watches the workers' processes ([`work::OWN_PROGRAM`] in one that
    /// intercepts it); `None`: they end with this process's word only.
    pub watchdog: Option<PathBuf>,
}

/// An address, and whether the next free port does when it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevAddress {
    /// `host:port`.
    pub address: String,
    /// Nobody asked for this very port.
    pub movable: bool,
}

/// Attempts that each worker runs at once.
const SLOTS: u32 = 16;
/// How long running attempts may take at the end before they are handed back.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs until `shutdown` resolves, then drains workers and stops nodes, within seconds.
///
/// # Errors
/// Why it did not start, or why a node ended by itself.
pub async fn run(config: DevConfig, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    let new = directory::prepare(&config.dir, config.nodes, config.fresh)?;
    let mut nodes = start_nodes(&config)?;
    let servers: Vec<String> = nodes.iter().map(|node| node.grpc.to_string()).collect();
    let (stop, stopping) = watch::channel(false);
    let mut workers = start_workers(&config, &servers, &stopping);
    say_where(&config, &nodes);
    let ended = {
        let life = live(&config, &servers, new);
        tokio::pin!(life, shutdown);
        tokio::select! {
            biased;
            () = &mut shutdown => None,
            at = first_end(&mut nodes) => Some(at),
            never = &mut life => match never {},
        }
    };
    say("\nstopping: attempts that run get 3 seconds; Ctrl-C again kills");
    stop.send_replace(true);
    while workers.join_next().await.is_some() {}
    stop_nodes(nodes).await?;
    match ended {
        None => Ok(()),
        Some(at) => Err(ServeError::Halted(format!("node {} ended by itself", at + 1))),
    }
}

/// Greets a new directory, shows what to try, and waits.
async fn live(config: &DevConfig, servers: &[String], new: bool) -> std::convert::Infallible {
    if new {
        say(&welcome::greet(servers, config.workers > 0).await);
    }
    say(&commands(config, servers));
    std::future::pending().await
}

fn start_nodes(config: &DevConfig) -> Result<Vec<Running>, ServeError> {
    let grpc = ports::bind("--grpc", &config.grpc, config.nodes)?;
    let http = ports::bind("--http", &config.http, config.nodes)?;
    let mut peers = Vec::new();
    for (id, socket) in (1..).zip(&grpc) {
        peers.push((NodeId(id), socket.local_addr()?.to_string()));
    }
    let sockets = grpc.into_iter().zip(http);
    let nodes = (1..).zip(sockets).map(|(id, (grpc, http))| {
        node::start(ServeConfig {
            id: NodeId(id),
            data: config.dir.join(format!("node{id}")),
            peers: peers.clone(),
            grpc: Listen::Bound(grpc),
            http: Listen::Bound(http),
            advertise_grpc: None,
            advertise_http: None,
            history: HistoryChoice::Sqlite(config.dir.join("history.db")),
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
            insecure: config.insecure,
            snapshot_log_bytes_min: None,
        })
    });
    nodes.collect()
}

/// Workers on this runtime: handlers are processes, so the loops have little to do.
fn start_workers(
    config: &DevConfig,
    servers: &[String],
    stopping: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for number in 1..=config.workers {
        let handlers = match guarded_exec(config) {
            Ok(handlers) => handlers,
            Err(error) => {
                tracing::error!(%error, "the workers have no exec");
                return workers;
            }
        };
        let work = WorkConfig {
            name: format!("dev-{number}"),
            instance: work::random_instance(),
            servers: servers.to_vec(),
            slots: SLOTS,
            queues: Vec::new(),
            labels: Vec::new(),
            drain_timeout: DRAIN,
            handlers,
        };
        let mut stopping = stopping.clone();
        workers.spawn(async move {
            let life = work::run(work, async move {
                let _or_dropped = stopping.wait_for(|stop| *stop).await;
            });
            if let Err(error) = life.await {
                tracing::error!(number, %error, "a worker ended");
            }
        });
    }
    workers
}

fn guarded_exec(config: &DevConfig) -> std::io::Result<Handlers> {
    let handlers = match &config.watchdog {
        Some(program) => Handlers::new().watchdog(program)?,
        None => Handlers::new(),
    };
    handlers.exec().map_err(std::io::Error::other)
}

/// Resolves when a node ends by itself, with its place.
async fn first_end(nodes: &mut [Running]) -> usize {
    let ends = nodes.iter_mut().map(|node| Box::pin(node.ended()));
    let ((), at, _) = futures_util::future::select_all(ends).await;
    at
}

async fn stop_nodes(nodes: Vec<Running>) -> Result<(), ServeError> {
    for node in &nodes {
        node.stop();
    }
    for mut node in nodes {
        node.ended().await;
        node.join()?;
    }
    Ok(())
}

fn say_where(config: &DevConfig, nodes: &[Running]) {
    let count =
        |number: u32, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    say(&format!(
        "DTask runs {} and {} in {}",
        count(config.nodes, "scheduler node"),
        count(config.workers, "worker"),
        config.dir.display()
    ));
    for node in nodes {
        say(&format!("  node {}  HTTP http://{}  gRPC {}", node.id, node.http, node.grpc));
    }
    for (word, wished, got) in [
        ("HTTP", &config.http, nodes.first().map(|node| node.http)),
        ("gRPC", &config.grpc, nodes.first().map(|node| node.grpc)),
    ] {
        let Some(got) = got.map(|address| address.to_string()) else { continue };
        if wished.movable && wished.address != got {
            say(&format!("  {} was taken: {word} is at {got}", wished.address));
        }
    }
    say(&format!("  history  {}", config.dir.join("history.db").display()));
}

/// Three commands that work as printed.
fn commands(config: &DevConfig, servers: &[String]) -> String {
    let program = &config.program;
    let server = match servers {
        [only] if only == "127.0.0.1:7100" => String::new(),
        all => format!(" --server {}", all.join(",")),
    };
    format!(
        "\nTry, in another terminal:\n  {program} run{server} -- echo hello\n  \
         {program} submit{server} --every 10s --id tick -- date\n  \
         {program} task list{server}\nCtrl-C stops; starting again goes on where it was.\n"
    )
}

/// A line for people; a closed pipe is their way of not reading it.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _reader_left = writeln!(out, "{text}").and_then(|()| out.flush());
}
