//! From [`Persist`]s to operations on files.
//!
//! The writer knows where the log ends, what a new segment's header must say and which segments
//! are still needed. It performs nothing.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::disk::{DiskOp, File};
use super::layout::{self, Formed, HEADER_BYTES, Header, Identity, Link, RECORD_HEAD};
use super::recover::Found;
use super::{LogFact, Persist};
use crate::consensus::{HardState, SnapshotMeta};

/// A segment on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// The highest index that was written to it since the last reset.
    pub(super) highest: u64,
}

/// Everything that the end of the log determines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) identity: Identity,
    /// The life that writes.
    pub(super) life: u64,
    /// The CRC of the last record.
    pub(super) seed: u32,
    /// The log offset of the next record.
    pub(super) offset: u64,
    /// Oldest first; the last one is written to.
    pub(super) segments: VecDeque<Segment>,
    /// Of the last segment: the log offset of its first record, and its length.
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) hard_state: HardState,
    pub(super) snapshot: SnapshotMeta,
    pub(super) last_index: u64,
    pub(super) formed: Option<Formed>,
}

/// Appends to a log.
#[derive(Clone, Debug)]
pub struct Writer {
    tail: Tail,
    segment_bytes: u64,
    /// Everything before this log offset is known to be synced.
    durable: u64,
    /// The log offset behind the last marker of this life.
    marked: u64,
    /// The next segment's file was asked for ahead.
    spare: Option<u64>,
}

impl Writer {
    /// Makes the log of a new node: one segment that holds its identity. Nothing may be said to
    /// anybody before these operations have been performed (P4.1).
    pub fn create(identity: Identity, segment_bytes: u64) -> Vec<DiskOp> {
        let len = segment_bytes.max(HEADER_BYTES + RECORD_HEAD as u64);
        let header = Header { number: 1, identity, len, ..Header::default() };
        let mut ops = Vec::new();
        ops.push(DiskOp::Create { file: File::SegmentTemp(1), len });
        put_in_place(&header, &mut ops);
        ops
    }

    /// Opens what was found: cuts a torn tail, begins a new life by a synced opening record
    /// (P4.2) and removes what no longer counts. The log may be used once these operations have
    /// been performed and [`Self::synced`] was called.
    pub fn open(found: &Found, segment_bytes: u64) -> (Self, Vec<DiskOp>) {
        let mut writer = Self {
            tail: found.tail.clone(),
            segment_bytes,
            durable: found.tail.offset,
            marked: 0,
            spare: None,
        };
        let mut ops = Vec::new();
        for file in &found.strays {
            ops.push(DiskOp::Remove { file: *file });
        }
        // A name that is about to be used again must not mean an old file after a crash; and a
        // process that was killed between a rename and this has left names that may still go.
        ops.push(DiskOp::SyncDir);
        // Upholds S4: a killed process may have left records that were written and never synced.
        // They are believed from here on, and the opening record may go to another segment.
        ops.push(DiskOp::Sync { file: writer.current() });
        let mut run = Run::default();
        writer.put(None, RECORD_HEAD as u64, &mut run, &mut ops);
        writer.end_run(&mut run, &mut ops);
        writer.remove_obsolete(&[], &mut ops);
        (writer, ops)
    }

    /// Appends a group of records: after these operations, in order, they are durable (P4.5).
    pub fn append(&mut self, group: &[Persist], ops: &mut Vec<DiskOp>) {
        let mut run = Run::default();
        let len: u64 = group.iter().map(layout::record_len).sum();
        run.bytes.reserve(len as usize);
        let mut replaced = Vec::new();
        for persist in group {
            let before = self.tail.snapshot.index;
            self.put(Some(persist), layout::record_len(persist), &mut run, ops);
            if self.tail.snapshot.index != before {
                replaced.push(before);
            }
        }
        self.end_run(&mut run, ops);
        if !replaced.is_empty() {
            self.remove_obsolete(&replaced, ops);
        }
        self.prepare_spare(ops);
    }

    /// The log has fallen idle: a record that says nothing but how far everything before it is
    /// durable, so that damage to the last group is told from a torn tail (P4.2). Nothing to do
    /// when the last record is such a marker: an idle log is written once.
    pub fn mark(&mut self, ops: &mut Vec<DiskOp>) {
        if self.marked == self.tail.offset {
            return;
        }
        let hard_state = self.tail.hard_state;
        let marker = Persist { n: 0, hard_state, entries: Vec::new(), fact: None };
        self.append(core::slice::from_ref(&marker), ops);
        self.marked = self.tail.offset;
    }

    /// Whether [`Self::mark`] has nothing to do.
    pub const fn is_marked(&self) -> bool {
        self.marked == self.tail.offset
    }

    /// Every operation so far was performed: records from here on say so.
    pub const fn synced(&mut self) {
        self.durable = self.tail.offset;
    }

    /// The number of this life (P4.2).
    pub const fn life(&self) -> u64 {
        self.tail.life
    }

    /// Bytes of all records since the log was made.
    pub const fn offset(&self) -> u64 {
        self.tail.offset
    }

