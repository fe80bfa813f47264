//! `cargo xtask fuzz`: campaigns of the fuzz targets, with the nightly compiler and cargo-fuzz.
//! The test command does not come here: it replays the committed corpora with the stable compiler.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Release, with debug assertions and overflow checks. No sanitizer: the core is safe Rust, and
/// an input runs several times as fast.
const BUILD: &[&str] = &["+nightly", "fuzz", "build", "-O", "-a", "-s", "none"];
/// Where cargo-fuzz puts the binaries, below `fuzz/target`.
const BINARIES: &str = "fuzz/target/x86_64-unknown-linux-gnu/release";
/// What campaigns collect, before it is minimised into the committed corpora.
const WORK: &str = "fuzz/target/work";
/// Bounds of one input and of the process. An input that is slow because the machine is busy is
/// no finding.
const BOUNDS: &[&str] = &["-timeout=60", "-report_slow_units=60", "-rss_limit_mb=2048"];
/// How often a campaign says how far it is.
const PROGRESS: Duration = Duration::from_secs(30);

/// What was asked for.
struct Plan {
    targets: Vec<String>,
    minutes: u64,
    minimise: bool,
}

/// Runs campaigns, or minimises what they have found.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let plan = plan(words)?;
    cargo_fuzz_is_there()?;
    for target in &plan.targets {
        build(target)?;
    }
    if plan.minimise {
        return plan.targets.iter().try_for_each(|target| minimise(target));
    }
    let mut rows = Vec::new();
    for target in &plan.targets {
        println!("\n=== {target}: {} minutes", plan.minutes);
        rows.push((target, campaign(target, plan.minutes)?));
    }
    println!("\n| target | executions | a second | edges | features | inputs | finding |");
    println!("|---|---|---|---|---|---|---|");
    for (target, Figures { executions, per_second, edges, features, inputs, finding }) in &rows {
        let finding = finding.as_deref().unwrap_or("");
        println!(
            "| `{target}` | {executions} | {per_second} | {edges} | {features} | {inputs} | {finding} |"
        );
    }
    let found = rows.iter().filter(|(_, figures)| figures.finding.is_some()).count();
    ensure!(found == 0, "{found} targets found something: docs/fuzzing.md says what to do");
    Ok(())
}

fn plan(words: &[&str]) -> Result<Plan> {
    let all = targets()?;
    let mut plan = Plan { targets: Vec::new(), minutes: 10, minimise: false };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "--minutes" => {
                let number = words.next().context("--minutes needs a number")?;
                plan.minutes = number.parse().context("--minutes needs a number")?;
            }
            "--minimise" => plan.minimise = true,
            name => {
                ensure!(
                    all.iter().any(|target| target == name),
                    "no fuzz target `{name}`; there are {}",
                    all.join(", ")
                );
                plan.targets.push(name.to_owned());
            }
        }
    }
    if plan.targets.is_empty() {
        plan.targets = all;
    }
    Ok(plan)
}

/// The names of the binaries; the replay compares them with the table of bodies.
fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir("fuzz/fuzz_targets").context("run it at the workspace's root")?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn cargo_fuzz_is_there() -> Result<()> {
    let version = Command::new("cargo").args(["+nightly", "fuzz", "--version"]).output();
    if version.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    bail!(
        "fuzzing needs a nightly and cargo-fuzz: `rustup toolchain install nightly`, then `cargo \
         install cargo-fuzz --locked`"
    )
}

fn build(target: &str) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(BUILD).arg(target).env_remove("RUSTFLAGS");
    crate::stages::check(command)
}

fn binary(target: &str) -> Command {
    Command::new(Path::new(BINARIES).join(target))
}

fn work(target: &str) -> Result<PathBuf> {
    let work = Path::new(WORK).join(target);
    fs::create_dir_all(&work)?;
    Ok(work)
}

/// What libFuzzer told of a campaign.
#[derive(Default)]
struct Figures {
    executions: String,
    per_second: String,
    edges: String,
    features: String,
    /// Inputs that together reach everything that was reached.
    inputs: String,
    /// The last words of one that stopped early.
    finding: Option<String>,
}

