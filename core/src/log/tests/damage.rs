//! Damage to what was acknowledged is found, and nothing makes recovery panic.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::disk::Disk;
use super::model::{IDENTITY, Model, owner};
use crate::consensus::{ConfState, HardState, LogEntry, SnapshotMeta};
use crate::id::NodeId;
use crate::log::layout::{HEADER_BYTES, Header};
use crate::log::{DiskOp, File, LogFact, Owner, Persist, RecoverError, Writer, recover};
use crate::rng::Rng;

const SEGMENT: u64 = 7_000;

/// A log of several segments whose last record says that all before it is durable; what it
/// holds, and where that last record begins in the newest segment.
fn built(seed: u64, groups: usize) -> (Disk, u64) {
    let (disk, _, last) = written(seed, groups);
    (disk, last)
}

fn written(seed: u64, groups: usize) -> (Disk, Writer, u64) {
    let mut rng = Rng::new(seed);
    let mut disk = Disk::default();
    Writer::create(IDENTITY, SEGMENT).iter().for_each(|op| disk.perform(op));
    let found = recover(&owner(), &disk.segments(), &disk.others()).expect("whole").expect("made");
    let mut model = Model::of(&found.recovered);
    let (mut writer, ops) = Writer::open(&found, SEGMENT);
    ops.iter().for_each(|op| disk.perform(op));
    writer.synced();
    let mut last = 0;
    for n in 1..=groups as u64 {
        let persist = model.next(n, &mut rng);
        model.take(&persist);
        if let Some(LogFact::Compacted(meta) | LogFact::Reset(meta)) = &persist.fact {
            disk.save_snapshot(meta.index);
        }
        let mut ops = Vec::new();
        writer.append(&[persist], &mut ops);
        writer.synced();
        for op in &ops {
            disk.perform(op);
            if let DiskOp::Write { file: File::Segment(_), offset, .. } = op {
                last = *offset;
            }
        }
    }
    (disk, writer, last)
}

#[test]
fn behind_a_marker_damage_to_the_last_group_is_found_too() {
    let (mut disk, mut writer, last) = written(5, 40);
    let mut ops = Vec::new();
    writer.mark(&mut ops);
    ops.iter().for_each(|op| disk.perform(op));
    let (segments, others) = (disk.segments(), disk.others());
    let newest = *segments.keys().next_back().expect("several");
    let marker = ops.iter().find_map(|op| match op {
        DiskOp::Write { file: File::Segment(n), offset, .. } if *n == newest => Some(*offset),
        _ => None,
    });
    let (last, marker) = (last as usize, marker.expect("it stays in this segment") as usize);
    assert!(last < marker);
    let flipped = |at: usize| {
        let mut damaged = segments.clone();
        damaged.get_mut(&newest).expect("named")[at] ^= 1 << (at % 8);
        recover(&owner(), &damaged, &others)
    };
    for at in last..marker {
        assert!(flipped(at).is_err(), "byte {at} of the last group, the marker is at {marker}");
    }
    let whole = recover(&owner(), &segments, &others).expect("whole").expect("made");
    for at in marker..used(&segments[&newest]) {
        let found = flipped(at).expect("nothing was acknowledged with it").expect("made");
        assert_eq!(found.recovered.entries, whole.recovered.entries, "byte {at}");
    }
}

#[test]
fn an_idle_log_is_marked_once() {
    let (_, mut writer, _) = written(5, 3);
    assert!(!writer.is_marked());
    let mut ops = Vec::new();
    writer.mark(&mut ops);
    assert!(writer.is_marked() && !ops.is_empty());
    ops.clear();
    writer.mark(&mut ops);
    assert!(ops.is_empty(), "{ops:?}");
}

#[test]
fn every_flipped_byte_of_the_durable_part_is_found() {
    let (disk, last) = built(5, 40);
    let (segments, others) = (disk.segments(), disk.others());
    let whole = recover(&owner(), &segments, &others).expect("whole").expect("made");
    assert!(segments.len() > 1, "the test needs several segments");
    let newest = *segments.keys().next_back().expect("several");
    let mut flips = 0;
    for (number, bytes) in &segments {
        let end = if *number == newest { last as usize } else { used(bytes) };
        for at in 0..end {
            let mut damaged = segments.clone();
            let bit = 1 << (at % 8);
            damaged.get_mut(number).expect("named")[at] ^= bit;
            let result = recover(&owner(), &damaged, &others);
            assert!(result.is_err(), "segment {number}, byte {at}: {result:?} of {whole:?}");
            flips += 1;
        }
    }
    assert!(flips > 10_000);
}

/// Bytes up to the last one that is not zero: where the records of a full segment end.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

#[test]
fn a_zeroed_stretch_of_the_durable_part_is_found() {
    let (disk, last) = built(6, 40);
    let (segments, others) = (disk.segments(), disk.others());
    let newest = *segments.keys().next_back().expect("several");
    for at in (4096..last as usize).step_by(64) {
        let mut damaged = segments.clone();
        damaged.get_mut(&newest).expect("named")[at..last as usize].fill(0);
        assert!(recover(&owner(), &damaged, &others).is_err(), "zeros from {at}");
    }
}

