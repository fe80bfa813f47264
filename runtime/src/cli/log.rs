//! What processes log, and how: to standard error, for people or for machines.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::fail::Failure;

/// How a process logs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogOptions {
    /// What is logged: error, warn, info, debug, trace, or a list such as info,dtask_runtime=debug
    #[arg(long, env = "DTASK_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// How a line is written
    #[arg(
        long,
        env = "DTASK_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value = "text"
    )]
    log_format: LogFormat,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log.
///
/// # Errors
/// A filter that means nothing.
pub(crate) fn start(options: &LogOptions) -> Result<(), Failure> {
    start_at(&options.log, options.log_format)
}

/// The same without options, for a process that shows something else.
///
/// # Errors
/// A filter that means nothing.
pub(crate) fn start_at(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("--log: {error}")).hint("write info, or info,dtask_runtime=debug")
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    let base = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first.
    let _first_stays = match format {
        LogFormat::Text => base.with(lines).try_init(),
        LogFormat::Json => base.with(lines.json()).try_init(),
    };
    Ok(())
}
