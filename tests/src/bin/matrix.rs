//! `dtask-matrix`: runs the matrix of real faults, or the named cases, and prints one table.

use std::process::ExitCode;

use dtask_tests::matrix::{self, Case, Verdict};

const HELP: &str = "\
Usage: dtask-matrix [--short | --list | CASE…]

Runs every case of the matrix of real faults, those of the short form, or the named ones, on the
release binaries. docs/real-faults.md says what each one shows.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let all = matrix::cases();
    let chosen: Vec<Case> = match words.first().map(String::as_str) {
        Some("--help" | "-h") => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some("--list") => {
            all.iter().for_each(|case| println!("{:20} {}", case.name, case.says));
            return ExitCode::SUCCESS;
        }
        Some("--short") => all.into_iter().filter(|case| case.short).collect(),
        Some(_) => {
            if let Some(word) = words.iter().find(|word| all.iter().all(|c| c.name != **word)) {
                eprintln!("error: no case `{word}`; --list shows them");
                return ExitCode::from(2);
            }
            all.into_iter().filter(|case| words.iter().any(|word| word == case.name)).collect()
        }
        None => all,
    };
    let mut table = vec![head()];
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    println!("{}", head());
    for case in &chosen {
        let (verdict, took) = matrix::run(case);
        let line = line(case, &verdict, took.as_secs_f64());
        println!("{line}");
        match &verdict {
            Verdict::Passed(_) => {}
            Verdict::Failed(why) => {
                println!("{why}");
                failed.push(case.name);
            }
            Verdict::Skipped(_) => skipped.push(case.name),
        }
        table.push(line);
    }
    println!("\n{}", table.join("\n"));
    if !skipped.is_empty() {
        let count = skipped.len();
        println!("\nNOT SHOWN: this machine does not allow {count} cases: {}", skipped.join(" "));
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nfailed: repeat with `cargo xtask matrix {}`", failed.join(" "));
    ExitCode::FAILURE
}

fn head() -> String {
    let (calls, acks, effects) = ("calls", "acked", "effects");
    let (gap, settled, took) = ("gap s", "settled s", "took s");
    format!(
        "{:20} {calls:>6} {acks:>6} {effects:>7} {gap:>6} {settled:>9} {took:>7}  verdict",
        "case"
    )
}

fn line(case: &Case, verdict: &Verdict, took: f64) -> String {
    let name = case.name;
    match verdict {
        Verdict::Passed(figures) => format!(
            "{name:20} {:6} {:6} {:7} {:6.2} {:9.1} {took:7.1}  passed",
            figures.calls,
            figures.acknowledged,
            figures.effects,
            figures.gap.as_secs_f64(),
            figures.settled.as_secs_f64(),
        ),
        Verdict::Failed(why) => {
            let first = why.lines().next().unwrap_or_default();
            format!("{name:20} {:48} {took:7.1}  FAILED: {first}", "")
        }
        Verdict::Skipped(why) => format!("{name:20} {:48} {took:7.1}  SKIPPED: {why}", ""),
    }
}
