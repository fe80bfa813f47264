//! From files to what a node knows at start (P4.2–P4.4).
//!
//! Only the chain counts. Where it ends in a torn tail it is cut; where something is damaged that
//! was acknowledged, recovery says what and the node does not start.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::disk::File;
use super::layout::{self, HEADER_BYTES, Header, HeaderFault, Record, Said};
use super::writer::{Segment, Tail};
use super::{LogFact, Persist, Recovered};
use crate::consensus::{HardState, LogEntry, SnapshotMeta};
use crate::id::{GroupId, NodeId};
use crate::limits::{NUMBER_MAX, TERM_MAX};

/// Who opens the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The raft group.
    pub group: GroupId,
    /// The node.
    pub node: NodeId,
    /// The voters that it was told of, ascending; compared with those that formed the cluster
    /// when they are given.
    pub voters: Option<Vec<NodeId>>,
}

/// A log that can be continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What the node knows. `snapshot` is empty: the host reads the file of `meta` into it.
    pub recovered: Recovered,
    /// Files that do not count any more; `Writer::open` removes them.
    pub strays: Vec<File>,
    pub(super) tail: Tail,
}

/// Why a directory cannot be used. Each says whose move it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The directory is another node's.
    #[error(
        "this data directory belongs to node {found}, not to node {expected}: give each node its own directory, or start with --id {found}"
    )]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Who asked.
        expected: NodeId,
    },
    /// The directory is another raft group's.
    #[error("this data directory belongs to group {found}, not to group {expected}")]
    OtherGroup {
        /// Whose it is.
        found: GroupId,
        /// Who asked.
        expected: GroupId,
    },
    /// The directory belongs to a cluster of other voters.
    #[error(
        "this data directory belongs to a cluster formed by the nodes {found}, but the peers given are {expected}: give the peers of that cluster, or an empty directory"
    )]
    OtherCluster {
        /// Who formed it.
        found: String,
        /// Whom `--peer` names.
        expected: String,
    },
    /// A newer program wrote it.
    #[error(
        "{file} has format version {version}, this program reads version 1: use the program that wrote it, or a newer one"
    )]
    Version {
        /// Which file.
        file: String,
        /// Its format.
        version: u32,
    },
    /// Something acknowledged cannot be read back.
    #[error(
        "{file} is damaged at byte {at}: {what}; this node must not go on with it: replace it by a node with a new id, or restore the disk"
    )]
    Damaged {
        /// Which file.
        file: String,
        /// Where in the file.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A file that the log needs is not there.
    #[error(
        "{file} is missing, yet the log needs it: replace this node by one with a new id, or restore the disk"
    )]
    Missing {
        /// Which file.
        file: String,
    },
}

/// Reads a data directory: the segments' bytes and the names of everything else in it. `None`
/// when it holds no log: the node is new.
///
/// # Errors
///
/// See [`RecoverError`].
pub fn recover(
    owner: &Owner,
    segments: &BTreeMap<u64, impl AsRef<[u8]>>,
    others: &[File],
) -> Result<Option<Found>, RecoverError> {
    let Some((&newest, _)) = segments.last_key_value() else {
        // A snapshot without a log: the log was lost.
        return match others.iter().find(|file| matches!(file, File::Snapshot(_))) {
            Some(_) => Err(RecoverError::Missing { file: File::Segment(1).name() }),
            None => Ok(None),
        };
    };
    let mut oldest = newest;
    while oldest > 1 && segments.contains_key(&(oldest - 1)) {
        oldest -= 1;
    }
    let mut headers = Vec::new();
    for (number, bytes) in segments.range(oldest..) {
        headers.push(read_header(*number, bytes.as_ref(), owner)?);
    }
    let mut walk = Walk::new(&headers[0]);
    for (i, (number, bytes)) in segments.range(oldest..).enumerate() {
        walk.segment(*number, bytes.as_ref(), &headers[i], headers.get(i + 1))?;
    }
    let mut strays: Vec<File> =
        segments.range(..oldest).map(|(number, _)| File::Segment(*number)).collect();
    let kept = File::Snapshot(walk.tail.snapshot.index);
    if walk.tail.snapshot.index != 0 && !others.contains(&kept) {
        return Err(RecoverError::Missing { file: kept.name() });
    }
    strays.extend(others.iter().filter(|file| **file != kept));
    let found = walk.finish(strays)?;
    if let (Some((_, formed)), Some(voters)) = (&found.recovered.formed, &owner.voters) {
        let ids: Vec<NodeId> = formed.iter().map(|(id, _)| *id).collect();
        if ids != *voters {
            return Err(RecoverError::OtherCluster { found: list(&ids), expected: list(voters) });
        }
    }
    Ok(Some(found))
}

