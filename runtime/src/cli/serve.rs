//! `dtask serve`: its options, and a node's life as a process.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use clap::Args;
use dtask_core::id::NodeId;
use dtask_core::limits;

use super::fail::{Failure, code};
use super::log::{self, LogOptions};
use super::signals::Signals;
use crate::history::PostgresUrl;
use crate::serve::{self, HistoryChoice, Listen, ServeConfig, ServeError};

/// `dtask serve`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example (one of three nodes; --peer names all of them, itself too):\n  dtask serve --id 1 --data ./node1 --grpc 127.0.0.1:7101 --http 127.0.0.1:7181 \\\n    --peer 1=127.0.0.1:7101 --peer 2=127.0.0.1:7102 --peer 3=127.0.0.1:7103 \\\n    --history sqlite:./history.db"
)]
pub(crate) struct ServeArgs {
    /// This node's number, never 0 and never used twice
    #[arg(long, env = "DTASK_ID", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Where this node keeps its log and its snapshots
    #[arg(long, env = "DTASK_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Where to listen for peers, workers and clients (gRPC)
    #[arg(long, env = "DTASK_GRPC", value_name = "HOST:PORT", default_value = "127.0.0.1:7100")]
    grpc: String,
    /// Where to listen for HTTP
    #[arg(long, env = "DTASK_HTTP", value_name = "HOST:PORT", default_value = "127.0.0.1:7180")]
    http: String,
    /// A voter of the cluster; name all of them, this node too
    #[arg(
        long,
        env = "DTASK_PEER",
        value_name = "ID=HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    peer: Vec<String>,
    /// The gRPC address that others reach this node by, if it is not --grpc
    #[arg(long, env = "DTASK_ADVERTISE_GRPC", value_name = "HOST:PORT")]
    advertise_grpc: Option<String>,
    /// The HTTP address that others reach this node by, if it is not --http
    #[arg(long, env = "DTASK_ADVERTISE_HTTP", value_name = "HOST:PORT")]
    advertise_http: Option<String>,
    /// The history database: sqlite:PATH, postgres://USER@HOST:PORT/DATABASE, or none
    #[arg(
        long,
        env = "DTASK_HISTORY",
        value_name = "URL",
        default_value = "none",
        conflicts_with = "history_file"
    )]
    history: String,
    /// A file that holds the URL of the history database (and so keeps its password out of `ps`)
    #[arg(long, env = "DTASK_HISTORY_FILE", value_name = "FILE")]
    history_file: Option<PathBuf>,
    /// How many bytes may wait in memory for the history database; above three quarters of them new
    /// tasks are refused
    #[arg(
        long,
        env = "DTASK_HISTORY_MEMORY",
        value_name = "BYTES",
        default_value_t = limits::OUTBOX_BYTES_MAX,
        value_parser = clap::value_parser!(u64).range(limits::OUTBOX_BYTES_MIN..)
    )]
    history_memory: u64,
    /// Listen beyond this machine, without encryption and tokens
    #[arg(long, env = "DTASK_INSECURE", value_parser = clap::builder::BoolishValueParser::new())]
    insecure: bool,
    /// What is logged
    #[command(flatten)]
    log: LogOptions,
    /// The smallest log that is worth a snapshot (for tests)
    #[arg(long, value_name = "BYTES", hide = true)]
    snapshot_log_bytes_min: Option<u64>,
}

impl ServeArgs {
    /// Runs until a signal asks it to stop.
    ///
    /// # Errors
    /// Why it did not start, or ended by itself.
    pub(crate) fn run(self) -> Result<(), Failure> {
        log::start(&self.log)?;
        let config = self.config()?;
        until_signalled(|shutdown| serve::run(config, shutdown))
    }

