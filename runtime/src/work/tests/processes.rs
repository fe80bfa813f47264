//! What processes get, what is read of them, and that nothing of them stays.

use std::path::Path;
use std::time::{Duration, Instant};

use dtask_core::limits;
use dtask_core::worker::{Ending, Input, Signal};
use tokio::sync::mpsc;

use super::*;
use crate::work::handlers::{Begun, Control, Events, Handlers};

/// An attempt under test.
struct Attempt {
    inbox: mpsc::Receiver<Input>,
    control: Option<Box<dyn Control>>,
    ending: Option<Ending>,
    log: Vec<u8>,
}

impl Attempt {
    fn begin(handlers: &Handlers, assignment: Assignment) -> Self {
        let (sender, inbox) = mpsc::channel(16);
        let events = Events::new(assignment.token, sender);
        let (control, ending) = match handlers.begin(Box::new(assignment), events) {
            Begun::Ended(ending) => (None, Some(ending)),
            Begun::Running(control) => (Some(control), None),
        };
        Self { inbox, control, ending, log: Vec::new() }
    }

    fn exec(payload: impl Into<Bytes>) -> Self {
        let handlers = Handlers::new().exec().expect("the first handler");
        Self::begin(&handlers, assignment(5, "exec", payload))
    }

    fn command(command: &str, payload: impl Into<Bytes>) -> Self {
        let handlers = Handlers::new().command(&format!("job={command}")).expect("well formed");
        Self::begin(&handlers, assignment(5, "job", payload))
    }

    fn signal(&mut self, signal: Signal) {
        self.control.as_mut().expect("it runs").signal(signal);
    }

