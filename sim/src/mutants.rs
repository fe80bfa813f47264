//! Seeded bugs: each patch is applied to a copy of the workspace, built, and run until an
//! invariant fails. No trace of them is in `core`. A patch that begins with a line
//! `Caught by: NAME` needs what the World does not have; the test of core of that name must fail.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Tries every patch whose name begins with one of `only`, or all; the exit code is 1 when one
/// survives.
pub fn run(workspace: &Path, only: &[String], seeds: u64) -> i32 {
    match try_all(workspace, only, seeds) {
        Ok(survivors) => i32::from(survivors > 0),
        Err(error) => {
            eprintln!("mutants: {error}");
            1
        }
    }
}

fn try_all(workspace: &Path, only: &[String], seeds: u64) -> io::Result<usize> {
    let mut patches: Vec<PathBuf> = fs::read_dir(workspace.join("sim/mutants"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .filter(|path| only.is_empty() || only.iter().any(|it| stem(path).starts_with(it)))
        .collect();
    patches.sort();
    let root = std::env::temp_dir().join("dtask-mutants");
    let copy = root.join("workspace");
    let target = root.join("target");
    let mut survivors = 0;
    for patch in &patches {
        copy_sources(workspace, &copy)?;
        let verdict = try_one(&copy, &target, &fs::canonicalize(patch)?, seeds)?;
        if verdict.is_none() {
            survivors += 1;
        }
        let text = verdict.unwrap_or_else(|| format!("SURVIVED {seeds} seeds"));
        println!("{:<40} {text}", stem(patch));
    }
    println!("mutants={} caught={}", patches.len(), patches.len() - survivors);
    Ok(survivors)
}

/// Begins the line that names the test which catches a patch.
const TEST: &str = "Caught by: ";

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What caught it; `None` when nothing did.
fn try_one(copy: &Path, target: &Path, patch: &Path, seeds: u64) -> io::Result<Option<String>> {
    let applied = Command::new("git")
        .args(["apply", "--unsafe-paths", "--directory"])
        .arg(copy)
        .arg(patch)
        .current_dir("/")
        .output()?;
    if !applied.status.success() {
        return Err(io::Error::other(format!(
            "{} does not apply: {}",
            stem(patch),
            String::from_utf8_lossy(&applied.stderr)
        )));
    }
    if let Some(test) = fs::read_to_string(patch)?.lines().find_map(|it| it.strip_prefix(TEST)) {
        return try_test(copy, target, test.trim());
    }
    let built = cargo(copy, target, &["build", "--release", "--package", "dtask-sim"])?;
    if !built.status.success() {
        return Err(io::Error::other(format!(
            "{} does not build: {}",
            stem(patch),
            String::from_utf8_lossy(&built.stderr)
        )));
    }
    let run = Command::new(target.join("release/dtask-sim"))
        .args(["run", "--seeds", &seeds.to_string()])
        .output()?;
    if run.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&run.stdout);
    let violation = text.lines().find_map(|line| line.strip_prefix("VIOLATION "));
    let seed = text.lines().find_map(|line| line.trim().strip_prefix("seed "));
    let short: String = violation.unwrap_or("crash").chars().take(100).collect();
    let seed = seed.and_then(|text| text.split(',').next()).unwrap_or("?");
    Ok(Some(format!("caught by seed {seed}: {short}")))
}

/// What caught it, when that is a test; one that does not run catches nothing.
fn try_test(copy: &Path, target: &Path, test: &str) -> io::Result<Option<String>> {
    let ran = cargo(copy, target, &["test", "--package", "dtask-core", "--lib", test])?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let failed = text.contains("test result: FAILED");
    Ok(failed.then(|| format!("caught by test {test}")))
}

fn cargo(copy: &Path, target: &Path, arguments: &[&str]) -> io::Result<Output> {
    Command::new("cargo").args(arguments).current_dir(copy).env("CARGO_TARGET_DIR", target).output()
}

/// Copies what the build needs, and nothing that is built or hidden but the cargo settings.
fn copy_sources(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.') && name != ".cargo";
        if hidden || name == "target" {
            continue;
        }
        let into = to.join(&name);
        if path.is_dir() {
            copy_sources(&path, &into)?;
        } else if fs::read(&into).ok() != Some(fs::read(&path)?) {
            // Unchanged files keep their time, so that cargo rebuilds little.
            fs::copy(&path, &into)?;
        }
    }
    remove_what_is_gone(from, to)
}

/// A file that an older workspace had would be built beside its successor.
fn remove_what_is_gone(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || from.join(&name).exists() {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