    fn config(self) -> Result<ServeConfig, Failure> {
        check_listen("--grpc", &self.grpc, self.insecure)?;
        check_listen("--http", &self.http, self.insecure)?;
        let history = match &self.history_file {
            Some(path) => history("--history-file", &read_url(path)?)?,
            None => history("--history", &self.history)?,
        };
        Ok(ServeConfig {
            id: NodeId(self.id),
            data: self.data,
            peers: self.peer.iter().map(|text| peer(text)).collect::<Result<_, _>>()?,
            grpc: Listen::Address(self.grpc),
            http: Listen::Address(self.http),
            advertise_grpc: self.advertise_grpc,
            advertise_http: self.advertise_http,
            history,
            outbox_bytes_max: self.history_memory,
            insecure: self.insecure,
            snapshot_log_bytes_min: self.snapshot_log_bytes_min,
        })
    }
}

/// What resolves when the process is asked to stop.
pub(crate) type Shutdown = Pin<Box<dyn Future<Output = ()>>>;

/// Runs a process's life: the first signal asks it to stop, a second one does not wait.
///
/// # Errors
/// Why it did not start, or ended by itself.
pub(crate) fn until_signalled<F: Future<Output = Result<(), ServeError>>>(
    life: impl FnOnce(Shutdown) -> F,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
        let life = life(Box::pin(async {
            let _asked_or_gone = stopping.await;
        }));
        tokio::pin!(life);
        tokio::select! {
            biased;
            ended = &mut life => return ended.map_err(failure),
            _ = signals.next() => {}
        }
        let _gone = stop.send(());
        tokio::select! {
            biased;
            ended = life => ended.map_err(failure),
            signal = signals.next() => Err(Failure::quiet(code::SIGNAL + signal)),
        }
    })
}

fn failure(error: ServeError) -> Failure {
    Failure::new(error.exit_code(), error.to_string())
}

/// `ID=HOST:PORT`.
fn peer(text: &str) -> Result<(NodeId, String), Failure> {
    let parts = text.split_once('=').and_then(|(id, address)| Some((id.parse().ok()?, address)));
    match parts {
        Some((id, address)) => Ok((NodeId(id), address.to_owned())),
        None => Err(Failure::usage(format!("--peer: `{text}` is not a peer"))
            .hint("write ID=HOST:PORT, such as 2=127.0.0.1:7102")),
    }
}

fn history(option: &str, url: &str) -> Result<HistoryChoice, Failure> {
    let hint = "write sqlite:PATH, postgres://USER@HOST:PORT/DATABASE, or none";
    if PostgresUrl::is_one(url) {
        // The error does not repeat the URL, which may hold a password.
        let url = url.parse::<PostgresUrl>();
        return url
            .map(HistoryChoice::Postgres)
            .map_err(|error| Failure::usage(format!("{option}: {error}")).hint(hint));
    }
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(HistoryChoice::Sqlite(path.into())),
        None if url == "none" => Ok(HistoryChoice::None),
        // A URL of another kind may hold a password: it is not repeated.
        Some((scheme, _)) => {
            Err(Failure::usage(format!("{option}: no history in `{scheme}:`")).hint(hint))
        }
        None => Err(Failure::usage(format!("{option}: not a history database")).hint(hint)),
    }
}

/// The URL of a history database in a file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_url(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("--history-file: cannot read {}: {error}", path.display()))
    })?;
    Ok(text.trim().to_owned())
}

/// Refuses an address that is none, or that is open to others without `--insecure`.
///
/// # Errors
/// Names the option.
pub(crate) fn check_listen(option: &str, address: &str, insecure: bool) -> Result<(), Failure> {
    let wrong = || {
        Failure::usage(format!("{option}: `{address}` is not an address"))
            .hint("write HOST:PORT, such as 127.0.0.1:7100")
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = ip.map_or(host == "localhost", |ip| ip.is_loopback());
    if local || insecure {
        return Ok(());
    }
    Err(Failure::usage(format!("{option}: {address} can be reached from other machines"))
        .hint("there is no encryption and no login yet: listen on 127.0.0.1, or add --insecure"))
}
