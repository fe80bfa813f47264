//! What the fuzz targets of DTask do with an input. Each is a plain function over bytes, so that
//! the same body runs under libFuzzer (`fuzz/`, with the nightly) and in the replay of the
//! committed corpora (`cargo test -p dtask-fuzz`, with the stable compiler). docs/fuzzing.md says
//! how to run and add one.

mod apply;
mod cluster;
mod commands;
#[cfg(feature = "edges")]
mod config;
mod cron;
mod cron_oracle;
mod disk;
mod entry;
mod frames;
mod host;
#[cfg(feature = "edges")]
mod json;
mod log;
pub mod meter;
mod node_peer;
mod peer;
#[cfg(feature = "edges")]
mod requests;
mod restart;
pub mod seeds;
mod sessions;
mod snapshot;
mod worker;
mod world;

/// A target: its name on the command line and in `fuzz/corpus`, and what it does with an input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Names the binary, the corpus and the dictionary.
    pub name: &'static str,
    /// What it hunts.
    pub says: &'static str,
    /// Panics on a finding.
    pub run: fn(&[u8]),
}

/// Every target. Nothing that replays, fuzzes or documents keeps a list of its own.
pub const TARGETS: &[Target] = &[
    Target {
        name: "entry",
        says: "entries of the replicated log, their commands and profiles",
        run: entry::run,
    },
    Target { name: "log", says: "segments and records of a node's log", run: log::run },
    Target { name: "snapshot", says: "a snapshot's stream, in any pieces", run: snapshot::run },
    Target { name: "peer", says: "envelopes between nodes", run: peer::run },
    Target { name: "frames", says: "frames of a worker's session, both ways", run: frames::run },
    Target { name: "cron", says: "cron expressions, zones, durations, moments", run: cron::run },
    Target {
        name: "cron_oracle",
        says: "fire times against a walk minute by minute",
        run: cron_oracle::run,
    },
    Target { name: "apply", says: "arbitrary entries applied to a state", run: apply::run },
    Target { name: "restart", says: "a node's start from an arbitrary disk", run: restart::run },
    Target { name: "node_peer", says: "arbitrary peers' messages to a node", run: node_peer::run },
    Target { name: "worker", says: "arbitrary frames and moments for a worker", run: worker::run },
    Target { name: "sessions", says: "arbitrary workers' frames to a leader", run: sessions::run },
    Target { name: "cluster", says: "the schedule of a cluster of three", run: cluster::run },
    Target { name: "world", says: "faults and load of a World run", run: world::run },
    #[cfg(feature = "edges")]
    Target { name: "requests", says: "gRPC requests to domain values", run: requests::run },
    #[cfg(feature = "edges")]
    Target { name: "json", says: "HTTP bodies, queries and keys to domain values", run: json::run },
    #[cfg(feature = "edges")]
    Target { name: "config", says: "dtask.toml under the command line", run: config::run },
];

/// Runs the target of that name on an input.
///
/// # Panics
/// On a finding, and when there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the target is in the table").run)(data);
}
