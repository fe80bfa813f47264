//! The World's gates after determinism: regressions, the canary, and a few seeds.
#![cfg(not(madsim))]

use dtask_sim::run::{Plan, exit_code, report, run, run_seed};
use dtask_sim::world::Sabotage;
use dtask_sim::world::config::{Config, Profile};

/// Seeds of an unoptimised run: `cargo xtask test` runs hundreds, optimised.
const SEEDS: u64 = 16;

#[test]
fn no_seed_breaks_an_invariant() {
    let plan = Plan {
        first: 0,
        count: SEEDS,
        profile: None,
        seconds: None,
        probed_within: 0,
        stop_at_failure: true,
        sabotage: Sabotage::Honest,
    };
    let summary = run(&plan, |_, _| {});
    println!("{}", summary.line());
    if let Some((config, outcome)) = summary.failures.first() {
        panic!("{}", report(config, outcome));
    }
}

#[test]
fn no_known_failure_returns() {
    let text = include_str!("../seeds/regressions.txt");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(profile), Some(seed)) = (words.next(), words.next()) else {
            panic!("a regression is `profile seed what it caught`: {line}");
        };
        let profile: Profile = profile.parse().expect("a profile of config.rs");
        let config = Config::draw(seed.parse().expect("a number"), profile);
        let outcome = run_seed(config.clone(), Sabotage::Honest, false);
        assert!(outcome.failure.is_none(), "{}", report(&config, &outcome));
    }
}

#[test]
fn a_host_that_lies_about_its_disk_is_caught() {
    let plan = Plan {
        first: 0,
        count: 64,
        profile: Some(Profile::Elections),
        seconds: None,
        probed_within: 0,
        stop_at_failure: true,
        sabotage: Sabotage::PersistedBeforeSync,
    };
    let summary = run(&plan, |_, _| {});
    let (_, outcome) = summary.failures.first().expect("the lie is caught within 64 seeds");
    let violation = outcome.failure.as_ref().expect("a failure names its violation");
    assert_eq!(exit_code(violation), dtask_sim::run::EXIT_SAFETY, "{violation}");
}
