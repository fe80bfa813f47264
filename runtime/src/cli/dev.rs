//! `dtask dev`: its options, and the life of its process.

use std::path::PathBuf;

use clap::{ArgMatches, Args, parser::ValueSource};

use super::fail::Failure;
use super::log::{self, LogFormat};
use super::serve::{check_listen, until_signalled};
use crate::serve::dev::{self, DevAddress, DevConfig};

/// `dtask dev`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  dtask dev\n  dtask dev --nodes 3 --workers 2 --dir /tmp/dtask"
)]
pub(crate) struct DevArgs {
    /// Scheduler nodes; further nodes take the ports after the first one's
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=7))]
    nodes: u32,
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=64))]
    workers: u32,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "./dtask-data")]
    dir: PathBuf,
    /// HTTP address of the first node; the next free port when the default is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7180")]
    http: String,
    /// gRPC address of the first node; the next free port when the default is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7100")]
    grpc: String,
    /// Throw away what an earlier `dtask dev` left in the directory
    #[arg(long)]
    fresh: bool,
    /// What is logged: error, warn, info, debug, trace
    #[arg(long, env = "DTASK_LOG", value_name = "FILTER", default_value = "warn")]
    log: String,
    /// Listen beyond this machine, without encryption and tokens
    #[arg(long)]
    insecure: bool,
}

impl DevArgs {
    /// Runs until a signal asks it to stop. `matches` tells whether an address was asked for.
    ///
    /// # Errors
    /// Why it did not start, or why a node ended by itself.
    pub(crate) fn run(self, matches: Option<&ArgMatches>) -> Result<(), Failure> {
        check_listen("--grpc", &self.grpc, self.insecure)?;
        check_listen("--http", &self.http, self.insecure)?;
        log::start_at(&self.log, LogFormat::Text)?;
        let address = |id, address: String| DevAddress {
            address,
            movable: matches.and_then(|matches| matches.value_source(id))
                == Some(ValueSource::DefaultValue),
        };
        let config = DevConfig {
            nodes: self.nodes,
            workers: self.workers,
            dir: self.dir,
            grpc: address("grpc", self.grpc),
            http: address("http", self.http),
            fresh: self.fresh,
            insecure: self.insecure,
            watchdog: Some(crate::work::OWN_PROGRAM.into()),
            program: std::env::args().next().unwrap_or_else(|| "dtask".to_owned()),
        };
        until_signalled(|shutdown| dev::run(config, shutdown))
    }
}
