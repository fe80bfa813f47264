//! A disk in memory that survives its node: for simulations of the shell. Every operation is
//! durable at once; the files are the real log's, and a restart recovers from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dtask_core::limits;
use dtask_core::log::{
    DiskOp, File, Found, Identity, Owner, Persist, RecoverError, Recovered, Writer, recover,
};
use tokio::sync::watch;

use crate::serve::ports::{Disk, SnapshotRead};

/// The files. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<BTreeMap<File, Vec<u8>>>>);

impl MemoryFiles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<File, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, ops: Vec<DiskOp>) {
        let mut files = self.lock();
        for op in ops {
            match op {
                DiskOp::Create { file, len } => {
                    files.insert(file, vec![0; len as usize]);
                }
                DiskOp::Write { file, offset, bytes } => {
                    if let Some(content) = files.get_mut(&file) {
                        let at = offset as usize;
                        content[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                }
                DiskOp::Rename { from, to } => {
                    if let Some(content) = files.remove(&from) {
                        files.insert(to, content);
                    }
                }
                DiskOp::Remove { file } => {
                    files.remove(&file);
                }
                DiskOp::Sync { .. } | DiskOp::SyncDir => {}
            }
        }
    }

    fn find(&self, owner: &Owner) -> Result<Option<Found>, RecoverError> {
        let files = self.lock();
        let mut segments = BTreeMap::new();
        let mut others = Vec::new();
        for (file, content) in &*files {
            match file {
                File::Segment(number) => {
                    segments.insert(*number, content);
                }
                File::SegmentTemp(_) | File::Snapshot(_) | File::SnapshotTemp(_) => {
                    others.push(*file);
                }
            }
        }
        recover(owner, &segments, &others)
    }

    /// Opens the log, or makes it with `identity`. `saved` is called with each snapshot index
    /// that is in place.
    ///
    /// # Errors
    ///
    /// As `recover`.
    pub fn open(
        &self,
        identity: Identity,
        segment_bytes: u64,
        saved: impl Fn(u64) + Send + 'static,
    ) -> Result<(MemoryDisk, watch::Receiver<u64>, Recovered), RecoverError> {
        let owner = Owner { group: identity.group, node: identity.node, voters: None };
        let mut found = self.find(&owner)?;
        if found.is_none() {
            self.perform(Writer::create(identity, segment_bytes));
            found = self.find(&owner)?;
        }
        let Some(found) = found else {
            return Err(RecoverError::Missing { file: File::Segment(1).name() });
        };
        let (mut writer, ops) = Writer::open(&found, segment_bytes);
        self.perform(ops);
        writer.synced();
        let mut recovered = found.recovered;
        if let Some(meta) = &recovered.meta
            && let Some(content) = self.lock().get(&File::Snapshot(meta.index))
        {
            recovered.snapshot =
                content.chunks(limits::SNAPSHOT_PIECE_BYTES).map(Bytes::copy_from_slice).collect();
        }
        let (durable, receiver) = watch::channel(0);
        let disk = MemoryDisk { files: self.clone(), writer, durable, saved: Box::new(saved) };
        Ok((disk, receiver, recovered))
    }
}

/// The disk of one life of a node.
pub struct MemoryDisk {
    files: MemoryFiles,
    writer: Writer,
    durable: watch::Sender<u64>,
    saved: Box<dyn Fn(u64) + Send>,
}

impl Disk for MemoryDisk {
    fn persist(&mut self, persist: Persist) {
        let n = persist.n;
        let mut ops = Vec::new();
        self.writer.append(&[persist], &mut ops);
        self.files.perform(ops);
        self.writer.synced();
        self.durable.send_replace(n);
    }

    fn snapshot_write(&mut self, index: u64, data: Bytes) {
        let mut files = self.files.lock();
        files.entry(File::SnapshotTemp(index)).or_default().extend_from_slice(&data);
    }

    fn snapshot_finish(&mut self, index: u64) {
        let mut files = self.files.lock();
        let Some(content) = files.remove(&File::SnapshotTemp(index)) else { return };
        files.insert(File::Snapshot(index), content);
        drop(files);
        (self.saved)(index);
    }

    fn snapshot_abort(&mut self, index: u64) {
        self.files.lock().remove(&File::SnapshotTemp(index));
    }

    fn snapshot_read(&self, index: u64) -> Option<Box<dyn SnapshotRead>> {
        let content = self.files.lock().get(&File::Snapshot(index))?.clone();
        Some(Box::new(MemoryRead(content.into())))
    }
}

struct MemoryRead(Bytes);

impl SnapshotRead for MemoryRead {
    fn next(&mut self, max: usize) -> std::io::Result<Bytes> {
        let len = self.0.len().min(max);
        Ok(self.0.split_to(len))
    }
}
