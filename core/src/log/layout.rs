//! Headers and records as bytes: docs/disk.md, field for field.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes};

use super::{LogFact, Persist};
use crate::consensus::{ConfState, HardState, LogEntry, SnapshotMeta};
use crate::id::{ClusterId, GroupId, Incarnation, NodeId};

/// Bytes before a segment's first record.
pub(super) const HEADER_BYTES: u64 = 4096;
/// Bytes of a record before its fact.
pub(super) const RECORD_HEAD: usize = 80;
/// Bytes of an entry before its data.
const ENTRY_HEAD: usize = 24;
/// A record is a multiple of this.
pub(super) const ALIGN: usize = 8;
const MAGIC: &[u8; 8] = b"DTASKLOG";
/// The only format so far.
pub(super) const VERSION: u32 = 1;

const OPENING: u8 = 1;
const FORMED: u8 = 2;
const COMPACTED: u8 = 3;
const RESET: u8 = 4;

/// Whose log this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The raft group.
    pub group: GroupId,
    /// The node.
    pub node: NodeId,
    /// Which life of its data directory (P4.1).
    pub incarnation: Incarnation,
}

/// The cluster id and the incarnations that formed it.
pub(super) type Formed = (ClusterId, Vec<(NodeId, Incarnation)>);

/// A segment's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) seed: u32,
    pub(super) number: u64,
    pub(super) identity: Identity,
    pub(super) life: u64,
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) hard_state: HardState,
    pub(super) snapshot: SnapshotMeta,
    pub(super) last_index: u64,
    pub(super) formed: Option<Formed>,
}

/// A record's place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seed: u32,
    pub(super) group: GroupId,
    pub(super) life: u64,
    pub(super) offset: u64,
    pub(super) durable: u64,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Opening,
    Persist { fact: Option<LogFact>, entries: Vec<LogEntry> },
}

/// A whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) len: usize,
    pub(super) crc: u32,
    pub(super) link: Link,
    pub(super) hard_state: HardState,
    pub(super) said: Said,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged,
    Version(u32),
}

impl Header {
    /// The header, padded to its full length.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u64_le(0); // zero and CRC, below
        out.put_u32_le(self.seed);
        out.put_u64_le(self.number);
        out.put_u64_le(self.identity.group.0);
        out.put_u64_le(self.identity.node.0);
        out.put_u64_le(self.identity.incarnation.0);
        out.put_u64_le(self.life);
        out.put_u64_le(self.base);
        out.put_u64_le(self.len);
        put_hard_state(&mut out, self.hard_state);
        out.put_u64_le(self.snapshot.index);
        out.put_u64_le(self.snapshot.term);
        out.put_u64_le(self.last_index);
        let none = (ClusterId(0), Vec::new());
        put_formed(&mut out, self.formed.as_ref().unwrap_or(&none));
        put_conf(&mut out, &self.snapshot.conf);
        assert!(out.len() <= HEADER_BYTES as usize, "{} members fit a header", out.len());
        out.resize(HEADER_BYTES as usize, 0);
        let crc = crc32c::crc32c(&out);
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        out.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        Self::parse(bytes).ok_or(HeaderFault::Damaged)?
    }

    fn parse(bytes: &[u8]) -> Option<Result<Self, HeaderFault>> {
        let bytes = bytes.get(..HEADER_BYTES as usize)?;
        let version = Cursor(&bytes[8..]).u32()?;
        let crc = Cursor(&bytes[16..]).u32()?;
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        let sum = crc32c::crc32c(&bytes[..16]);
        let sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, &[0; 4]), &bytes[20..]);
        if sum != crc {
            return None;
        }
        if version != VERSION {
            return Some(Err(HeaderFault::Version(version)));
        }
        let mut at = Cursor(&bytes[20..]);
        let mut header = Self {
            seed: at.u32()?,
            number: at.u64()?,
            identity: Identity {
                group: GroupId(at.u64()?),
                node: NodeId(at.u64()?),
                incarnation: Incarnation(at.u64()?),
            },
            life: at.u64()?,
            base: at.u64()?,
            len: at.u64()?,
            hard_state: at.hard_state()?,
            ..Self::default()
        };
        header.snapshot.index = at.u64()?;
        header.snapshot.term = at.u64()?;
        header.last_index = at.u64()?;
        header.formed = Some(at.formed()?).filter(|(_, voters)| !voters.is_empty());
        header.snapshot.conf = at.conf()?;
        Some(Ok(header))
    }
}

