//! Options from three places: a flag beats an environment variable, which beats `dtask.toml`,
//! which beats the default.
//!
//! The file is laid under the command line: its values become the defaults of the options that
//! they name, so that each option is parsed and checked in one place, whatever it came from.

mod file;
mod sources;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use file::{File, FileError, Value};
pub use sources::{Setting, Source, known, settings, under};

/// The file that is read when none is named.
const FILE: &str = "dtask.toml";
/// The environment variable that names another.
const FILE_VARIABLE: &str = "DTASK_CONFIG";

/// Reads the file that the command line, then the environment, names; else `dtask.toml` in the
/// working directory, if there is one.
///
/// # Errors
/// A named file that cannot be read; a file with mistakes.
pub fn read(words: &[OsString], root: &clap::Command) -> Result<File, FileError> {
    let named = flag(words).or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
    let known = known(root);
    match named {
        Some(path) => File::read(&path, &known),
        None if Path::new(FILE).exists() => File::read(Path::new(FILE), &known),
        None => Ok(File::default()),
    }
}

/// `--config FILE` has to be known before the command line can be parsed on top of it.
fn flag(words: &[OsString]) -> Option<PathBuf> {
    let ours: Vec<_> = words.iter().take_while(|word| *word != "--").collect();
    let joined = ours.iter().find_map(|word| word.to_str()?.strip_prefix("--config="));
    let apart = || ours.windows(2).find(|pair| pair[0] == "--config").map(|pair| pair[1]);
    joined.map(PathBuf::from).or_else(|| apart().map(PathBuf::from))
}
