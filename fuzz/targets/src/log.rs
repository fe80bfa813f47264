//! A node's log from arbitrary bytes. Checksums, and where the input says so the links of the
//! chain, are mended, so that what stands behind them is reached. What recovery takes can be
//! opened, written to and recovered again.

use std::collections::BTreeMap;

use bytes::Bytes;
use dtask_core::consensus::LogEntry;
use dtask_core::id::{GroupId, NodeId};
use dtask_core::log::{File, Found, LogFact, Owner, Persist, Writer, recover};

use crate::disk::{HEADER, Plain, mend_header, mend_records};
use crate::meter;

/// An entry takes 24 bytes in a record, and as a value some eighty in a list that grows.
const FACTOR: usize = 32;

/// Who opens the directory in every input.
pub(crate) fn owner() -> Owner {
    Owner { group: GroupId(1), node: NodeId(2), voters: None }
}

/// What is mended, the first segment's number, and the segments.
struct Case {
    mend: u8,
    segments: BTreeMap<u64, Vec<u8>>,
    others: Vec<File>,
}

/// One byte of marks; a byte for the first segment's number; a snapshot's index; then segments,
/// each behind its length in 16 bits: header fields, padded to a header, then records.
fn read(data: &[u8]) -> Option<Case> {
    let (&[mend, first, snapshot], mut rest) = data.split_first_chunk::<3>()?;
    let mut segments = BTreeMap::new();
    let mut number = u64::from(first);
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(after.len());
        let (bytes, after) = after.split_at(len);
        rest = after;
        let (head, records) = bytes.split_at(bytes.len().min(256));
        let mut segment = head.to_vec();
        segment.resize(HEADER, 0);
        segment.extend_from_slice(records);
        segments.insert(number, segment);
        number += 1;
        if segments.len() == 3 {
            break;
        }
    }
    let others = if snapshot == 0 { vec![] } else { vec![File::Snapshot(u64::from(snapshot))] };
    Some(Case { mend, segments, others })
}

/// Recovers, opens, appends, recovers again.
pub(crate) fn run(data: &[u8]) {
    let Some(mut case) = read(data) else { return };
    let mut chain = None;
    for (number, segment) in &mut case.segments {
        if case.mend & 1 != 0 {
            mend_header(segment, *number, case.mend & 4 != 0, &mut chain);
        }
        if case.mend & 2 != 0 {
            mend_records(segment, case.mend & 4 != 0, &mut chain);
        }
    }
    let len: usize = case.segments.values().map(Vec::len).sum();
    let found = meter::bounded(len, FACTOR, || recover(&owner(), &case.segments, &case.others));
    let Ok(Some(found)) = found else { return };
    sound(&found);
    let mut disk = Plain::holding(case.segments, case.others);
    go_on(&mut disk, &found, case.mend != 0);
}

fn sound(found: &Found) {
    let recovered = &found.recovered;
    let base = recovered.meta.as_ref().map_or(0, |meta| meta.index);
    for (expected, entry) in (base + 1..).zip(&recovered.entries) {
        assert_eq!(entry.index, expected, "entries follow the snapshot without a gap");
    }
    let last = base + recovered.entries.len() as u64;
    assert!(recovered.hard_state.commit <= last);
    assert!(recovered.hard_state.commit >= base);
}

/// A second life sees what the first one saw, a third what the second one wrote.
fn go_on(disk: &mut Plain, found: &Found, mended: bool) {
    let first = disk.segments().keys().next().copied();
    let (mut writer, ops) = Writer::open(found, 8_192);
    disk.perform(&ops);
    writer.synced();
    if mended && disk.segments().keys().next().copied() != first {
        // Recovery believes a header's checksum: what it sums up is what was written before it.
        // A mended one may sum up anything, and counts once the segments before it are gone.
        let _ = recover(&owner(), disk.segments(), &disk.others());
        return;
    }
    let Some(again) = look(disk, mended) else { return };
    let mut expected = found.recovered.clone();
    expected.life += 1;
    assert_eq!(again.recovered, expected);
    let (mut writer, ops) = Writer::open(&again, 8_192);
    disk.perform(&ops);
    writer.synced();
    let state = &expected.hard_state;
    let base = expected.meta.as_ref().map_or(0, |meta| meta.index);
    let index = base + expected.entries.len() as u64 + 1;
    let entry = LogEntry {
        index,
        term: state.term,
        conf_change: false,
        data: Bytes::from_static(b"a further entry"),
    };
    let fact = expected.formed.clone().map(|(cluster, voters)| LogFact::Formed { cluster, voters });
    let persist = Persist { n: 1, hard_state: *state, entries: vec![entry.clone()], fact };
    let mut ops = Vec::new();
    writer.append(&[persist], &mut ops);
    disk.perform(&ops);
    let Some(Found { recovered: last, .. }) = look(disk, mended) else { return };
    assert_eq!(last.entries.last(), Some(&entry));
    assert_eq!(last.entries.len(), expected.entries.len() + 1);
    assert_eq!(last.formed, expected.formed);
}

/// Nothing when a mended number stood at the very end of what can be reached, and has gone on.
fn look(disk: &Plain, mended: bool) -> Option<Found> {
    match recover(&owner(), disk.segments(), &disk.others()) {
        Ok(found) => Some(found.expect("there is a log")),
        Err(error) if mended && error.to_string().contains("never reached") => None,
        Err(error) => panic!("it was opened before: {error}"),
    }
}
