//! What the command line can do: run seeds, print hashes, prove that lies are caught.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::mutants;
use crate::run::{
    EXIT_NONDETERMINISM, EXIT_SAFETY, EXIT_UNPROBED, Plan, differing, exit_code, report, run,
    run_seed,
};
use crate::world::Sabotage;
use crate::world::config::{Config, Profile};

/// Finds bugs of DTask in simulated clusters and hands them over as seeds.
#[derive(Debug, Parser)]
#[command(name = "dtask-sim", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run seeds; exit codes: 127 crash, 128 liveness, 129 safety, 130 two traces of one seed, 131 a
    /// probe that was demanded and not met.
    Run {
        /// Run this one seed and print its end.
        #[arg(long, conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Run this many.
        #[arg(long, default_value_t = 300)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// swarm, elections, disk, snapshot, leases, history, cron, clock or calm; each hunting
        /// profile in turn by default.
        #[arg(long)]
        profile: Option<Profile>,
        /// Stop after this much real time.
        #[arg(long)]
        seconds: Option<u64>,
        /// Go on after a failure.
        #[arg(long)]
        keep_going: bool,
        /// Print every event of the seed.
        #[arg(long)]
        verbose: bool,
        /// Demand that each probe is met: go on after the last seed until it is, for at most this
        /// many seeds in all.
        #[arg(long, default_value_t = 0)]
        probed_within: u64,
        /// Print how often each probe was met.
        #[arg(long)]
        probes: bool,
    },
    /// Print the trace hashes of seeds, one a line: `profile seed hash`.
    Hashes {
        /// The first.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// How many.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
    },
    /// A host that lies about its disk must be caught; exit code 1 when it is not.
    Canary,
    /// Apply each patch of `sim/mutants` to a copy of the workspace and count the seeds until an
    /// invariant fails.
    Mutants {
        /// Only patches whose names begin so; all of them by default.
        only: Vec<String>,
        /// Give up after this many seeds.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The workspace.
        #[arg(long, default_value = ".")]
        workspace: PathBuf,
    },
}

impl Cli {
    /// Does it, and returns the exit code.
    pub fn run(self) -> i32 {
        match self.command {
            Command::Run { seed: Some(seed), profile, verbose, .. } => one(seed, profile, verbose),
            Command::Run {
                seeds,
                first,
                profile,
                seconds,
                keep_going,
                probed_within,
                probes,
                ..
            } => {
                let count = if seconds.is_some() { u64::MAX } else { seeds };
                let plan = Plan {
                    first,
                    count,
                    profile,
                    seconds,
                    stop_at_failure: !keep_going,
                    probed_within,
                    sabotage: Sabotage::Honest,
                };
                many(&plan, probes)
            }
            Command::Hashes { first, seeds } => {
                print!("{}", hashes(first, seeds));
                0
            }
            Command::Canary => canary(),
            Command::Mutants { only, seeds, workspace } => mutants::run(&workspace, &only, seeds),
        }
    }
}

fn plan(first: u64, count: u64, profile: Option<Profile>) -> Plan {
    let sabotage = Sabotage::Honest;
    Plan { first, count, profile, seconds: None, stop_at_failure: true, probed_within: 0, sabotage }
}

fn one(seed: u64, profile: Option<Profile>, verbose: bool) -> i32 {
    let config: Config = plan(seed, 1, profile).config(seed);
    let begun = std::time::Instant::now();
    let outcome = run_seed(config.clone(), Sabotage::Honest, verbose);
    let code = outcome.failure.as_ref().map_or(0, exit_code);
    if code == 0 {
        println!("{config:?}");
        for (name, count) in outcome.probes.counts().filter(|(_, count)| *count > 0) {
            println!("  {count:>8} {name}");
        }
    } else {
        println!("{}", report(&config, &outcome));
    }
    println!(
        "seed={seed} profile={} hash={:016x} simulated_s={} wall_s={:.2} events={} entries={} \
         acknowledged={} violations={}",
        config.profile,
        outcome.hash,
        outcome.simulated / 1_000_000,
        begun.elapsed().as_secs_f64(),
        outcome.events,
        outcome.entries,
        outcome.acknowledged,
        u32::from(code != 0)
    );
    code
}

/// Seeds of a run whose traces are compared with a second run of theirs.
const REPEATED: usize = 4;

fn many(plan: &Plan, probes: bool) -> i32 {
    let mut repeat = Vec::new();
    let summary = run(plan, |config, outcome| {
        if repeat.len() < REPEATED {
            repeat.push((config.clone(), outcome.hash));
        }
        if outcome.failure.is_some() {
            println!("{}", report(config, outcome));
        }
    });
    if probes {
        for (name, count) in summary.probes.counts() {
            println!("  {count:>8} {name}");
        }
    } else if summary.seeds >= 300 || plan.probed_within > 0 {
        for name in summary.probes.missed() {
            println!("probe never met: {name}");
        }
    }
    let different = differing(&repeat, plan.sabotage);
    for it in &different {
        let (seed, profile) = (it.config.seed, it.config.profile);
        println!(
            "NONDETERMINISM seed {seed}, profile {profile}: trace {:016x}, then {:016x}",
            it.first, it.second
        );
    }
    println!("{}", summary.line());
    let unprobed = plan.probed_within > 0 && !summary.probes.missed().is_empty();
    match summary.exit_code() {
        _ if !different.is_empty() => EXIT_NONDETERMINISM,
        0 if unprobed => EXIT_UNPROBED,
        code => code,
    }
}

/// The trace hashes of seeds, one a line.
pub fn hashes(first: u64, seeds: u64) -> String {
    let mut text = String::new();
    run(&Plan { stop_at_failure: false, ..plan(first, seeds, None) }, |config, outcome| {
        let (profile, seed) = (config.profile, config.seed);
        text.push_str(&format!("{profile} {seed} {:016x}\n", outcome.hash));
    });
    text
}

/// Seeds that a lying host may survive.
const CANARY_SEEDS: u64 = 64;

fn canary() -> i32 {
    let lying = Plan {
        sabotage: Sabotage::PersistedBeforeSync,
        ..plan(0, CANARY_SEEDS, Some(Profile::Elections))
    };
    let summary = run(&lying, |_, _| {});
    match summary.failures.first() {
        Some((config, outcome)) if summary.exit_code() == EXIT_SAFETY => {
            let violation = outcome.failure.as_ref().map_or("", |violation| violation.id);
            println!("caught: {violation} by seed {}", config.seed);
            0
        }
        _ => {
            println!("a host that answers Persisted before the sync survived {CANARY_SEEDS} seeds");
            1
        }
    }
}
