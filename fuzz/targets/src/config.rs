//! `dtask.toml` from arbitrary bytes: it is read, or refused with its line and a remedy; what was
//! read is laid under the command line, which then parses or says which option is wrong.

use std::path::Path;

use dtask_runtime::cli;
use dtask_runtime::config::{File, known, settings, under};

/// The text of a file.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("dtask.toml");
    let known = known(&cli::command());
    let file = match File::parse(path, text, &known) {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.detail.is_empty());
            assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}");
            assert!(!error.to_string().contains('\n'), "one line: {error}");
            return;
        }
    };
    for (place, value) in &file.values {
        assert!(known.contains(place));
        assert!((1..=text.lines().count()).contains(&value.line));
    }
    let mut command = under(cli::command(), &file);
    match command.try_get_matches_from_mut(["dtask", "config", "print"]) {
        Ok(matches) => {
            let settings = settings(&command, &file, &matches);
            for (section, key) in file.values.keys() {
                let shown = settings.iter().find(|s| (&s.section, &s.key) == (section, key));
                // A section's settings are shown only when all of them can be read.
                if let Some(shown) = shown {
                    assert!(
                        shown.source.contains("dtask.toml:") || !shown.source.contains("default")
                    );
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    for section in ["serve", "work"] {
        let words = ["dtask", section];
        if let Err(error) = under(cli::command(), &file).try_get_matches_from(words) {
            assert!(!error.to_string().is_empty());
        }
    }
}
