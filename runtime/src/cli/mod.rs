//! The command line: arguments and configuration in, calls to the cluster, text out.
//!
//! Verbs start processes, nouns manage things (interface.md). Nothing is decided here about
//! tasks; a mistake is told before anything is asked, with the same checks that nodes apply.

mod admin;
mod args;
mod bench;
pub mod calls;
mod cron;
mod dev;
pub mod fail;
mod log;
mod logs;
mod out;
mod run;
mod serve;
mod signals;
mod submit;
mod tables;
mod task;
mod usage;
mod wait;
mod work;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{CommandFactory as _, FromArgMatches as _};
use dtask_core::time::Timestamp;

use crate::config;
use args::{Command, ConfigCommand, Line};
use calls::Calls;
use fail::{Failure, code};
use out::Out;

/// The type of tasks that are command lines.
const EXEC: &str = "exec";

/// Which binary this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `dtask`: everything.
    Dtask,
    /// `dtask-scheduler`: `dtask serve`.
    Scheduler,
    /// `dtask-worker`: `dtask work`.
    Worker,
}

/// The command line: every command with its options, as `config` lays a file under it.
pub fn command() -> clap::Command {
    Line::command()
}

/// Runs the program with the process's arguments.
pub fn main(program: Program) -> ExitCode {
    if let Some(code) = crate::work::watchdog::intercept() {
        return code;
    }
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let verb = match program {
        Program::Dtask => None,
        Program::Scheduler => Some("serve"),
        Program::Worker => Some("work"),
    };
    if let Some(verb) = verb {
        words.insert(words.len().min(1), verb.into());
    }
    match run(&words) {
        Ok(()) => ExitCode::from(code::DONE),
        Err(failure) => {
            if !failure.message.is_empty() {
                out::note(&failure.to_string());
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(words: &[OsString]) -> Result<(), Failure> {
    let file = config::read(words, &Line::command())?;
    let mut command = config::under(Line::command(), &file);
    let matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, &file, words),
    };
    let line = Line::from_arg_matches(&matches).map_err(|error| usage::failure(&error))?;
    let out = Out::new(line.shared.output);
    match line.command {
        Command::Serve(args) => args.run(),
        Command::Work(args) => args.run(&line.shared.server),
        Command::Dev(args) => args.run(matches.subcommand_matches("dev")),
        Command::Config(ConfigCommand::Print) => {
            let settings = config::settings(&command, &file, &matches);
            out.show(&settings, |settings| config_table(settings))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Line::command(), "dtask", &mut script);
            out::raw(&script)
        }
        Command::Cron(cron) => cron.run(&out),
        Command::Run(args) => call(args.run(&Calls::new(&line.shared.server), &out)),
        Command::Submit(args) => call(args.run(&Calls::new(&line.shared.server), &out)),
        Command::Task(task) => call(task.run(&Calls::new(&line.shared.server), &out)),
        Command::Worker(worker) => call(worker.run(&Calls::new(&line.shared.server), &out)),
        Command::Cluster(cluster) => call(cluster.run(&Calls::new(&line.shared.server), &out)),
        Command::Bench(args) => call(args.run(&line.shared.server, &out)),
    }
}

/// Runs a caller's work; one thread is plenty.
fn call(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

fn config_table(settings: &[config::Setting]) -> String {
    let rows = settings.iter().map(|setting| {
        let key = if setting.section.is_empty() {
            setting.key.clone()
        } else {
            format!("{}.{}", setting.section, setting.key)
        };
        [key, setting.values.join(","), setting.source.clone(), setting.env.clone()]
    });
    out::table(["KEY", "VALUE", "SOURCE", "ENVIRONMENT"], rows)
}

/// The caller's clock: what `--in` counts from.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let nested: Vec<_> = command.get_subcommands().collect();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!nested.is_empty() || help.contains("dtask "), "{path} has no example");
            for command in nested {
                check(command, &format!("{path} {}", command.get_name()));
            }
        }
        check(&Line::command(), "dtask");
    }
}
