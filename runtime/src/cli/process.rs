//! `dtask dev`, `dtask serve`, `dtask work`: their options, and how the processes start.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::fail::Failure;

/// `dtask dev`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  dtask dev\n  dtask dev --nodes 3 --workers 2 --dir /tmp/dtask"
)]
pub(crate) struct DevArgs {
    /// Scheduler nodes; further nodes take the ports after the first one's
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub nodes: u32,
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub workers: u32,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "./dtask-data")]
    pub dir: PathBuf,
    /// HTTP address of the first node; the next free port when the default is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7180")]
    pub http: String,
    /// gRPC address of the first node; the next free port when the default is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7100")]
    pub grpc: String,
    /// Throw away what an earlier `dtask dev` left in the directory
    #[arg(long)]
    pub fresh: bool,
    /// Listen beyond this machine, without encryption and tokens
    #[arg(long)]
    pub insecure: bool,
}

/// `dtask serve`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example (one of three nodes; --peer names all of them, itself too):\n  dtask serve --id 1 --data ./node1 --grpc 127.0.0.1:7101 --http 127.0.0.1:7181 \\\n    --peer 1=127.0.0.1:7101 --peer 2=127.0.0.1:7102 --peer 3=127.0.0.1:7103 \\\n    --history sqlite:./history.db"
)]
pub(crate) struct ServeArgs {
    /// This node's number, never 0 and never used twice
    #[arg(long, env = "DTASK_ID", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// Where this node keeps its log and its snapshots
    #[arg(long, env = "DTASK_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Where to listen for peers, workers and clients (gRPC)
    #[arg(long, env = "DTASK_GRPC", value_name = "HOST:PORT", default_value = "127.0.0.1:7100")]
    pub grpc: String,
    /// Where to listen for HTTP
    #[arg(long, env = "DTASK_HTTP", value_name = "HOST:PORT", default_value = "127.0.0.1:7180")]
    pub http: String,
    /// A voter of the cluster; name all of them, this node too
    #[arg(
        long,
        env = "DTASK_PEER",
        value_name = "ID=HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    pub peer: Vec<String>,
    /// The gRPC address that others reach this node by, if it is not --grpc
    #[arg(long, env = "DTASK_ADVERTISE_GRPC", value_name = "HOST:PORT")]
    pub advertise_grpc: Option<String>,
    /// The HTTP address that others reach this node by, if it is not --http
    #[arg(long, env = "DTASK_ADVERTISE_HTTP", value_name = "HOST:PORT")]
    pub advertise_http: Option<String>,
    /// The history database: sqlite:PATH or none
    #[arg(
        long,
        env = "DTASK_HISTORY",
        value_name = "URL",
        default_value = "none",
        conflicts_with = "history_file"
    )]
    pub history: String,
    /// A file that holds the URL of the history database
    #[arg(long, env = "DTASK_HISTORY_FILE", value_name = "FILE")]
    pub history_file: Option<PathBuf>,
    /// Listen beyond this machine, without encryption and tokens
    #[arg(long, env = "DTASK_INSECURE", value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure: bool,
}

/// Refuses an address that is none, or that is open to others without `--insecure`.
///
/// # Errors
/// Names the option.
fn check_listen(option: &str, address: &str, insecure: bool) -> Result<(), Failure> {
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
/// Runs a scheduler node.
///
/// # Errors
/// An address that is none, or that is open to others without `--insecure`.
pub(crate) fn serve(args: &ServeArgs) -> Result<(), Failure> {
    check_listen("--grpc", &args.grpc, args.insecure)?;
    check_listen("--http", &args.http, args.insecure)?;
    Err(missing("serve"))
}

/// Runs everything on this machine.
///
/// # Errors
/// As [`serve`].
pub(crate) fn dev(args: &DevArgs) -> Result<(), Failure> {
    check_listen("--grpc", &args.grpc, args.insecure)?;
    check_listen("--http", &args.http, args.insecure)?;
    Err(missing("dev"))
}

/// The shells land beside this; until then their commands say so.
fn missing(verb: &str) -> Failure {
    Failure::new(super::fail::code::REFUSED, format!("this build cannot {verb}"))
}