/// What a checksum cannot show: a sound record of a thing that never is.
#[test]
fn numbers_never_reached_and_a_membership_without_voters_are_damage() {
    let conf = |voters: &[u64]| ConfState {
        voters: voters.iter().copied().map(NodeId).collect(),
        ..ConfState::default()
    };
    let whole = SnapshotMeta { index: 9, term: 2, conf: conf(&[1, 2, 3]) };
    assert_eq!(after_a_reset_to(&whole), Ok(9));
    for meta in [
        SnapshotMeta { conf: conf(&[]), ..whole.clone() },
        SnapshotMeta { conf: conf(&[2, 1]), ..whole.clone() },
        SnapshotMeta { term: 0, ..whole.clone() },
        SnapshotMeta { index: 0, ..whole.clone() },
        SnapshotMeta { index: u64::MAX, ..whole },
    ] {
        let result = after_a_reset_to(&meta);
        assert!(matches!(result, Err(RecoverError::Damaged { .. })), "{meta:?}: {result:?}");
    }
}

/// Upholds S25: what is written behind such a header would be refused at the next start.
#[test]
fn a_header_whose_log_ends_before_its_snapshot_is_damage() {
    let conf = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
    for (last_index, sound) in [(9, true), (8, false)] {
        let header = Header {
            number: 1,
            identity: IDENTITY,
            len: HEADER_BYTES,
            snapshot: SnapshotMeta { index: 9, term: 2, conf: conf.clone() },
            last_index,
            ..Header::default()
        };
        let segments = BTreeMap::from([(1, header.encode())]);
        let found = recover(&owner(), &segments, &[File::Snapshot(9)]);
        let what = "its log ends before its own snapshot";
        let file = File::Segment(1).name();
        match found {
            Ok(found) => assert!(sound, "{found:?}"),
            Err(error) => {
                assert!(!sound, "{error}");
                assert_eq!(error, RecoverError::Damaged { file, at: 120, what });
            }
        }
    }
}

/// Upholds S25: what a snapshot holds is committed, and never written anew.
#[test]
fn an_entry_below_the_snapshot_is_damage() {
    let conf = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
    let meta = SnapshotMeta { index: 9, term: 2, conf };
    let entry = |index| LogEntry { index, term: 2, ..LogEntry::default() };
    assert_eq!(after_a_reset(&meta, vec![entry(10)]), Ok(9));
    for index in [0, 1, 9] {
        let result = after_a_reset(&meta, vec![entry(index)]);
        assert!(matches!(result, Err(RecoverError::Damaged { .. })), "{index}: {result:?}");
    }
}

fn after_a_reset_to(meta: &SnapshotMeta) -> Result<u64, RecoverError> {
    after_a_reset(meta, Vec::new())
}

/// The commit index that recovery finds behind one record.
fn after_a_reset(meta: &SnapshotMeta, entries: Vec<LogEntry>) -> Result<u64, RecoverError> {
    let mut disk = Disk::default();
    Writer::create(IDENTITY, SEGMENT).iter().for_each(|op| disk.perform(op));
    let found = recover(&owner(), &disk.segments(), &disk.others()).expect("whole").expect("made");
    let (mut writer, ops) = Writer::open(&found, SEGMENT);
    ops.iter().for_each(|op| disk.perform(op));
    writer.synced();
    disk.save_snapshot(meta.index);
    let fact = Some(LogFact::Reset(meta.clone()));
    let hard_state = HardState::default();
    let persist = Persist { n: 1, hard_state, entries, fact };
    let mut ops = Vec::new();
    writer.append(&[persist], &mut ops);
    ops.iter().for_each(|op| disk.perform(op));
    let found = recover(&owner(), &disk.segments(), &disk.others())?;
    Ok(found.expect("made").recovered.hard_state.commit)
}

#[test]
fn a_lost_segment_or_snapshot_is_missed() {
    let (disk, _) = built(7, 60);
    let (segments, others) = (disk.segments(), disk.others());
    assert!(segments.len() > 1);
    let mut fewer = segments.clone();
    fewer.pop_first();
    let result = recover(&owner(), &fewer, &others);
    assert!(matches!(result, Err(RecoverError::Missing { .. })), "{result:?}");
    let result = recover(&owner(), &segments, &[]);
    assert!(matches!(result, Err(RecoverError::Missing { .. })), "{result:?}");
    let none: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    assert!(recover(&owner(), &none, &others).is_err(), "snapshots without a log");
}

#[test]
fn another_nodes_or_clusters_directory_is_refused_in_words() {
    let (disk, _) = built(8, 10);
    let open =
        |owner: Owner| recover(&owner, &disk.segments(), &disk.others()).expect_err("foreign");
    let other = open(Owner { node: NodeId(3), ..owner() });
    assert_eq!(
        alloc::format!("{other}"),
        "this data directory belongs to node 2, not to node 3: give each node its own directory, \
         or start with --id 2"
    );
    let other = open(Owner { voters: Some([NodeId(2)].into()), ..owner() });
    assert!(matches!(other, RecoverError::OtherCluster { .. }));
    let other = open(Owner { group: crate::id::GroupId(9), ..owner() });
    assert!(matches!(other, RecoverError::OtherGroup { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncations_and_garbage_never_panic(seed: u64, cut in 0.0..1.0f64, bytes: Vec<u8>) {
        let (disk, _) = built(seed % 50, 20);
        let mut segments = disk.segments();
        let mut rng = Rng::new(seed);
        for content in segments.values_mut() {
            if rng.chance(1, 2) {
                let len = (content.len() as f64 * cut) as usize;
                content.truncate(len);
            }
            if !content.is_empty() && rng.chance(1, 2) {
                let at = rng.below(content.len() as u64) as usize;
                let end = (at + bytes.len()).min(content.len());
                content[at..end].copy_from_slice(&bytes[..end - at]);
            }
        }
        let _ = recover(&owner(), &segments, &disk.others());
    }
}
