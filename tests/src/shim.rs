//! The library that is laid over libc in a process under test (tests/shim/faults.c): syncs that
//! fail or take long, and a wall clock that is wrong.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::root;

/// The library, built.
#[derive(Clone, Debug)]
pub struct Shim {
    library: PathBuf,
}

/// What one process is to suffer.
#[derive(Debug)]
pub struct Faults {
    library: PathBuf,
    control: PathBuf,
    folder: PathBuf,
    file: File,
}

impl Shim {
    /// Compiles the library into `folder`.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn build(folder: &Path) -> Result<Self> {
        let library = folder.join("faults.so");
        let output = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(root().join("tests/shim/faults.c"))
            .output()
            .context("no C compiler: `cc` cannot be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cc says: {said}");
        Ok(Self { library })
    }

    /// Faults for one process, whose syncs are watched below `folder`; none yet.
    pub fn faults(&self, control: PathBuf, folder: PathBuf) -> Result<Faults> {
        let file =
            File::options().create(true).truncate(true).read(true).write(true).open(&control)?;
        file.set_len(40)?;
        Ok(Faults { library: self.library.clone(), control, folder, file })
    }
}

impl Faults {
    /// What the process's environment needs.
    pub fn environment(&self) -> Vec<(String, String)> {
        let words = [
            ("LD_PRELOAD", &self.library),
            ("FAULTS_CONTROL", &self.control),
            ("FAULTS_FOLDER", &self.folder),
        ];
        words.iter().map(|(key, path)| ((*key).to_owned(), path.display().to_string())).collect()
    }

    /// Sets the wall clock off by this many seconds.
    pub fn shift_clock(&self, seconds: i64) -> Result<()> {
        self.write(0, seconds * 1_000_000)
    }

    /// The `n`-th sync from here on fails, once.
    pub fn fail_sync(&self, n: i64) -> Result<()> {
        self.write(1, n)
    }

    /// Each sync takes this much longer.
    pub fn slow_syncs(&self, by: Duration) -> Result<()> {
        self.write(4, i64::try_from(by.as_millis())?)
    }

    /// Syncs that the process has made.
    pub fn syncs(&self) -> Result<i64> {
        self.read(2)
    }

    /// Syncs that have failed.
    pub fn failed(&self) -> Result<i64> {
        self.read(3)
    }

    fn write(&self, place: u64, value: i64) -> Result<()> {
        Ok(self.file.write_all_at(&value.to_ne_bytes(), place * 8)?)
    }

    fn read(&self, place: u64) -> Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, place * 8)?;
        Ok(i64::from_ne_bytes(bytes))
    }
}
