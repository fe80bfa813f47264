//! A small file system in memory for one node, so that its disk can be full.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

/// What a mount is called, before the number of the test's process.
const SOURCE: &str = "dtask-test-";

/// Room for a log's first segment (4 MiB) and several others (64 MiB).
const ROOMY_MIB: u64 = 256;
/// Room for a log's first segment.
const SMALL_MIB: u64 = 24;

/// A mounted tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one with room for a node's log on a folder of its own.
    ///
    /// # Errors
    /// The machine does not allow it.
    pub fn mount() -> Result<Self> {
        sweep();
        let folder = tempfile::tempdir()?;
        let options = format!("size={ROOMY_MIB}m,mode=700");
        let source = format!("{SOURCE}{}", std::process::id());
        let words = ["-t", "tmpfs", "-o", &options, &source];
        run(Command::new("mount").args(words).arg(folder.path()))?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Nothing fits any more: a log can fill its first segment, and not begin another.
    pub fn fill(&self) -> Result<()> {
        self.resize(SMALL_MIB)?;
        let (mut ballast, block) = (File::create(self.ballast())?, vec![b'x'; 1 << 16]);
        loop {
            match ballast.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As it was mounted.
    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(self.ballast())?;
        self.resize(ROOMY_MIB)
    }

    fn resize(&self, mebibytes: u64) -> Result<()> {
        let options = format!("remount,size={mebibytes}m");
        run(Command::new("mount").args(["-o", &options]).arg(self.path()))
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was just killed may still have a file open.
        let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

/// Unmounts what a test that was killed left behind.
fn sweep() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(source), Some(place)) = (words.next(), words.next()) else { continue };
        let Some(pid) = source.strip_prefix(SOURCE) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = run(Command::new("umount").args(["--lazy", place]));
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} says: {}", said.trim());
    Ok(())
}
