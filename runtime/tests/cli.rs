//! The command line as a process, without a cluster: what is wrong is told in one line with a
//! remedy, and the exit code says whose move it is.
#![cfg(not(madsim))]

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn dtask(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dtask"));
    command.current_dir(folder).args(words);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DTASK_") {
            command.env_remove(name);
        }
    }
    command
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn run(words: &[&str]) -> Output {
    dtask(folder().path(), words).output().expect("the binary runs")
}

/// Runs `words`, demands this exit code, an error line, and these texts in it or in its hint.
#[track_caller]
fn refused(words: &[&str], code: i32, texts: &[&str]) {
    let output = run(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    assert!(said.starts_with("error: "), "{words:?}: {said}");
    assert!(!said.contains("panicked"), "{words:?}: {said}");
    for text in texts {
        assert!(said.contains(text), "{words:?} does not say {text:?}: {said}");
    }
}

#[track_caller]
fn prints(words: &[&str], expected: &str) {
    let output = run(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{words:?}");
}

#[test]
fn a_bad_cron_expression_is_pointed_at() {
    let output = run(&["cron", "next", "0 25 * * *"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("error: cron_expr: ") && lines[0].contains("hour"), "{said}");
    assert_eq!(&lines[1..3], ["  0 25 * * *", "    ^^"], "{said}");
    refused(&["submit", "--cron", "0 25 * * *", "x"], 2, &["hour", "hint: "]);
    refused(&["cron", "explain", "0 0 30 2 *"], 2, &["cron_expr"]);
}

#[test]
fn wrong_input_is_told_before_anything_is_asked() {
    let zone = ["submit", "--cron", "0 9 * * *", "--timezone", "Europe/Pariss", "x"];
    refused(&zone, 2, &["timezone", "did you mean Europe/Paris?"]);
    refused(&["submit", "--priority", "12", "x"], 2, &["priority", "12", "9"]);
    refused(&["submit", "--priority", "high", "x"], 2, &["priority", "high"]);
    refused(&["submit", "--id", "no spaces", "x"], 2, &["id: "]);
    refused(&["submit", "--at", "2030-01-01T00:00:00", "x"], 2, &["at", "timezone"]);
    refused(&["submit", "--every", "5", "x"], 2, &["every", "unit"]);
    refused(
        &["submit", "--overlap", "never", "--every", "5s", "x"],
        2,
        &["overlap", "allow, skip"],
    );
    refused(&["submit", "--payload", "@/no/such/file", "x"], 2, &["/no/such/file"]);
    refused(&["submit", "--env", "A", "--", "true"], 2, &["--env", "NAME=VALUE"]);
    refused(&["task", "list", "--status", "done"], 2, &["status", "`done`", "succeeded"]);
}

#[test]
fn wrong_usage_is_one_line_with_a_hint() {
    refused(&["submit", "--prority", "3", "x"], 2, &["--prority", "hint: ", "--priority"]);
    refused(&["submit"], 2, &["dtask submit --help"]);
    refused(&["sbmit"], 2, &["sbmit", "submit"]);
    refused(&[], 2, &["hint: "]);
    refused(&["serve", "--data", "d"], 2, &["--id", "--peer"]);
    refused(&["submit", "--at", "x", "--cron", "y", "z"], 2, &["--at", "--cron"]);
    let submit = ["submit", "--wait", "--every", "5s", "x"];
    refused(&submit, 2, &["--wait", "dtask task wait"]);
}

#[test]
fn run_refuses_schedules_and_points_to_submit() {
    refused(&["run", "--cron", "* * * * *", "--", "true"], 2, &["--cron", "dtask submit --cron"]);
    refused(&["run", "--in", "5s", "--", "true"], 2, &["dtask submit --in"]);
}

#[test]
fn an_unreachable_cluster_has_its_own_exit_code() {
    let here = "127.0.0.1:1";
    refused(&["submit", "--server", here, "x"], 5, &[here, "nothing was done", "hint: "]);
    refused(&["task", "get", "a", "--server", here], 5, &[here]);
    refused(&["cluster", "status", "--server", here], 5, &[here]);
    // The other codes are the command's own.
    refused(&["run", "--server", here, "--", "true"], 125, &[here]);
}

#[test]
fn an_address_beyond_this_machine_needs_insecure() {
    let serve = |grpc| ["serve", "--id", "1", "--data", "d", "--peer", "1=h:1", "--grpc", grpc];
    refused(&serve("0.0.0.0:7100"), 2, &["--grpc", "0.0.0.0:7100", "--insecure"]);
    refused(&serve("localhost"), 2, &["--grpc", "HOST:PORT"]);
    refused(&["dev", "--http", "192.168.1.1:80"], 2, &["--http", "--insecure"]);
}

#[test]
fn cron_works_offline() {
    let next = |zone, after| {
        ["cron", "next", "30 2 * * *", "--timezone", zone, "--after", after, "--count", "2"]
    };
    // 02:30 does not exist on the 29th: it fires at the first instant after the gap.
    prints(
        &next("Europe/Paris", "2026-03-28T12:00:00Z"),
        "2026-03-29T03:00:00+02:00\n2026-03-30T02:30:00+02:00\n",
    );
    prints(
        &next("UTC", "2026-01-05T00:00:00Z"),
        "2026-01-05T02:30:00+00:00\n2026-01-06T02:30:00+00:00\n",
    );
    let explained = run(&["cron", "explain", "30 2 * * 1-5", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&explained.stdout).expect("JSON");
    assert!(json["explanation"].as_str().is_some_and(|text| text.contains("02:30")), "{json}");
}

#[test]
fn help_and_version_are_no_errors() {
    for words in [&["--help"][..], &["submit", "--help"], &["task", "logs", "--help"]] {
        let output = run(words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("Example"), "{words:?}: {said}");
    }
    prints(&["--version"], &format!("dtask {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let words = ["cron", "next", "* * * * * *", "--count", "10000"];
    let mut child = dtask(folder().path(), &words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("it ends").success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let folder = folder();
    let file =
        "server = [\"a:1\", \"b:1\"]\n[work]\nslots = 4\nallow_exec = true\nqueue = \"mail\"\n";
    std::fs::write(folder.path().join("dtask.toml"), file).expect("the file is written");
    let print = |environment: &[(&str, &str)], words: &[&str]| {
        let mut command = dtask(folder.path(), &["config", "print", "-o", "json"]);
        let output = command.args(words).envs(environment.iter().copied()).output();
        let output = output.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let settings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        move |section: &str, key: &str| {
            let list = settings.as_array().expect("a list");
            let found = list.iter().find(|s| s["section"] == section && s["key"] == key);
            let found = found.unwrap_or_else(|| panic!("{section}.{key} is not listed"));
            (found["values"].to_string(), found["source"].to_string())
        }
    };
    let of = |value: &str, source: &str| (value.to_owned(), format!("\"{source}\""));

    let setting = print(&[], &[]);
    assert_eq!(setting("", "server"), of(r#"["a:1","b:1"]"#, "dtask.toml:1"));
    assert_eq!(setting("work", "slots"), of(r#"["4"]"#, "dtask.toml:3"));
    assert_eq!(setting("work", "allow_exec"), of(r#"["true"]"#, "dtask.toml:4"));
    assert_eq!(setting("work", "drain_timeout"), of(r#"["30s"]"#, "default"));
    assert_eq!(setting("serve", "id"), of("[]", "default"));

    let setting = print(&[("DTASK_SLOTS", "5"), ("DTASK_SERVER", "c:1")], &[]);
    assert_eq!(setting("work", "slots"), of(r#"["5"]"#, "environment DTASK_SLOTS"));
    assert_eq!(setting("", "server"), of(r#"["c:1"]"#, "environment DTASK_SERVER"));

    let setting = print(&[("DTASK_SERVER", "c:1")], &["--server", "d:1"]);
    assert_eq!(setting("", "server"), of(r#"["d:1"]"#, "flag --server"));
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_line() {
    let folder = folder();
    let path = folder.path().join("other.toml");
    let words = ["--config", path.to_str().expect("UTF-8"), "config", "print"];
    let said = |text: &str| {
        std::fs::write(&path, text).expect("the file is written");
        let output = dtask(folder.path(), &words).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(2), "{text}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let unknown = said("[work]\nslot = 4\n");
    assert!(unknown.contains("other.toml:2: unknown key `slot` in [work]"), "{unknown}");
    assert!(unknown.contains("did you mean `slots`?"), "{unknown}");
    assert!(said("[wrok]\nslots = 4\n").contains("did you mean `work`?"));
    assert!(said("\n\nslots =\n").contains("other.toml:3: "));
    assert!(said("server = 1.5\n").contains("`server` cannot be a float"));
}

#[test]
fn a_wrong_value_in_the_file_is_blamed_on_the_file() {
    let folder = folder();
    std::fs::write(folder.path().join("dtask.toml"), "\noutput = \"xml\"\n").expect("written");
    let output = dtask(folder.path(), &["cron", "explain", "@daily"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("xml") && said.contains("dtask.toml:2"), "{said}");
}

#[test]
fn a_worker_says_what_its_options_lack() {
    refused(&["work"], 2, &["--handler TYPE=COMMAND", "--allow-exec"]);
    refused(&["work", "--handler", "resize"], 2, &["--handler", "resize", "TYPE=COMMAND"]);
    refused(&["work", "--allow-exec", "--label", "x"], 2, &["--label", "K=V"]);
    refused(&["work", "--allow-exec", "--slots", "0"], 2, &["--slots"]);
    refused(&["work", "--allow-exec", "--drain-timeout", "5"], 2, &["drain_timeout"]);
    refused(&["work", "--allow-exec", "--log", "=="], 2, &["--log"]);
}

#[test]
fn a_worker_that_finds_no_cluster_still_stops_when_asked() {
    let mut child = dtask(folder().path(), &["work", "--allow-exec", "--server", "127.0.0.1:1"])
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    // Until it catches the signal, the signal kills it.
    let status = format!("/proc/{}/status", child.id());
    let catches_term = || {
        let text = std::fs::read_to_string(&status).expect("the process lives");
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        u64::from_str_radix(mask.trim(), 16).expect("hexadecimal") & (1 << 14) != 0
    };
    while !catches_term() {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
