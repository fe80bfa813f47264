//! A disk whose crash keeps any subset of the unsynced sectors and of the unsynced names.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::log::{DiskOp, File};
use crate::rng::Rng;

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone)]
enum NameOp {
    Add(File, usize),
    Rename(File, File),
    Remove(File),
}

#[derive(Clone, Default)]
pub(super) struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<File, usize>,
    synced_names: BTreeMap<File, usize>,
    unsynced: Vec<NameOp>,
}

impl Disk {
    pub(super) fn perform(&mut self, op: &DiskOp) {
        match op {
            // An existing file is emptied (O_TRUNC), not replaced by another of its name.
            DiskOp::Create { file, len } if self.names.contains_key(file) => {
                self.inodes[self.names[file]].now = vec![0; *len as usize];
            }
            DiskOp::Create { file, len } => {
                self.inodes.push(Inode { now: vec![0; *len as usize], synced: Vec::new() });
                self.name(NameOp::Add(*file, self.inodes.len() - 1));
            }
            DiskOp::Write { file, offset, bytes } => {
                let at = *offset as usize;
                let inode = &mut self.inodes[self.names[file]];
                // Within the file's length: an append is an overwrite.
                inode.now[at..at + bytes.len()].copy_from_slice(bytes);
            }
            DiskOp::Sync { file } => {
                let inode = &mut self.inodes[self.names[file]];
                inode.synced = inode.now.clone();
            }
            DiskOp::Rename { from, to } => {
                self.name(NameOp::Rename(*from, *to));
            }
            DiskOp::Remove { file } => {
                if self.names.contains_key(file) {
                    self.name(NameOp::Remove(*file));
                }
            }
            DiskOp::SyncDir => {
                self.synced_names = self.names.clone();
                self.unsynced.clear();
            }
        }
    }

    /// A snapshot file appears, durable, as the host makes it before the log says so.
    pub(super) fn save_snapshot(&mut self, index: u64) {
        self.inodes.push(Inode::default());
        let id = self.inodes.len() - 1;
        self.names.insert(File::Snapshot(index), id);
        self.synced_names.insert(File::Snapshot(index), id);
    }

    fn name(&mut self, op: NameOp) {
        apply(&mut self.names, &op);
        self.unsynced.push(op);
    }

    /// Power is lost.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        for op in core::mem::take(&mut self.unsynced) {
            if rng.chance(1, 2) {
                apply(&mut self.synced_names, &op);
            }
        }
        self.names = self.synced_names.clone();
        for inode in &mut self.inodes {
            let mut after = inode.synced.clone();
            // A file's length grows as its sectors reach the disk.
            if after.len() < inode.now.len() && rng.chance(3, 4) {
                after.resize(inode.now.len(), 0);
            }
            let whole = after.len();
            for at in (0..whole).step_by(SECTOR) {
                let end = (at + SECTOR).min(whole);
                if rng.chance(1, 2) {
                    after[at..end].copy_from_slice(&inode.now[at..end]);
                }
            }
            inode.now = after.clone();
            inode.synced = after;
        }
    }

    pub(super) fn segments(&self) -> BTreeMap<u64, Vec<u8>> {
        let content = |id: &usize| self.inodes[*id].now.clone();
        self.names
            .iter()
            .filter_map(|(file, id)| match file {
                File::Segment(number) => Some((*number, content(id))),
                File::SegmentTemp(_) | File::Snapshot(_) | File::SnapshotTemp(_) => None,
            })
            .collect()
    }

    pub(super) fn others(&self) -> Vec<File> {
        self.names.keys().copied().filter(|file| !matches!(file, File::Segment(_))).collect()
    }
}

fn apply(names: &mut BTreeMap<File, usize>, op: &NameOp) {
    match op {
        NameOp::Add(file, id) => {
            names.insert(*file, *id);
        }
        // By name: it may reach the disk without the change that gave `from` its last meaning.
        NameOp::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(*to, id);
            }
        }
        NameOp::Remove(file) => {
            names.remove(file);
        }
    }
}
