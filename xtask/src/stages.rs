//! The stages of `cargo xtask test`, in their order, and how one runs.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

/// The flags that turn the workspace into its madsim build. A `RUSTFLAGS` variable would override
/// them, so it is removed.
const MADSIM: &[&str] =
    &["--target-dir", "target/madsim", "--config", "build.rustflags=['--cfg','madsim']"];

/// Seeds of the World in one run of the test command.
const SEEDS: &str = "300";
/// Where a probe was not met in those, so many in all may be taken until it is.
const SEEDS_MAX: &str = "1200";

/// Tests of `tests/` that tell one story each of real faults, too much its own for the matrix.
const STORIES: &[&str] = &["kill", "history_postgres"];

/// The features behind which the tests on real processes stand.
const REAL: &str = "dtask-tests/real,dtask-runtime/real";

struct Stage {
    name: &'static str,
    says: &'static str,
    run: fn() -> Result<()>,
}

const STAGES: &[Stage] = &[
    Stage { name: "fmt", says: "the sources are formatted", run: fmt },
    Stage { name: "clippy", says: "lints and fences hold", run: clippy },
    Stage { name: "deny", says: "licences, bans and sources of dependencies", run: deny },
    Stage { name: "doc", says: "documentation builds without broken links", run: doc },
    Stage { name: "build", says: "the release binaries", run: build },
    Stage { name: "unit", says: "unit, property, transcript and architecture tests", run: unit },
    Stage {
        name: "world",
        says: "the canary; 300 seeds of the World, and as many as meet each probe",
        run: world,
    },
    Stage {
        name: "madsim",
        says: "the shells as a cluster under madsim: 120 seeds and three canaries",
        run: madsim,
    },
    Stage { name: "real", says: "real processes, killed, cut off and starved", run: real },
];

/// Prints the stages, one a line.
pub(crate) fn list() {
    for stage in STAGES {
        println!("{:8} {}", stage.name, stage.says);
    }
}

/// Runs the wanted stages, or all of them.
pub(crate) fn run(wanted: &[&str]) -> Result<()> {
    for name in wanted {
        ensure!(
            STAGES.iter().any(|stage| stage.name == *name),
            "no stage `{name}`; `cargo xtask stages` lists them"
        );
    }
    let begin = Instant::now();
    let mut times = Vec::new();
    for stage in STAGES.iter().filter(|s| wanted.is_empty() || wanted.contains(&s.name)) {
        println!("\n=== {}: {}", stage.name, stage.says);
        let start = Instant::now();
        (stage.run)().with_context(|| {
            format!("stage {} failed; repeat it with `cargo xtask test {}`", stage.name, stage.name)
        })?;
        times.push((stage.name, start.elapsed()));
    }
    println!("\nall stages passed in {} s", begin.elapsed().as_secs());
    for (name, time) in times {
        println!("  {name:8} {:4} s", time.as_secs());
    }
    Ok(())
}

/// Runs the seeded bugs, all or the named ones.
pub(crate) fn mutants(which: &[&str]) -> Result<()> {
    let mut words = vec!["run", "--release", "--quiet", "--package", "dtask-sim", "--", "mutants"];
    words.extend(which);
    cargo(&words)
}

fn fmt() -> Result<()> {
    cargo(&["fmt", "--all", "--", "--check"])
}

fn clippy() -> Result<()> {
    let mut words = vec!["clippy", "--workspace", "--all-targets"];
    // What runs on real processes is linted too.
    words.extend(["--features", REAL, "--", "-D", "warnings"]);
    cargo(&words)
}

fn deny() -> Result<()> {
    if !succeeds("cargo", &["deny", "--version"]) {
        println!(
            "cargo-deny is not installed (`cargo install cargo-deny`): tests/dependencies.rs \
             checks licences and bans from cargo metadata; advisories are not checked"
        );
        return Ok(());
    }
    cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"])
}

fn doc() -> Result<()> {
    let mut command =
        cargo_command(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    check(command)
}

fn build() -> Result<()> {
    cargo(&["build", "--release", "--workspace", "--bins"])
}

fn unit() -> Result<()> {
    cargo(&["test", "--workspace", "--quiet"])
}

fn world() -> Result<()> {
    cargo(&["run", "--release", "--quiet", "--package", "dtask-sim", "--", "canary"])?;
    let mut words = vec!["run", "--release", "--quiet", "--package", "dtask-sim", "--", "run"];
    words.extend(["--seeds", SEEDS, "--probed-within", SEEDS_MAX]);
    cargo(&words)
}

fn madsim() -> Result<()> {
    let mut words = vec!["test", "--package", "dtask-sim", "--test", "cluster"];
    words.extend(MADSIM);
    words.extend(["--", "--nocapture"]);
    cargo(&words)
}

fn real() -> Result<()> {
    packages()?;
    let mut words = vec!["test", "--workspace", "--features", REAL];
    for test in [
        "history",
        "tour",
        "wrong_input",
        "clients",
        "postgres",
        "history_postgres",
        "watchdog",
        "kill",
    ] {
        words.extend(["--test", test]);
    }
    words.extend(["--", "--nocapture", "--test-threads", "1"]);
    cargo(&words)?;
    faults(&["--short"])
}

/// The matrix of real faults: all cases and the stories that have a test of their own, or the
/// named cases.
pub(crate) fn matrix(words: &[&str]) -> Result<()> {
    build()?;
    faults(words)?;
    if !words.is_empty() {
        return Ok(());
    }
    let mut stories =
        cargo_command(&["test", "--package", "dtask-tests", "--features", "dtask-tests/real"]);
    stories.args(STORIES.iter().flat_map(|test| ["--test", test]));
    stories.args(["--", "--nocapture", "--test-threads", "1"]).env("DTASK_LONG", "1");
    check(stories)
}

fn faults(words: &[&str]) -> Result<()> {
    let mut command = Command::new("target/release/dtask-matrix");
    command.args(words);
    check(command)
}

/// What clients in other languages and the database's tests need. On Debian as root it is
/// installed; elsewhere it is said what to install.
fn packages() -> Result<()> {
    let missing: Vec<&str> = [
        ("python3-venv", succeeds("python3", &["-c", "import ensurepip, venv"])),
        ("nodejs", succeeds("node", &["--version"])),
        ("npm", succeeds("npm", &["--version"])),
        ("postgresql", has_postgresql()),
    ]
    .into_iter()
    .filter_map(|(package, there)| (!there).then_some(package))
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "0");
    if !root || !succeeds("apt-get", &["--version"]) {
        bail!("install {}: the tests on real processes need them", missing.join(", "));
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "--quiet"]);
    check(update)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(missing);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    check(install)
}

/// Debian keeps the server's programs out of the path.
fn has_postgresql() -> bool {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    packaged.into_iter().any(|version| version.path().join("bin/initdb").exists())
        || succeeds("initdb", &["--version"])
}

fn cargo(words: &[&str]) -> Result<()> {
    check(cargo_command(words))
}

fn cargo_command(words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(words).env_remove("RUSTFLAGS");
    command
}

/// Prints a command, runs it, and fails when it does.
pub(crate) fn check(mut command: Command) -> Result<()> {
    let line = shown(&command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

fn succeeds(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).output().is_ok_and(|output| output.status.success())
}

fn shown(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy());
    core::iter::once(command.get_program().to_string_lossy())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}
