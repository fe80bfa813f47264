//! The log thread: everything that waits becomes one write and one fdatasync (P4.5).

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dtask_core::log::{Persist, Writer};
use tokio::sync::watch;

use super::directory::{Directory, DiskError};

/// Entry bytes in one group: about the largest append of a peer, a few milliseconds of disk.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Without a group for this long, a marker says that everything is durable (P4.2).
const IDLE: Duration = Duration::from_millis(20);

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
    loop {
        let job = if writer.is_marked() {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(IDLE)
        };
        group.clear();
        let over = matches!(job, Err(RecvTimeoutError::Disconnected));
        match job {
            Ok(first) => {
                collect(first, jobs, &mut group);
                writer.append(&group, &mut ops);
            }
            // Idle, or the last act of this life.
            Err(_) => writer.mark(&mut ops),
        }
        if let Err(error) = directory.perform(std::mem::take(&mut ops)) {
            durable.fail(&error);
            return;
        }
        writer.synced();
        if let Some(last) = group.last() {
            durable.raise(last.n);
        }
        if over {
            return;
        }
    }
}

/// What waits behind `first`, up to a bound.
fn collect(first: Persist, jobs: &Receiver<Persist>, group: &mut Vec<Persist>) {
    let bytes =
        |persist: &Persist| -> usize { persist.entries.iter().map(|entry| entry.data.len()).sum() };
    let mut sum = bytes(&first);
    group.push(first);
    while sum < GROUP_BYTES_MAX
        && let Ok(next) = jobs.try_recv()
    {
        sum += bytes(&next);
        group.push(next);
    }
}
