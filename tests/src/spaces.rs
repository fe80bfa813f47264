//! Network namespaces of the test's own, one a process, joined by a bridge: links that can be cut,
//! and routes that can be removed in one direction.
//!
//! Everything is named after the test's process, so that a later run can remove what a killed one
//! left behind.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Namespaces on one bridge; removed when dropped.
#[derive(Debug)]
pub struct Spaces {
    bridge: String,
    names: Vec<String>,
    subnet: String,
}

impl Spaces {
    /// Makes `count` namespaces, numbered from 1.
    ///
    /// # Errors
    /// The machine does not allow it.
    pub fn new(count: usize) -> Result<Self> {
        sweep();
        let (pid, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let subnet = format!("10.{}.{}", 64 + (pid >> 6) % 64, (pid % 64) * 4 + number % 4);
        let bridge = format!("dt{pid}b{number}");
        let mut spaces = Self { bridge, names: Vec::new(), subnet };
        ip(&["link", "add", &spaces.bridge, "type", "bridge", "forward_delay", "0"])?;
        ip(&["addr", "add", &format!("{}.254/24", spaces.subnet), "dev", &spaces.bridge])?;
        ip(&["link", "set", &spaces.bridge, "up"])?;
        for place in 1..=count {
            spaces.add(format!("dt{pid}n{number}-{place}"), place)?;
        }
        Ok(spaces)
    }

    fn add(&mut self, name: String, place: usize) -> Result<()> {
        ip(&["netns", "add", &name])?;
        self.names.push(name);
        let (name, cable) = (self.name(place).to_owned(), self.cable(place));
        let words = ["link", "add", &cable, "type", "veth", "peer", "name", "eth0"];
        ip(&[&words[..], &["netns", &name]].concat())?;
        ip(&["link", "set", &cable, "master", &self.bridge, "up"])?;
        let address = format!("{}/24", self.address(place));
        ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])
    }

    /// The name of a namespace, for `ip netns exec`.
    pub fn name(&self, place: usize) -> &str {
        &self.names[place - 1]
    }

    /// The address inside a namespace.
    pub fn address(&self, place: usize) -> String {
        format!("{}.{place}", self.subnet)
    }

    fn cable(&self, place: usize) -> String {
        format!("{}v{place}", self.bridge)
    }

    /// Pulls the cable of a namespace.
    pub fn cut(&self, place: usize) -> Result<()> {
        ip(&["link", "set", &self.cable(place), "down"])
    }

    /// Puts it in again.
    pub fn join(&self, place: usize) -> Result<()> {
        ip(&["link", "set", &self.cable(place), "up"])
    }

    /// Nothing that `from` sends reaches `to`; the other direction stays.
    pub fn silence(&self, from: usize, to: usize) -> Result<()> {
        let to = format!("{}/32", self.address(to));
        ip(&["-n", self.name(from), "route", "add", "blackhole", &to])
    }

    /// Undoes [`Self::silence`].
    pub fn unsilence(&self, from: usize, to: usize) -> Result<()> {
        let to = format!("{}/32", self.address(to));
        ip(&["-n", self.name(from), "route", "del", "blackhole", &to])
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for place in 1..=self.names.len() {
            let _ = ip(&["link", "del", &self.cable(place)]);
        }
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
        let _ = ip(&["link", "del", &self.bridge]);
    }
}

/// Removes what a test that was killed left behind.
fn sweep() {
    let dead = |name: &str| {
        let pid: String = name
            .strip_prefix("dt")
            .unwrap_or("")
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        !pid.is_empty() && !Path::new("/proc").join(pid).exists()
    };
    let list = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    for name in list("/run/netns").iter().filter(|name| dead(name)) {
        let _ = ip(&["netns", "del", name]);
    }
    for name in list("/sys/class/net").iter().filter(|name| dead(name)) {
        let _ = ip(&["link", "del", name]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` says: {}", words.join(" "), said.trim());
    Ok(())
}