    fn put(&mut self, persist: Option<&Persist>, len: u64, run: &mut Run, ops: &mut Vec<DiskOp>) {
        if self.position() + len > self.tail.len {
            self.end_run(run, ops);
            self.roll(len, ops);
        }
        if run.bytes.is_empty() {
            run.at = self.position();
        }
        let tail = &mut self.tail;
        // After a roll: a header names the life of the record before it.
        tail.life += u64::from(persist.is_none());
        let link = Link {
            seed: tail.seed,
            group: tail.identity.group,
            life: tail.life,
            offset: tail.offset,
            durable: self.durable,
        };
        tail.seed = layout::put_record(&mut run.bytes, link, persist, tail.hard_state);
        tail.offset += len;
        if let Some(persist) = persist {
            tail.take(persist);
        }
    }

    /// The position in the current segment's file.
    const fn position(&self) -> u64 {
        HEADER_BYTES + self.tail.offset - self.tail.base
    }

    fn current(&self) -> File {
        File::Segment(self.tail.segments.back().map_or(1, |segment| segment.number))
    }

    /// Writes the run and syncs the segment.
    fn end_run(&self, run: &mut Run, ops: &mut Vec<DiskOp>) {
        if run.bytes.is_empty() {
            return;
        }
        let file = self.current();
        let bytes = core::mem::take(&mut run.bytes).into();
        ops.push(DiskOp::Write { file, offset: run.at, bytes });
        ops.push(DiskOp::Sync { file });
    }

    /// Puts the next segment in place. The current one is synced to its end.
    fn roll(&mut self, needed: u64, ops: &mut Vec<DiskOp>) {
        let tail = &mut self.tail;
        let number = tail.segments.back().map_or(1, |segment| segment.number) + 1;
        let len = self.segment_bytes.max(HEADER_BYTES + needed);
        if self.spare.take() != Some(len) {
            ops.push(DiskOp::Create { file: File::SegmentTemp(number), len });
        }
        tail.base = tail.offset;
        tail.len = len;
        let header = Header {
            seed: tail.seed,
            number,
            identity: tail.identity,
            life: tail.life,
            base: tail.base,
            len,
            hard_state: tail.hard_state,
            snapshot: tail.snapshot.clone(),
            last_index: tail.last_index,
            formed: tail.formed.clone(),
        };
        put_in_place(&header, ops);
        tail.segments.push_back(Segment { number, highest: 0 });
    }

    /// Asks for the next segment's file ahead, once half of this one is used, so that no append
    /// waits for its zeros.
    fn prepare_spare(&mut self, ops: &mut Vec<DiskOp>) {
        if self.spare.is_none() && self.position() * 2 > self.tail.len {
            let number = self.tail.segments.back().map_or(1, |segment| segment.number) + 1;
            self.spare = Some(self.segment_bytes);
            ops.push(DiskOp::Create { file: File::SegmentTemp(number), len: self.segment_bytes });
        }
    }

    /// Removes segments that hold nothing above the snapshot, oldest first, and the snapshots
    /// that it replaced. The record that allows it is synced.
    fn remove_obsolete(&mut self, replaced: &[u64], ops: &mut Vec<DiskOp>) {
        let mut removed = false;
        while self.tail.segments.len() > 1
            && let Some(oldest) = self.tail.segments.front()
            && oldest.highest <= self.tail.snapshot.index
        {
            ops.push(DiskOp::Remove { file: File::Segment(oldest.number) });
            self.tail.segments.pop_front();
            removed = true;
        }
        for index in replaced.iter().filter(|index| **index != 0) {
            ops.push(DiskOp::Remove { file: File::Snapshot(*index) });
            removed = true;
        }
        if removed {
            ops.push(DiskOp::SyncDir);
        }
    }
}

/// Records that one write takes to the disk.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    /// Where in the segment's file.
    at: u64,
}

impl Tail {
    /// Follows what a record says.
    pub(super) fn take(&mut self, persist: &Persist) {
        self.hard_state = persist.hard_state;
        match &persist.fact {
            None => {}
            Some(LogFact::Formed { cluster, voters }) => {
                self.formed = Some((*cluster, voters.clone()));
            }
            Some(LogFact::Compacted(meta)) => {
                self.snapshot = meta.clone();
                self.last_index = self.last_index.max(meta.index);
            }
            Some(LogFact::Reset(meta)) => {
                self.snapshot = meta.clone();
                self.last_index = meta.index;
                for segment in &mut self.segments {
                    segment.highest = 0;
                }
            }
        }
        if let Some(last) = persist.entries.last() {
            self.last_index = last.index;
            if let Some(segment) = self.segments.back_mut() {
                segment.highest = segment.highest.max(last.index);
            }
        }
    }
}

/// Header, sync, rename, directory: a segment that has its name has a whole header.
fn put_in_place(header: &Header, ops: &mut Vec<DiskOp>) {
    let (from, to) = (File::SegmentTemp(header.number), File::Segment(header.number));
    ops.push(DiskOp::Write { file: from, offset: 0, bytes: header.encode() });
    ops.push(DiskOp::Sync { file: from });
    ops.push(DiskOp::Rename { from, to });
    ops.push(DiskOp::SyncDir);
}
