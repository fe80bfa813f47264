//! One process of the release build: its binary, its start, its port.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

use crate::root;

/// Ports for nodes lie below those that the kernel gives to outgoing connections, or such a
/// connection could take a node's port between two of its lives.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The program under test, as `cargo xtask test build` left it.
pub fn dtask() -> Command {
    Command::new(binary("dtask"))
}

/// The same, perhaps in a network namespace.
pub fn dtask_in(namespace: Option<&str>) -> Command {
    let Some(name) = namespace else { return dtask() };
    // `ip netns exec` becomes the program: signals reach it.
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]).arg(binary("dtask"));
    command
}

/// A binary of the release build.
pub fn binary(name: &str) -> PathBuf {
    let path = root().join("target/release").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --release --workspace` first",
        path.display()
    );
    path
}

/// Starts a process that writes to a log file.
pub fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let file = File::create(log)?;
    command
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}

/// A port that nobody listens on, never given twice by this process.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let len = PORTS.end - PORTS.start;
    let begin = (std::process::id().wrapping_mul(97) % u32::from(len)) as u16;
    for _ in 0..len {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + begin.wrapping_add(step) % len;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}

/// The parent in a line of /proc/PID/stat: the second word behind the name in parentheses.
pub(crate) fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process is there and not only its exit status.
pub(crate) fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

/// What a program wrote, which must end well.
pub(crate) fn run(command: Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run_for_bytes(command)?).into_owned())
}

/// The same, as it came.
pub(crate) fn run_for_bytes(mut command: Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let program = Path::new(command.get_program()).display();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}: {said}", output.status);
    Ok(output.stdout)
}
