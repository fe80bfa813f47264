//! The command line as a whole: what every command takes, and which commands there are.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::out::Format;
use super::{admin, bench, cron, dev, run, serve, submit, task, work};

/// A distributed task scheduler: run this now, at nine, or every weekday at 02:30 in Paris, on
/// one of your workers, through crashes and deployments.
#[derive(Debug, Parser)]
#[command(
    name = "dtask",
    version,
    arg_required_else_help = false,
    subcommand_required = true,
    propagate_version = true,
    after_help = "Examples:\n  dtask dev                               # everything on this machine\n  dtask run -- echo hello                 # run a command on a worker\n  dtask submit --cron '30 2 * * 1-5' --timezone Europe/Paris -- ./report.sh\n  dtask task list"
)]
pub(crate) struct Line {
    /// What every command takes.
    #[command(flatten)]
    pub shared: Shared,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shared {
    /// Scheduler nodes to ask (gRPC), separated by commas
    #[arg(
        long,
        env = "DTASK_SERVER",
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7100",
        help_heading = "Shared options"
    )]
    pub server: Vec<String>,
    /// How to print
    #[arg(
        short,
        long,
        env = "DTASK_OUTPUT",
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value = "table",
        help_heading = "Shared options"
    )]
    pub output: Format,
    /// Read options from this file instead of ./dtask.toml
    #[arg(
        long,
        env = "DTASK_CONFIG",
        global = true,
        value_name = "FILE",
        help_heading = "Shared options"
    )]
    pub config: Option<PathBuf>,
}

/// Verbs start processes, nouns manage things.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run schedulers, workers, web page and history on this machine, in one process
    Dev(dev::DevArgs),
    /// Run one scheduler node
    Serve(serve::ServeArgs),
    /// Run a worker
    Work(work::WorkArgs),
    /// Run a command on a worker: stream its output, exit with its exit code
    Run(run::RunArgs),
    /// Submit a task and print its id
    Submit(submit::SubmitArgs),
    /// Look at tasks, wait for them, stop them
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Look at workers
    #[command(subcommand)]
    Worker(admin::WorkerCommand),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(admin::ClusterCommand),
    /// Try cron expressions, offline
    #[command(subcommand)]
    Cron(cron::CronCommand),
    /// Measure a cluster under load
    Bench(bench::BenchArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  dtask completions bash > /etc/bash_completion.d/dtask")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// `dtask config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every option that can be configured, its value, and where the value came from
    #[command(after_help = "Example:\n  DTASK_SLOTS=4 dtask config print")]
    Print,
}
