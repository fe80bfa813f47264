//! Snapshot files: written under a temporary name, synced, renamed, the directory synced; then
//! the node is told (P4.3).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use dtask_core::log::File;

use super::directory::DiskError;
use super::thread::Durable;
use crate::serve::ports::SnapshotRead;

/// Bytes between syncs of a file that grows: the last fsync, which the log's own may have to wait
/// for, stays short.
const SYNC_EVERY: u64 = 8 << 20;

/// What the snapshot thread is asked.
#[derive(Debug)]
pub(super) enum SnapshotJob {
    Write { index: u64, data: Bytes },
    Finish { index: u64 },
    Abort { index: u64 },
}

struct Growing {
    file: fs::File,
    unsynced: u64,
}

/// Runs until every sender is gone or the disk fails. `saved` is told each index in place.
pub(super) fn run(
    path: &Path,
    jobs: &Receiver<SnapshotJob>,
    saved: &dyn Fn(u64),
    durable: &Durable,
) {
    let mut growing: BTreeMap<u64, Growing> = BTreeMap::new();
    while let Ok(job) = jobs.recv() {
        let result = match job {
            SnapshotJob::Write { index, data } => write(path, &mut growing, index, &data),
            SnapshotJob::Finish { index } => {
                finish(path, growing.remove(&index), index).map(|in_place| {
                    if in_place {
                        saved(index);
                    }
                })
            }
            SnapshotJob::Abort { index } => {
                growing.remove(&index);
                abort(path, index)
            }
        };
        if let Err(error) = result {
            durable.fail(&error);
            return;
        }
    }
}

fn write(
    path: &Path,
    growing: &mut BTreeMap<u64, Growing>,
    index: u64,
    data: &[u8],
) -> Result<(), DiskError> {
    let temp = path.join(File::SnapshotTemp(index).name());
    let failed = |error| DiskError::new("cannot write", &temp, error);
    let file = match growing.entry(index) {
        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::btree_map::Entry::Vacant(entry) => {
            let file = fs::File::create(&temp).map_err(failed)?;
            entry.insert(Growing { file, unsynced: 0 })
        }
    };
    file.file.write_all(data).map_err(failed)?;
    file.unsynced += data.len() as u64;
    if file.unsynced >= SYNC_EVERY {
        file.unsynced = 0;
        file.file.sync_data().map_err(failed)?;
    }
    Ok(())
}

fn finish(path: &Path, growing: Option<Growing>, index: u64) -> Result<bool, DiskError> {
    let temp = path.join(File::SnapshotTemp(index).name());
    let place = path.join(File::Snapshot(index).name());
    let failed = |error| DiskError::new("cannot put in place", &place, error);
    let Some(growing) = growing else { return Ok(false) };
    growing.file.sync_all().map_err(failed)?;
    fs::rename(&temp, &place).map_err(failed)?;
    fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(true)
}

fn abort(path: &Path, index: u64) -> Result<(), DiskError> {
    let temp = path.join(File::SnapshotTemp(index).name());
    match fs::remove_file(&temp) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DiskError::new("cannot remove", &temp, error)),
    }
}

/// A snapshot file that is being read: the name may go meanwhile, the content stays.
#[derive(Debug)]
pub(super) struct Reading(fs::File);

impl Reading {
    pub(super) fn open(path: &Path, index: u64) -> Option<Self> {
        fs::File::open(path.join(File::Snapshot(index).name())).ok().map(Self)
    }
}

impl SnapshotRead for Reading {
    fn next(&mut self, max: usize) -> io::Result<Bytes> {
        let mut piece = Vec::with_capacity(max);
        (&mut self.0).take(max as u64).read_to_end(&mut piece)?;
        Ok(piece.into())
    }
}

/// The whole file in pieces.
pub(super) fn read_all(path: &Path, index: u64, piece: usize) -> Result<Vec<Bytes>, DiskError> {
    let name: PathBuf = path.join(File::Snapshot(index).name());
    let failed = |error| DiskError::new("cannot read", &name, error);
    let mut reading = Reading(fs::File::open(&name).map_err(failed)?);
    let mut pieces = Vec::new();
    loop {
        let next = reading.next(piece).map_err(failed)?;
        if next.is_empty() {
            return Ok(pieces);
        }
        pieces.push(next);
    }
}