/// Appends a record to `out`; returns its CRC.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    link: Link,
    persist: Option<&Persist>,
    fallback: HardState,
) -> u32 {
    let start = out.len();
    let hard_state = persist.map_or(fallback, |persist| persist.hard_state);
    let entries = persist.map_or(&[][..], |persist| &persist.entries);
    out.put_u64_le(0); // length and CRC, below
    out.put_u32_le(link.seed);
    out.put_u32_le(entries.len() as u32);
    out.put_u64_le(link.group.0);
    out.put_u64_le(link.life);
    out.put_u64_le(link.offset);
    out.put_u64_le(link.durable);
    put_hard_state(out, hard_state);
    out.put_u64_le(0); // kind and length of the fact, below
    let kind = match persist {
        None => OPENING,
        Some(persist) => put_fact(out, persist.fact.as_ref()),
    };
    let fact_len = (out.len() - start - RECORD_HEAD) as u32;
    out[start + 72] = kind;
    out[start + 76..start + 80].copy_from_slice(&fact_len.to_le_bytes());
    for entry in entries {
        out.put_u64_le(entry.index);
        out.put_u64_le(entry.term);
        out.put_u32_le(entry.data.len() as u32);
        out.put_u32_le(u32::from(entry.conf_change));
        out.put_slice(&entry.data);
    }
    let len = (out.len() - start).next_multiple_of(ALIGN);
    out.resize(start + len, 0);
    let record = &mut out[start..];
    record[..4].copy_from_slice(&(len as u32).to_le_bytes());
    let crc = record_crc(record, link.seed);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// How many bytes `persist` takes as a record.
pub(super) fn record_len(persist: &Persist) -> u64 {
    let fact = match &persist.fact {
        None => 0,
        Some(LogFact::Formed { voters, .. }) => 16 + 16 * voters.len(),
        Some(LogFact::Compacted(meta) | LogFact::Reset(meta)) => 16 + conf_len(&meta.conf),
    };
    let entries: usize = persist.entries.iter().map(|entry| ENTRY_HEAD + entry.data.len()).sum();
    (RECORD_HEAD + fact + entries).next_multiple_of(ALIGN) as u64
}

/// The chain fields and length of a record that is whole by its own account. `None` for
/// anything else; never panics.
pub(super) fn whole(bytes: &[u8]) -> Option<(Link, u32, usize)> {
    let len = Cursor(bytes).u32()? as usize;
    if len < RECORD_HEAD || !len.is_multiple_of(ALIGN) {
        return None;
    }
    let record = bytes.get(..len)?;
    let mut at = Cursor(&record[4..]);
    let crc = at.u32()?;
    let link = at.link()?;
    (record_crc(record, link.seed) == crc).then_some((link, crc, len))
}

/// Reads a record that is [`whole`]. `None` when its bytes mean nothing.
pub(super) fn read_record(bytes: &[u8]) -> Option<Record> {
    let (link, crc, len) = whole(bytes)?;
    let record = &bytes[..len];
    let count = Cursor(&record[12..]).u32()? as usize;
    let mut at = Cursor(&record[48..]);
    let hard_state = at.hard_state()?;
    let kind = at.u32()? as u8;
    let fact_len = at.u32()? as usize;
    let mut fact = Cursor(at.take(fact_len)?);
    let fact = match kind {
        OPENING => {
            return Some(Record { len, crc, link, hard_state, said: Said::Opening });
        }
        0 => None,
        FORMED => {
            let (cluster, voters) = fact.formed()?;
            Some(LogFact::Formed { cluster, voters })
        }
        COMPACTED => Some(LogFact::Compacted(fact.meta()?)),
        RESET => Some(LogFact::Reset(fact.meta()?)),
        _ => return None,
    };
    let mut entries = Vec::with_capacity(count.min(len / ENTRY_HEAD));
    for _ in 0..count {
        let (index, term) = (at.u64()?, at.u64()?);
        let (size, kind) = (at.u32()? as usize, at.u32()?);
        let data = Bytes::copy_from_slice(at.take(size)?);
        entries.push(LogEntry { index, term, conf_change: kind == 1, data });
    }
    Some(Record { len, crc, link, hard_state, said: Said::Persist { fact, entries } })
}

fn record_crc(record: &[u8], seed: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &record[..4]), &record[8..])
}

