//! What developers and CI run: `cargo xtask test` and its parts.
//!
//! Each stage is one or more commands that anyone can type; xtask prints them, times them, stops
//! at the first failure and says how to repeat it.

mod fuzz;
mod stages;

use std::process::ExitCode;

use anyhow::Result;

const HELP: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test [STAGE…]   everything, or only the named stages, in the order of `cargo xtask stages`
  stages          the stages of `test`, one a line
  mutants [NN…]   each seeded bug in sim/mutants against the World: all must be caught
  matrix [CASE…]  real faults against the release binaries, one table at the end; --list shows
                  the cases, --short runs those of `test real`
  fuzz [TARGET…] [--minutes N]    campaigns, 10 minutes a target; needs a nightly and cargo-fuzz
  fuzz [TARGET…] --minimise       their inputs, minimised, become the committed corpora
  help            this text

Example: cargo xtask test fmt clippy";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test", wanted @ ..] => stages::run(wanted),
        ["stages"] => {
            stages::list();
            Ok(())
        }
        ["matrix", words @ ..] => stages::matrix(words),
        ["mutants", which @ ..] => stages::mutants(which),
        ["fuzz", words @ ..] => fuzz::run(words),
        [] | ["help" | "-h" | "--help"] => {
            println!("{HELP}");
            Ok(())
        }
        [unknown, ..] => anyhow::bail!("no command `{unknown}`; try `cargo xtask help`"),
    }
}
