//! The type `exec`: a command line that the caller sends as payload.

use std::collections::BTreeMap;

use dtask_core::worker::{Assignment, Ending};
use serde::Deserialize;

use super::handlers::{Begun, Events, Runner};
use super::process::{Launch, Processes, Stdout, task_env};

/// The payload of an `exec` task.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    stdin: Option<String>,
}

/// Runs what the payload names.
#[derive(Debug)]
pub(super) struct ExecRunner {
    processes: Processes,
}

impl ExecRunner {
    pub(super) const fn new(processes: Processes) -> Self {
        Self { processes }
    }
}

impl Runner for ExecRunner {
    fn begin(&self, assignment: Box<Assignment>, events: Events) -> Begun {
        let payload = match parse(&assignment.payload) {
            Ok(payload) => payload,
            Err(text) => {
                events.unused();
                return Begun::Ended(Ending::failure(text, false));
            }
        };
        let mut env = self.processes.env.clone();
        env.extend(payload.env.into_iter().map(|(name, value)| (name, value.into())));
        env.extend(task_env(&assignment));
        let launch = Launch {
            argv: payload.argv,
            env,
            cwd: payload.cwd,
            stdin: payload.stdin.unwrap_or_default().into(),
            stdout: Stdout::Logged,
            watchdog: self.processes.watchdog.clone(),
        };
        Begun::Running(Box::new(launch.spawn(events)))
    }
}

/// Reads a payload. The error says what is expected; another attempt would meet it again.
fn parse(payload: &[u8]) -> Result<Payload, String> {
    let example = r#"expected {"argv":["sh","-c","…"],"env":{…},"cwd":"…","stdin":"…"}"#;
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| format!("the payload of an exec task is malformed: {error}; {example}"))?;
    if payload.argv.first().is_none_or(String::is_empty) {
        return Err(format!("the payload of an exec task names no program in argv; {example}"));
    }
    let words = payload.argv.iter().chain(&payload.cwd);
    let words = words.chain(payload.env.iter().flat_map(|(name, value)| [name, value]));
    if let Some(word) = words.into_iter().find(|word| word.contains('\0')) {
        return Err(format!("the payload of an exec task holds a NUL byte in {word:?}"));
    }
    if let Some(name) = payload.env.keys().find(|name| name.is_empty() || name.contains('=')) {
        return Err(format!("the payload of an exec task names a variable {name:?}"));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_payload_is_read() {
        let text = r#"{"argv":["a","b"],"env":{"K":"v"},"cwd":"/tmp","stdin":"in"}"#;
        let payload = parse(text.as_bytes()).expect("it is well formed");
        assert_eq!(payload.argv, ["a", "b"]);
        assert_eq!(payload.env["K"], "v");
        assert_eq!((payload.cwd.as_deref(), payload.stdin.as_deref()), (Some("/tmp"), Some("in")));
    }

    #[test]
    fn a_malformed_payload_is_told_what_is_wrong() {
        for (text, part) in [
            ("", "EOF"),
            ("[]", "malformed"),
            (r#"{"argv":[]}"#, "names no program"),
            (r#"{"argv":[""]}"#, "names no program"),
            (r#"{"argv":["a"],"evn":{}}"#, "unknown field `evn`"),
            (r#"{"argv":"ls -l"}"#, "expected a sequence"),
            ("{\"argv\":[\"a\\u0000b\"]}", "NUL"),
            (r#"{"argv":["a"],"env":{"A=B":""}}"#, "variable \"A=B\""),
        ] {
            let error = parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
