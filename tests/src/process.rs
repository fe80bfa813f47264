//! One process of the release build: its binary, its start, its port.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

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
