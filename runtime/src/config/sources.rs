//! Where an option's value came from, and the file's values laid under the command line.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use serde::Serialize;

use super::File;
use crate::history::postgres::redact;

/// The commands whose options can be configured; each is a section of the file. The options that
/// every command shares stand at its top.
const SECTIONS: [&str; 2] = ["serve", "work"];

/// An option that can be configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The command; empty for options that every command takes.
    pub section: String,
    /// The key in the file; the flag is the same with `--` and dashes.
    pub key: String,
    /// Its environment variable.
    pub env: String,
    /// Its value; several when it is a list; none when it is not set.
    pub values: Vec<String>,
    /// Where the value came from.
    pub source: String,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The file.
    File,
    /// Nobody said anything.
    Default,
}

/// Every section and key that the file may have.
pub fn known(root: &Command) -> Vec<(String, String)> {
    let mut known: Vec<_> = configurable(root).map(|arg| (String::new(), key(arg))).collect();
    for section in SECTIONS {
        let command = root.find_subcommand(section);
        known.extend(
            command.into_iter().flat_map(configurable).map(|arg| (section.to_owned(), key(arg))),
        );
    }
    known
}

/// Lays the file under the command line: its values become defaults.
pub fn under(root: Command, file: &File) -> Command {
    let mut root = lay(root, "", file);
    for section in SECTIONS {
        root = root.mut_subcommand(section, |command| lay(command, section, file));
    }
    root
}

fn lay(mut command: Command, section: &str, file: &File) -> Command {
    let ids: Vec<_> = configurable(&command).map(|arg| (arg.get_id().clone(), key(arg))).collect();
    for (id, key) in ids {
        if let Some(value) = file.values.get(&(section.to_owned(), key)) {
            let texts = value.texts.clone();
            command = command.mut_arg(id, |arg| arg.required(false).default_values(texts));
        }
    }
    command
}

/// The options that can be configured: those with an environment variable, but for the file's own.
fn configurable(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_env().is_some() && arg.get_id() != "config")
}

fn key(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().replace('-', "_")
}

/// Each option that can be configured, with its value and source. `root` has the file under it;
/// `matches` are those of the command line that asks.
pub fn settings(root: &Command, file: &File, matches: &ArgMatches) -> Vec<Setting> {
    let shared = configurable(root).map(|arg| setting("", arg, matches, file));
    let mut settings: Vec<_> = shared.collect();
    for section in SECTIONS {
        let Some(command) = root.find_subcommand(section) else { continue };
        // What is not set is shown as such, so nothing is required here.
        let lenient = command.clone().mut_args(|arg| arg.required(false));
        let Ok(matches) = lenient.try_get_matches_from([section]) else { continue };
        let own = configurable(command).filter(|arg| !arg.is_global_set());
        settings.extend(own.map(|arg| setting(section, arg, &matches, file)));
    }
    settings
}

fn setting(section: &str, arg: &Arg, matches: &ArgMatches, file: &File) -> Setting {
    let id = arg.get_id().as_str();
    let key = key(arg);
    let in_file = file.values.get(&(section.to_owned(), key.clone()));
    let source = match (matches.value_source(id), in_file) {
        (Some(ValueSource::CommandLine), _) => Source::Flag,
        (Some(ValueSource::EnvVariable), _) => Source::Environment,
        (_, Some(_)) => Source::File,
        (_, None) => Source::Default,
    };
    let values = match matches.try_get_raw(id) {
        // A URL is shown without its password.
        Ok(Some(raw)) => raw.map(|value| redact(&value.to_string_lossy()).0).collect(),
        Ok(None) | Err(_) => Vec::new(),
    };
    let env = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let described = match source {
        Source::Flag => format!("flag --{}", arg.get_long().unwrap_or_default()),
        Source::Environment => format!("environment {env}"),
        Source::File => {
            let path = file.path.as_ref().map(|path| path.display().to_string());
            format!("{}:{}", path.unwrap_or_default(), in_file.map_or(0, |value| value.line))
        }
        Source::Default => "default".to_owned(),
    };
    Setting { section: section.to_owned(), key, env, values, source: described }
}
