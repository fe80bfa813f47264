//! Opening a data directory, and the handle by which the host writes to it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use dtask_core::id::{GroupId, Incarnation, NodeId};
use dtask_core::limits;
use dtask_core::log::{Found, Identity, Owner, Persist, RecoverError, Recovered, Writer, recover};
use tokio::sync::watch;

use super::directory::{Directory, DiskError};
use super::snapshots::{self, Reading, SnapshotJob};
use super::thread::{self, Durable};
use crate::serve::ports::{Disk, SnapshotRead};

/// A new log's first segment: small, so that a first start does not wait for zeros.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// Whose directory is opened, and how its log grows.
#[derive(Clone, Debug)]
pub struct Options {
    /// The raft group.
    pub group: GroupId,
    /// The node.
    pub node: NodeId,
    /// The voters that `--peer` names, this node included; ascending. `None` does not check.
    pub voters: Option<Vec<NodeId>>,
    /// The length of a segment.
    pub segment_bytes: u64,
}

impl Options {
    /// Of the only group there is, with segments of the usual length.
    pub const fn new(node: NodeId, voters: Option<Vec<NodeId>>) -> Self {
        Self { group: GroupId(1), node, voters, segment_bytes: limits::SEGMENT_BYTES }
    }
}

/// An opened data directory.
#[derive(Debug)]
pub struct OpenedLog {
    /// Where the node's effects go.
    pub store: LogStore,
    /// The newest durable `Persist`. It closes when the disk has failed.
    pub durable: watch::Receiver<u64>,
    /// Which life of the directory this is: synced (P4.1).
    pub incarnation: Incarnation,
    /// What log and snapshot hold. Its life number is synced (P4.2).
    pub recovered: Recovered,
}

/// Why a data directory cannot be opened: one line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data directory {} is in use by another dtask process: stop that one, or give --data another directory", .0.display())]
    InUse(PathBuf),
    /// The disk refused.
    #[error("{0}")]
    Disk(String),
    /// The log cannot be continued.
    #[error("{}: {reason}", path.display())]
    Log {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: RecoverError,
    },
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error.to_string())
    }
}

/// Opens a data directory, or makes it. Returns once the incarnation and this life's opening
/// record are synced. `saved` is called by the snapshot thread with each index that is in place.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open(
    path: &Path,
    options: &Options,
    saved: impl Fn(u64) + Send + 'static,
) -> Result<OpenedLog, OpenError> {
    let mut directory = Directory::lock(path)?.ok_or_else(|| OpenError::InUse(path.to_owned()))?;
    let found = match find(&directory, path, options)? {
        Some(found) => found,
        None => {
            let identity = Identity {
                group: options.group,
                node: options.node,
                incarnation: fresh_incarnation(),
            };
            let bytes = options.segment_bytes.min(FIRST_SEGMENT_BYTES);
            directory.perform(Writer::create(identity, bytes))?;
            find(&directory, path, options)?
                .ok_or_else(|| OpenError::Disk("a log that was just made is not there".into()))?
        }
    };
    let (mut writer, ops) = Writer::open(&found, options.segment_bytes);
    directory.perform(ops)?;
    writer.synced();
    let mut recovered = found.recovered;
    if let Some(meta) = &recovered.meta {
        recovered.snapshot = snapshots::read_all(path, meta.index, limits::SNAPSHOT_PIECE_BYTES)?;
    }
    let (sender, durable) = watch::channel(0);
    let store = LogStore::spawn(path, directory, writer, Durable::new(sender), saved)
        .map_err(|error| OpenError::Disk(format!("cannot start the log thread: {error}")))?;
    Ok(OpenedLog { store, durable, incarnation: recovered.incarnation, recovered })
}

fn find(directory: &Directory, path: &Path, options: &Options) -> Result<Option<Found>, OpenError> {
    let (segments, others) = directory.read()?;
    let owner = Owner { group: options.group, node: options.node, voters: options.voters.clone() };
    recover(&owner, &segments, &others)
        .map_err(|reason| OpenError::Log { path: path.to_owned(), reason })
}

fn fresh_incarnation() -> Incarnation {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    Incarnation((high ^ low).max(1))
}

/// Where a node's disk effects go. Dropping it waits until everything handed over was written.
#[derive(Debug)]
pub struct LogStore {
    path: PathBuf,
    log: Option<Sender<Persist>>,
    snapshots: Option<Sender<SnapshotJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl LogStore {
    fn spawn(
        path: &Path,
        directory: Directory,
        writer: Writer,
        durable: Durable,
        saved: impl Fn(u64) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (log, records) = channel();
        let (snapshots, jobs) = channel();
        let (own, place) = (durable.clone(), path.to_owned());
        let log_thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || thread::run(directory, writer, &records, &durable))?;
        let snapshot_thread = std::thread::Builder::new()
            .name("snapshots".to_owned())
            .spawn(move || snapshots::run(&place, &jobs, &saved, &own))?;
        Ok(Self {
            path: path.to_owned(),
            log: Some(log),
            snapshots: Some(snapshots),
            threads: vec![snapshot_thread, log_thread],
        })
    }

    fn snapshot(&self, job: SnapshotJob) {
        // A thread that is gone has said why; the host stops.
        let _ = self.snapshots.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Disk for LogStore {
    fn persist(&mut self, persist: Persist) {
        if let Some(log) = &self.log {
            // A thread that is gone has said why; the host stops.
            let _ = log.send(persist);
        }
    }

    fn snapshot_write(&mut self, index: u64, data: Bytes) {
        self.snapshot(SnapshotJob::Write { index, data });
    }

    fn snapshot_finish(&mut self, index: u64) {
        self.snapshot(SnapshotJob::Finish { index });
    }

    fn snapshot_abort(&mut self, index: u64) {
        self.snapshot(SnapshotJob::Abort { index });
    }

    fn snapshot_read(&self, index: u64) -> Option<Box<dyn SnapshotRead>> {
        let reading = Reading::open(&self.path, index)?;
        Some(Box::new(reading))
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.log = None;
        self.snapshots = None;
        for thread in self.threads.drain(..) {
            // A panic has been printed by its thread.
            let _ = thread.join();
        }
    }
}
