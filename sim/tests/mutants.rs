//! The seeded bugs fit the sources: a patch that no longer applies proves nothing about the
//! checkers, and whoever moved the code it breaks is the one who can move the patch along.
#![cfg(not(madsim))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("sim is a folder of the workspace")
}

fn patches() -> Vec<PathBuf> {
    let mut patches: Vec<PathBuf> = fs::read_dir(workspace().join("sim/mutants"))
        .expect("the seeded bugs are in sim/mutants")
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    patches.sort();
    patches
}

/// What git says against `patch`, if anything. git passes over files outside its folder without
/// an error, so that each file it looked at is counted too.
fn objection(patch: &Path) -> Option<String> {
    let text = fs::read_to_string(patch).expect("a patch is text");
    let files: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).collect();
    let output = Command::new("git")
        .args(["apply", "--check", "--verbose"])
        .arg(patch)
        .current_dir(workspace())
        .env("LC_ALL", "C")
        .output()
        .expect("git runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let looked_at =
        |file: &&str| said.lines().any(|line| line == format!("Checking patch {file}..."));
    let fits = output.status.success() && !files.is_empty() && files.iter().all(looked_at);
    (!fits).then(|| format!("{}: {said}", patch.display()))
}

#[test]
fn every_seeded_bug_applies_to_the_sources() {
    let patches = patches();
    assert!(!patches.is_empty(), "no seeded bugs");
    let mut wrong = Vec::new();
    for patch in &patches {
        assert_eq!(patch.extension().and_then(|it| it.to_str()), Some("patch"), "{patch:?}");
        wrong.extend(objection(patch));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
