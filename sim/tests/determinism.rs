//! The first gate: the same seed gives the same trace in two processes. Before it holds, no other
//! result counts.
#![cfg(not(madsim))]

use std::process::Command;

use dtask_sim::run::{differing, run_seed};
use dtask_sim::world::Sabotage;
use dtask_sim::world::config::{Config, Profile};

/// Seeds whose hashes are committed: `dtask-sim hashes --seeds 20 > sim/seeds/golden.txt`.
const GOLDEN: &str = include_str!("../seeds/golden.txt");
/// Seeds that run in a second process.
const TWICE: usize = 8;

fn hashes(seeds: usize) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dtask-sim"))
        .args(["hashes", "--seeds", &seeds.to_string()])
        .output()
        .expect("the binary that cargo built for this test runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("hashes are ASCII")
}

#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes_and_as_committed() {
    let golden: Vec<_> = GOLDEN.lines().collect();
    assert_eq!(golden.len(), 20);
    let (first, second) = (hashes(golden.len()), hashes(TWICE));
    assert_eq!(second.lines().count(), TWICE);
    for (one, other) in first.lines().zip(second.lines()) {
        assert_eq!(one, other, "two processes disagree");
    }
    for (committed, now) in golden.iter().zip(first.lines()) {
        assert_eq!(
            *committed, now,
            "behaviour has changed: if that is meant, refresh sim/seeds/golden.txt and say so in \
             the commit"
        );
    }
}

#[test]
fn a_trace_that_its_seed_does_not_give_again_is_told() {
    let config = Config::draw(1, Profile::Calm);
    let hash = run_seed(config.clone(), Sabotage::Honest, false).hash;
    let seen = [(config.clone(), hash), (config, !hash)];
    let different = differing(&seen, Sabotage::Honest);
    let hashes: Vec<_> = different.iter().map(|it| (it.first, it.second)).collect();
    assert_eq!(hashes, [(!hash, hash)]);
}
