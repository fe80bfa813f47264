//! The log thread: everything that waits becomes one write and one fdatasync (P4.5).

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use dtask_core::log::{Persist, Writer};
use tokio::sync::watch;

use super::directory::{Directory, DiskError};

/// Entry bytes in one group: about the largest append of a peer, a few milliseconds of disk.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// The way in which a thread says that the disk has failed: the durable number's sender goes.
#[derive(Clone, Debug)]
pub(super) struct Durable(Arc<Mutex<Option<watch::Sender<u64>>>>);

impl Durable {
    pub(super) fn new(sender: watch::Sender<u64>) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    fn raise(&self, n: u64) {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*guard {
            sender.send_replace(n);
        }
    }

    /// Upholds S26: after a failed write or fsync nothing is acknowledged again in this life.
    pub(super) fn fail(&self, error: &DiskError) {
        tracing::error!("{error}; the node stops");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Runs until every sender is gone or the disk fails.
pub(super) fn run(
    mut directory: Directory,
    mut writer: Writer,
    jobs: &Receiver<Persist>,
    durable: &Durable,
) {
    let mut ops = Vec::new();
    let mut group = Vec::new();
    while let Ok(first) = jobs.recv() {
        collect(first, jobs, &mut group);
        let n = group.last().map_or(0, |persist| persist.n);
        writer.append(&group, &mut ops);
        if let Err(error) = directory.perform(std::mem::take(&mut ops)) {
            durable.fail(&error);
            return;
        }
        writer.synced();
        durable.raise(n);
    }
}

/// What waits behind `first`, up to a bound.
fn collect(first: Persist, jobs: &Receiver<Persist>, group: &mut Vec<Persist>) {
    let bytes =
        |persist: &Persist| -> usize { persist.entries.iter().map(|entry| entry.data.len()).sum() };
    group.clear();
    let mut sum = bytes(&first);
    group.push(first);
    while sum < GROUP_BYTES_MAX
        && let Ok(next) = jobs.try_recv()
    {
        sum += bytes(&next);
        group.push(next);
    }
}