    /// Waits until the log holds `text`.
    async fn logged(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.log).contains(text) {
            assert!(self.next().await, "the log {:?} lacks {text}", self.log);
        }
    }

    /// Takes one event in; false at the end.
    async fn next(&mut self) -> bool {
        let input = tokio::time::timeout(Duration::from_secs(30), self.inbox.recv()).await;
        match input.expect("an event within 30 s").expect("an end before silence") {
            Input::Started { .. } => true,
            Input::Output { data, .. } => {
                self.log.extend_from_slice(&data);
                true
            }
            Input::Ended { ending, .. } => {
                self.ending = Some(ending);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    async fn end(mut self) -> (Ending, String) {
        while self.ending.is_none() {
            self.next().await;
        }
        let log = String::from_utf8_lossy(&self.log).into_owned();
        (self.ending.expect("it has ended"), log)
    }
}

fn text(output: &Bytes) -> &str {
    std::str::from_utf8(output).expect("text")
}

fn is_alive(pid: &str) -> bool {
    // A zombie that init has not reaped yet does not run.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

async fn dies(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn appears(path: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            Ok(_) | Err(_) => {}
        }
        assert!(Instant::now() < deadline, "{} does not appear", path.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_handler_gets_the_payload_on_stdin_and_its_stdout_is_the_result() {
    let (ending, log) = Attempt::command("cat; echo noted >&2", r#"{"n": 1}"#).end().await;
    assert!(ending.succeeded);
    assert_eq!((text(&ending.output), ending.exit_code), (r#"{"n": 1}"#, Some(0)));
    assert_eq!(log, "noted\n", "stdout is not part of the log");
}

#[tokio::test]
async fn a_result_that_is_not_json_becomes_a_json_string() {
    let (ending, _) = Attempt::command("printf 'two\\nlines\\n'", "").end().await;
    assert_eq!(text(&ending.output), r#""two\nlines""#);
    let (ending, _) = Attempt::command("printf '\\377'", "").end().await;
    assert_eq!(&ending.output[..], [0xff], "bytes that are no text stay as they are");
}

#[tokio::test]
async fn exec_logs_both_streams_and_its_result_is_the_tail_of_stdout() {
    let (ending, log) = Attempt::exec(script("echo out; echo err >&2")).end().await;
    assert_eq!(text(&ending.output), r#""out""#);
    assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
    let count = limits::OUTPUT_TAIL_BYTES_MAX * 2;
    let (ending, log) =
        Attempt::exec(script(&format!("head -c {count} /dev/zero | tr '\\0' x; echo end")))
            .end()
            .await;
    assert_eq!(log.len(), count + 4);
    assert!(text(&ending.output).ends_with("xend\""));
    assert!(ending.output.len() <= limits::OUTPUT_TAIL_BYTES_MAX + 2);
}

#[tokio::test]
async fn exec_gets_its_stdin_directory_and_variables() {
    let folder = tempfile::tempdir().expect("a directory");
    let payload = serde_json::json!({
        "argv": ["sh", "-c", "pwd; printf %s $COLOUR; cat"],
        "env": {"COLOUR": "red"},
        "cwd": folder.path(),
        "stdin": "from stdin",
    });
    let (ending, log) = Attempt::exec(payload.to_string()).end().await;
    assert!(ending.succeeded, "{}", ending.error);
    let folder = folder.path().canonicalize().expect("it exists");
    assert_eq!(log, format!("{}\nredfrom stdin", folder.display()));
}

#[tokio::test]
async fn exit_codes_and_signals_are_reported() {
    for (shell, code, error) in [
        ("exit 0", 0, ""),
        ("exit 3", 3, "exit code 3"),
        ("exit 75", 75, "exit code 75"),
        ("kill -9 $$", -9, "killed by signal 9"),
    ] {
        let (ending, _) = Attempt::exec(script(shell)).end().await;
        assert_eq!((ending.exit_code, &*ending.error), (Some(code), error));
        assert_eq!((ending.succeeded, ending.retryable), (code == 0, true));
    }
}

#[tokio::test]
async fn a_program_that_does_not_exist_fails_as_in_a_shell() {
    let (ending, _) = Attempt::exec(r#"{"argv":["/no/such/program"]}"#).end().await;
    assert_eq!(ending.exit_code, Some(127));
    assert!(ending.error.contains("cannot start \"/no/such/program\""), "{}", ending.error);
}

#[tokio::test]
async fn a_malformed_exec_payload_fails_for_good() {
    let (ending, _) = Attempt::exec(r#"{"argv":"ls"}"#).end().await;
    assert!(!ending.succeeded && !ending.retryable);
    assert!(ending.error.contains("expected {\"argv\""), "{}", ending.error);
}

#[tokio::test]
async fn the_environment_is_clean_and_names_the_task() {
    // Set by cargo for this test: it stands for whatever a worker's own environment holds.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let (_, log) = Attempt::exec(r#"{"argv":["env"]}"#).end().await;
    let names: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for name in &names {
        let usual = ["PATH", "HOME", "LANG"].contains(name) || name.starts_with("DTASK_TASK_");
        assert!(usual, "{name} in {log}");
    }
    for line in [
        "DTASK_TASK_ID=report-7",
        "DTASK_TASK_NAME=Nightly report",
        "DTASK_TASK_RUN=3",
        "DTASK_TASK_ATTEMPT=2",
        "DTASK_TASK_FENCING_TOKEN=5",
        "DTASK_TASK_SCHEDULED_FOR=2023-11-14T22:13:20Z",
    ] {
        assert!(log.lines().any(|given| given == line), "{line} in {log}");
    }
    assert!(names.contains(&"DTASK_TASK_DEADLINE") && names.contains(&"PATH"), "{log}");
}

#[tokio::test]
async fn variables_are_passed_on_when_the_operator_says_so() {
    let handlers = Handlers::new().pass_env(["CARGO_MANIFEST_DIR".into()]).exec();
    let handlers = handlers.expect("the first handler");
    let attempt = Attempt::begin(&handlers, assignment(5, "exec", r#"{"argv":["env"]}"#));
    let (_, log) = attempt.end().await;
    assert!(log.contains("CARGO_MANIFEST_DIR="), "{log}");
}

#[tokio::test]
async fn a_term_reaches_grandchildren() {
    let folder = tempfile::tempdir().expect("a directory");
    let pid = folder.path().join("pid");
    let shell = format!("sleep 300 & echo $! > {}; echo ready; wait", pid.display());
    let mut attempt = Attempt::exec(script(&shell));
    attempt.logged("ready").await;
    let pid = appears(&pid).await;
    assert!(is_alive(&pid));
    attempt.signal(Signal::Term);
    let (ending, _) = attempt.end().await;
    assert_eq!(ending.exit_code, Some(-15));
    dies(&pid).await;
}

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_with_its_children() {
    let folder = tempfile::tempdir().expect("a directory");
    let pid = folder.path().join("pid");
    let shell = format!(
        "trap '' TERM; (trap '' TERM; echo $$ > /dev/null; exec sleep 300) & echo $! > {}; echo \
         ready; while :; do sleep 1; done",
        pid.display()
    );
    let mut attempt = Attempt::exec(script(&shell));
    attempt.logged("ready").await;
    let pid = appears(&pid).await;
    attempt.signal(Signal::Term);
    attempt.signal(Signal::Kill);
    let (ending, _) = attempt.end().await;
    assert_eq!(ending.exit_code, Some(-9));
    dies(&pid).await;
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_neither_hangs_the_attempt_nor_lives_on() {
    let folder = tempfile::tempdir().expect("a directory");
    let pid = folder.path().join("pid");
    let shell = format!("sleep 300 & echo $! > {}; echo done", pid.display());
    let begin = Instant::now();
    let (ending, log) = Attempt::exec(script(&shell)).end().await;
    assert!(ending.succeeded);
    assert_eq!(log, "done\n");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    dies(&appears(&pid).await).await;
}

#[tokio::test]
async fn a_process_that_left_the_group_with_the_pipe_does_not_hang_the_attempt() {
    let folder = tempfile::tempdir().expect("a directory");
    let pid = folder.path().join("pid");
    let shell =
        format!("setsid sh -c 'echo $$ > {}; exec sleep 60' & sleep 0.3; echo done", pid.display());
    let begin = Instant::now();
    let (ending, _) = Attempt::exec(script(&shell)).end().await;
    assert!(ending.succeeded);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let left = appears(&pid).await;
    std::process::Command::new("kill").arg(left.trim()).status().expect("kill runs");
}

#[tokio::test]
async fn everything_is_killed_when_the_worker_goes() {
    let folder = tempfile::tempdir().expect("a directory");
    let pid = folder.path().join("pid");
    let shell = format!("sleep 300 & echo $! > {}; echo ready; wait", pid.display());
    let mut attempt = Attempt::exec(script(&shell));
    attempt.logged("ready").await;
    drop(attempt);
    dies(&appears(&pid).await).await;
}

#[tokio::test]
async fn an_oversize_result_is_kept_to_one_byte_above_the_bound() {
    let count = 3 * limits::RESULT_BYTES_MAX;
    let (ending, _) = Attempt::command(&format!("head -c {count} /dev/zero"), "").end().await;
    assert!(ending.succeeded, "the machine makes a failure of it");
    assert_eq!(ending.output.len(), limits::RESULT_BYTES_MAX + 1);
}

#[tokio::test]
async fn a_process_that_does_not_read_its_stdin_does_not_hang() {
    let (ending, _) = Attempt::command("true", vec![b'x'; 1 << 20]).end().await;
    assert!(ending.succeeded);
}

#[tokio::test]
async fn a_function_is_told_to_stop_and_dropped_when_it_does_not() {
    let handlers = Handlers::new().function("job", async |mut task| {
        task.log("working").await;
        task.stopped().await;
        task.log("asked").await;
        std::future::pending().await
    });
    let handlers = handlers.expect("the first handler");
    let mut attempt = Attempt::begin(&handlers, assignment(5, "job", ""));
    attempt.logged("working").await;
    attempt.signal(Signal::Term);
    attempt.logged("asked").await;
    attempt.signal(Signal::Kill);
    let (ending, _) = attempt.end().await;
    assert!(!ending.succeeded);
}

#[tokio::test]
async fn a_function_that_panics_is_reported() {
    let handlers = Handlers::new().function("job", async |task| {
        assert!(task.assignment.payload.is_empty(), "a panic on purpose");
        Ok(Bytes::new())
    });
    let handlers = handlers.expect("the first handler");
    let attempt = Attempt::begin(&handlers, assignment(5, "job", "x"));
    let (ending, _) = attempt.end().await;
    assert!(!ending.succeeded && ending.retryable);
    let (ending, _) = Attempt::begin(&handlers, assignment(6, "job", "")).end().await;
    assert!(ending.succeeded);
}

#[tokio::test]
async fn an_unknown_type_is_told_apart() {
    let (ending, _) = Attempt::begin(&Handlers::new(), assignment(5, "nope", "")).end().await;
    assert!(ending.error.contains("does not run the type \"nope\""));
}

#[test]
fn a_handler_is_written_type_equals_command() {
    for spec in ["resize", "=x", "resize=", " = "] {
        assert!(Handlers::new().command(spec).is_err(), "{spec}");
    }
    let handlers = Handlers::new().command("resize=./resize.sh --fast a=b").expect("it is");
    assert_eq!(handlers.kinds(), ["resize".into()]);
    assert!(handlers.command("resize=other").is_err(), "one handler a type");
}
