//! What the tests of this crate share: where the workspace is and how to read it.

#[cfg(not(madsim))]
pub mod callers;
#[cfg(not(madsim))]
pub mod cluster;
#[cfg(not(madsim))]
pub mod cut;
#[cfg(not(madsim))]
pub mod disk;
pub mod effects;
#[cfg(not(madsim))]
pub mod http;
#[cfg(not(madsim))]
pub mod judge;
#[cfg(not(madsim))]
pub mod load;
#[cfg(not(madsim))]
pub mod matrix;
#[cfg(not(madsim))]
pub mod postgres;
#[cfg(not(madsim))]
pub mod process;
#[cfg(not(madsim))]
pub mod proxy;
#[cfg(not(madsim))]
pub mod rows;
#[cfg(not(madsim))]
pub mod shim;
#[cfg(not(madsim))]
pub mod spaces;

use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// Every file below `folder` (relative to the root) whose name ends in `.suffix`, in order.
pub fn files(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A file's text and its path below the root.
pub fn text(path: &Path) -> (String, String) {
    let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{name} cannot be read: {error}"));
    (name, text)
}