fn put_hard_state(out: &mut Vec<u8>, state: HardState) {
    out.put_u64_le(state.term);
    out.put_u64_le(state.vote);
    out.put_u64_le(state.commit);
}

fn put_fact(out: &mut Vec<u8>, fact: Option<&LogFact>) -> u8 {
    match fact {
        None => 0,
        Some(LogFact::Formed { cluster, voters }) => {
            put_formed(out, &(*cluster, voters.clone()));
            FORMED
        }
        Some(LogFact::Compacted(meta)) => {
            put_meta(out, meta);
            COMPACTED
        }
        Some(LogFact::Reset(meta)) => {
            put_meta(out, meta);
            RESET
        }
    }
}

fn put_formed(out: &mut Vec<u8>, (cluster, voters): &Formed) {
    out.put_u64_le(cluster.0);
    out.put_u32_le(voters.len() as u32);
    out.put_u32_le(0);
    for (id, incarnation) in voters {
        out.put_u64_le(id.0);
        out.put_u64_le(incarnation.0);
    }
}

fn put_meta(out: &mut Vec<u8>, meta: &SnapshotMeta) {
    out.put_u64_le(meta.index);
    out.put_u64_le(meta.term);
    put_conf(out, &meta.conf);
}

fn put_conf(out: &mut Vec<u8>, conf: &ConfState) {
    let lists = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
    for ids in lists {
        out.put_u32_le(ids.len() as u32);
    }
    out.put_u64_le(u64::from(conf.auto_leave));
    for ids in lists {
        for id in ids {
            out.put_u64_le(id.0);
        }
    }
}

fn conf_len(conf: &ConfState) -> usize {
    let ids = conf.voters.len()
        + conf.learners.len()
        + conf.voters_outgoing.len()
        + conf.learners_next.len();
    24 + 8 * ids
}

/// Reads from the front; every method yields `None` at the end instead of panicking.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        let (head, tail) = self.0.split_first_chunk::<4>()?;
        self.0 = tail;
        Some(u32::from_le_bytes(*head))
    }

    fn u64(&mut self) -> Option<u64> {
        let (head, tail) = self.0.split_first_chunk::<8>()?;
        self.0 = tail;
        Some(u64::from_le_bytes(*head))
    }

    fn link(&mut self) -> Option<Link> {
        let seed = self.u32()?;
        let _entries = self.u32()?;
        Some(Link {
            seed,
            group: GroupId(self.u64()?),
            life: self.u64()?,
            offset: self.u64()?,
            durable: self.u64()?,
        })
    }

    fn hard_state(&mut self) -> Option<HardState> {
        Some(HardState { term: self.u64()?, vote: self.u64()?, commit: self.u64()? })
    }

    fn formed(&mut self) -> Option<Formed> {
        let cluster = ClusterId(self.u64()?);
        let count = self.u32()?;
        self.u32()?;
        let mut voters = Vec::new();
        for _ in 0..count {
            voters.push((NodeId(self.u64()?), Incarnation(self.u64()?)));
        }
        Some((cluster, voters))
    }

    fn meta(&mut self) -> Option<SnapshotMeta> {
        Some(SnapshotMeta { index: self.u64()?, term: self.u64()?, conf: self.conf()? })
    }

    fn conf(&mut self) -> Option<ConfState> {
        let counts = [self.u32()?, self.u32()?, self.u32()?, self.u32()?];
        let auto_leave = self.u64()? != 0;
        let mut list = |count: u32| -> Option<Vec<NodeId>> {
            let mut ids = Vec::new();
            for _ in 0..count {
                ids.push(NodeId(self.u64()?));
            }
            Some(ids)
        };
        Some(ConfState {
            voters: list(counts[0])?,
            learners: list(counts[1])?,
            voters_outgoing: list(counts[2])?,
            learners_next: list(counts[3])?,
            auto_leave,
        })
    }
}