/// A finding ends it; its input is under `fuzz/artifacts`.
fn campaign(target: &str, minutes: u64) -> Result<Figures> {
    let artifacts = format!("fuzz/artifacts/{target}/");
    fs::create_dir_all(&artifacts)?;
    let mut command = binary(target);
    command.arg(work(target)?);
    for inputs in ["corpus", "regressions"] {
        let directory = Path::new("fuzz").join(inputs).join(target);
        if directory.exists() {
            command.arg(directory);
        }
    }
    let dictionary = format!("fuzz/dictionaries/{target}.dict");
    if Path::new(&dictionary).exists() {
        command.arg(format!("-dict={dictionary}"));
    }
    command.args(BOUNDS).args(["-print_final_stats=1", "-max_len=4096"]);
    command.arg(format!("-artifact_prefix={artifacts}"));
    command.arg(format!("-max_total_time={}", minutes * 60));
    let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let said = BufReader::new(process.stderr.take().context("it was piped")?);
    let mut figures = Figures::default();
    let (mut shown, mut talks) = (Instant::now(), false);
    for line in said.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        figures.hear(&line);
        // Everything from a panic on is what there is to know.
        talks |= line.contains("panicked at") || line.starts_with("==");
        if talks || shown.elapsed() >= PROGRESS {
            println!("{line}");
            shown = Instant::now();
        }
    }
    if !process.wait()?.success() && figures.finding.is_none() {
        figures.finding = Some("it ended early".to_owned());
    }
    Ok(figures)
}

impl Figures {
    /// Takes what a line of libFuzzer's holds.
    fn hear(&mut self, line: &str) {
        let after = |name: &str| {
            let rest = line.split_once(name)?.1.trim_start();
            Some(rest.split([' ', '/']).next().unwrap_or(rest).to_owned())
        };
        if line.starts_with('#') {
            for (name, into) in [
                ("cov: ", &mut self.edges),
                ("ft: ", &mut self.features),
                ("corp: ", &mut self.inputs),
            ] {
                if let Some(value) = after(name) {
                    *into = value;
                }
            }
        }
        if let Some(value) = after("stat::number_of_executed_units:") {
            self.executions = value;
        }
        if let Some(value) = after("stat::average_exec_per_sec:") {
            self.per_second = value;
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.finding = Some(file.to_owned());
        }
    }
}

/// The committed corpus becomes the smallest known set of inputs that reaches everything that it
/// and the campaigns reached.
fn minimise(target: &str) -> Result<()> {
    let corpus = Path::new("fuzz/corpus").join(target);
    let fresh = Path::new(WORK).join(format!("{target}.fresh"));
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh)?;
    let mut command = binary(target);
    // By edges alone, not by how often each was taken: hundreds of files instead of thousands.
    command.args(["-set_cover_merge=1", "-use_counters=0"]).args(BOUNDS);
    command.arg(&fresh).arg(&corpus).arg(work(target)?);
    crate::stages::check(command)?;
    fs::remove_dir_all(&corpus)?;
    fs::create_dir_all(&corpus)?;
    for entry in fs::read_dir(&fresh)? {
        let path = entry?.path();
        let name = path.file_name().context("it has a name")?;
        fs::copy(&path, corpus.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_libfuzzer_says() {
        let mut figures = Figures::default();
        for line in [
            "#8192\tNEW    cov: 100 ft: 90 corp: 12/34b lim: 4 exec/s: 5 rss: 30Mb L: 4/4 MS: 1 X-",
            "#9000\tDONE   cov: 120 ft: 340 corp: 56/7890b lim: 1346 exec/s: 898 rss: 55Mb",
            "stat::number_of_executed_units: 9000",
            "stat::average_exec_per_sec:     898",
        ] {
            figures.hear(line);
        }
        let Figures { executions, per_second, edges, features, inputs, finding } = figures;
        assert_eq!([&*executions, &*per_second], ["9000", "898"]);
        assert_eq!([&*edges, &*features, &*inputs], ["120", "340", "56"]);
        assert_eq!(finding, None);
    }

    #[test]
    fn a_finding_names_its_input() {
        let mut figures = Figures::default();
        figures.hear("artifact_prefix='a/'; Test unit written to a/crash-1");
        assert_eq!(figures.finding.as_deref(), Some("a/crash-1"));
    }
}
