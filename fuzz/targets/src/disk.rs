//! A disk that never loses anything, and the mending of logs whose bytes came from anywhere:
//! docs/disk.md's places of lengths, checksums and links.

use std::collections::BTreeMap;

use dtask_core::log::{DiskOp, File};

/// Bytes of a segment's header.
pub(crate) const HEADER: usize = 4_096;
/// Bytes of a record before its fact.
const HEAD: usize = 80;

/// Files by name; what is done is done.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    segments: BTreeMap<u64, Vec<u8>>,
    rest: BTreeMap<File, Vec<u8>>,
}

impl Plain {
    /// A disk with these segments and other files, empty.
    pub(crate) fn holding(segments: BTreeMap<u64, Vec<u8>>, others: Vec<File>) -> Self {
        Self { segments, rest: others.into_iter().map(|file| (file, Vec::new())).collect() }
    }

    /// The segments.
    pub(crate) fn segments(&self) -> &BTreeMap<u64, Vec<u8>> {
        &self.segments
    }

    /// The names of everything else.
    pub(crate) fn others(&self) -> Vec<File> {
        self.rest.keys().copied().collect()
    }

    /// Performs operations; one on a file that is not there is a mistake of the log.
    pub(crate) fn perform(&mut self, ops: &[DiskOp]) {
        for op in ops {
            match op {
                DiskOp::Create { file, len } => self.put(*file, vec![0; *len as usize]),
                DiskOp::Write { file, offset, bytes } => {
                    let mut content = self.take(file).expect("it writes to a file that exists");
                    let at = *offset as usize;
                    content[at..at + bytes.len()].copy_from_slice(bytes);
                    self.put(*file, content);
                }
                DiskOp::Rename { from, to } => {
                    let content = self.take(from).expect("it renames a file that exists");
                    self.put(*to, content);
                }
                DiskOp::Remove { file } => {
                    self.take(file);
                }
                DiskOp::Sync { .. } | DiskOp::SyncDir => {}
            }
        }
    }

    fn put(&mut self, file: File, content: Vec<u8>) {
        match file {
            File::Segment(number) => self.segments.insert(number, content),
            File::SegmentTemp(_) | File::Snapshot(_) | File::SnapshotTemp(_) => {
                self.rest.insert(file, content)
            }
        };
    }

    fn take(&mut self, file: &File) -> Option<Vec<u8>> {
        match file {
            File::Segment(number) => self.segments.remove(number),
            File::SegmentTemp(_) | File::Snapshot(_) | File::SnapshotTemp(_) => {
                self.rest.remove(file)
            }
        }
    }
}

/// Where a mended chain stands: what the next record or header must continue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    seed: u32,
    offset: u64,
    life: u64,
    group: u64,
    node: u64,
    incarnation: u64,
}

/// Mends a header's magic, version, number, length and checksum; with `link`, also whose it is
/// and what it continues.
pub(crate) fn mend_header(segment: &mut [u8], number: u64, link: bool, chain: &mut Option<Chain>) {
    let len = segment.len() as u64;
    segment[..8].copy_from_slice(b"DTASKLOG");
    put(segment, 8, &1_u32.to_le_bytes());
    put(segment, 24, &number.to_le_bytes());
    put(segment, 72, &len.to_le_bytes());
    if link {
        let last = chain.unwrap_or(Chain {
            seed: u32_at(segment, 20),
            offset: u64_at(segment, 64),
            life: u64_at(segment, 56),
            group: 1,
            node: 2,
            incarnation: u64_at(segment, 48),
        });
        put(segment, 20, &last.seed.to_le_bytes());
        put(segment, 32, &last.group.to_le_bytes());
        put(segment, 40, &last.node.to_le_bytes());
        put(segment, 48, &last.incarnation.to_le_bytes());
        put(segment, 56, &last.life.to_le_bytes());
        put(segment, 64, &last.offset.to_le_bytes());
        *chain = Some(last);
    }
    put(segment, 12, &[0; 8]);
    let crc = crc32c::crc32c(&segment[..HEADER]);
    put(segment, 16, &crc.to_le_bytes());
}

/// Mends the records behind a header: lengths become ones that fit, checksums are computed; with
/// `link` each continues the one before it.
pub(crate) fn mend_records(segment: &mut [u8], link: bool, chain: &mut Option<Chain>) {
    let mut at = HEADER;
    while segment.len() >= at + HEAD {
        let room = (segment.len() - at) & !7;
        let wanted = (u32_at(segment, at) as usize & !7).max(HEAD);
        if u32_at(segment, at) == 0 {
            return;
        }
        let len = wanted.min(room);
        let record = &mut segment[at..at + len];
        put(record, 0, &(len as u32).to_le_bytes());
        if let (true, Some(chain)) = (link, chain.as_mut()) {
            put(record, 8, &chain.seed.to_le_bytes());
            put(record, 16, &chain.group.to_le_bytes());
            // An opening record begins a life; its kind is 1.
            chain.life = chain.life.wrapping_add(u64::from(record[72] == 1));
            put(record, 24, &chain.life.to_le_bytes());
            put(record, 32, &chain.offset.to_le_bytes());
            chain.offset = chain.offset.wrapping_add(len as u64);
        }
        let seed = u32_at(record, 8);
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &record[..4]), &record[8..]);
        put(record, 4, &crc.to_le_bytes());
        if let Some(chain) = chain.as_mut() {
            chain.seed = crc;
        }
        at += len;
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