fn read_header(number: u64, bytes: &[u8], owner: &Owner) -> Result<Header, RecoverError> {
    let file = || File::Segment(number).name();
    let header = match Header::decode(bytes) {
        Ok(header) => header,
        Err(HeaderFault::Version(version)) => {
            return Err(RecoverError::Version { file: file(), version });
        }
        Err(HeaderFault::Damaged) => return Err(damaged(number, 0, "its header is not whole")),
    };
    let found = header.identity;
    if found.node != owner.node {
        return Err(RecoverError::OtherNode { found: found.node, expected: owner.node });
    }
    if found.group != owner.group {
        return Err(RecoverError::OtherGroup { found: found.group, expected: owner.group });
    }
    if header.number != number {
        return Err(damaged(number, 24, "it is another segment under this name"));
    }
    if header.len != bytes.len() as u64 {
        return Err(damaged(number, 72, "its length is not what its header says"));
    }
    let numbers = [number, header.life, header.base, header.last_index];
    if number == 0
        || numbers.iter().any(|number| *number > NUMBER_MAX)
        || !in_range(&header.hard_state)
        || !is_reached(&header.snapshot)
    {
        return Err(damaged(number, 24, OUT_OF_RANGE));
    }
    if header.last_index < header.snapshot.index {
        // Entries behind the snapshot would not follow what it sums up.
        return Err(damaged(number, 120, "its log ends before its own snapshot"));
    }
    Ok(header)
}

/// The chain, followed from segment to segment.
struct Walk {
    tail: Tail,
    /// Entries known; they begin after `below`.
    entries: VecDeque<LogEntry>,
    /// The last index before `entries`: what earlier, removed segments held.
    below: u64,
}

impl Walk {
    fn new(first: &Header) -> Self {
        Self {
            tail: Tail {
                identity: first.identity,
                life: first.life,
                seed: first.seed,
                offset: first.base,
                segments: VecDeque::new(),
                base: first.base,
                len: first.len,
                hard_state: first.hard_state,
                snapshot: first.snapshot.clone(),
                last_index: first.last_index,
                formed: first.formed.clone(),
            },
            entries: VecDeque::new(),
            below: first.last_index,
        }
    }

