//! P7.4 with real processes: a worker that is killed or frozen leaves no handler running beyond its
//! lease, and another worker's attempt has a higher token.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use dtask_tests::cluster::dtask;
use rustix::process::{Pid, Signal, kill_process};

/// A node without workers, and workers that the test starts. Dropped, all end.
struct Stage {
    folder: tempfile::TempDir,
    server: String,
    node: Child,
    workers: Vec<Child>,
}

/// One line of the handler below: its first process, its grandchild, its token.
#[derive(Debug)]
struct Started {
    first: String,
    grandchild: String,
    token: u64,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let port = || {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            socket.local_addr().expect("it is bound").to_string()
        };
        let (server, http) = (port(), port());
        let node = dtask()
            .args(["dev", "--workers", "0", "--grpc", &server, "--http", &http, "--dir"])
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let stage = Self { folder, server, node, workers: Vec::new() };
        stage.dtask(&["task", "list"]);
        stage
    }

    /// Runs a command until it succeeds: the node may still be starting.
    fn dtask(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let output = dtask()
                .args(words)
                .args(["--server", &self.server])
                .output()
                .expect("the binary runs");
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(Instant::now() < deadline, "{words:?}: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A worker whose type `sleep` starts a grandchild that sleeps, says so, and waits.
    fn worker(&mut self, name: &str) -> Pid {
        let handler = format!(
            "sleep=sleep 600 & echo $$ $! $DTASK_TASK_FENCING_TOKEN >> {}; wait",
            self.marks().display()
        );
        let child = dtask()
            .args(["work", "--server", &self.server, "--name", name, "--slots", "4"])
            .args(["--drain-timeout", "1s", "--handler", &handler])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let pid = Pid::from_child(&child);
        self.workers.push(child);
        pid
    }

    fn marks(&self) -> PathBuf {
        self.folder.path().join("marks")
    }

    /// Waits for the `n`th handler to start.
    fn started(&self, n: usize, within: Duration) -> Started {
        until("a handler starts", within, || {
            let text = fs::read_to_string(self.marks()).unwrap_or_default();
            let line = text.lines().nth(n - 1)?.to_owned();
            let words: Vec<&str> = line.split(' ').collect();
            let [first, grandchild, token] = words[..] else { return None };
            Some(Started {
                first: first.to_owned(),
                grandchild: grandchild.to_owned(),
                token: token.parse().ok()?,
            })
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.node]) {
            let _already_over = child.kill();
            let _already_over = child.wait();
        }
    }
}

fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: &str) -> bool {
    // A zombie that nobody has reaped yet does not run.
    fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

fn dead_within(started: &Started, within: Duration) -> Duration {
    let begin = Instant::now();
    until(&format!("{started:?} is dead"), within, || {
        (!is_alive(&started.first) && !is_alive(&started.grandchild)).then_some(())
    });
    begin.elapsed()
}

#[test]
fn handlers_of_a_killed_worker_die_with_it() {
    let mut stage = Stage::new();
    let worker = stage.worker("w1");
    stage.dtask(&["submit", "sleep", "--id", "long"]);
    let started = stage.started(1, Duration::from_secs(30));
    assert!(is_alive(&started.grandchild));
    kill_process(worker, Signal::KILL).expect("it runs");
    let took = dead_within(&started, Duration::from_secs(5));
    println!("dead {took:?} after the worker");
}

#[test]
fn handlers_of_a_frozen_worker_die_within_the_fence_and_the_next_attempt_has_a_higher_token() {
    let mut stage = Stage::new();
    let frozen = stage.worker("w1");
    stage.dtask(&["submit", "sleep", "--id", "long", "--max-retries", "3"]);
    let first = stage.started(1, Duration::from_secs(30));
    stage.worker("w2");
    kill_process(frozen, Signal::STOP).expect("it runs");
    // 13 s from the sending of the last answered heartbeat, which was before the freeze.
    let took = dead_within(&first, Duration::from_millis(13_500));
    println!("dead {took:?} after the freeze");
    let second = stage.started(2, Duration::from_secs(30));
    assert!(!is_alive(&first.grandchild), "two at once");
    assert!(second.token > first.token, "{first:?} {second:?}");
    // What the first one reports when it wakes changes nothing.
    kill_process(frozen, Signal::CONT).expect("it is stopped");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        assert!(is_alive(&second.grandchild), "the second attempt was disturbed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_drained_worker_leaves_no_watchdog() {
    let mut stage = Stage::new();
    let worker = stage.worker("w1");
    stage.dtask(&["submit", "sleep", "--id", "long"]);
    let started = stage.started(1, Duration::from_secs(30));
    let watchdog = watchdog_of(worker).expect("it watches the handler");
    let comm = fs::read_to_string(format!("/proc/{watchdog}/comm")).expect("it runs");
    assert_eq!(comm.trim_end(), "dtask-watchdog");
    // What this test inherited itself, every process that it starts has too.
    let inherited = open_files("self");
    let mut files = open_files(&watchdog);
    files.retain(|file| !inherited.contains(file) && file != Path::new("/dev/null"));
    assert!(files.is_empty(), "{files:?}");
    kill_process(worker, Signal::TERM).expect("it runs");
    assert!(stage.workers[0].wait().expect("it was started here").success());
    dead_within(&started, Duration::from_secs(1));
    until("it has ended", Duration::from_secs(5), || (!is_alive(&watchdog)).then_some(()));
}

#[test]
fn a_killed_watchdog_is_replaced_and_knows_what_runs() {
    let mut stage = Stage::new();
    let worker = stage.worker("w1");
    stage.dtask(&["submit", "sleep", "--id", "long"]);
    let started = stage.started(1, Duration::from_secs(30));
    let first = watchdog_of(worker).expect("it watches the handler");
    let pid = Pid::from_raw(first.parse().expect("a number")).expect("not zero");
    kill_process(pid, Signal::KILL).expect("it runs");
    // The next answered heartbeat moves the deadline, and finds nobody.
    until("another watchdog", Duration::from_secs(10), || {
        watchdog_of(worker).filter(|found| *found != first)
    });
    assert!(is_alive(&started.grandchild), "the handler has nothing to do with it");
    // A handler starts under the new one only once that has heard of the older handlers.
    stage.dtask(&["submit", "sleep", "--id", "longer"]);
    let second = stage.started(2, Duration::from_secs(10));
    kill_process(worker, Signal::KILL).expect("it runs");
    dead_within(&started, Duration::from_secs(5));
    dead_within(&second, Duration::from_secs(5));
}

/// The files that a process holds open.
fn open_files(pid: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|file| file.is_absolute())
        .collect()
}

/// The child of `worker` that watches.
fn watchdog_of(worker: Pid) -> Option<String> {
    let parent = format!(" {} ", worker.as_raw_nonzero());
    let all =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    all.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).find(|pid| {
        // "pid (name) state parent …"
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_child =
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest[2..].starts_with(&parent));
        is_child && String::from_utf8_lossy(&line).contains("--watch-handlers")
    })
}
