//! What clap says about a command line, in the one line and the hint that every failure has.

use std::ffi::OsString;

use clap::error::ErrorKind;

use super::fail::Failure;
use super::out;
use crate::config::File;

/// Prints help or the version; anything else is a failure, with the place in the file when the
/// wrong value came from there.
///
/// # Errors
/// Wrong usage.
pub(crate) fn explain(error: &clap::Error, file: &File, words: &[OsString]) -> Result<(), Failure> {
    if let ErrorKind::DisplayHelp | ErrorKind::DisplayVersion = error.kind() {
        return out::text(error.render().to_string().trim_end());
    }
    let failure = failure(error);
    match blamed(&failure.message, file, words) {
        Some(place) => Err(Failure { hint: format!("the value is from {place}"), ..failure }),
        None => Err(failure),
    }
}

/// The failure that an error of clap's is.
pub(crate) fn failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim);
    let message: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let message = message.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let hint = match tip {
        Some(tip) => tip.to_owned(),
        None => format!("`{} --help` shows how it is used", command(&text)),
    };
    Failure::usage(message).hint(hint)
}

/// The command that a usage line is about: its words before options and arguments.
fn command(text: &str) -> String {
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: "));
    let words = usage.unwrap_or("dtask").split_whitespace();
    let path: Vec<_> = words.take_while(|word| word.chars().all(char::is_alphanumeric)).collect();
    if path.is_empty() { "dtask".to_owned() } else { path.join(" ") }
}

/// The line of the file whose value a message is about.
fn blamed(message: &str, file: &File, words: &[OsString]) -> Option<String> {
    let path = file.path.as_ref()?.display();
    file.values.iter().find_map(|((_, key), value)| {
        let flag = format!("--{}", key.replace('_', "-"));
        let given = words.iter().any(|word| word.to_string_lossy().starts_with(&flag));
        let named =
            message.contains(&format!("'{flag} ")) || message.contains(&format!("'{flag}'"));
        if named && !given { Some(format!("{path}:{}", value.line)) } else { None }
    })
}