    /// Walks one segment; `next` is the header after it.
    fn segment(
        &mut self,
        number: u64,
        bytes: &[u8],
        header: &Header,
        next: Option<&Header>,
    ) -> Result<(), RecoverError> {
        if (header.base, header.seed) != (self.tail.offset, self.tail.seed)
            || header.identity != self.tail.identity
        {
            return Err(damaged(number, 20, "it does not continue the segment before it"));
        }
        self.tail.segments.push_back(Segment { number, highest: 0 });
        (self.tail.base, self.tail.len) = (header.base, header.len);
        let mut at = HEADER_BYTES as usize;
        while let Some(record) = self.next_record(bytes, at) {
            let record = record.ok_or_else(|| damaged(number, at as u64, "unreadable record"))?;
            at += record.len;
            self.take(number, at, record)?;
        }
        match next {
            // Upholds S25: a segment before the newest was synced to its end.
            Some(next) if (next.base, next.seed) != (self.tail.offset, self.tail.seed) => {
                Err(damaged(number, at as u64, "a record that was synced is not whole"))
            }
            None if self.was_durable(bytes, at) => {
                Err(damaged(number, at as u64, "a record that was synced is not whole"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The record at `at` if it continues the chain; `Some(None)` if it does but cannot be read.
    fn next_record(&self, bytes: &[u8], at: usize) -> Option<Option<Record>> {
        let (link, ..) = layout::whole(bytes.get(at..)?)?;
        let continues = link.seed == self.tail.seed
            && link.offset == self.tail.offset
            && link.group == self.tail.identity.group
            // P4.2: an older life's records beyond a cut never come back.
            && (link.life == self.tail.life || link.life == self.tail.life + 1);
        if !continues {
            return None;
        }
        let Some(record) = layout::read_record(&bytes[at..]) else { return Some(None) };
        let opens = record.said == Said::Opening;
        (opens == (record.link.life == self.tail.life + 1)).then_some(Some(record))
    }

    /// Whether a whole record beyond `at` says that `at` was durable.
    fn was_durable(&self, bytes: &[u8], at: usize) -> bool {
        let end = self.tail.offset;
        (at..bytes.len()).step_by(layout::ALIGN).any(|place| {
            // The own offset is compared first: it rules out nearly every place.
            let own = end + (place - at) as u64;
            bytes.get(place + 32..place + 40) == Some(&own.to_le_bytes()[..])
                && layout::whole(&bytes[place..]).is_some_and(|(link, ..)| {
                    link.group == self.tail.identity.group && link.durable > end
                })
        })
    }

    fn take(&mut self, number: u64, end: usize, record: Record) -> Result<(), RecoverError> {
        self.tail.seed = record.crc;
        self.tail.offset += record.len as u64;
        self.tail.life = record.link.life;
        let Said::Persist { fact, entries } = record.said else { return Ok(()) };
        let persist = Persist { n: 0, hard_state: record.hard_state, entries, fact };
        let begin = end as u64 - record.len as u64;
        let sound = match &persist.fact {
            None | Some(LogFact::Formed { .. }) => true,
            Some(LogFact::Compacted(meta) | LogFact::Reset(meta)) => is_reached(meta),
        };
        let entries = &persist.entries;
        if !sound
            || !in_range(&persist.hard_state)
            || entries.iter().any(|entry| entry.index > NUMBER_MAX || entry.term > TERM_MAX)
        {
            return Err(damaged(number, begin, OUT_OF_RANGE));
        }
        self.tail.take(&persist);
        match &persist.fact {
            None | Some(LogFact::Formed { .. }) => {}
            Some(LogFact::Compacted(meta)) => {
                self.below = self.below.max(meta.index);
                while self.entries.front().is_some_and(|entry| entry.index <= meta.index) {
                    self.entries.pop_front();
                }
            }
            Some(LogFact::Reset(meta)) => {
                self.entries.clear();
                self.below = meta.index;
            }
        }
        for entry in persist.entries {
            self.append(entry).map_err(|what| damaged(number, begin, what))?;
        }
        Ok(())
    }

    fn append(&mut self, entry: LogEntry) -> Result<(), &'static str> {
        if entry.index <= self.tail.snapshot.index {
            return Err("an entry takes a place that its snapshot holds");
        }
        while self.entries.back().is_some_and(|last| last.index >= entry.index) {
            self.entries.pop_back();
        }
        if self.entries.is_empty() && entry.index <= self.below {
            self.below = entry.index - 1;
        }
        let last = self.entries.back().map_or(self.below, |last| last.index);
        if entry.index != last + 1 {
            return Err("its entries do not follow each other");
        }
        self.entries.push_back(entry);
        Ok(())
    }

    fn finish(self, strays: Vec<File>) -> Result<Found, RecoverError> {
        let Self { mut tail, mut entries, below } = self;
        let snapshot = tail.snapshot.clone();
        let newest = tail.segments.back().map_or(1, |segment| segment.number);
        if below > snapshot.index {
            let oldest = tail.segments.front().map_or(1, |segment| segment.number);
            return Err(RecoverError::Missing { file: File::Segment(oldest - 1).name() });
        }
        while entries.front().is_some_and(|entry| entry.index <= snapshot.index) {
            entries.pop_front();
        }
        if entries.front().is_some_and(|entry| entry.index != snapshot.index + 1) {
            // P4.3: what does not continue the snapshot is dropped.
            entries.clear();
        }
        let mut hard_state = tail.hard_state;
        hard_state.commit = hard_state.commit.max(snapshot.index);
        if hard_state.term < snapshot.term {
            (hard_state.term, hard_state.vote) = (snapshot.term, 0);
        }
        let last_index = snapshot.index + entries.len() as u64;
        if hard_state.commit > last_index {
            return Err(damaged(newest, 0, "it ends before what is known to be committed"));
        }
        tail.hard_state = hard_state;
        tail.last_index = last_index;
        let recovered = Recovered {
            incarnation: tail.identity.incarnation,
            life: tail.life + 1,
            formed: tail.formed.clone(),
            hard_state,
            meta: (snapshot != SnapshotMeta::default()).then_some(snapshot),
            snapshot: Vec::new(),
            entries: entries.into(),
            conf: None,
        };
        Ok(Found { recovered, strays, tail })
    }
}

const OUT_OF_RANGE: &str = "it holds a number that is never reached";

fn in_range(state: &HardState) -> bool {
    state.term <= TERM_MAX && state.commit <= NUMBER_MAX
}

/// Whether a snapshot can be there: none at all, or one that a cluster has come to.
fn is_reached(meta: &SnapshotMeta) -> bool {
    if meta.index == 0 {
        return *meta == SnapshotMeta::default();
    }
    meta.index <= NUMBER_MAX && (1..=TERM_MAX).contains(&meta.term) && meta.conf.is_sound()
}

fn damaged(number: u64, at: u64, what: &'static str) -> RecoverError {
    RecoverError::Damaged { file: File::Segment(number).name(), at, what }
}

fn list(ids: &[NodeId]) -> String {
    let mut text = String::new();
    for id in ids {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&alloc::format!("{id}"));
    }
    text
}
