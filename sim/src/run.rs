//! Many seeds: run in parallel, judged, counted, reported; and the commands around them.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Instant;

use rayon::prelude::*;

use crate::check::Violation;
use crate::world::config::{Config, Profile};
use crate::world::trace::Probes;
use crate::world::{Outcome, Sabotage, World};

/// Exit code: a machine panicked.
pub const EXIT_CRASH: i32 = 127;
/// Exit code: something that should have happened did not.
pub const EXIT_LIVENESS: i32 = 128;
/// Exit code: something happened that must not.
pub const EXIT_SAFETY: i32 = 129;
/// Exit code: the same seed gave two traces.
pub const EXIT_NONDETERMINISM: i32 = 130;
/// Exit code: a probe was demanded and not met.
pub const EXIT_UNPROBED: i32 = 131;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics are caught and reported with their place; the default hook would print them in between.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANIC.with(|slot| *slot.borrow_mut() = Some(info.to_string()));
        }));
    });
}

/// Runs one seed. A panic of a machine is a failed invariant; it is never restarted.
pub fn run_seed(config: Config, sabotage: Sabotage, verbose: bool) -> Outcome {
    quiet_panics();
    let run = AssertUnwindSafe(|| {
        let mut world = World::new(config, sabotage);
        if verbose {
            world.verbose();
        }
        world.run()
    });
    match catch_unwind(run) {
        Ok(outcome) => outcome,
        Err(_) => {
            let text = PANIC.with(|slot| slot.borrow_mut().take()).unwrap_or_default();
            Outcome {
                failure: Some(Violation::new("PANIC", text)),
                hash: 0,
                events: 0,
                simulated: 0,
                probes: Probes::default(),
                tail: String::new(),
                entries: 0,
                acknowledged: 0,
            }
        }
    }
}

/// What a set of seeds came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Simulated time, in microseconds.
    pub simulated: u64,
    /// Events.
    pub events: u64,
    /// Probes met.
    pub probes: Probes,
    /// Failed seeds, in the order of the seeds.
    pub failures: Vec<(Config, Outcome)>,
    /// Real time, in milliseconds.
    pub wall_ms: u128,
    /// Hash over all hashes.
    pub hash: u64,
}

impl Summary {
    fn add(&mut self, config: Config, outcome: Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.events += outcome.events;
        self.probes.add(&outcome.probes);
        self.hash = dtask_core::rng::mix(self.hash ^ outcome.hash);
        if outcome.failure.is_some() {
            self.failures.push((config, outcome));
        }
    }

    /// The last line of a run.
    pub fn line(&self) -> String {
        format!(
            "seeds={} simulated_s={} wall_s={:.1} events={} probes={}/{} violations={}",
            self.seeds,
            self.simulated / 1_000_000,
            self.wall_ms as f64 / 1_000.0,
            self.events,
            self.probes.met(),
            crate::world::trace::Probe::ALL.len(),
            self.failures.len()
        )
    }

    /// The exit code of a run: the gravest failure counts.
    pub fn exit_code(&self) -> i32 {
        self.failures
            .iter()
            .filter_map(|(_, outcome)| outcome.failure.as_ref())
            .map(exit_code)
            .min_by_key(|&code| match code {
                EXIT_SAFETY => 0,
                EXIT_CRASH => 1,
                _ => 2,
            })
            .unwrap_or(0)
    }
}

/// The exit code for a violation.
pub fn exit_code(violation: &Violation) -> i32 {
    match violation.id {
        "PANIC" => EXIT_CRASH,
        id if id.starts_with('L') => EXIT_LIVENESS,
        _ => EXIT_SAFETY,
    }
}

/// Which seeds to run, and when to stop.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The bias; `None` takes each hunting profile in turn.
    pub profile: Option<Profile>,
    /// Stop after this much real time.
    pub seconds: Option<u64>,
    /// Stop at the first failure.
    pub stop_at_failure: bool,
    /// Go on until each probe was met, for at most this many seeds.
    pub probed_within: u64,
    /// A break of the host.
    pub sabotage: Sabotage,
}

impl Plan {
    /// The configuration of one of its seeds.
    pub fn config(&self, seed: u64) -> Config {
        let turn = (seed % Profile::HUNTING.len() as u64) as usize;
        Config::draw(seed, self.profile.unwrap_or(Profile::HUNTING[turn]))
    }
}

/// Runs seeds in parallel, in batches, so that results come in the order of the seeds.
pub fn run(plan: &Plan, mut seen: impl FnMut(&Config, &Outcome)) -> Summary {
    let begun = Instant::now();
    let mut summary = Summary::default();
    let mut next = plan.first;
    let end = plan.first.saturating_add(plan.count);
    let most = end.max(plan.first.saturating_add(plan.probed_within));
    while next < end || (next < most && !summary.probes.missed().is_empty()) {
        let end = if next < end { end } else { most };
        let until = next.saturating_add(8 * rayon::current_num_threads() as u64).min(end);
        let results: Vec<(Config, Outcome)> = (next..until)
            .into_par_iter()
            .map(|seed| {
                let config = plan.config(seed);
                let outcome = run_seed(config.clone(), plan.sabotage, false);
                (config, outcome)
            })
            .collect();
        for (config, outcome) in results {
            seen(&config, &outcome);
            summary.add(config, outcome);
        }
        next = until;
        let late = plan.seconds.is_some_and(|most| begun.elapsed().as_secs() >= most);
        if late || (plan.stop_at_failure && !summary.failures.is_empty()) {
            break;
        }
    }
    summary.wall_ms = begun.elapsed().as_millis();
    summary
}

/// A seed whose second trace is not its first.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The seed and what it drew.
    pub config: Config,
    /// The hash of its first trace.
    pub first: u64,
    /// The hash of its second.
    pub second: u64,
}

/// Runs seeds once more and compares their traces with the hashes seen before. One that differs
/// makes every other result worthless.
pub fn differing(seen: &[(Config, u64)], sabotage: Sabotage) -> Vec<Difference> {
    seen.into_par_iter()
        .map(|(config, first)| {
            let second = run_seed(config.clone(), sabotage, false).hash;
            Difference { config: config.clone(), first: *first, second }
        })
        .filter(|it| it.first != it.second)
        .collect()
}

/// The report of a failure: everything that a reader needs to repeat it.
pub fn report(config: &Config, outcome: &Outcome) -> String {
    let violation = outcome.failure.as_ref().map_or_else(String::new, ToString::to_string);
    let (seed, profile) = (config.seed, config.profile);
    format!(
        "{}VIOLATION {violation}\n  seed {seed}, profile {profile}, simulated {:.6} s, {} entries, \
         {} submits acknowledged\n  drawn: {config:?}\n  repeat: cargo run --release -p dtask-sim -- \
         run --seed {seed} --profile {profile}\n",
        outcome.tail,
        outcome.simulated as f64 / 1e6,
        outcome.entries,
        outcome.acknowledged,
    )
}
